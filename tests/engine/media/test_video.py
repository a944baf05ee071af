"""Clips of every kind, made on the spot, through the reader and the writer."""

import itertools
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_clips import picture

from cmet_engine.errors import CmetError
from cmet_engine.media.info import Frame
from cmet_engine.media.probe import probe
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter

MakeClip = Callable[..., Path]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((a.astype(np.float64) - b) ** 2).mean(), 1e-9)))


def copy(source: Path, target: Path, **options: Any) -> tuple[list[Frame], VideoWriter]:
    """Write every frame of a clip into another, unchanged."""
    reader = VideoReader(source)
    frames = []
    with VideoWriter(
        target, reader.info.width, reader.info.height, reader.info.fps, sound_from=source, **options
    ) as writer:
        for frame in reader:
            writer.write(frame.image, frame.time)
            frames.append(frame)
    return frames, writer


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]


def same_pictures(before: Iterable[Frame], after: Iterable[Frame], least: float = 40) -> None:
    for a, b in zip(before, after, strict=True):
        assert a.time == b.time
        assert psnr(a.image, b.image) >= least


RATES = [
    Fraction(24000, 1001),
    Fraction(30000, 1001),
    Fraction(60000, 1001),
    Fraction(25),
    Fraction(15),
    Fraction(1000000, 33333),
]


@pytest.mark.parametrize("fps", RATES, ids=str)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_the_frame_rate_stays_exact(make_clip: MakeClip, tmp_path: Path, fps: Fraction, suffix: str) -> None:
    source = make_clip("clip.mp4", fps=fps, frames=30)
    assert probe(source).fps == fps
    frames, _ = copy(source, tmp_path / f"out{suffix}")
    info = probe(tmp_path / f"out{suffix}")
    assert not info.variable
    assert info.frames == len(frames) == 30
    if suffix == ".mkv" and fps.denominator == 33333:
        assert abs(info.fps - fps) < 0.001  # Matroska counts in milliseconds and takes this for 30
    else:
        assert info.fps == fps
    assert info.duration == pytest.approx(30 / fps, abs=0.002)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_frame_of_a_variable_rate_keeps_its_time(make_clip: MakeClip, tmp_path: Path, suffix: str) -> None:
    ticks = [0, 40, 70, 110, 111, 200, 260, 300, 350, 390, 500, 501]
    source = make_clip("clip" + suffix, ticks=ticks, time_base=Fraction(1, 1000))
    info = probe(source)
    assert info.variable
    frames, _ = copy(source, tmp_path / ("out" + suffix))
    assert [f.time for f in frames] == [Fraction(t, 1000) for t in ticks]
    after = VideoReader(tmp_path / ("out" + suffix))
    assert after.info.variable
    assert after.info.fps == info.fps
    same_pictures(frames, after)


