"""The sound of one file copied into another."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer

from cmet_engine.media.source import first_start, open_media


class SoundCopy:
    """Moves the sound of one file into another, in step with the pictures."""

    def __init__(self, writer: Any, target: Any, stack: contextlib.ExitStack) -> None:
        assert writer._sound is not None
        self.target = target
        self.notes = writer.notes
        self.path = writer._sound
        source = stack.enter_context(open_media(self.path))
        like = writer._like
        # Output time 0 is the beginning of the source's pictures and sound together, so both keep their distance.
        self.shift = -(first_start(source, like.path if like else self.path))
        self.tracks: dict[int, tuple[Any, Any]] = {}  # stream of the output, resampler where it is encoded again
        for stream in source.streams.audio:
            context = stream.codec_context
            if context is None or not context.rate:
                writer.notes.append("A sound track of an unknown kind was left out.")
                continue
            codec = context.codec.canonical_name
            if codec in target.supported_codecs:
                out = target.add_stream_from_template(stream)
                self.tracks[stream.index] = (out, None)
            else:
                rate = _aac_rate(stream.rate)
                out = target.add_stream("aac", rate=rate)
                out.bit_rate = 256_000
                out.layout = "mono" if stream.channels == 1 else "stereo"
                resampler = av.AudioResampler(format="fltp", layout=out.layout.name, rate=rate)
                self.tracks[stream.index] = (out, resampler)
                writer.notes.append(
                    f"The sound ({codec}) does not fit into {writer.path.suffix}; it was re-encoded as AAC at 256 kbit/s."
                )
            if language := stream.metadata.get("language"):
                out.metadata["language"] = language
        self.packets = self._read(source)
        self.waiting: Any = None

    def _read(self, source: InputContainer) -> Iterator[av.Packet]:
        streams = [s for s in source.streams.audio if s.index in self.tracks]
        if not streams:  # nothing asked for would mean everything
            return
        try:
            for packet in source.demux(streams):
                if packet.pts is not None or packet.size:
                    yield packet
        except (av.error.FFmpegError, OSError):
            return  # the source is cut off; what there was of sound is kept

    def until(self, time: Fraction | None) -> None:
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

    def _leave_out(self) -> None:
        note = "Damaged parts of the sound were left out."
        if note not in self.notes:
            self.notes.append(note)

    def _move(self, packet: av.Packet) -> None:
        out, resampler = self.tracks[packet.stream.index]
        shift = round(self.shift / packet.time_base)
        if resampler is None:
            if packet.pts is not None:
                packet.pts += shift
            if packet.dts is not None:
                packet.dts += shift
            packet.stream = out
            try:
                self.target.mux(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError):
                self._leave_out()
            return
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            self._leave_out()
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts += shift
            for resampled in resampler.resample(frame):
                self.target.mux(out.encode(resampled))


def _aac_rate(rate: int) -> int:
    """The nearest sampling rate from above that AAC and every player know."""
    return next((r for r in (16000, 22050, 24000, 32000, 44100, 48000) if r >= rate), 48000)
