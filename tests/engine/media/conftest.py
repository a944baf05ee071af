"""Clips made on the spot, of every kind that a user may bring."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from media_clips import picture, tone


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a clip and returns its path."""

    def make(
        name: str,
        *,
        frames: int = 12,
        size: tuple[int, int] = (64, 48),
        fps: Fraction | int = 25,
        codec: str = "libx264",
        pixels: str = "yuv420p",
        ticks: Sequence[int] | None = None,
        time_base: Fraction | None = None,
        rotation: float = 0,
        mirrored: bool = False,
        sound: str | None = None,
        rate: int = 16000,
        channels: int = 1,
        sound_delay: float = 0.0,
        cover: bool = False,
        matrix: int = 1,
        full_range: bool = False,
        aspect: Fraction | None = None,
        video: bool = True,
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        width, height = size
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream: Any = None
            if cover:
                art: Any = container.add_stream("png")
                art.width, art.height, art.pix_fmt = 300, 300, "rgb24"
                art.disposition = art.disposition.attached_pic
            if video:
                stream = container.add_stream(
                    codec, rate=fps, options=options or ({"crf": "4"} if codec == "libx264" else {})
                )
                stream.width, stream.height, stream.pix_fmt = width, height, pixels
                context = stream.codec_context
                base = time_base or 1 / Fraction(fps)
                context.time_base = stream.time_base = base
                context.colorspace, context.color_range = matrix, 2 if full_range else 1
                if aspect:
                    context.sample_aspect_ratio = aspect
                if rotation or mirrored:
                    stream.set_display_rotation(rotation, hflip=mirrored)
            track: Any = None
            if sound:
                track = container.add_stream(sound, rate=rate)
                track.layout = "mono" if channels == 1 else "stereo"
            if cover:
                container.mux(art.encode(av.VideoFrame.from_ndarray(picture(0, 300, 300))))
                container.mux(art.encode(None))
            if video:
                for i in range(frames):
                    frame = av.VideoFrame.from_ndarray(picture(i, width, height)).reformat(
                        format=pixels, dst_colorspace=matrix, dst_color_range=2 if full_range else 1
                    )
                    frame.pts, frame.time_base = (ticks[i] if ticks else i), base
                    for packet in stream.encode(frame):
                        packet.duration = packet.duration or 1
                        container.mux(packet)
                container.mux(stream.encode(None))
            if track is not None:
                wave = tone(frames / float(Fraction(fps)) if video else 1.0, rate, channels)
                resampler = av.AudioResampler(
                    format=track.codec_context.format.name, layout=track.layout.name, rate=rate
                )
                frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout=track.layout.name)
                frame.sample_rate, frame.pts, frame.time_base = rate, round(sound_delay * rate), Fraction(1, rate)
                fifo = av.AudioFifo()
                for part in resampler.resample(frame):
                    fifo.write(part)
                block = track.codec_context.frame_size or 1024
                while (part := fifo.read(block, partial=True)) is not None:
                    container.mux(track.encode(part))
                container.mux(track.encode(None))
        return path

    return make