def test_a_dropped_frame_makes_the_rate_variable(make_clip: MakeClip) -> None:
    info = probe(make_clip("clip.mp4", frames=20, ticks=[*range(10), *range(11, 21)], time_base=Fraction(1, 25)))
    assert info.variable
    assert info.fps == Fraction(19 * 25, 20)


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
    ("source", "codec", "rate", "target"),
    [
        ("clip.mp4", "aac", 44100, "out.mp4"),
        ("clip.mkv", "libopus", 48000, "out.mkv"),
        ("clip.mkv", "libopus", 48000, "out.mp4"),
        ("clip.mov", "pcm_s16le", 48000, "out.mov"),
        ("clip.mov", "pcm_s24le", 48000, "out.mp4"),
        ("clip.mkv", "flac", 44100, "out.mkv"),
        ("clip.avi", "mp3", 44100, "out.mp4"),
        ("clip.ts", "ac3", 48000, "out.mov"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_copied_bit_for_bit(
    make_clip: MakeClip, tmp_path: Path, source: str, codec: str, rate: int, target: str, channels: int
) -> None:
    clip = make_clip(source, sound=codec, rate=rate, channels=channels, frames=40)
    _, writer = copy(clip, tmp_path / target)
    assert b"".join(sound_packets(tmp_path / target)) == b"".join(sound_packets(clip))
    assert probe(tmp_path / target).has_audio
    assert not writer.notes


def test_sound_that_does_not_fit_is_encoded_again_and_said(make_clip: MakeClip, tmp_path: Path) -> None:
    from cmet_engine.media import audio

    clip = make_clip("clip.mov", sound="pcm_mulaw", rate=16000, frames=40)
    _, writer = copy(clip, tmp_path / "out.mp4")
    assert "re-encoded" in writer.notes[0]
    before, after = audio.load(clip), audio.load(tmp_path / "out.mp4")
    assert np.corrcoef(before, after[: len(before)])[0, 1] > 0.99


def test_all_sound_tracks_and_their_languages_stay(tmp_path: Path, make_clip: MakeClip) -> None:
    first, second = make_clip("a.mp4", sound="aac"), make_clip("b.mp4", sound="aac", rate=44100)
    both = tmp_path / "both.mp4"
    with av.open(str(both), "w") as out:
        sources = [av.open(str(first)), av.open(str(second))]
        taken = [sources[0].streams.video[0], sources[0].streams.audio[0], sources[1].streams.audio[0]]
        streams = [out.add_stream_from_template(s) for s in taken]
        streams[1].metadata["language"], streams[2].metadata["language"] = "eng", "deu"
        for stream, target in zip(taken, streams, strict=True):
            stream.container.seek(0)
            for packet in stream.container.demux(stream):
                if packet.size:
                    packet.stream = target
                    out.mux(packet)
    copy(both, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [s.metadata["language"] for s in container.streams.audio] == ["eng", "deu"]
        assert [s.rate for s in container.streams.audio] == [16000, 44100]


def test_silent_clip_stays_silent(make_clip: MakeClip, tmp_path: Path) -> None:
    _, writer = copy(make_clip("clip.mp4"), tmp_path / "out.mp4")
    assert not probe(tmp_path / "out.mp4").has_audio
    assert not writer.notes


def test_pictures_and_sound_keep_their_distance(tmp_path: Path, make_clip: MakeClip) -> None:
    late = make_clip("late.mp4", sound="aac", rate=48000, ticks=[i + 5 for i in range(12)], time_base=Fraction(1, 25))
    assert probe(late).offset == Fraction(1, 5)
    frames, _ = copy(late, tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").offset == pytest.approx(Fraction(1, 5), abs=0.001)
    same_pictures(frames, VideoReader(tmp_path / "out.mp4"))


@pytest.mark.parametrize("size", [(65, 49), (64, 49), (65, 48), (1, 1), (3, 7), (8, 8), (16, 130)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_odd_and_tiny_sizes_stay_exact(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    width, height = size
    path = tmp_path / f"out{suffix}"
    images = [picture(i, width, height) for i in range(5)]
    with VideoWriter(path, width, height, 25) as writer:
        for image in images:
            writer.write(image)
    reader = VideoReader(path)
    assert (reader.info.width, reader.info.height) == size
    with av.open(str(path)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == size
    least = 40 if min(size) > 16 else 20  # a chroma sample of 4:2:0 spans a quarter of the smallest pictures
    for image, frame in zip(images, reader, strict=True):
        assert psnr(image, frame.image) > least


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "bits"),
    [
        ("clip.mkv", "ffv1", "yuv420p10le", 10),
        ("clip.mov", "prores_ks", "yuv422p10le", 10),
        ("clip.mkv", "ffv1", "yuv444p12le", 12),
        ("clip.mkv", "libx265", "yuv420p10le", 10),
        ("clip.mkv", "ffv1", "yuv444p", 8),
        ("clip.mkv", "ffv1", "bgr0", 8),
    ],
)
def test_deep_and_full_chroma_clips(
    make_clip: MakeClip, tmp_path: Path, name: str, codec: str, pixels: str, bits: int
) -> None:
    options = {"crf": "4", "x265-params": "log-level=error"} if codec == "libx265" else {}
    source = make_clip(name, codec=codec, pixels=pixels, options=options)
    reader = VideoReader(source)
    assert reader.info.bit_depth == bits
    for frame in reader:
        assert psnr(frame.image, picture(frame.index, 64, 48)) > 42
    frames, _ = copy(source, tmp_path / "out.mp4")
    same_pictures(frames, VideoReader(tmp_path / "out.mp4"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


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


def test_cover_art_is_not_the_video(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip("clip.mp4", cover=True, sound="aac")
    with av.open(str(source)) as container:
        assert len(container.streams.video) == 2  # the clip really has a cover
    info = probe(source)
    assert (info.width, info.height, info.frames) == (64, 48, 12)
    frames, _ = copy(source, tmp_path / "out.mp4")
    same_pictures(frames, VideoReader(tmp_path / "out.mp4"))


def test_a_song_with_a_cover_is_no_video(make_clip: MakeClip) -> None:
    song = make_clip("song.mp3", video=False, cover=True, sound="mp3", rate=44100)
    with pytest.raises(CmetError, match="sound only and a cover picture"):
        probe(song)


def test_a_header_that_lies_about_length(make_clip: MakeClip) -> None:
    source = make_clip("clip.mkv", frames=40)
    data = bytearray(source.read_bytes())
    duration = (
        data.index(b"\x44\x89\x88") + 3
    )  # Matroska's Duration: element 0x4489, 8 bytes, a double (RFC 9559, 5.1.2.10)
    data[duration : duration + 8] = struct.pack(">d", 3_600_000.0)
    source.write_bytes(data)
    with av.open(str(source)) as container:
        assert container.duration == 3600 * av.time_base  # the header really lies
    info = probe(source)
    assert (info.frames, info.fps, info.duration) == (40, 25, 1.6)
    assert len(list(VideoReader(source))) == 40


@pytest.mark.parametrize("lie", [7, 4000])
def test_a_header_that_lies_about_the_number_of_frames(make_clip: MakeClip, lie: int) -> None:
    source = make_clip("clip.avi", codec="mjpeg", pixels="yuvj420p", frames=40)
    data = bytearray(source.read_bytes())
    for box, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        at = data.index(box) + offset
        data[at : at + 4] = lie.to_bytes(4, "little")
    source.write_bytes(data)
    with av.open(str(source)) as container:
        assert container.streams.video[0].frames == lie
    info = probe(source)
    assert (info.frames, info.fps, info.duration) == (40, 25, 1.6)
    assert bool(info.warnings) == (lie > 40)
    assert len(list(VideoReader(source))) == 40


@pytest.mark.parametrize("container_options", [{}, {"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
@pytest.mark.parametrize("share", [0.0005, 0.02, 0.5, 0.97])
def test_truncated_clips_give_what_is_there_or_one_sentence(
    make_clip: MakeClip, tmp_path: Path, container_options: dict[str, str], suffix: str, share: float
) -> None:
    options = container_options if suffix == ".mp4" else {}
    source = make_clip("clip" + suffix, frames=60, sound="aac", container_options=options)
    data = source.read_bytes()
    source.write_bytes(data[: max(1, int(len(data) * share))])
    try:
        frames, _ = copy(source, tmp_path / "out.mp4")
    except CmetError as error:
        assert str(error).startswith(str(source)) and str(error).endswith(".") and "\n" not in str(error)
        assert not (tmp_path / "out.mp4").exists()
        assert share < 0.5 or suffix == ".mp4"
    else:
        assert 0 < len(frames) <= 60
        same_pictures(frames, VideoReader(tmp_path / "out.mp4"))


def test_a_truncated_clip_says_so(make_clip: MakeClip) -> None:
    source = make_clip("clip.mp4", frames=60, container_options={"movflags": "faststart"})
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.6)])
    reader = VideoReader(source)
    frames = list(reader)
    assert 5 < len(frames) < 60
    assert any("cut off" in w for w in reader.warnings)


def test_damage_in_the_middle_does_not_stop_the_rest(make_clip: MakeClip) -> None:
    source = make_clip("clip.mkv", frames=60, options={"crf": "10", "g": "10"})
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = os.urandom(200)
    source.write_bytes(data)
    times = [f.time for f in VideoReader(source)]
    assert len(times) > 20
    assert all(b > a for a, b in itertools.pairwise(times))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: d / "absent.mp4", "does not exist"),
        (lambda d: d, "folder without numbered pictures"),
        (lambda d: _file(d / "empty.mp4", b""), "empty"),
        (lambda d: _file(d / "note.mp4", b"this is not a video\n" * 400), "not a clip|text file"),
        (lambda d: _file(d / "note.txt", b"this is not a video\n" * 400), "text file"),
        (lambda d: _file(d / "noise.mov", np.random.default_rng(0).bytes(50_000)), "not a clip"),
        (lambda d: _file(d / "list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/x.ts\n"), "not a clip|text file"),
        (
            lambda d: _file(d / "list.ffconcat", b"ffconcat version 1.0\nfile '/etc/hostname'\n"),
            "not a clip|text file|cannot",
        ),
        (lambda d: d / "frame_%04d.png", "no picture of that name"),
    ],
)
def test_what_is_not_a_clip_gets_one_sentence(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(CmetError, match=says) as caught:
        probe(make(tmp_path))
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).endswith(".")


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_clip_that_may_not_be_read(make_clip: MakeClip) -> None:
    source = make_clip("clip.mp4")
    source.chmod(0)
    with pytest.raises(CmetError, match="may not be read"):
        probe(source)


def test_sound_only(make_clip: MakeClip) -> None:
    with pytest.raises(CmetError, match="sound only"):
        probe(make_clip("voice.wav", video=False, sound="pcm_s16le"))


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "with space.mp4", "100%d.mp4", "ünïcode 笑.mp4", "-dash.mp4", "quote'.mp4"]
)
def test_any_file_name(make_clip: MakeClip, tmp_path: Path, name: str) -> None:
    source = make_clip("clip.mp4", sound="aac").rename(tmp_path / name)
    copy(source, tmp_path / f"out {name}")
    assert probe(tmp_path / f"out {name}").frames == 12


def test_one_frame(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip("clip.mp4", frames=1)
    info = probe(source)
    assert (info.frames, info.duration, info.variable) == (1, pytest.approx(0.04), False)
    frames, _ = copy(source, tmp_path / "out.mp4")
    same_pictures(frames, VideoReader(tmp_path / "out.mp4"))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_metadata_survives(tmp_path: Path, suffix: str) -> None:
    tags = {"title": "Edited: ünï", "comment": "Edited by C-MET: happy=0.8@0-2.5", "cmet_edit": '{"emotion": "happy"}'}
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, 64, 48, 25, metadata=tags) as writer:
        for i in range(3):
            writer.write(picture(i, 64, 48))
    with av.open(str(path)) as container:
        found = {k.lower(): v for k, v in container.metadata.items()}
    assert {k: found.get(k) for k in tags} == tags


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_reading_again_and_stopping_early(make_clip: MakeClip, prefetch: int) -> None:
    reader = VideoReader(make_clip("clip.mp4", frames=50), prefetch=prefetch)
    for frame in reader:
        if frame.index == 3:
            break
    before = threading.active_count()
    first, second = list(reader), list(reader)
    assert [f.index for f in first] == list(range(50))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("pixels", "codec"), [("yuv420p", "libx264"), ("bgr0", "ffv1"), ("gray", "ffv1"), ("yuv420p10le", "ffv1")]
)
def test_frames_are_plain_arrays(make_clip: MakeClip, pixels: str, codec: str) -> None:
    for rotation in (0, 90):
        source = make_clip(
            "clip.mov" if codec == "libx264" else "clip.mkv",
            pixels=pixels,
            codec=codec,
            size=(54, 38),
            rotation=rotation,
        )
        for frame in VideoReader(source):
            assert frame.image.flags["C_CONTIGUOUS"] and frame.image.flags["WRITEABLE"]
            assert frame.image.dtype == np.uint8 and frame.image.shape[2] == 3


def test_frames_are_the_callers_own(make_clip: MakeClip) -> None:
    kept = []
    for frame in VideoReader(make_clip("clip.mp4")):
        kept.append(frame.image.copy())
        frame.image[:] = 0
    for i, image in enumerate(kept):
        assert psnr(image, picture(i, 64, 48)) > 38


def test_a_picture_may_be_changed_after_it_was_written(tmp_path: Path) -> None:
    buffer = np.empty((48, 64, 3), np.uint8)
    with VideoWriter(tmp_path / "out.mp4", 64, 48, 25) as writer:
        for i in range(20):
            buffer[:] = picture(i, 64, 48)
            writer.write(buffer)
            buffer[:] = 0
    for frame in VideoReader(tmp_path / "out.mp4"):
        assert psnr(frame.image, picture(frame.index, 64, 48)) > 38


def test_interlaced_pictures_are_made_whole(tmp_path: Path) -> None:
    """A bar moves between the two moments of every frame: combed lines in the clip, none in what is read."""
    path, frames = tmp_path / "interlaced.mp4", 12
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for i in range(frames):
            image = np.full((240, 320, 3), 60, np.uint8)
            for moment in (0, 1):
                left = 20 + (2 * i + moment) * 6
                image[moment::2, left : left + 40] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())

    def combing(image: np.ndarray) -> float:
        rows = image[..., 1].astype(np.float64)
        return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())

    reader = VideoReader(path)
    read = list(reader)
    assert [f.time for f in read] == [Fraction(i, 25) for i in range(frames)]
    with av.open(str(path)) as container:
        stored = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert all(combing(f.image) < combing(s) / 4 for f, s in zip(read, stored, strict=True))
    assert any("interlaced" in w for w in reader.warnings)


@pytest.mark.parametrize("target", ["frames/shot_%04d.png", "frames/shot.png", "frames", "frames/shot_%04d.exr"])
def test_image_sequences(make_clip: MakeClip, tmp_path: Path, target: str) -> None:
    frames, writer = copy(make_clip("clip.mp4", sound="aac", size=(65, 49), codec="mpeg4"), tmp_path / target)
    files = sorted((tmp_path / "frames").iterdir())
    assert len(files) == len(frames) == 12
    assert files[0].name in ("shot_0001.png", "shot_000001.png", "frame_000001.png", "shot_0001.exr")
    assert "no sound" in writer.notes[0]
    again = VideoReader(tmp_path / "frames")
    assert (again.info.frames, again.info.width, again.info.height, again.info.fps) == (12, 65, 49, 25)
    for a, b in zip(frames, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)  # EXR's linear half floats come back exactly too


def test_an_exr_holds_linear_light(tmp_path: Path) -> None:
    grey = np.full((16, 16, 3), 188, np.uint8)  # sRGB 188 is half of the light (IEC 61966-2-1)
    with VideoWriter(tmp_path / "f.exr", 16, 16, 25) as writer:
        writer.write(grey)
    with av.open(str(tmp_path / "f_000001.exr")) as container:
        stored = next(container.decode(video=0)).reformat(format="gbrpf32le").to_ndarray()
    np.testing.assert_allclose(stored, 0.5, atol=0.005)


def test_a_sequence_replaces_an_earlier_one_only_when_told(tmp_path: Path) -> None:
    def write(count: int, force: bool) -> None:
        with VideoWriter(tmp_path / "s" / "f_%03d.png", 8, 8, 25, force=force) as writer:
            for _ in range(count):
                writer.write(np.full((8, 8, 3), count, np.uint8))

    write(5, False)
    (tmp_path / "s" / "notes.txt").write_text("mine")
    with pytest.raises(CmetError, match="--force"):
        write(3, False)
    assert len(list((tmp_path / "s").glob("f_*.png"))) == 5
    write(3, True)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["f_001.png", "f_002.png", "f_003.png", "notes.txt"]
    assert {int(f.image[0, 0, 0]) for f in VideoReader(tmp_path / "s")} == {3}


def test_a_gap_in_a_sequence_is_named(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "s" / "f_%03d.png", 8, 8, 25) as writer:
        for _ in range(5):
            writer.write(np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "s" / "f_003.png").unlink()
    with pytest.raises(CmetError, match=r"f_003\.png"):
        VideoReader(tmp_path / "s")


@pytest.mark.parametrize("target", ["out.mp4", "frames/f_%03d.png"])
@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, target: str, error: BaseException) -> None:
    (tmp_path / "earlier.mp4").write_bytes(b"earlier")
    before = threading.active_count()
    with pytest.raises(type(error)), VideoWriter(tmp_path / target, 64, 48, 25) as writer:
        for i in range(30):
            writer.write(picture(i, 64, 48))
        raise error
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["earlier.mp4"]
    assert threading.active_count() <= before


