"""Writing that is interrupted and taken up again makes the same file, bit for bit, in every format."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import MakeClip

from cmet_engine.media import formats, movie_output, sequence_output
from cmet_engine.media.reader import VideoReader, frame_at
from cmet_engine.media.writer import VideoWriter

SEGMENT = 8
FRAMES = 2 * SEGMENT + 7


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    """So that few pictures make several segments."""
    for module in (movie_output, sequence_output):
        monkeypatch.setattr(module, "SEGMENT", SEGMENT)


class Killed(BaseException):
    """Stands for kill -9: nothing of ours runs after it that could save more."""


def write(clip: Path, target: Path, segments: Path | None, stop_at: int | None = None) -> list[int]:
    """Copy a clip; returns the numbers of the frames that were worked on."""
    reader, worked = VideoReader(clip), []
    info = reader.info
    with VideoWriter(
        target, info.width, info.height, info.fps, sound_from=info, segments=segments, metadata={"title": "x"}
    ) as writer:
        for frame in reader.frames(writer.frames):
            if frame.index == stop_at:
                raise Killed
            worked.append(frame.index)
            writer.write(frame.image, frame.time)
    return worked


def digest(target: Path) -> dict[str, str]:
    folder = target.parent
    files = folder.glob(f"*{target.suffix}")
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


UNEVEN = np.cumsum(np.random.default_rng(4).integers(1, 90, 40)).tolist()


@pytest.mark.parametrize(
    ("suffix", "size", "ticks"),
    [
        (".mp4", (64, 48), None),
        (".mp4", (64, 48), UNEVEN),
        (".mkv", (64, 48), None),
        (".mkv", (64, 48), UNEVEN),
        (".mp4", (63, 47), UNEVEN),
        (".mov", (64, 48), None),
        (".mov", (63, 48), UNEVEN),
        (".png", (64, 48), None),
        (".exr", (64, 48), None),
    ],
)
def test_an_interrupted_video_equals_an_uninterrupted_one(make_clip: MakeClip, tmp_path, suffix, size, ticks):
    sound = "aac" if suffix != ".mkv" else "pcm_s16le"
    odd = "yuv444p" if size[0] % 2 else "yuv420p"
    clip = make_clip(
        "clip.mov", frames=FRAMES, size=size, fps=Fraction(30000, 1001), pixels=odd, sound=sound,
        ticks=ticks, time_base=Fraction(1, 1000) if ticks else None,
    )  # fmt: skip
    targets = [tmp_path / name / f"out{suffix}" for name in ("plain", "whole", "broken")]
    for target in targets:
        target.parent.mkdir()
    plain, whole, broken = targets
    write(clip, plain, None)
    segments = tmp_path / "segments"
    segments.mkdir()
    write(clip, whole, segments)
    again = tmp_path / "again"
    again.mkdir()
    for stop in (1, SEGMENT + 1, SEGMENT + 6, FRAMES - 1):
        with pytest.raises(Killed):
            write(clip, broken, again, stop)
        assert not digest(broken)
    assert write(clip, broken, again)[0] == 2 * SEGMENT  # nothing finished was done again
    assert len(digest(plain)) == (FRAMES if suffix in formats.SEQUENCE_OUT else 1)
    assert digest(plain) == digest(whole) == digest(broken)


def test_a_video_that_lacks_only_its_end_is_put_together_again(make_clip: MakeClip, tmp_path):
    clip = make_clip("clip.mp4", frames=FRAMES, sound="aac")
    segments = tmp_path / "segments"
    segments.mkdir()
    write(clip, tmp_path / "one.mp4", segments)
    assert write(clip, tmp_path / "two.mp4", segments) == []
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("ticks", [None, UNEVEN])
def test_packets_of_segments_fit_together(make_clip: MakeClip, tmp_path, suffix, ticks):
    clip = make_clip(
        "clip.mp4", frames=FRAMES, sound="aac", ticks=ticks, time_base=Fraction(1, 1000) if ticks else None
    )
    write(clip, tmp_path / f"out{suffix}", None)
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
    decoded = [p.dts for p in packets if p.dts is not None]
    assert decoded == sorted(set(decoded))
    assert all(p.dts <= p.pts for p in packets if p.dts is not None)
    keys = [n for n, p in enumerate(packets) if p.is_keyframe]
    assert set(range(0, FRAMES, SEGMENT)) <= set(keys)  # every segment can be sought
    times = [f.time for f in VideoReader(tmp_path / f"out{suffix}")]
    assert times == [f.time for f in VideoReader(clip)]


def test_frames_from_the_middle_are_the_same_frames(make_clip: MakeClip):
    reader = VideoReader(make_clip("clip.mp4", frames=30, rotation=90, ticks=UNEVEN[:30], time_base=Fraction(1, 1000)))
    whole, part = list(reader), list(reader.frames(17))
    assert [f.index for f in part] == list(range(17, 30))
    for one, other in zip(whole[17:], part, strict=True):
        assert one.time == other.time and np.array_equal(one.image, other.image)


@pytest.mark.parametrize("ticks", [None, UNEVEN])
def test_one_frame_can_be_had_without_the_others(make_clip: MakeClip, ticks):
    clip = make_clip(
        "clip.mp4", frames=40, rotation=90, ticks=ticks, sound="aac", options={"crf": "4", "g": "12"},
        time_base=Fraction(1, 1000) if ticks else None,
    )  # fmt: skip
    frames = list(VideoReader(clip))
    for number in (0, 1, 11, 12, 25, 39):
        until = frames[number + 1].time if number < 39 else frames[number].time + Fraction(1, 1000)
        image = frame_at(clip, (frames[number].time + until) / 2)
        assert np.array_equal(image, frames[number].image), number
