"""What is measured of a clip: rates, lengths, damage, and what is no clip at all."""

import os
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import MakeClip, copy, same_pictures
from soak_cases import mostly_soak, soak

from cmet_engine.errors import CmetError
from cmet_engine.media.probe import probe
from cmet_engine.media.reader import VideoReader

RATES = [
    Fraction(24000, 1001),
    Fraction(30000, 1001),
    Fraction(60000, 1001),
    Fraction(25),
    Fraction(15),
    Fraction(1000000, 33333),
]


@pytest.mark.parametrize(("fps", "suffix"), mostly_soak(product(RATES, [".mp4", ".mkv", ".mov"]), 4), ids=str)
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


def test_a_dropped_frame_makes_the_rate_variable(make_clip: MakeClip) -> None:
    info = probe(make_clip("clip.mp4", frames=20, ticks=[*range(10), *range(11, 21)], time_base=Fraction(1, 25)))
    assert info.variable
    assert info.fps == Fraction(19 * 25, 20)


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


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", {}),
        (".mp4", {"movflags": "faststart"}),
        (".mp4", {"movflags": "frag_keyframe+empty_moov"}),
        (".mkv", {}),
        (".ts", {}),
        (".avi", {}),
    ],
)
@pytest.mark.parametrize("share", [0.02, 0.5, *soak(0.0005, 0.97)])
def test_truncated_clips_give_what_is_there_or_one_sentence(
    make_clip: MakeClip, tmp_path: Path, options: dict[str, str], suffix: str, share: float
) -> None:
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