def test_an_earlier_file_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(CmetError, match="exists already"):
        VideoWriter(path, 64, 48, 25)
    with pytest.raises(RuntimeError), VideoWriter(path, 64, 48, 25, force=True) as writer:
        writer.write(picture(0, 64, 48))
        raise RuntimeError
    assert path.read_bytes() == b"earlier"


def test_no_frame_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(CmetError, match="no frame"), VideoWriter(tmp_path / "out.mp4", 64, 48, 25):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "size", "fps", "says"),
    [
        ("out.xyz", (64, 48), 25, "cannot write a video as"),
        ("out.mp4", (0, 48), 25, "0x48"),
        ("out.mp4", (64, 48), 0, "frame rate"),
        ("absent/out.mp4", (64, 48), 25, "does not exist"),
        ("f_%03d_%03d.png", (64, 48), 25, "one frame number"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, name: str, size: tuple[int, int], fps: int, says: str) -> None:
    with pytest.raises(CmetError, match=says), VideoWriter(tmp_path / name, *size, fps) as writer:
        writer.write(picture(0, 64, 48))
    assert not list(tmp_path.iterdir())


def test_wrong_pictures_and_times_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 64, 48, 25) as writer:
        writer.write(picture(0, 64, 48))
        with pytest.raises(ValueError, match="uint8"):
            writer.write(picture(0, 48, 64))
        with pytest.raises(ValueError, match="uint8"):
            writer.write(picture(0, 64, 48).astype(np.float32))
        with pytest.raises(ValueError, match="come after"):
            writer.write(picture(0, 64, 48), Fraction(0))
    assert probe(tmp_path / "out.mp4").frames == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.mov", "s/f_%03d.exr"])
