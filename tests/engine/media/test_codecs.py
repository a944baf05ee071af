"""Every codec in every file that it goes into; what is kept, what is said, and what is refused."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_clips import MakeClip
from soak_cases import soak

from cmet_engine.errors import InvalidInput
from cmet_engine.media import movie_output
from cmet_engine.media.codecs import like
from cmet_engine.media.formats import CODEC_OUT, MOVIE_OUT
from cmet_engine.media.info import Colors
from cmet_engine.media.planes import BOTTOM, Tag, layout, read_rgb, views
from cmet_engine.media.probe import probe
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.media.writer import VideoWriter, check_output, picture_limits

SIZE = (320, 240)


def copied(source: Path, target: Path, codec: str | None = None, **options: Any) -> list[str]:
    """Write a clip's own planes into another file; returns the notes."""
    reader = VideoReader(source)
    info = reader.info
    with VideoWriter(target, info.width, info.height, info.fps, sound_from=info, codec=codec, **options) as writer:
        for frame in reader.frames(planes=True):
            assert frame.source is not None
            writer.write(frame.source, frame.time)
    return writer.notes


def shown(path: Path) -> np.ndarray:
    """The second picture as float RGB."""
    reader = VideoReader(path)
    frame: Any = [frame for frame, _ in zip(reader.frames(planes=True), range(2), strict=False)][1]
    return read_rgb(frame.source, (0, 0, reader.info.width, reader.info.height), reader.info.colors)


