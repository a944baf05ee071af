"""What an edit costs: its floor (decode, track, encode), its stages, the whole command and its peak memory.

    python tests/benchmarks/pipeline.py CLIP [CLIP …] [--size 512 1080 4K] [--seconds 5 60 600] [--quality draft] [--repeat 1]
    python tests/benchmarks/pipeline.py CLIP --size 1080 --revision HEAD~20       # the same side by side with an earlier revision
    python tests/benchmarks/pipeline.py CLIP --neighbours 0 1 2                   # the whole command beside busy programs

`--size` enlarges CLIP (the short side; 4K is 2160) and `--seconds` plays it over and over. Stages are seconds of processor time of
all threads, for the machine may be busy with something else, each stage alone; the whole command is given as both. It runs cold
(nothing in the cache) and warm (the clip is tracked already). Only ratios say something about the code.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2

from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.face.blendshapes import load_solver
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.tracker import track
from cmet_engine.media.probe import probe
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter
from cmet_engine.render.stream import VideoOutput, render_video
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"4K": 2160}
FLOOR = ("decode + track", "encode")


def stages(clip: Path, emotion: str, folder: Path) -> dict[str, float]:
    """Processor seconds of every stage, each alone; what decodes or encodes besides is taken off."""
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        seconds[name] = time.process_time() - start
        return result

    def copy() -> None:
        info = reader.info
        with VideoWriter(folder / "copy.mp4", info.width, info.height, info.fps, sound_from=info, force=True) as writer:
            for frame in reader.frames(planes=True, **lazy):
                writer.write(frame.source, frame.time)

    reader = VideoReader(clip)
    lazy = {"whole": False} if "whole" in VideoReader.frames.__kwdefaults__ else {}  # revisions before know it not
    timed("decode", lambda: sum(1 for _ in reader.frames(planes=True, **lazy)))
    geometry: FaceGeometry = timed("decode + track", lambda: track(clip))
    source = timed("coefficients", lambda: load_solver().track(geometry))
    edited = timed("edit", lambda: edit_track(source, EmotionTimeline.parse([emotion]), load_library()))
    timed("encode", copy)
    seconds["encode"] -= seconds["decode"]
    renderer = WarpRenderer(geometry, source, edited)
    timed(
        "render",
        lambda: render_video(
            clip, renderer, VideoOutput(folder / "out.mp4", force=True, watermark=1), people=[geometry]
        ),
    )
    seconds["render"] -= seconds["decode"] + seconds["encode"]
    return seconds


# The command runs below a small process of its own, because a child's peak memory counts its parent's at the fork.
LAUNCHER = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([wall, used.ru_utime + used.ru_stime, used.ru_maxrss]))
sys.exit(status)
"""


def whole(clip: Path, emotion: str, folder: Path, quality: str, root: Path, warm: bool) -> tuple[float, float, float]:
    """Seconds by the clock, processor seconds, and peak memory in MiB of the whole command."""
    environment = {**os.environ, "CMET_HOME": str(folder / "home"), "PYTHONPATH": str(root)}
    edit = ["edit", str(clip), "--emotion", emotion, "--quality", quality, "-o", str(folder / "out"), "--force", "-q"]
    if not warm:
        environment["CMET_CACHE_BYTES"] = "0"
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "cmet_engine.cli", *edit]
    finished = subprocess.run(command, env=environment, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    wall, used, peak = json.loads(finished.stdout)
    return wall, used, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def variant(clip: Path, short: int | None, seconds: float | None, folder: Path) -> Path:
    """`clip` with a short side of so many pixels, played over and over for `seconds`."""
    info = probe(clip)
    scale = 1 if short is None else short / min(info.width, info.height)
    size = (
        (round(info.width * scale / 2) * 2, round(info.height * scale / 2) * 2)
        if scale != 1
        else (info.width, info.height)
    )
    count = round((info.duration if seconds is None else seconds) * info.fps)
    target = folder / f"{clip.stem}-{size[0]}x{size[1]}-{count}.mp4"
    with VideoWriter(target, *size, info.fps, sound_from=info, force=True) as writer:
        written = 0
        while written < count:
            for frame in VideoReader(clip):
                if written == count:
                    break
                image = frame.image if scale == 1 else cv2.resize(frame.image, size, interpolation=cv2.INTER_CUBIC)
                writer.write(image, Fraction(written) / info.fps)
                written += 1
    return target


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many other programs that never wait."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def report(clip: Path, options: argparse.Namespace, folder: Path, roots: dict[str, Path]) -> None:
    """Print the table of one clip."""
    info = probe(clip)
    frames = info.frames or 1
    print(f"{clip.name}: {info.width}x{info.height}, {frames} frames", flush=True)
    floor = {}
    for name, root in roots.items():
        command = [sys.executable, __file__, str(clip), "--stages", "--emotion", options.emotion]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        seconds = json.loads(found.stdout.splitlines()[-1])
        floor[name] = sum(seconds[stage] for stage in FLOOR)
        for stage, took in {**seconds, "floor": floor[name]}.items():
            print(f"  {name:<12} {stage:<20} {1000 * took / frames:8.2f} ms/frame  {took / floor[name]:6.2f} x floor")
    for count in options.neighbours:
        for _ in range(options.repeat):
            for (name, root), warm in ((item, warm) for item in roots.items() for warm in (False, True)):
                with busy(count):
                    wall, used, peak = whole(
                        clip, options.emotion, folder / name.replace("/", "_"), options.quality, root, warm
                    )
                print(
                    f"  {name:<12} whole, {'warm' if warm else 'cold'}, {count} beside  {wall:7.1f} s by the clock, "
                    f"{used:7.1f} s processor ({used / floor[name]:5.2f} x floor), {frames / wall:6.1f} frames/s, {peak:5.0f} MiB",
                    flush=True,
                )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--emotion", default="happy")
    parser.add_argument("--quality", default="draft")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--size", nargs="*", default=[None], help="short sides in pixels, or 4K (default: as it is)")
    parser.add_argument("--seconds", type=float, nargs="*", default=[None])
    parser.add_argument("--neighbours", type=int, nargs="*", default=[0], metavar="N", help="busy programs beside")
    parser.add_argument("--revision", help="of this repository, measured side by side")
    parser.add_argument("--stages", action="store_true", help="print the stages of one clip as JSON, and nothing else")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.stages:
            print(json.dumps(stages(options.clips[0], options.emotion, folder)))
            return
        roots = {"here": ROOT}
        if options.revision:
            roots[options.revision] = folder / "revision"
            archive = subprocess.run(["git", "archive", options.revision], cwd=ROOT, stdout=subprocess.PIPE, check=True)
            roots[options.revision].mkdir()
            subprocess.run(["tar", "x", "-C", str(roots[options.revision])], input=archive.stdout, check=True)
        for root_name in roots:
            (folder / root_name.replace("/", "_")).mkdir(exist_ok=True)
        for clip in options.clips:
            for size in options.size:
                for seconds in options.seconds:
                    short = None if size is None else SIZES.get(size) or int(size)
                    used = clip if (short, seconds) == (None, None) else variant(clip, short, seconds, folder)
                    report(used.resolve(), options, folder, roots)
                    if used != clip:
                        used.unlink()


if __name__ == "__main__":
    main()
