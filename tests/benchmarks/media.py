"""Frames a second of reading and writing video, at 512x512 and 1920x1080.

    python tests/benchmarks/media.py [CLIP …] [--frames N]

Without clips, noisy moving pictures are made first. Reading is timed without writing and writing without reading; `both` is a
whole copy, where they overlap. "cpu" counts the processor time of all threads: what a pipeline has left on its cores.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter


def made(folder: Path, width: int, height: int, frames: int) -> Path:
    """A clip of moving shapes with the noise of a camera."""
    path = folder / f"{width}x{height}.mp4"
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / height
    noise = rng.normal(0, 2.5, (height + 64, width + 64, 3))
    with VideoWriter(path, width, height, Fraction(25), rate_factor=18) as writer:
        for i in range(frames):
            shade = 128 + 70 * np.sin(9 * x + i / 9) * np.cos(7 * y - i / 13)
            grain = noise[i % 60 : i % 60 + height, (i * 7) % 60 : (i * 7) % 60 + width]
            writer.write((shade[..., None] + grain).clip(0, 255).astype(np.uint8))
    return path


def timed(work: Callable[[], int]) -> str:
    """Frames a second by the clock and by the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = work()
    return f"{count / (time.perf_counter() - wall):7.1f} fps ({count / (time.process_time() - cpu):7.1f} cpu)"


def measure(path: Path, folder: Path, limit: int) -> None:
    """Print one line for a clip."""
    reader = VideoReader(path)
    info = reader.info
    kept = []
    for frame in reader:
        kept.append(frame.image)
        if len(kept) == 40:  # written again and again: memory must hold them
            break

    def read() -> int:
        count = 0
        for _ in reader:
            count += 1
            if count == limit:
                break
        return count

    def write(suffix: str) -> Callable[[], int]:
        def work() -> int:
            count = min(limit, info.frames or limit)
            with VideoWriter(folder / f"out{suffix}", info.width, info.height, info.fps, force=True) as writer:
                for i in range(count):
                    writer.write(kept[i % len(kept)])
            return count

        return work

    def both() -> int:
        count = 0
        target = folder / "copy.mp4"
        with VideoWriter(target, info.width, info.height, info.fps, sound_from=info, force=True) as writer:
            for frame in reader:
                writer.write(frame.image, frame.time)
                count += 1
                if count == limit:
                    break
        return count

    print(f"{path.name} {info.width}x{info.height} {info.codec}, {min(limit, info.frames or limit)} frames")
    print(f"  read       {timed(read)}")
    print(f"  write mp4  {timed(write('.mp4'))}")
    print(f"  write mov  {timed(write('.mov'))}")
    print(f"  both       {timed(both)}", flush=True)


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=120, help="frames of each clip (default 120)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = options.clips or [made(folder, 512, 512, options.frames), made(folder, 1920, 1080, options.frames)]
        for clip in clips:
            measure(clip, folder, options.frames)
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
