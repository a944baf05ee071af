"""Movies: any of `codecs` in a container, encoded in segments, with the sound of the source."""

import contextlib
import math
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.codec.context import Flags

from cmet_engine.files import whole_file
from cmet_engine.media import codecs, pixel_aspect
from cmet_engine.media.colour import ToEncoder
from cmet_engine.media.container_limits import muxer
from cmet_engine.media.display import ORDINARY
from cmet_engine.media.info import FULL, LIMITED, MIN_TIMESCALE, Colors, VideoInfo
from cmet_engine.media.output import Output, OutputSettings
from cmet_engine.media.segments import SEGMENT, SegmentFile, finished, plain_packet, read_packets
from cmet_engine.media.spaces import is_float
from cmet_engine.media.stills import displayed
from cmet_engine.media.track_copy import TrackCopy

_MAX_TIMESCALE = 2**31 - 1
_THREADS = 4  # the bytes of x264 depend on their number, which must not depend on the machine


class MovieOutput(Output):
    """A movie file that appears when `stack` is closed without an exception."""

    def __init__(self, settings: OutputSettings, stack: contextlib.ExitStack) -> None:
        self.display = settings.source.display if settings.source else ORDINARY
        self.settings = settings
        source = settings.source
        mxf = settings.path.suffix.lower() == ".mxf"  # it knows no time before the first picture, and one rate
        self.offset = source.offset if source and not mxf else Fraction(0)
        self.time_base = 1 / settings.fps if mxf else _time_base(settings.fps, source)
        self.codec = codecs.choose(settings)
        settings.notes += self.codec.notes
        self.field_order = self.codec.field_order
        self.file = stack.enter_context(whole_file(settings.path, force=settings.force))
        self.container = _container(settings, self.file, stack)
        # Describes the stream and encodes nothing: every segment has an encoder of its own, set up alike.
        self.stream = cast(
            Any, self.container.add_stream(self.codec.encoder, rate=settings.fps, options=self.codec.options)
        )
        self._set_up(self.stream.codec_context)
        self.stream.time_base = self.time_base
        self.to_encoder = ToEncoder(
            source.colors if source else Colors(), self.codec.colors, self.codec.pixels, self.field_order
        )
        suffix = settings.path.suffix.lower()
        self.aspect = source.pixel_aspect if source and suffix in pixel_aspect.SUFFIXES else Fraction(1)
        if self.aspect != 1:
            self.stream.metadata["title"] = pixel_aspect.ROOM
        if source:  # QuickTime and MXF make a track of time codes from it
            self.stream.metadata.update(source.identity)
        self.sound = TrackCopy(settings, self.container, stack) if settings.sound else None
        self.container.start_encoding()
        depth = self.codec.depth
        self.depth = self.stream.codec_context.reorder_depth if depth is None else depth
        self.stamps: list[int] = []  # ticks of all pictures
        self.muxed = 0  # packets
        self.encoder: Any = None
        self.segment: SegmentFile | None = None

    def _set_up(self, context: Any) -> None:
        settings, source = self.settings, self.settings.source
        context.width, context.height, context.pix_fmt = settings.width, settings.height, self.codec.pixels
        context.time_base, context.framerate = self.time_base, settings.fps
        colors = self.codec.colors
        context.color_range = FULL if colors.full_range else LIMITED
        context.colorspace = colors.matrix
        context.color_primaries, context.color_trc = colors.primaries, colors.transfer
        if source and source.pixel_aspect != 1:
            context.sample_aspect_ratio = source.pixel_aspect
        context.thread_count = _THREADS if self.codec.encoder in ("libx264", "libvpx-vp9") else 0
        if self.codec.encoder == "libx265" and settings.path.suffix.lower() != ".mkv":
            context.codec_tag = "hvc1"  # "hev1", FFmpeg's own choice, is not played by QuickTime
        context.flags |= Flags.global_header
        if self.field_order:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me

    def resume(self) -> int:
        """Mux the finished segments; returns how many pictures they hold."""
        for path in finished(self.settings.segments, ".segment", SEGMENT):
            packets = list(read_packets(path))
            self.stamps += sorted(packet.pts for packet in packets)
            for packet in packets:
                self._mux(packet)
        return len(self.stamps)

    def add(self, frame: av.VideoFrame, time: Fraction, matte: np.ndarray | None = None) -> None:
        """Encode a picture; every `SEGMENT` pictures the encoder is emptied and another one begins."""
        if self.encoder is None:
            self.encoder = cast(Any, av.CodecContext.create(self.codec.encoder, "w"))
            self._set_up(self.encoder)
            self.encoder.options = self.codec.options
            if self.settings.segments:
                self.segment = SegmentFile(self.settings.segments, len(self.stamps))
        picture = self.to_encoder(displayed(frame, self.display) if is_float(frame.format.name) else frame)
        picture.pts, picture.time_base = round((time + self.offset) / self.time_base), self.time_base
        self.stamps.append(picture.pts)
        self._write(self.encoder.encode(picture))
        if len(self.stamps) % SEGMENT == 0:
            self._end_segment()

    def finish(self) -> None:
        """Write the last segment, the rest of the sound and the index; then seal the file."""
        self._end_segment()
        if self.sound:
            self.sound.copy_until(None)
        self.container.close()
        if self.aspect != 1:
            pixel_aspect.write(self.file, (self.settings.width, self.settings.height), self.aspect)
        if self.settings.seal:
            self.settings.notes += self.settings.seal(self.file, self.settings.path)

    def close(self) -> None:
        """Let go of the files."""
        if self.segment:
            self.segment.close()
        self.container.close()

    def _end_segment(self) -> None:
        if self.encoder is None:
            return
        self._write(self.encoder.encode(None))
        self.encoder = None
        if self.segment:
            self.segment.finish()

    def _write(self, packets: list[Any]) -> None:
        for packet in packets:
            if self.segment:
                self.segment.write(packet)
            self._mux(plain_packet(packet, packet.pts, packet.is_keyframe))

    def _mux(self, packet: Any) -> None:
        """Write a packet, and the sound that belongs before it.

        Its time of decoding is that of the picture shown `depth` before it. Encoders say the same, but at the beginning of
        a segment they do not know what was before, and guess wrong where frames are unevenly spaced.
        """
        step = round(1 / self.settings.fps / self.time_base)
        before = self.muxed - self.depth
        packet.dts = self.stamps[before] if before >= 0 else self.stamps[0] + before * step
        packet.duration = step  # without it the last frame has no length and the mean rate comes out wrong
        packet.time_base, packet.stream = self.time_base, self.stream
        self.muxed += 1
        if self.sound:
            self.sound.copy_until(packet.dts * self.time_base)
        self.container.mux(packet)


