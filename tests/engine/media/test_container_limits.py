"""What a container does not hold is known and said before the work, and what is done instead loses nothing that it need not."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_clips import MakeClip, copy
from soak_cases import mostly_soak

from cmet_engine.media.container_limits import limits
from cmet_engine.media.source import Source
from cmet_engine.media.subtitles import HEADER

RATE = 48000


def with_sounds(path: Path, *tracks: tuple[str, str, dict[str, str]], seconds: float = 0.6) -> Path:
    """A clip with tracks of sound: codec, layout and tags of each; every channel has a tone of its own."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sounds = []
        for codec, layout, tags in tracks:
            sound: Any = out.add_stream(codec, rate=RATE, options={"strict": "experimental"})
            sound.layout = layout
            if codec == "tta":
                sound.format = "s16"
            if codec in ("wmav2", "ac3", "eac3"):
                sound.bit_rate = 192_000
            sound.metadata.update(tags)
            sounds.append(sound)
        out.start_encoding()
        for _ in range(round(seconds * 25)):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8))))
        out.mux(video.encode(None))
        time = np.arange(round(seconds * RATE)) / RATE
        for sound in sounds:
            channels = sound.layout.nb_channels
            wave = np.stack([0.4 * np.sin(2 * np.pi * tone(c) * time) for c in range(channels)], 1).astype(np.float32)
            block = sound.codec_context.frame_size or 1024
            resampler = av.AudioResampler(
                format=sound.codec_context.format.name, layout=sound.layout.name, rate=RATE, frame_size=block
            )
            frame: Any = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="flt", layout=sound.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(sound.encode(part))
            out.mux(sound.encode(None))
    return path


def tone(channel: int) -> float:
    """Hertz of the tone of a channel; low, for the fourth may be a low-frequency channel."""
    return 40.0 + 20.0 * channel


def sound_of(path: Path, track: int = 0) -> np.ndarray:
    """float [C, S]: the samples of a file's sound."""
    with av.open(str(path)) as container:
        resampler, parts = av.AudioResampler(format="flt"), []
        for frame in container.decode(container.streams.audio[track]):
            frame.pts = None
            parts += [part.to_ndarray().reshape(-1, part.layout.nb_channels).T for part in resampler.resample(frame)]
    return np.concatenate(parts, 1)


def streams(path: Path, kind: str = "audio") -> list[Any]:
    with av.open(str(path)) as container:
        return [
            (s.codec_context.name, dict(s.metadata), s.disposition & s.disposition.default, getattr(s, "channels", 0))
            for s in container.streams
            if s.type == kind
        ]


KINDS = [
    ("clip.mkv", "libopus", "stereo", ".mov", "aac"),
    ("clip.mkv", "flac", "stereo", ".mov", "pcm_s16le"),
    ("clip.mkv", "flac", "5.1", ".mov", "pcm_s16le"),
    ("clip.mkv", "alac", "stereo", ".mp4", "alac"),
    ("clip.mkv", "alac", "mono", ".mov", "alac"),
    ("clip.mkv", "ac3", "5.1(side)", ".mp4", "ac3"),
    ("clip.mkv", "eac3", "5.1(side)", ".mov", "eac3"),
    ("clip.mkv", "wavpack", "5.1", ".mkv", "wavpack"),
    ("clip.mkv", "wavpack", "stereo", ".mp4", "aac"),
    ("clip.mkv", "libopus", "5.1", ".mov", "aac"),
    ("clip.mov", "pcm_s24le", "stereo", ".mp4", "aac"),
    ("clip.mov", "pcm_f32le", "mono", ".mp4", "aac"),
    ("clip.mov", "pcm_s24be", "5.1", ".mp4", "aac"),
    ("clip.mov", "pcm_s24le", "7.1", ".m4v", "aac"),
    ("clip.mov", "pcm_s24le", "quad", ".mp4", "aac"),
    ("clip.mov", "pcm_s24le", "5.1(side)", ".mov", "pcm_s24le"),
    ("clip.mov", "pcm_f32le", "stereo", ".mkv", "pcm_f32le"),
    ("clip.mov", "pcm_s16le", "stereo", ".mp4", "pcm_s16le"),
    ("clip.wmv", "wmav2", "stereo", ".mp4", "aac"),
    ("clip.wmv", "wmav2", "stereo", ".mkv", "aac"),
    ("clip.avi", "adpcm_ms", "stereo", ".mkv", "aac"),
    ("clip.mkv", "tta", "stereo", ".mov", "pcm_s16le"),
    ("clip.ts", "mp2", "stereo", ".mov", "mp2"),
]


