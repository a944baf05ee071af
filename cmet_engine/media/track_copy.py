"""Everything of a clip beside its pictures, copied into another file in step with them: sound, subtitles, data, chapters."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from cmet_engine.media import container_limits, subtitles
from cmet_engine.media.clock import Clock
from cmet_engine.media.container_limits import Track
from cmet_engine.media.output import OutputSettings
from cmet_engine.media.source import Source, open_media, start_of

_DAMAGED = "Damaged parts of the sound were left out."
_IN_STEP = 0.02  # seconds by which decoded sound may differ from its time stamps before it is put right
_KEPT_TAGS = ("language", "title", "comment")
_MOV_LANGUAGES = {"fre": "fra", "deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi"}
"""Codes of ISO 639-2 that name a language in QuickTime's list, by their synonyms (FFmpeg's libavformat/isom.c)."""


@dataclass
class _Target:
    """A track of the output, and how packets get there."""

    out: Any
    track: Track
    encoder: "_SoundEncoder | None" = None
    end: Fraction | None = None  # seconds of the output at which the last packet ends


class TrackCopy:
    """Moves the tracks of one file into another, in step with the pictures: packet by packet, or encoded again.

    What does not fit is decided, and said in the notes, when it is made; see `container_limits`.
    """

    def __init__(self, settings: OutputSettings, target: Any, stack: contextlib.ExitStack) -> None:
        assert settings.sound is not None
        self.target, self.notes = target, settings.notes
        suffix = settings.path.suffix.lower()
        self.container = stack.enter_context(open_media(settings.sound))
        plan = container_limits.plan(self.container, Source(settings.sound), suffix)
        self.notes += plan.notes
        # Output time 0 is the beginning of the source's pictures and sound together, so both keep their distance.
        sounds = self.container.streams.audio
        self.clock = settings.source.clock if settings.source else Clock(min(map(start_of, sounds)))
        begin = self.clock.zero
        if suffix == ".mxf" and settings.source:  # which has no time before the first picture
            begin += settings.source.offset
        self.shift = -begin
        self.end = None if self.clock.end is None else self.clock.end - begin
        self.tracks = {track.index: self._open_track(track, suffix) for track in plan.tracks}
        if plan.chapters:
            self._copy_chapters()
        self.packets = self._read()
        self.waiting: Any = None

    def copy_until(self, time: Fraction | None) -> None:
        """Write all packets that begin before `time` seconds of the output; None for the rest."""
        while True:
            packet = self.waiting if self.waiting is not None else next(self.packets, None)
            self.waiting = None
            if packet is None:
                break
            if time is not None and packet.pts is not None and packet.pts * packet.time_base + self.shift > time:
                self.waiting = packet
                return
            self._move(packet)
        if time is None:
            for target in self.tracks.values():
                if target.encoder is not None:
                    self.target.mux(target.encoder.finish())

    def _open_track(self, track: Track, suffix: str) -> _Target:
        stream = self.container.streams[track.index]
        encoder = None
        if track.encoder is None:
            out = container_limits.add_copy(self.target, stream)
        elif stream.type == "subtitle":
            out = self.target.add_stream(track.encoder)
            out.codec_context.subtitle_header = subtitles.HEADER
            out.time_base = stream.time_base
        else:
            out = self.target.add_stream(track.encoder, rate=track.rate)
            out.layout = track.layout
            if track.bit_rate:
                out.bit_rate = track.bit_rate
            encoder = _SoundEncoder(out, self.end, 0 if suffix == ".mxf" else None)
        about = {"title": stream.metadata.get("name", ""), **stream.metadata}  # QuickTime's word for a track's title
        for tag in _KEPT_TAGS:
            if value := about.get(tag):
                out.metadata[tag] = _MOV_LANGUAGES.get(value, value) if suffix == ".mov" else value
        if stream.type != "attachment":
            out.disposition = stream.disposition
        return _Target(out, track, encoder)

    def _copy_chapters(self) -> None:
        chapters = []
        for chapter in self.container.chapters():
            base = Fraction(chapter["time_base"] or 1)
            start, end = (max(Fraction(0), chapter[name] * base + self.shift) for name in ("start", "end"))
            if self.end is not None:
                end = min(end, self.end)
            if start < end:
                chapters.append({**chapter, "start": round(start / base), "end": round(end / base)})
        self.target.set_chapters(chapters)

    def _read(self) -> Iterator[Any]:
        streams = [self.container.streams[i] for i in self.tracks]
        streams = [stream for stream in streams if stream.type != "attachment"]
        if not streams:  # nothing asked for would mean everything
            return
        try:
            if self.clock.start is not None and not self.clock.shifts:
                with contextlib.suppress(av.error.FFmpegError):
                    self.container.seek(int((self.clock.start - 1) * av.time_base))
            yield from self.clock.packets(self.container, streams)
        except (av.error.FFmpegError, OSError):
            return  # the source is cut off; what there was of sound is kept

    def _move(self, packet: Any) -> None:
        target = self.tracks[packet.stream.index]
        if target.encoder is not None:
            try:  # a packet of no size ends the stream: the decoder gives out what it held back
                frames = packet.decode()
            except av.error.InvalidDataError:
                self._note_damage()
                return
            for frame in frames:
                self.target.mux(target.encoder.encode(frame, self.shift))
        elif packet.size:
            self._copy(packet, target)

    def _copy(self, packet: Any, target: _Target) -> None:
        codec = packet.stream.codec_context.name if packet.stream.codec_context else ""
        base, kind = packet.time_base, packet.stream.type
        if kind == "audio" and target.end is None and _is_broken(packet):
            return  # the stream was cut in the middle of it
        if kind == "audio" and not packet.duration:
            packet.duration = _length(packet)
        elif kind == "data" and not packet.duration:
            packet.duration = 1  # QuickTime shows no last packet of no length
        start = None if packet.pts is None else packet.pts * base + self.shift
        end = None if start is None else start + (packet.duration or 0) * base
        if start is not None and end is not None:
            if (self.clock.start is not None and end <= 0) or (self.end is not None and start >= self.end):
                return
            middle = (start + end) / 2
            if kind == "audio" and self.clock.shifts and target.end is not None and middle < target.end:
                return  # the recordings that were joined overlap
            if kind != "audio" and (self.clock.start is not None or self.end is not None):
                start, end = max(start, Fraction(0)), end if self.end is None else min(end, self.end)
                packet.pts = packet.dts = round((start - self.shift) / base)
                packet.duration = round((end - start) / base)
            target.end = end
        shift = round(self.shift / base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        if kind == "subtitle" and target.track.encoder:
            text = subtitles.text_of(bytes(packet), codec)
            if not text:
                return
            packet = _like(packet, subtitles.packet_of(text, target.track.encoder))
        packet.stream = target.out
        try:
            self.target.mux(packet)
        except (av.error.InvalidDataError, av.error.ArgumentError):
            self._note_damage()

    def _note_damage(self) -> None:
        if _DAMAGED not in self.notes:
            self.notes.append(_DAMAGED)


class _SoundEncoder:
    """Encodes decoded sound again: every sample at its time, gaps filled with silence, from 0 to `end` seconds of the output."""

    def __init__(self, out: Any, end: Fraction | None, start: int | None) -> None:
        self.out = out
        self.end = None if end is None else round(end * out.rate)
        self.resampler: Any = None
        self.place = 0  # samples of the output at which the next one belongs that the resampler gives
        self.written = start  # samples of the output that are encoded; None: begins with the first that comes

    def encode(self, frame: Any, shift: Fraction) -> list[Any]:
        """The packets of a decoded frame whose time stamps are `shift` seconds later in the output."""
        made: list[Any] = []
        place = self.place if frame.pts is None else round((frame.pts * frame.time_base + shift) * self.out.rate)
        if self.resampler is None or abs(place - self.place) > _IN_STEP * self.out.rate:
            made += self._flush()
            self.place = place
        frame.pts = None  # samples are counted here; the resampler is confused by stamps with gaps
        try:
            resampled = self.resampler.resample(frame)
        except ValueError:  # broadcast recordings change rate or channels on the way
            made += self._flush()
            resampled = self.resampler.resample(frame)
        return [*made, *self._write(resampled)]

    def finish(self) -> list[Any]:
        """The packets of what is still held back."""
        return [*self._flush(), *self.out.encode(None)]

    def _flush(self) -> list[Any]:
        made = [] if self.resampler is None else self._write(self.resampler.resample(None))
        self.resampler = av.AudioResampler(
            format=self.out.codec_context.format.packed.name, layout=self.out.layout.name, rate=self.out.rate
        )
        return made

    def _write(self, frames: list[Any]) -> list[Any]:
        made = []
        for frame in frames:
            begin, self.place = self.place, self.place + frame.samples
            if self.written is None:
                self.written = max(begin, 0)
            while self.written < begin and (self.end is None or self.written < self.end):
                made += self._encode(frame, 0, min(begin - self.written, self.out.rate), silent=True)
            last = frame.samples if self.end is None else min(frame.samples, self.end - begin)
            if last > (first := max(self.written - begin, 0)):
                made += self._encode(frame, first, last)
        return made

    def _encode(self, frame: Any, first: int, last: int, *, silent: bool = False) -> list[Any]:
        """Encode samples `first` to `last` of a frame, or as many of silence."""
        assert self.written is not None
        if silent or (first, last) != (0, frame.samples):
            samples, channels = frame.to_ndarray(), frame.layout.nb_channels  # [1, S * C]
            part = np.zeros((1, (last - first) * channels), samples.dtype)
            if not silent:
                part[:] = samples[:, first * channels : last * channels]
            rate = frame.sample_rate
            frame = av.AudioFrame.from_ndarray(part, format=frame.format.name, layout=frame.layout.name)
            frame.sample_rate = rate
        frame.pts, frame.time_base = self.written, Fraction(1, self.out.rate)
        self.written += last - first
        return list(self.out.encode(frame))


def _is_broken(packet: Any) -> bool:
    try:
        packet.decode()
    except av.error.InvalidDataError:
        return True
    except (av.error.FFmpegError, ValueError):
        pass  # a codec that cannot be decoded here can still be copied
    return False


def _length(packet: Any) -> int:
    """Ticks that a packet of sound lasts which does not say it; 0 where it cannot be decoded alone."""
    context = packet.stream.codec_context
    samples = 0
    with contextlib.suppress(av.error.FFmpegError, ValueError):
        samples = sum(frame.samples for frame in packet.decode())
    return round(Fraction(samples or context.frame_size or 0, context.rate) / packet.time_base)


def _like(packet: Any, data: bytes) -> Any:
    """Another packet at the time of one."""
    made: Any = av.Packet(data)
    made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    return made