def _container(settings: OutputSettings, file: Path, stack: contextlib.ExitStack) -> Any:
    """The open output, which `stack` closes."""
    suffix = settings.path.suffix.lower()
    # Matroska's and MXF's muxers number their files at random unless they are to be bit-exact.
    options = {"movflags": "+faststart+use_metadata_tags"}
    if suffix in (".mkv", ".webm", ".mxf"):
        options = {"fflags": "+bitexact"}
    container = av.open(str(file.absolute()), "w", format=muxer(suffix), options=options)
    stack.callback(container.close)
    mark = "comment_" if suffix == ".mxf" else ""  # FFmpeg writes tags so named alone into MXF
    container.metadata.update({f"{mark}{name}": value for name, value in settings.metadata.items()})
    if settings.source:  # MPEG-4 has no place for a reel but among the tags of the file
        tags = settings.source.identity
        container.metadata.update({name: tags[name] for name in ("creation_time", "reel_name") if name in tags})
    return container


def _time_base(fps: Fraction, source: VideoInfo | None) -> Fraction:
    """Ticks in which both the frame rate and the source's time stamps are whole, fine enough for anything between."""
    scale = fps.numerator
    if source is not None and source.variable:
        scale = math.lcm(scale, source.time_base.denominator)
        if scale > _MAX_TIMESCALE:
            scale = source.time_base.denominator
    scale = min(scale, _MAX_TIMESCALE)
    return Fraction(1, scale * math.ceil(MIN_TIMESCALE / scale))
