"""Frames a second of every stage of an edit, and of the whole command with its peak memory.

    python tests/benchmarks/pipeline.py CLIP [CLIP …] [--emotion happy] [--repeat 1]
    python tests/benchmarks/pipeline.py CLIP --seconds 20 600     # memory of the whole command against length

`--seconds` makes clips of that length by playing CLIP over and over.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.face.blendshapes import load_solver
from cmet_engine.face.tracker import track
from cmet_engine.media.probe import probe
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline


def stages(clip: Path, emotion: str, folder: Path) -> dict[str, float]:
    """Seconds of every stage, each alone; decoding is part of tracking."""
    seconds = {}

    def timed(name: str, start: float) -> None:
        seconds[name] = time.perf_counter() - start

    start = time.perf_counter()
    frames = [frame for frame in VideoReader(clip, prefetch=0) if frame.index < 200]
    timed("decode", start)
    start = time.perf_counter()
    geometry = track(clip)
    timed("decode + track", start)
    start = time.perf_counter()
    source = load_solver().track(geometry)
    timed("coefficients", start)
    start = time.perf_counter()
    timeline = EmotionTimeline.parse([emotion])
    edited = edit_track(source, timeline, load_library())
    timed("edit", start)
    start = time.perf_counter()
    renderer = WarpRenderer(geometry, source, edited)
    pictures = [renderer.render(frame.image, frame.index) for frame in frames]
    timed(f"warp ({len(frames)} frames)", start)
    info = probe(clip)
    start = time.perf_counter()
    with VideoWriter(folder / "encoded.mp4", info.width, info.height, info.fps, force=True) as writer:
        for picture in pictures:
            writer.write(picture)
    timed(f"encode ({len(frames)} frames)", start)
    return seconds


# The command runs below a small process of its own, because a child's peak memory counts its parent's at the fork.
LAUNCHER = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def whole(clip: Path, emotion: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in MiB of the whole command, nothing cached."""
    environment = {**os.environ, "CMET_HOME": str(folder / "home"), "CMET_CACHE_BYTES": "0"}
    edit = ["edit", str(clip), "--emotion", emotion, "-o", str(folder / "out"), "--force", "-q"]
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "cmet_engine.cli", *edit]
    start = time.perf_counter()
    finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - start, int(finished.stdout) / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def lengthened(clip: Path, seconds: float, folder: Path) -> Path:
    """`clip` played over and over for `seconds`."""
    info = probe(clip)
    target, count = folder / f"{clip.stem}-{seconds:g}s.mp4", round(seconds * info.fps)
    with VideoWriter(target, info.width, info.height, info.fps, force=True) as writer:
        written = 0
        while written < count:
            for frame in VideoReader(clip):
                if written == count:
                    break
                writer.write(frame.image, Fraction(written) / info.fps)
                written += 1
    return target


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--emotion", default="happy")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--seconds", type=float, nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip in options.clips:
            if options.seconds:
                for seconds in options.seconds:
                    longer = lengthened(clip, seconds, folder)
                    took, memory = whole(longer, options.emotion, folder)
                    print(
                        f"{longer.name}: {took:.1f} s, {probe(longer).frames / took:.1f} frames/s, peak {memory:.0f} MiB",
                        flush=True,
                    )
                    longer.unlink()
                continue
            info = probe(clip)
            print(f"{clip.name} {info.width}x{info.height} {info.frames} frames")
            for stage, took in stages(clip, options.emotion, folder).items():
                count = 200 if "200" in stage else (info.frames or 0)
                print(
                    f"  {stage:<22} {min(count, info.frames or 0) / took:8.1f} frames/s  {1000 * took / min(count, info.frames or 1):7.2f} ms/frame",
                    flush=True,
                )
            for _ in range(options.repeat):
                took, memory = whole(clip, options.emotion, folder)
                print(
                    f"  {'whole command':<22} {info.frames / took:8.1f} frames/s  {took:7.1f} s, peak {memory:.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
