"""Pictures and sound stay together: streams that were cut anywhere, recordings that were joined, clocks that jump."""

from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_clips import copy
from moments import RATE, clicks, flashes, write_moments
from soak_cases import mostly_soak

from cmet_engine.media import audio
from cmet_engine.media.clock import Picture, moved, shifts_of
from cmet_engine.media.probe import probe
from cmet_engine.media.reader import VideoReader, frame_at

PACKET = 188  # bytes of a packet of a transport stream
OPEN = {
    "g": "25",
    "keyint_min": "25",
    "bf": "2",
    "sc_threshold": "0",
    "x264-params": "open-gop=1:keyint=25:min-keyint=25",
}
MPEG2 = {"g": "25", "bf": "2", "sc_threshold": "1000000000"}


def in_step(path: Path, count: int) -> None:
    """Every flash of a written clip has its click, within one frame and the sound's own packets."""
    seen, heard = flashes(path), clicks(path)
    assert len(seen) == len(heard) == count
    assert np.abs(np.subtract(seen, heard)).max() < 0.03, (seen, heard)


def test_a_program_stream_that_was_cut_in_the_middle_of_a_sound(tmp_path: Path) -> None:
    options = {"g": "25", "bf": "2", "sc_threshold": "1000000000"}
    clip = write_moments(tmp_path / "clip.mpg", [2.4], seconds=3, codec="mpeg2video", sound="mp2", options=options)
    data = clip.read_bytes()
    cut = tmp_path / "cut.mpg"
    cut.write_bytes(data[int(len(data) * 0.3) // 2048 * 2048 :])  # packs of 2048 bytes
    _, writer = copy(cut, tmp_path / "out.mp4")
    assert len(clicks(tmp_path / "out.mp4")) == len(flashes(tmp_path / "out.mp4")) == 1  # every packet can be decoded
    assert not probe(cut).warnings and not writer.notes


def without_beginning(source: Path, share: float) -> Path:
    """A transport stream without its first packets."""
    data = source.read_bytes()
    cut = source.with_stem("cut")
    cut.write_bytes(data[int(len(data) / PACKET * share) * PACKET :])
    return cut


GROUPS = {
    "libx264": OPEN,
    "mpeg2video": MPEG2,
    "libx265": {"x265-params": "log-level=none:keyint=25:min-keyint=25"},
}


@pytest.mark.parametrize(
    ("share", "codec", "suffix"), mostly_soak(product([0.1, 0.3, 0.45], GROUPS, [".mp4", ".mkv"]), 5)
)
def test_a_stream_that_was_cut_anywhere_stays_in_step(tmp_path: Path, share: float, codec: str, suffix: str) -> None:
    clip = write_moments(tmp_path / "clip.ts", [2.4], seconds=3, codec=codec, options=GROUPS[codec])
    cut = without_beginning(clip, share)
    with av.open(str(cut)) as container:
        stamps = [p.pts for p in container.demux(container.streams.video[0]) if p.size]
    with av.open(str(cut)) as container:
        first = next(container.decode(container.streams.video[0])).pts
    assert first > min(stamps)  # the clip really begins with pictures that cannot be decoded
    frames, writer = copy(cut, tmp_path / f"out{suffix}")
    in_step(tmp_path / f"out{suffix}", 1)
    info = probe(cut)
    assert info.frames == len(frames) and not info.variable
    assert not info.warnings and not writer.notes


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_a_recording_that_begins_before_a_key_frame(tmp_path: Path, suffix: str) -> None:
    clip = write_moments(tmp_path / "clip.mkv", [1.6], options=OPEN)
    late = tmp_path / "late.mkv"
    with av.open(str(clip)) as source, av.open(str(late), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        pictures = 0
        for packet in source.demux():
            if packet.stream.type == "video":
                pictures += 1
                if pictures <= 10:
                    continue
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    copy(late, tmp_path / f"out{suffix}")
    in_step(tmp_path / f"out{suffix}", 1)


def test_speech_belongs_to_the_first_picture_that_is_seen(tmp_path: Path) -> None:
    cut = without_beginning(write_moments(tmp_path / "clip.ts", [2.4], seconds=3, options=OPEN), 0.3)
    lit = next(float(f.time) for f in VideoReader(cut) if f.image.mean() > 120)
    loud = int(np.argmax(np.abs(audio.load(cut, RATE)) > 0.3)) / RATE
    assert loud == pytest.approx(lit, abs=0.03)


@pytest.mark.parametrize(
    ("suffix", "starts"),
    mostly_soak(product([".mp4", ".mkv", ".mov"], [(0, 0), (0, 7200), (3600, 10), (0, 0, 0)]), 3),
)
def test_joined_recordings_go_on_from_the_last_picture(tmp_path: Path, suffix: str, starts: tuple[int, ...]) -> None:
    parts = []
    for number, start in enumerate(starts):
        options = {"output_ts_offset": str(start)}
        parts.append(
            write_moments(tmp_path / f"{number}.ts", [0.6], seconds=1.2, options=OPEN, container_options=options)
        )
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    info = probe(joined)
    count = 30 * len(starts)
    assert (info.frames, info.fps, info.variable, info.duration) == (count, 25, False, pytest.approx(count / 25))
    assert [w for w in info.warnings if "joined" in w] == list(info.warnings)
    frames, writer = copy(joined, tmp_path / f"out{suffix}")
    assert [f.time for f in frames] == [Fraction(i, 25) for i in range(count)]
    in_step(tmp_path / f"out{suffix}", len(starts))
    assert not writer.notes
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.duration / av.time_base == pytest.approx(count / 25, abs=0.1)
    wave = audio.load(joined, RATE)
    loud = np.flatnonzero(np.abs(wave) > 0.3) / RATE
    assert loud[0] == pytest.approx(0.6, abs=0.03) and loud[-1] == pytest.approx(
        0.64 + 1.2 * (len(starts) - 1), abs=0.06
    )


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("clip.mpg", "mpeg2video", "mp2"),
        ("clip.vob", "mpeg2video", "ac3"),
        ("clip.m2ts", "libx264", "ac3"),
        ("clip.ts", "libx265", "aac"),
    ],
)
def test_joined_recordings_of_any_kind(tmp_path: Path, name: str, codec: str, sound: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {"g": "12", "bf": "2"}
    part = write_moments(tmp_path / name, [0.6], seconds=1.2, codec=codec, sound=sound, options=options)
    joined = part.with_stem("joined")
    joined.write_bytes(part.read_bytes() * 2)
    info = probe(joined)
    assert (info.frames, info.duration) == (60, 2.4) and "at 1.20 s" in info.warnings[0]
    copy(joined, tmp_path / "out.mp4")
    in_step(tmp_path / "out.mp4", 2)


def test_joined_recordings_of_two_rates(tmp_path: Path) -> None:
    parts = [write_moments(tmp_path / f"{fps}.ts", [0.6], seconds=1.2, fps=fps) for fps in (25, 30)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    info = probe(joined)
    assert (info.frames, info.variable, info.duration) == (66, True, pytest.approx(2.4, abs=1e-3))
    copy(joined, tmp_path / "out.mp4")
    in_step(tmp_path / "out.mp4", 2)


def test_a_joined_stream_whose_second_part_begins_in_a_group_of_pictures(tmp_path: Path) -> None:
    first = write_moments(tmp_path / "clip.ts", [0.6], seconds=1.2, options=OPEN)
    second = without_beginning(write_moments(tmp_path / "other.ts", [2.4], seconds=3, options=OPEN), 0.3)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    copy(joined, tmp_path / "out.mp4")
    in_step(tmp_path / "out.mp4", 2)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.flv", "clip.ts"])
def test_a_clock_that_jumps_ahead_in_any_container(tmp_path: Path, name: str) -> None:
    clip = write_moments(tmp_path / "clip.mp4", [0.6, 1.6], options={"g": "25", "bf": "0", "keyint_min": "25"})
    path = tmp_path / name
    with av.open(str(clip)) as source, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size == 0:
                continue
            seconds = packet.pts * packet.time_base
            if seconds >= 1:
                packet.pts += round(7200 / packet.time_base)
                packet.dts += round(7200 / packet.time_base)
            packet.stream = streams[packet.stream_index]
            out.mux(packet)
    info = probe(path)
    assert info.duration == pytest.approx(2, abs=0.05)
    copy(path, tmp_path / "out.mp4")
    in_step(tmp_path / "out.mp4", 2)


def test_a_picture_that_stands_still_while_somebody_speaks_is_no_join(tmp_path: Path) -> None:
    path = tmp_path / "still.mkv"
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        track: Any = out.add_stream("pcm_s16le", rate=8000)
        track.layout = "mono"
        for index, second in enumerate([0, 0.04, 0.08, 15, 15.04, 15.08]):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * index, np.uint8))
            frame.pts, frame.time_base = round(second * 1000), Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for index in range(152):
            part: Any = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            part.sample_rate, part.pts, part.time_base = 8000, index * 800, Fraction(1, 8000)
            out.mux(track.encode(part))
    info = probe(path)
    assert info.duration == pytest.approx(15.12, abs=0.05) and not info.warnings


@pytest.mark.parametrize("wrong", [-40_000, 200_000_000])
def test_one_wrong_stamp_among_right_ones(wrong: int) -> None:
    stamps = [3600 * i for i in range(20)]
    stamps[7] += wrong
    shifts, joins = shifts_of(0, Fraction(1, 90000), Fraction(25), [Picture(t, t, ()) for t in stamps], {})
    assert not joins
    right = [t + moved(shifts[0], i) * 90000 for i, t in enumerate(stamps)]
    assert right == [3600 * i for i in range(20)]


def trimmed(clip: Path, start: float, end: float) -> Path:
    """A clip as a phone trims it: all of it is stored, and the edit lists of its tracks show a part."""
    path = clip.with_stem("trimmed")
    with av.open(str(clip)) as source, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                shift = round(start / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - shift,
                    packet.dts - shift,
                    streams[packet.stream_index],
                )
                out.mux(packet)
    data = bytearray(path.read_bytes())
    place = -1
    while (
        place := data.find(b"elst", place + 1)
    ) >= 0:  # version and flags, number of entries, duration (ISO 14496-12)
        assert int.from_bytes(data[place + 8 : place + 12], "big") == 1
        data[place + 12 : place + 16] = round(1000 * (end - start)).to_bytes(4, "big")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("start", "end"), [(0.48, 2.0), (0.0, 1.2), (0.52, 1.4), (1.0, 1.6)])
