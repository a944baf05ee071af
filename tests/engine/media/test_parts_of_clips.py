"""A part of a clip: exact to the frame, its sound cut to it, its own start timecode."""

from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_clips import MakeClip, psnr
from moments import RATE, clicks, flashes, write_moments
from soak_cases import mostly_soak

from cmet_engine.errors import InvalidInput
from cmet_engine.media import audio
from cmet_engine.media.probe import measure, part_of, probe
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.media.writer import VideoWriter

GROUPS = {"g": "12", "bf": "2", "x264-params": "open-gop=1"}


def copy_part(source: Source, target: Path) -> VideoWriter:
    reader = VideoReader(source)
    info = reader.info
    with VideoWriter(target, info.width, info.height, info.fps, sound_from=info) as writer:
        for frame in reader:
            writer.write(frame.image, frame.time)
    return writer


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.ts", "clip.mpg", "clip.avi"])
def test_a_part_has_the_very_frames_of_the_clip(make_clip: MakeClip, name: str) -> None:
    codec = {"clip.mpg": "mpeg2video", "clip.avi": "mpeg4"}.get(name, "libx264")
    clip = make_clip(
        name, frames=60, codec=codec, options=GROUPS if codec == "libx264" else {"g": "12"}, sound="mp2", rate=48000
    )
    whole = [frame.image for frame in VideoReader(clip)]
    count = len(whole)  # MPEG-2 may keep one back
    for first, end in ((0, 7), (5, 31), (24, 25), (33, 60), (59, 60)):
        reader = VideoReader(part_of(clip, f"{first}f", f"{end}f"))
        frames = list(reader)
        assert [f.index for f in frames] == list(range(min(end, count) - first))
        assert [f.time for f in frames] == [Fraction(i, 25) for i in range(len(frames))]
        assert reader.info.frames == len(frames) and reader.info.duration == pytest.approx(len(frames) / 25)
        for frame in frames:
            np.testing.assert_array_equal(frame.image, whole[first + frame.index])


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001), Fraction(25)])
def test_moments_are_seconds_frames_or_timecode(make_clip: MakeClip, fps: Fraction) -> None:
    clip = make_clip("clip.mp4", frames=90, fps=fps)
    tc = f"00:00:01:{3:02d}"
    whole = round(fps)
    assert part_of(clip, "1", "1.5").first == -(-fps.numerator // fps.denominator)
    assert part_of(clip, "12f", "20f").part == (12, 20)
    assert part_of(clip, tc, None).part == (whole + 3, None)
    assert part_of(clip, None, "10f").part == (0, 10)
    assert part_of(clip, "0", "1000").part == (0, None)
    assert part_of(clip, "12f", "20f", 5).part == (7, 25)
    assert part_of(clip, "3f", "88f", 5).part == (0, None)


def test_timecode_counts_from_the_clips_own(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mov"
    with av.open(str(clip), "w") as out:
        stream: Any = out.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["timecode"] = "00:00:59;20"
        for _ in range(40):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8))))
        out.mux(stream.encode(None))
    part = part_of(clip, "00:01:00;02", "00:01:00:12")  # ten frames on, for drop-frame has no ;00 and ;01
    assert part.part == (10, 20)
    copy_part(part, tmp_path / "out.mov")
    assert probe(tmp_path / "out.mov").timecode == "00:01:00;02"
    copy_part(part_of(clip, "00:01:00;02", "00:01:00:12", 4), tmp_path / "handles.mov")
    assert probe(tmp_path / "handles.mov").timecode == "00:00:59;26"
    assert probe(tmp_path / "handles.mov").frames == 18


@pytest.mark.parametrize(
    ("begin", "end"), [("3", None), ("1", "1"), ("60f", None), ("00:00:05:00", None), (None, "0"), ("23:59:59:00", "1")]
)
def test_a_part_without_a_frame_is_refused(make_clip: MakeClip, begin: str | None, end: str | None) -> None:
    with pytest.raises(InvalidInput, match=r"clip\.mp4 has no frame"):
        part_of(make_clip("clip.mp4", frames=60), begin, end)


