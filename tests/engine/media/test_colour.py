"""Colours, depths and orientation survive reading and writing."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import MakeClip, copy, picture, psnr, same_pictures

from cmet_engine.media.probe import probe
from cmet_engine.media.reader import VideoReader


@pytest.mark.parametrize(("counterclockwise", "clockwise"), [(90, 270), (180, 180), (270, 90)])
def test_rotation_is_applied(make_clip: MakeClip, tmp_path: Path, counterclockwise: int, clockwise: int) -> None:
    source = make_clip("clip.mp4", rotation=counterclockwise, size=(64, 48))
    with av.open(str(source)) as container:
        stored = next(container.decode(video=0))
    assert stored.rotation % 360 == counterclockwise
    reader = VideoReader(source)
    frame = next(iter(reader))
    upright = np.rot90(picture(0, 64, 48), counterclockwise // 90)
    assert psnr(frame.image, upright) > 38
    assert (reader.info.height, reader.info.width) == frame.image.shape[:2] == upright.shape[:2]
    assert reader.info.rotation == clockwise
    frames, _ = copy(source, tmp_path / "out.mp4")
    after = VideoReader(tmp_path / "out.mp4")
    assert after.info.rotation == 0
    same_pictures(frames, after)


def test_a_mirrored_clip_is_shown_as_players_show_it(make_clip: MakeClip) -> None:
    image = next(iter(VideoReader(make_clip("clip.mp4", mirrored=True)))).image
    assert psnr(image, picture(0, 64, 48)[:, ::-1]) > 38


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "bits", "written"),
    [
        ("clip.mkv", "ffv1", "yuv420p10le", 10, "yuv420p10le"),
        ("clip.mov", "prores_ks", "yuv422p10le", 10, "yuv422p10le"),
        ("clip.mkv", "ffv1", "yuv444p12le", 12, "yuv444p12le"),
        ("clip.mkv", "libx265", "yuv420p10le", 10, "yuv420p10le"),
        ("clip.mkv", "ffv1", "yuv444p", 8, "yuv444p"),
        ("clip.mkv", "ffv1", "bgr0", 8, "yuv420p"),
    ],
)
def test_deep_and_full_chroma_clips(
    make_clip: MakeClip, tmp_path: Path, name: str, codec: str, pixels: str, bits: int, written: str
) -> None:
    options = {"crf": "4", "x265-params": "log-level=error:bframes=0"} if codec == "libx265" else {}
    source = make_clip(name, codec=codec, pixels=pixels, options=options)
    reader = VideoReader(source)
    assert reader.info.bit_depth == bits
    for frame in reader:
        assert psnr(frame.image, picture(frame.index, 64, 48)) > 42
    frames, _ = copy(source, tmp_path / "out.mp4")
    same_pictures(frames, VideoReader(tmp_path / "out.mp4"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == written


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 2, 6, 9])
def test_matrix_and_range_are_kept(make_clip: MakeClip, tmp_path: Path, matrix: int, full_range: bool) -> None:
    source = make_clip("clip.mp4", matrix=matrix, full_range=full_range)
    frames, _ = copy(source, tmp_path / "out.mp4")
    assert psnr(frames[0].image, picture(0, 64, 48)) > 40
    after = VideoReader(tmp_path / "out.mp4")
    assert (after.info.colors.matrix, after.info.colors.full_range) == (matrix, full_range)
    same_pictures(frames, after)
    # a player that decodes both files the same way sees the same picture: compare what is stored
    with av.open(str(source)) as one, av.open(str(tmp_path / "out.mp4")) as two:
        for a, b in zip(one.decode(video=0), two.decode(video=0), strict=True):
            luma = [np.asarray(f.to_ndarray(format=f.format.name)[:48], np.float64) for f in (a, b)]
            assert psnr(luma[0], luma[1]) > 42


def test_pixel_aspect_is_kept(make_clip: MakeClip, tmp_path: Path) -> None:
    copy(make_clip("clip.mp4", aspect=Fraction(4, 3)), tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").pixel_aspect == Fraction(4, 3)
