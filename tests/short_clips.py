"""Short clips for tests that run many jobs: the first moments of a clip, drawn small, or its own bytes, damaged."""

import random
from pathlib import Path

import av

from cmet_engine.models.assets import ASSETS

SAMPLE = ASSETS / "sample" / "talking_head.mp4"


def small(
    path: Path, *, start: int = 0, frames: int = 24, size: int = 256, step: int = 1, silent: bool = False
) -> Path:
    """Write every `step`-th of `frames` pictures of the sample from `start` on, `size` pixels high, with their sound.

    An edit of a `silent` clip listens to nothing.
    """
    with av.open(str(SAMPLE)) as source, av.open(str(path), "w") as target:
        video, sound = source.streams.video[0], source.streams.audio[0]
        rate = video.average_rate
        out = target.add_stream("libx264", rate=rate / step, options={"crf": "18", "preset": "veryfast"})
        out.width, out.height, out.pix_fmt = size * video.width // video.height // 2 * 2, size, "yuv420p"
        out_sound = None if silent else target.add_stream_from_template(sound)
        for index, frame in enumerate(source.decode(video)):
            if index == start + frames:
                break
            if index >= start and (index - start) % step == 0:
                picture = frame.reformat(out.width, out.height, "yuv420p")
                picture.pts, picture.time_base, picture.pict_type = (index - start) // step, step / rate, 0
                target.mux(out.encode(picture))
        target.mux(out.encode(None))
        source.seek(0)
        first = None
        for packet in () if silent else source.demux(sound):
            if packet.pts is None:
                continue
            time = float(packet.pts * packet.time_base) - start / float(rate)
            if 0 <= time < frames / float(rate):
                first = packet.pts if first is None else first
                packet.pts = packet.dts = packet.pts - first
                packet.stream = out_sound
                target.mux(packet)
    return path


def beginning(clip: Path, path: Path, seconds: float = 1.5) -> Path:
    """Copy the first seconds of a clip as they were encoded: real bytes of real encoders, but quick to go through."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams if s.type in ("video", "audio")}
        for packet in source.demux([s for s in source.streams if s.index in streams]):
            if packet.dts is not None and float(packet.dts * packet.time_base) < seconds:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return path


def damaged(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One kind of damage: what a failing disk, a broken transfer or an ill-meaning sender does. Returns (kind, bytes)."""
    kind = rng.choice(
        ("truncated", "few bits", "many bits", "index bits", "zeroed", "moved", "repeated", "random block")
    )
    new = bytearray(data)
    size = len(new)
    at, length = rng.randrange(size), rng.randint(1, max(1, size // 4))
    index = data.find(b"moov")  # sizes, rates and tables stand behind it
    if kind == "truncated":
        del new[at:]
    elif kind in ("few bits", "many bits"):
        for _ in range(rng.randint(1, 20) if kind == "few bits" else max(1, size // rng.choice((100, 1000, 10000)))):
            new[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == "index bits":
        for _ in range(rng.randint(1, 12)):
            new[rng.randrange(max(0, index), min(size, max(0, index) + 1500))] ^= 1 << rng.randrange(8)
    elif kind == "zeroed":
        new[at : at + length] = bytes(len(new[at : at + length]))
    elif kind == "moved":
        block = new[at : at + length]
        del new[at : at + length]
        where = rng.randrange(len(new) + 1)
        new[where:where] = block
    elif kind == "repeated":
        new[at:at] = new[at : at + length]
    else:
        new[at : at + length] = rng.randbytes(len(new[at : at + length]))
    return kind, bytes(new)