@pytest.mark.parametrize(("suffix", "pixels", "order"), [(".mxf", "yuv422p10le", "tff"), (".mov", "yuv422p", "bff")])
def test_interlaced_dnxhd(tmp_path: Path, suffix: str, pixels: str, order: str) -> None:
    """DNxHR holds no fields; 1920x1080 with fields is DNxHD."""
    source, target, size = tmp_path / "in.mkv", tmp_path / f"out{suffix}", (1920, 1080)
    with av.open(str(source), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        frame = av.VideoFrame(*size, pixels)
        for plane in views(frame):
            plane[...] = 2 ** (layout(pixels).bits - 1)
        frame = Tag(size, pixels, field_order=order)(frame)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    info = probe(source)
    assert info.field_order == order
    codec = "dnxhr_hqx" if "10" in pixels else "dnxhr_hq"
    assert not [note for note in picture_limits(Source.of(source), target, codec) if "interlaced" in note]
    with VideoWriter(target, *size, info.fps, sound_from=info, codec=codec, fields=True) as writer:
        assert writer.takes_fields
        for one in VideoReader(source).frames(planes=True, fields=True):
            writer.write(one.source, one.time)
    written = probe(target)
    assert (written.codec, written.field_order, written.pixels, written.fps) == ("dnxhd", order, pixels, 25)
    assert like(target) == (suffix, codec)
    assert any("interlaced" in note for note in picture_limits(Source.of(source), tmp_path / "out.mp4", "hevc"))


WAYS = [(c, s, p) for c, suffixes in CODEC_OUT.items() for s in suffixes for p in ("yuv422p10le", "yuv420p")]
USUAL = [(codec, suffixes[0], "yuv422p10le") for codec, suffixes in CODEC_OUT.items()] + [("h264", ".mp4", "yuv420p")]


@pytest.mark.parametrize(("codec", "suffix", "pixels"), [*USUAL, *soak(*(way for way in WAYS if way not in USUAL))])
def test_every_codec_in_every_file(make_clip: MakeClip, tmp_path: Path, codec: str, suffix: str, pixels: str) -> None:
    source = make_clip("clip.mkv", codec="ffv1", pixels=pixels, size=SIZE, frames=6)
    target = tmp_path / f"out{suffix}"
    notes = copied(source, target, codec)
    info = probe(target)
    assert (info.frames, info.fps, info.width, info.height) == (6, 25, *SIZE) and not info.warnings
    assert [frame.time for frame in VideoReader(target)] == [Fraction(i, 25) for i in range(6)]
    assert info.colors.matrix == 1 and not info.colors.full_range
    deep = layout(pixels).bits > 8
    assert (layout(info.pixels).bits > 8) == (codec in ("prores", "prores_hq", "prores_4444", "dnxhr_hqx", "dnxhr_444") or (deep and codec in ("h264", "hevc", "ffv1")))  # fmt: skip
    assert any("8 bits" in note for note in notes) == (deep and layout(info.pixels).bits == 8)
    difference = np.abs(shown(source) - shown(target))[4:-4, 4:-4]
    assert difference.mean() < (4 if codec == "dnxhr_lb" else 1.2)


@pytest.mark.parametrize(
    ("pixels", "suffix", "codec", "written"),
    [
        ("yuv420p", ".mp4", "h264", "yuv420p"),
        ("yuv422p", ".mp4", "h264", "yuv422p"),
        ("yuv444p", ".mkv", "h264", "yuv444p"),
        ("bgr0", ".mp4", "h264", "yuv420p"),
        ("yuv420p10le", ".mp4", "hevc", "yuv420p10le"),
        ("yuv444p12le", ".mkv", "hevc", "yuv444p12le"),
        ("gray10le", ".mp4", "hevc", "yuv420p10le"),
        ("yuv420p", ".mov", "prores", "yuv422p10le"),
        ("yuv444p", ".mov", "prores", "yuv444p12le"),
        ("bgra", ".mov", "prores", "yuva444p12le"),
        ("yuv420p", ".mxf", "dnxhd", "yuv422p"),
        ("yuv420p10le", ".mxf", "dnxhd", "yuv422p10le"),
        ("gbrp10le", ".mxf", "dnxhd", "gbrp10le"),
        ("yuv422p", ".webm", "vp9", "yuv422p"),
    ],
)
def test_the_usual_codec_loses_least(
    make_clip: MakeClip, tmp_path: Path, pixels: str, suffix: str, codec: str, written: str
) -> None:
    source = make_clip(
        "clip.mkv", codec="ffv1", pixels=pixels, size=SIZE, frames=2, full_range=pixels.startswith("gray")
    )
    copied(source, tmp_path / f"out{suffix}")
    info = probe(tmp_path / f"out{suffix}")
    assert (info.codec, info.pixels) == (codec, written)
    before, after = shown(source), shown(tmp_path / f"out{suffix}")
    assert np.abs(before - after)[4:-4, 4:-4].mean() < 2.5


@pytest.mark.parametrize("pixels", ["gray", "gray10le", "gray16le"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_gray_stays_as_bright_as_it_is(make_clip: MakeClip, tmp_path: Path, pixels: str, suffix: str) -> None:
    source = make_clip("clip.mkv", codec="ffv1", pixels=pixels, size=SIZE, frames=2, full_range=True)
    copied(source, tmp_path / f"out{suffix}")
    before, after = shown(source), shown(tmp_path / f"out{suffix}")
    assert abs((before - after).mean()) < 0.15 and np.abs(before - after).mean() < 0.8


def test_full_range_is_kept_where_the_codec_knows_it_and_converted_where_not(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    source = make_clip("clip.mkv", codec="ffv1", pixels="yuv420p10le", size=SIZE, frames=2, full_range=True)
    assert copied(source, tmp_path / "out.mp4") == []
    assert probe(tmp_path / "out.mp4").colors.full_range
    assert "limited range" in copied(source, tmp_path / "out.mov")[0]
    assert not probe(tmp_path / "out.mov").colors.full_range
    for name in ("out.mp4", "out.mov"):
        assert abs((shown(source) - shown(tmp_path / name)).mean()) < 0.2


def test_quicktime_knows_the_hevc(make_clip: MakeClip, tmp_path: Path) -> None:
    copied(make_clip("clip.mkv", codec="ffv1", pixels="yuv420p10le", frames=2), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize(
    ("size", "fps", "name", "codec", "says"),
    [
        (SIZE, 25, "out.mp4", "prores_hq", "prores_hq does not go into .mp4; choose the format mov, or for .mp4 the codec h264 or hevc."),
        (SIZE, 25, "out.png", "h264", "h264 does not go into .png; choose the format mp4 or m4v or mov or mkv."),
        ((321, 240), 25, "out.mov", "prores_hq", "out.mov: ProRes 422 HQ cannot hold 321x240 pixels; choose prores_4444"),
        ((64, 48), 25, "out.mov", "dnxhr_hq", "out.mov: DNxHR begins at 256x120 pixels; choose prores_hq or ffv1"),
        (SIZE, 12, "out.mxf", None, "out.mxf: MXF does not hold 12 frames a second; choose --format mov."),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_the_work(
    make_clip: MakeClip, size: tuple[int, int], fps: int, name: str, codec: str | None, says: str
) -> None:
    clip = make_clip("clip.mkv", codec="ffv1", pixels="yuv444p", size=size, fps=fps, frames=2)
    with pytest.raises(InvalidInput) as refused:
        check_output(clip, Path(name), codec)
    assert str(refused.value).startswith(says)
    check_output(clip, Path("out.mkv"), "ffv1")


@pytest.mark.parametrize("codec", ["hevc", "ffv1", "vp9", "dnxhr_hqx"])
def test_an_interrupted_writer_goes_on_bit_for_bit(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    monkeypatch.setattr(movie_output, "SEGMENT", 16)
    source = make_clip("clip.mkv", codec="ffv1", pixels="yuv420p10le", size=(256, 128), frames=25)
    reader, suffix = VideoReader(source), CODEC_OUT[codec][0]

    def write(name: str, until: int | None) -> bytes:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        with VideoWriter(
            folder / f"out{suffix}", 256, 128, 25, sound_from=reader.info, codec=codec, segments=folder, rate_factor=30
        ) as writer:
            for frame in reader.frames(writer.frames, planes=True):
                if frame.index == until:
                    raise KeyboardInterrupt
                writer.write(frame.source, frame.time)
        return (folder / f"out{suffix}").read_bytes()

    with pytest.raises(KeyboardInterrupt):
        write("rough", 24)
    assert list((tmp_path / "rough").glob("*.segment"))
    assert write("rough", None) == write("calm", None)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options", "wanted"),
    [
        ("a.mp4", "libx264", "yuv420p", {}, (".mp4", "h264")),
        ("a.mov", "libx265", "yuv420p10le", {"x265-params": "log-level=error:bframes=0"}, (".mov", "hevc")),
        ("a.mov", "prores_ks", "yuv422p10le", {"profile": "2"}, (".mov", "prores")),
        ("a.mov", "prores_ks", "yuva444p10le", {"profile": "4444"}, (".mov", "prores_4444")),
        ("a.mxf", "dnxhd", "yuv422p10le", {"profile": "dnxhr_hqx"}, (".mxf", "dnxhr_hqx")),
        ("a.mkv", "ffv1", "yuv420p", {}, (".mkv", "ffv1")),
        ("a.avi", "utvideo", "yuv422p", {}, (".mkv", "ffv1")),
        ("a.avi", "mpeg4", "yuv420p", {}, (".mp4", None)),
        ("a.ts", "libx264", "yuv420p", {}, (".mp4", "h264")),
        ("a.webm", "libvpx-vp9", "yuv420p", {}, (".webm", "vp9")),
    ],
)
def test_like_source(
    make_clip: MakeClip, name: str, codec: str, pixels: str, options: dict[str, str], wanted: tuple[str, str | None]
) -> None:
    clip = make_clip(name, codec=codec, pixels=pixels, options=options, size=SIZE, frames=2)
    assert like(clip) == wanted
    assert like(clip, ".png") == (".png", None)


MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


@pytest.mark.parametrize(
    ("codec", "suffix"), [("hevc", ".mp4"), ("hevc", ".mkv"), ("h264", ".mp4"), ("prores_hq", ".mov"), ("ffv1", ".mkv")]
)
def test_hdr_stays_hdr(make_clip: MakeClip, tmp_path: Path, codec: str, suffix: str) -> None:
    params = f"log-level=error:bframes=0:master-display={MASTERING}:max-cll=1000,400:colorprim=9:transfer=16:colormatrix=9:chromaloc=2"
    source = make_clip(
        "clip.mp4", codec="libx265", pixels="yuv420p10le", matrix=9, frames=3, options={"x265-params": params}
    )
    info = probe(source)
    assert (info.colors.primaries, info.colors.transfer, info.colors.matrix, info.colors.chroma_place) == (9, 16, 9, 3)
    assert info.mastering.display == (34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 10000000, 50)
    assert info.mastering.light == (1000, 400)
    notes = copied(source, tmp_path / f"out{suffix}", codec)
    written = probe(tmp_path / f"out{suffix}")
    place = 3 if codec in ("hevc", "h264", "ffv1") else written.colors.chroma_place
    assert written.colors == info.colors.__class__(9, False, 9, 16, place)
    if codec in ("hevc", "h264"):
        assert written.mastering == info.mastering and not notes
    else:
        assert "HDR mastering metadata" in notes[0]


@pytest.mark.parametrize("profile", ["prores_hq", "prores_4444"])
def test_prores_frames_say_their_colours(make_clip: MakeClip, tmp_path: Path, profile: str) -> None:
    """Bytes 22 to 24 of the header of a ProRes frame (SMPTE RDD 36, 5.1): primaries, transfer, matrix."""
    source = make_clip("clip.mkv", codec="ffv1", pixels="yuv422p10le", size=SIZE, frames=2, matrix=9)
    with av.open(str(source)) as container:  # FFmpeg's own tags of the file
        assert container.streams.video[0].codec_context.colorspace == 9
    reader, info = VideoReader(source), probe(source)
    tagged = replace(info, colors=replace(info.colors, primaries=9, transfer=18))
    with VideoWriter(tmp_path / "out.mov", *SIZE, 25, sound_from=tagged, codec=profile) as writer:
        for frame in reader.frames(planes=True):
            writer.write(frame.source, frame.time)
    with av.open(str(tmp_path / "out.mov")) as container:
        packet = bytes(next(container.demux(video=0)))
    at = packet.index(b"icpf") + 4
    assert tuple(packet[at + 14 : at + 17]) == (9, 18, 9)


def test_noise_reaches_a_lossless_file_as_it_is(tmp_path: Path, make_clip: MakeClip) -> None:
    source = make_clip("clip.mkv", codec="ffv1", pixels="yuv422p10le", frames=2)
    random, reader = np.random.default_rng(1), VideoReader(source)
    kept = []
    with VideoWriter(tmp_path / "out.mkv", 64, 48, 25, sound_from=reader.info, codec="ffv1") as writer:
        for frame in reader.frames(planes=True):
            assert frame.source is not None
            for plane in views(frame.source):
                plane[...] = random.integers(0, 1024, plane.shape)
            kept.append([plane.copy() for plane in views(frame.source)])
            writer.write(frame.source)
    for wanted, frame in zip(kept, VideoReader(tmp_path / "out.mkv").frames(planes=True), strict=True):
        assert frame.source is not None
        assert all(np.array_equal(a, b) for a, b in zip(wanted, views(frame.source), strict=True))


@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", ".mp4"), ("hevc", ".mkv"), ("prores_hq", ".mov"), ("dnxhr_hq", ".mxf"), ("ffv1", ".mkv"), ("vp9", ".webm")]
)  # fmt: skip
def test_pixel_aspect_and_colours_are_in_every_file(
    make_clip: MakeClip, tmp_path: Path, codec: str, suffix: str
) -> None:
    clip = make_clip("clip.mp4", aspect=Fraction(4, 3), matrix=6, size=SIZE, frames=2)
    info = replace(probe(clip), colors=Colors(6, False, 6, 6))
    with VideoWriter(tmp_path / f"out{suffix}", *SIZE, 25, sound_from=info, codec=codec) as writer:
        for frame in VideoReader(clip).frames(planes=True):
            writer.write(frame.source)
    written = probe(tmp_path / f"out{suffix}")
    assert written.pixel_aspect == Fraction(4, 3) and written.frames == 2
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert "title" not in container.streams.video[0].metadata
    assert written.colors.matrix == (1 if codec == "dnxhr_hq" else 6)
    assert written.colors.primaries == 6
    assert abs((shown(clip) - shown(tmp_path / f"out{suffix}")).mean((0, 1))).max() < 0.8  # converted, where not tagged
    assert written.colors.transfer in (1, 6)  # two names of one curve


@pytest.mark.parametrize("suffix", MOVIE_OUT)
def test_every_file_says_that_it_was_edited(make_clip: MakeClip, tmp_path: Path, suffix: str) -> None:
    source = make_clip("clip.mkv", codec="ffv1", size=SIZE, frames=2)
    copied(source, tmp_path / f"out{suffix}", metadata={"comment": "not what was filmed", "cmet_edit": "happy"})
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        tags = {name.lower().removeprefix("comment_"): value for name, value in container.metadata.items()}
    assert tags["comment"] == "not what was filmed" and tags["cmet_edit"] == "happy"


def test_chroma_at_the_bottom_is_kept_where_the_file_knows_it(make_clip: MakeClip, tmp_path: Path) -> None:
    reader = VideoReader(make_clip("clip.mkv", codec="ffv1", frames=2))
    info = replace(reader.info, colors=replace(reader.info.colors, chroma_place=BOTTOM))
    for name, kept in (("out.mp4", True), ("out.mkv", True), ("lossless.mkv", False), ("out.webm", False)):
        codec = "ffv1" if "lossless" in name else None
        with VideoWriter(tmp_path / name, 64, 48, 25, sound_from=info, codec=codec) as writer:
            for frame in reader.frames(planes=True):
                writer.write(frame.source, frame.time)
        assert ["at the bottom" in note for note in writer.notes] == [True] * (not kept)