@pytest.mark.parametrize(("name", "codec", "layout", "suffix", "expected"), mostly_soak(KINDS, 2), ids=str)
def test_sound_of_every_kind_goes_into_every_container(
    tmp_path: Path, name: str, codec: str, layout: str, suffix: str, expected: str
) -> None:
    clip = with_sounds(tmp_path / name, (codec, layout, {}))
    said = limits(Source(clip), suffix)
    _, writer = copy(clip, tmp_path / f"out{suffix}")
    assert writer.notes == said
    channels = av.AudioLayout(layout).nb_channels
    (found,) = streams(tmp_path / f"out{suffix}")
    assert found[0] == expected and found[3] == channels
    kept = codec.removeprefix("lib") == expected
    assert len(said) == (not kept)
    if said:
        assert codec.removeprefix("lib") in said[0] and suffix in said[0] and "re-encoded" in said[0]
        assert "become" not in said[0]
    before, after = sound_of(clip), sound_of(tmp_path / f"out{suffix}")
    room = (
        64 if kept else 0 if expected.startswith("pcm") else 2048
    )  # Matroska counts what a decoder drops in milliseconds
    assert abs(before.shape[1] - after.shape[1]) <= room
    if expected.startswith("pcm"):
        np.testing.assert_allclose(before, after[:, : before.shape[1]], atol=1e-4)
    spectrum = np.abs(np.fft.rfft(after[:, 4800:24000]))
    hertz = np.fft.rfftfreq(19200, 1 / RATE)
    if codec not in ("ac3", "eac3"):  # these put their low-frequency channel through a filter
        heard = sorted(hertz[spectrum.argmax(1)])
        assert np.abs(np.subtract(heard, [tone(c) for c in range(channels)])).max() < 5


