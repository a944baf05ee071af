"""The sound of one file copied into another."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer

from cmet_engine.media.output import OutputSettings
from cmet_engine.media.source import first_start, open_media

_AAC_RATES = (16000, 22050, 24000, 32000, 44100, 48000)  # samples a second that AAC and every player know
_AAC_BITS = 256_000  # a second
_DAMAGED = "Damaged parts of the sound were left out."


class SoundCopy:
    """Moves the sound of one file into another, in step with the pictures: packet by packet, or encoded again as AAC."""

    def __init__(self, settings: OutputSettings, target: Any, stack: contextlib.ExitStack) -> None:
        assert settings.sound is not None
        self.target = target
        self.notes = settings.notes
        container = stack.enter_context(open_media(settings.sound))
        # Output time 0 is the beginning of the source's pictures and sound together, so both keep their distance.
        pictures = settings.source.path if settings.source else settings.sound
        self.shift = -(first_start(container, pictures))
        self.tracks: dict[int, tuple[Any, Any]] = {}  # stream of the output, resampler where it is encoded again
        for stream in container.streams.audio:
            self._add_track(stream, settings.path.suffix)
        self.packets = self._read(container)
        self.waiting: Any = None

    def copy_until(self, time: Fraction | None) -> None:
        """Write all packets that begin before `time` seconds of the output; None for the rest."""
        while True:
            packet = self.waiting if self.waiting is not None else next(self.packets, None)
            self.waiting = None
            if packet is None:
                break
            begin = (packet.pts or 0) * packet.time_base + self.shift
            if time is not None and begin > time:
                self.waiting = packet
                return
            self._move(packet)
        if time is None:
            for out, resampler in self.tracks.values():
                if resampler is not None:
                    for frame in resampler.resample(None):
                        self.target.mux(out.encode(frame))
                    self.target.mux(out.encode(None))

    def _add_track(self, stream: Any, suffix: str) -> None:
        context = stream.codec_context
        if context is None or not context.rate:
            self.notes.append("A sound track of an unknown kind was left out.")
            return
        codec = context.codec.canonical_name
        if codec in self.target.supported_codecs:
            out, resampler = self.target.add_stream_from_template(stream), None
        else:
            rate = next((r for r in _AAC_RATES if r >= stream.rate), _AAC_RATES[-1])
            out = self.target.add_stream("aac", rate=rate)
            out.bit_rate = _AAC_BITS
            out.layout = "mono" if stream.channels == 1 else "stereo"
            resampler = av.AudioResampler(format="fltp", layout=out.layout.name, rate=rate)
            self.notes.append(
                f"The sound ({codec}) does not fit into {suffix}; it was re-encoded as AAC at 256 kbit/s."
            )
        self.tracks[stream.index] = (out, resampler)
        if language := stream.metadata.get("language"):
            out.metadata["language"] = language

    def _read(self, container: InputContainer) -> Iterator[Any]:
        streams = [s for s in container.streams.audio if s.index in self.tracks]
        if not streams:  # nothing asked for would mean everything
            return
        try:
            for packet in container.demux(streams):
                if packet.pts is not None or packet.size:
                    yield packet
        except (av.error.FFmpegError, OSError):
            return  # the source is cut off; what there was of sound is kept

    def _move(self, packet: Any) -> None:
        out, resampler = self.tracks[packet.stream.index]
        shift = round(self.shift / packet.time_base)
        if resampler is None:
            self._copy(packet, out, shift)
            return
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            self._note_damage()
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts += shift
            for resampled in resampler.resample(frame):
                self.target.mux(out.encode(resampled))

    def _copy(self, packet: Any, out: Any, shift: int) -> None:
        if packet.pts is not None:
            packet.pts += shift
        if packet.dts is not None:
            packet.dts += shift
        packet.stream = out
        try:
            self.target.mux(packet)
        except (av.error.InvalidDataError, av.error.ArgumentError):
            self._note_damage()

    def _note_damage(self) -> None:
        if _DAMAGED not in self.notes:
            self.notes.append(_DAMAGED)
