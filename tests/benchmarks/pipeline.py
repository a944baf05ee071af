"""What an edit costs: its floor (decode, track, encode), its stages, the whole command and its peak memory.

    python tests/benchmarks/pipeline.py CLIP [CLIP …] [--size 512 1080 4K] [--seconds 5 60 600] [--quality draft] [--repeat 3]
    python tests/benchmarks/pipeline.py CLIP --size 1080 --revision HEAD~20       # the same side by side with an earlier revision
    python tests/benchmarks/pipeline.py CLIP --neighbours 0 1 2                   # the whole command beside busy programs

`--size` enlarges CLIP (the short side; 4K is 2160) and `--seconds` plays it over and over. Every stage runs alone, for the first
time in a process of its own; the whole command runs cold (nothing in the cache) and warm (the clip is tracked already). Given are
seconds by the clock and processor seconds of all threads; of several runs, which take turns with those of the other revision, the
shortest of each. Where the machine is busy with something else, only the ratios of processor seconds say something about the code.
"""

import argparse
import contextlib
import json
import os
import shutil
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
from cmet_engine.media.probe import measure, part_of, probe
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter
from cmet_engine.render.stream import VideoOutput, render_video
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"4K": 2160}
FLOOR = ("decode + track", "encode")


Seconds = dict[str, tuple[float, float]]
"""By stage: by the clock, and of the processor."""


def stages(clip: Path, emotion: str, folder: Path) -> Seconds:
    """What every stage takes, each alone; what decodes or encodes besides is taken off."""
    seconds: Seconds = {}

    def timed(name: str, work: Callable[[], Any], *within: str) -> Any:
        clock, used = time.perf_counter(), time.process_time()
        result = work()
        clock, used = time.perf_counter() - clock, time.process_time() - used
        seconds[name] = clock - sum(seconds[w][0] for w in within), used - sum(seconds[w][1] for w in within)
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
    timed("encode", copy, "decode")
    renderer = WarpRenderer(geometry, source, edited)
    output = VideoOutput(folder / "out.mp4", force=True, watermark=1)
    timed("render", lambda: render_video(clip, renderer, output, people=[geometry]), "decode", "encode")
    return seconds


# The command runs below a small process of its own, because a child's peak memory counts its parent's at the fork.
LAUNCHER = """
import json, resource, subprocess, sys, time
start, first, said = time.perf_counter(), 0.0, b""
command = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
while part := command.stderr.read1():
    said += part
    if not first and b"tracking" in said:
        first = time.perf_counter() - start
status = command.wait()
wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
if status:
    sys.exit(said.decode())
print(json.dumps([wall, used.ru_utime + used.ru_stime, used.ru_maxrss, first]))
"""


def whole(clip: Path, options: argparse.Namespace, folder: Path, root: Path) -> list[float]:
    """Of the whole command: seconds by the clock, processor seconds, peak memory in MiB, seconds to the first tracked frame."""
    environment = {**os.environ, "CMET_HOME": str(folder / "home"), "PYTHONPATH": str(root)}
    edit = ["edit", str(clip), "--emotion", options.emotion, "--quality", options.quality, "-o", str(folder / "out")]
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "cmet_engine.cli", *edit, "--force"]
    finished = subprocess.run(command, env=environment, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    wall, used, peak, first = json.loads(finished.stdout)
    return [wall, used, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), first]


def variant(clip: Path, short: int | None, seconds: float | None, folder: Path) -> Path:
    """`clip` with a short side of so many pixels, played over and over for `seconds`."""
    # no longer sound than pictures: the edit listens to all of it
    info = measure(part_of(clip, None, None if seconds is None else str(seconds)))
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


def least(some: list[list[float]]) -> list[float]:
    """The smallest of each figure of several runs."""
    return [min(values) for values in zip(*some, strict=True)]


def staged(clip: Path, options: argparse.Namespace, roots: dict[str, Path]) -> dict[str, Seconds]:
    """`stages` of several revisions by turns, the shortest of each, and the `floor`."""
    runs: dict[str, list[Seconds]] = {name: [] for name in roots}
    for name, root in (item for _ in range(options.repeat) for item in roots.items()):
        command = [sys.executable, __file__, str(clip), "--stages", "--emotion", options.emotion]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        runs[name].append(json.loads(found.stdout.splitlines()[-1]))
    result: dict[str, Seconds] = {}
    for name, some in runs.items():
        result[name] = {stage: (*least([list(run[stage]) for run in some]),) for stage in some[0]}  # type: ignore[misc]
        clock, used = (sum(result[name][stage][k] for stage in FLOOR) for k in (0, 1))
        result[name]["floor"] = clock, used
    return result


def report(clip: Path, options: argparse.Namespace, folder: Path, roots: dict[str, Path]) -> None:
    """Print the table of one clip."""
    info = probe(clip)
    frames = info.frames or 1
    print(f"{clip.name}: {info.width}x{info.height}, {frames} frames, {options.quality}", flush=True)
    seconds = staged(clip, options, roots)
    for name, found in seconds.items():
        for stage, (clock, used) in found.items():
            print(
                f"  {name:<12} {stage:<16} {1000 * clock / frames:8.2f} ms/frame by the clock, "
                f"{1000 * used / frames:8.2f} ms/frame processor, {used / found['floor'][1]:6.2f} x floor"
            )
    alone: dict[tuple[str, str], float] = {}
    for count in options.neighbours:
        runs: dict[tuple[str, str], list[list[float]]] = {}
        for name, root in (item for _ in range(options.repeat) for item in roots.items()):
            own = folder / name.replace("/", "_")
            shutil.rmtree(own / "home", ignore_errors=True)
            for state in ("cold", "warm"):
                with busy(count):
                    runs.setdefault((name, state), []).append(whole(clip, options, own, root))
        for (name, state), some in runs.items():
            wall, used, peak, first = least(some)
            floor = seconds[name]["floor"]
            slower = wall / alone.setdefault((name, state), wall)
            print(
                f"  {name:<12} whole, {state}, {count} beside {wall:6.1f} s by the clock ({wall / floor[0]:5.2f} x floor, "
                f"{slower:4.2f} x alone), {used:6.1f} s processor ({used / floor[1]:5.2f} x floor), "
                f"{frames / wall:6.1f} frames/s, {peak:5.0f} MiB, {first:4.1f} s to the first tracked frame",
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
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled already
        for root_name, root in roots.items():
            subprocess.run([sys.executable, "-m", "compileall", "-q", str(root / "cmet_engine")], check=True)
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