def test_uneven_frames(make_clip: MakeClip) -> None:
    ticks = [0, 40, 90, 130, 400, 440, 470, 900]
    clip = make_clip("clip.mp4", frames=8, ticks=ticks, time_base=Fraction(1, 1000))
    frames = list(VideoReader(part_of(clip, "0.13", "0.47")))
    assert [f.time for f in frames] == [Fraction(t - 130, 1000) for t in (130, 400, 440)]


@pytest.mark.parametrize(
    ("container", "sound", "suffix"),
    mostly_soak(product([".mkv", ".ts"], ["aac", "pcm_s16le", "mp2"], [".mp4", ".mov", ".mkv"]), 5),
)
def test_the_sound_of_a_part_is_in_step(tmp_path: Path, suffix: str, sound: str, container: str) -> None:
    if (sound, container) == ("pcm_s16le", ".ts"):
        sound, container = "pcm_s24le", ".mov"
    clip = write_moments(tmp_path / f"clip{container}", [0.2, 1.4, 2.6], seconds=3, options=GROUPS, sound=sound)
    out = tmp_path / f"out{suffix}"
    copy_part(part_of(clip, "1.0", "2.2"), out)
    seen, heard = flashes(out), clicks(out)
    assert len(seen) == len(heard) == 1
    assert heard[0] == pytest.approx(seen[0], abs=0.025)
    assert seen[0] == pytest.approx(0.4, abs=0.045)
    with av.open(str(out)) as made:
        assert made.duration / av.time_base == pytest.approx(1.2, abs=0.06)
    wave = audio.load(part_of(clip, "1.0", "2.2"), RATE)
    assert len(wave) / RATE == pytest.approx(1.2, abs=0.01)
    assert int(np.argmax(np.abs(wave) > 0.3)) / RATE == pytest.approx(0.4, abs=0.03)


def test_a_part_of_a_sequence(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip("clip.mp4", frames=10)
    with VideoWriter(tmp_path / "frames", 64, 48, 25) as writer:
        for frame in VideoReader(clip):
            writer.write(frame.image)
    pictures = [f.image for f in VideoReader(tmp_path / "frames")]
    part = list(VideoReader(part_of(tmp_path / "frames", "4f", "7f")))
    assert len(part) == 3
    assert all(psnr(frame.image, pictures[4 + frame.index]) > 90 for frame in part)
    assert measure(part_of(tmp_path / "frames", "4f", "7f")).begins == 0.16


def test_chapters_and_subtitles_of_a_part(tmp_path: Path) -> None:
    clip = write_moments(tmp_path / "clip.mkv", [0.2], seconds=3)
    rich = tmp_path / "rich.mkv"
    with av.open(str(clip)) as source, av.open(str(rich), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        from cmet_engine.media.subtitles import HEADER

        words: Any = out.add_stream("subrip")
        words.codec_context.subtitle_header = HEADER
        out.set_chapters(
            [
                {"id": 1, "start": 0, "end": 1500, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
                {"id": 2, "start": 1500, "end": 3000, "time_base": Fraction(1, 1000), "metadata": {"title": "Two"}},
            ]
        )
        out.start_encoding()
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
        for start, text in ((0, b"before"), (900, b"across"), (1600, b"within"), (2500, b"behind")):
            line = av.Packet(text)
            line.pts = line.dts = start
            line.duration, line.time_base, line.stream = 400, Fraction(1, 1000), words
            out.mux(line)
    copy_part(part_of(rich, "1", "2"), tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as made:
        chapters = [
            (c["metadata"]["title"], float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]))
            for c in made.chapters()
        ]
        lines = [
            (bytes(p), float(p.pts * p.time_base), float(p.duration * p.time_base))
            for p in made.demux(made.streams.subtitles[0])
            if p.size
        ]
    assert [c[0] for c in chapters] == ["One", "Two"]
    assert [c[1:] for c in chapters] == [(0, 0.5), (0.5, 1.0)]
    assert [line[0] for line in lines] == [b"across", b"within"]
    assert lines[0][1] == pytest.approx(0, abs=0.03) and lines[0][2] == pytest.approx(0.3, abs=0.002)