def test_a_clip_that_a_phone_has_trimmed_is_not_damaged(tmp_path: Path, start: float, end: float) -> None:
    clip = trimmed(write_moments(tmp_path / "clip.mp4", [1.12], options={"g": "25"}), start, end)
    info = probe(clip)
    assert not info.warnings
    frames, writer = copy(clip, tmp_path / "out.mp4")
    assert len(frames) == info.frames == round((end - start) * 25)
    assert not writer.notes
    in_step(tmp_path / "out.mp4", 1)
    assert flashes(tmp_path / "out.mp4")[0] == pytest.approx(1.12 - start, abs=0.03)


def test_a_single_frame_of_joined_recordings(tmp_path: Path) -> None:
    part = write_moments(tmp_path / "clip.ts", [0.6], seconds=1.2, options=OPEN)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 2)
    assert [frame_at(joined, Fraction(t)).mean() > 120 for t in (0.61, 0.7, 1.81, 1.9)] == [True, False, True, False]


@pytest.mark.parametrize("which", ["video", "audio"])
@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts"])
def test_one_clock_of_two_that_jumps(tmp_path: Path, which: str, name: str) -> None:
    clip = write_moments(tmp_path / "clip.mp4", [0.6, 1.6], options={"g": "25", "bf": "0", "keyint_min": "25"})
    path = tmp_path / name
    with av.open(str(clip)) as source, av.open(str(path), "w", options={"max_interleave_delta": "0"}) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                if packet.stream.type == which and packet.pts * packet.time_base >= 1:
                    packet.pts += round(7200 / packet.time_base)
                    packet.dts += round(7200 / packet.time_base)
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    (said,) = probe(path).warnings
    assert "jumps" in said and ("its sound" in said) == (which == "audio")
    copy(path, tmp_path / "out.mp4")
    in_step(tmp_path / "out.mp4", 2)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(2, abs=0.1)