def test_a_disk_that_takes_no_more(tmp_path: Path, target: str) -> None:
    """The process may write 100 kB to a file, as if the disk were full behind them."""
    (tmp_path / "earlier.txt").write_text("earlier")
    script = f"""
        import resource, signal, sys
        import numpy as np
        from cmet_engine.errors import CmetError
        from cmet_engine.media.writer import VideoWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        noise = np.random.default_rng(0)
        try:
            with VideoWriter({str(tmp_path / target)!r}, 320, 240, 25) as writer:
                for _ in range(60):
                    writer.write(noise.integers(0, 256, (240, 320, 3), np.uint8))
        except CmetError as error:
            print(error)
            sys.exit(1)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stdout or "is full" in done.stdout
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["earlier.txt"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    script = f"""
        import numpy as np
        from cmet_engine.media.writer import VideoWriter
        with VideoWriter({str(tmp_path / "out.mp4")!r}, 320, 240, 25) as writer:
            for i in range(10**9):
                writer.write(np.full((240, 320, 3), i % 256, np.uint8))
                if i == 20:
                    print("ready", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    """Four times as many frames take no more memory (they would be 330 MB more if all were kept)."""
    script = f"""
        import resource, sys
        import numpy as np
        from cmet_engine.media.reader import VideoReader
        from cmet_engine.media.writer import VideoWriter
        count = int(sys.argv[1])
        path = {str(tmp_path)!r} + f"/{{count}}.mp4"
        image = np.zeros((720, 1280, 3), np.uint8)
        with VideoWriter(path, 1280, 720, 25) as writer:
            for i in range(count):
                image[:, :, 1] = i % 256
                writer.write(image)
        assert sum(1 for _ in VideoReader(path)) == count
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    """

    def peak(count: int) -> float:
        command = [sys.executable, "-c", textwrap.dedent(script), str(count)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert peak(160) < peak(40) + 40
