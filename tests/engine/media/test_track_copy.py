"""The sound of the source is in the result."""

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_clips import MakeClip, copy, same_pictures, sound_packets
from moments import clicks, flashes, write_moments
from soak_cases import soak

from cmet_engine.media.output import OutputSettings
from cmet_engine.media.probe import measure, part_of, probe
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.track_copy import TrackCopy


@pytest.mark.parametrize(
    ("source", "codec", "rate", "target"),
    [
        ("clip.mp4", "aac", 44100, "out.mp4"),
        ("clip.mkv", "libopus", 48000, "out.mkv"),
        ("clip.mkv", "libopus", 48000, "out.mp4"),
        ("clip.mov", "pcm_s16le", 48000, "out.mov"),
        ("clip.mov", "pcm_s16le", 48000, "out.mp4"),
        ("clip.mkv", "flac", 44100, "out.mkv"),
        ("clip.avi", "mp3", 44100, "out.mp4"),
        ("clip.avi", "pcm_s16le", 48000, "out.mp4"),
        ("clip.ts", "ac3", 48000, "out.mov"),
    ],
)
@pytest.mark.parametrize("channels", [2, *soak(1)])
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


def test_every_packet_of_a_data_track_is_copied(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.ts"), "w") as out:
        pictures: Any = out.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        data = out.add_data_stream("klv")
        out.start_encoding()
        for number in range(16):
            out.mux(pictures.encode(av.VideoFrame(64, 48, "yuv420p")))
            if number % 4 == 0:
                packet: Any = av.Packet(bytes.fromhex("060e2b34020b01010e01030101000000") + bytes([1, number]))
                packet.time_base, packet.stream = Fraction(1, 90000), data
                packet.pts = packet.dts = number * 3600
                out.mux(packet)
        out.mux(pictures.encode(None))
    _, writer = copy(tmp_path / "clip.ts", tmp_path / "out.mov")
    assert not writer.notes
    with av.open(str(tmp_path / "out.mov")) as container:
        packets = [bytes(p) for p in container.demux(container.streams.data[0]) if p.size]
    assert [packet[-1] for packet in packets] == [0, 4, 8, 12]


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


@pytest.mark.parametrize(("name", "sound"), [("clip.ts", "aac"), ("clip.mov", "pcm_s24le"), ("clip.mov", "pcm_s16le")])
@pytest.mark.parametrize("begin", [None, "1"])
def test_sound_in_mxf_begins_with_the_first_picture(tmp_path: Path, name: str, sound: str, begin: str | None) -> None:
    clip = write_moments(tmp_path / name, [0.2, 1.4], sound=sound, options={"g": "12"})
    footage, path, notes = part_of(clip, begin, None), tmp_path / "out.mxf", []
    info = measure(footage)
    settings = OutputSettings(path, 64, 48, info.fps, info, clip, {}, True, 13, None, notes=notes)
    with contextlib.ExitStack() as stack, av.open(str(path), "w", format="mxf") as out:
        video: Any = out.add_stream("mpeg2video", rate=info.fps)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        tracks = TrackCopy(settings, out, stack)
        out.start_encoding()
        for frame in VideoReader(footage):
            for packet in video.encode(av.VideoFrame.from_ndarray(frame.image)):
                tracks.copy_until(packet.dts * packet.time_base)
                out.mux(packet)
        out.mux(video.encode(None))
        tracks.copy_until(None)
    assert np.abs(np.subtract(flashes(path), clicks(path))).max() < 0.005
    assert len(flashes(path)) == (1 if begin else 2)
    assert len(notes) == (sound == "aac")
    with av.open(str(path)) as made:
        assert made.streams.audio[0].codec_context.name == (sound if sound.startswith("pcm") else "pcm_s24le")