def test_more_channels_than_the_codec_has(tmp_path: Path) -> None:
    clip = with_sounds(tmp_path / "clip.mov", ("pcm_s24le", "16 channels", {}))
    (said,) = limits(Source(clip), ".mp4")
    assert "left out" in said and ".mov" in said
    assert limits(Source(clip), ".mov") == []
    _, writer = copy(clip, tmp_path / "out.mp4")
    assert writer.notes == [said] and not streams(tmp_path / "out.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_every_track_keeps_its_tags_and_flags(tmp_path: Path, suffix: str) -> None:
    clip = with_sounds(
        tmp_path / "first.mkv",
        ("aac", "mono", {"language": "fre", "title": "Commentary"}),
        ("ac3", "stereo", {"language": "eng", "title": "Dialogue"}),
        ("flac", "mono", {"language": "ger", "title": "Boom"}),
    )
    flagged = tmp_path / "clip.mkv"
    with av.open(str(clip)) as source, av.open(str(flagged), "w") as out:
        made: dict[int, Any] = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for stream in source.streams.audio:
            made[stream.index].metadata.update({k: stream.metadata[k] for k in ("language", "title")})
            default = stream.metadata["title"] == "Dialogue"
            made[stream.index].disposition = (
                type(stream.disposition).default if default else type(stream.disposition)(0)
            )
        for packet in source.demux():
            if packet.size:
                packet.stream = made[packet.stream_index]
                out.mux(packet)
    _, writer = copy(flagged, tmp_path / f"out{suffix}")
    found = streams(tmp_path / f"out{suffix}")
    titles = [tags.get("title", tags.get("name")) for _, tags, _, _ in found]
    assert titles == ["Commentary", "Dialogue", "Boom"]
    languages = [tags.get("language", "eng") for _, tags, _, _ in found]  # Matroska's default is English
    assert languages == [{".mov": "fra"}.get(suffix, "fre"), "eng", "ger"]
    assert [bool(default) for _, _, default, _ in found] == [False, True, False]
    assert len(writer.notes) == (suffix == ".mov")
    assert not writer.notes or "sound track 3 (flac" in writer.notes[0]


def test_both_tracks_of_dual_mono_stay_on(tmp_path: Path) -> None:
    clip = with_sounds(tmp_path / "clip.mov", ("pcm_s16le", "mono", {}), ("pcm_s16le", "mono", {}))
    both = tmp_path / "both.mov"
    with av.open(str(clip)) as source, av.open(str(both), "w") as out:
        made: dict[int, Any] = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for stream in source.streams.audio:
            made[stream.index].disposition = type(stream.disposition).default
        for packet in source.demux():
            if packet.size:
                packet.stream = made[packet.stream_index]
                out.mux(packet)
    for suffix in (".mov", ".mp4"):
        copy(both, tmp_path / f"out{suffix}")
        assert [bool(default) for _, _, default, _ in streams(tmp_path / f"out{suffix}")] == [True, True]


LINES = ((100, "Hello"), (300, "<i>again</i> & you"))


def with_words(path: Path, codec: str, lines: tuple[tuple[int, str], ...] = LINES) -> Path:
    """A Matroska clip with subtitles, chapters and an attached font."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        words: Any = out.add_stream(codec)
        words.codec_context.subtitle_header = HEADER
        words.metadata.update(language="eng", title="Titles")
        out.add_attachment("font.ttf", "font/ttf", b"\0\1\0\0" * 100)
        chapter = {"start": 0, "end": 400, "time_base": Fraction(1, 1000)}
        out.set_chapters([{"id": 1, **chapter, "metadata": {"title": "One"}}])
        out.start_encoding()
        for _ in range(25):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8))))
        out.mux(video.encode(None))
        for number, (start, text) in enumerate(lines):
            data = f"{number},0,Default,,0,0,0,,{text}" if codec == "ass" else text
            line: Any = av.Packet(data.encode())
            line.pts = line.dts = start
            line.duration, line.time_base, line.stream = 150, Fraction(1, 1000), words
            out.mux(line)
    return path


def subtitle_lines(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        return [
            (round(float(p.pts * p.time_base), 2), bytes(p))
            for p in container.demux(container.streams.subtitles[0])
            if p.size > 2
        ]


@pytest.mark.parametrize("codec", ["subrip", "ass", "webvtt"])
def test_subtitles_chapters_and_attachments(tmp_path: Path, codec: str) -> None:
    clip = with_words(tmp_path / "clip.mkv", codec)
    _, writer = copy(clip, tmp_path / "out.mkv")
    assert writer.notes == limits(Source(clip), ".mkv") == []
    assert subtitle_lines(tmp_path / "out.mkv") == subtitle_lines(clip)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [c["metadata"]["title"] for c in container.chapters()] == ["One"]
        (font,) = container.streams.attachments
        assert (font.name, bytes(font.data)) == ("font.ttf", b"\0\1\0\0" * 100)
    for suffix in (".mp4", ".mov"):
        _, writer = copy(clip, tmp_path / f"out{suffix}")
        assert writer.notes == limits(Source(clip), suffix)
        assert ["styles" in note for note in writer.notes] == ([True, False] if codec == "ass" else [False])
        assert "font.ttf" in writer.notes[-1]
        words = [(at, data[2:].decode()) for at, data in subtitle_lines(tmp_path / f"out{suffix}")]
        assert words == [(0.1, "Hello"), (0.3, "again & you")]
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            assert [c["metadata"]["title"] for c in container.chapters()] == ["One"]
    _, writer = copy(tmp_path / "out.mp4", tmp_path / "back.mkv")  # and from QuickTime's form into Matroska's
    assert [data.decode() for _, data in subtitle_lines(tmp_path / "back.mkv")] == ["Hello", "again & you"]
    assert not writer.notes


def test_what_is_lost_beside_the_pictures_is_said(tmp_path: Path) -> None:
    clip = with_words(tmp_path / "clip.mkv", "subrip")
    (said,) = limits(Source(clip), ".webm")
    assert said == "The attachment font.ttf does not fit into .webm; it is left out."
    (said,) = limits(Source(clip), ".exr")
    assert (
        said == "An image sequence holds no subtitles and no chapters and no attachments; it stays in the source clip."
    )


def test_pictures_keep_no_sound_and_say_so(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip("clip.mp4", sound="aac")
    _, writer = copy(clip, tmp_path / "frames")
    assert writer.notes == limits(Source(clip), "") != []


def test_a_cover_picture_is_left_out_and_said(make_clip: MakeClip, tmp_path: Path) -> None:
    _, writer = copy(make_clip("clip.mp4", cover=True), tmp_path / "out.mp4")
    assert len(writer.notes) == 1 and "cover" in writer.notes[0]
