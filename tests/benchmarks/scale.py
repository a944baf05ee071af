"""What a night of many clips needs: what a row costs on one core, measured, and a simulation of a cluster doing 10,000 of them.

    python tests/benchmarks/scale.py measure CLIP [CLIP …]         # processor seconds of `cmet batch`, nothing cached
    python tests/benchmarks/scale.py simulate --machines 1 4 16    # with the costs below; --help lists what may be changed

`cmet_engine/docs/scale.md` says what the figures mean.
"""

import argparse
import bisect
import heapq
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline import lengthened

from cmet_engine.media.probe import probe

SHORT, LONG, COPIES = 4.0, 16.0, 3  # seconds of the clips that are measured; rows of the short one in its second batch


@dataclass
class Cost:
    """What a row costs one core: seconds for a process to begin, for each row, for each frame; bytes written for each frame."""

    process: float
    row: float
    frame: float
    written: float


# Measured with `measure`, one thread, Linux, x86-64; see the document for when and on what.
COSTS = {"512 x 512": Cost(2.7, 0.73, 0.0196, 12_900), "1080 x 1920": Cost(2.9, 1.65, 0.0592, 65_800)}


def spent(rows: int, clip: Path, folder: Path) -> tuple[float, int]:
    """Processor seconds of a batch of `rows` edits of a clip, and the bytes that they wrote."""
    manifest = folder / "jobs.jsonl"
    outputs = [folder / f"out{n}" for n in range(rows)]
    row = {"clip": str(clip), "emotions": "happy"}
    manifest.write_text("".join(json.dumps({**row, "output": str(output)}) + "\n" for output in outputs))
    environment = {**os.environ, "CMET_HOME": str(folder / "home"), "CMET_CACHE_BYTES": "0", "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "cmet_engine.cli", "batch", str(manifest), "--force", "-q"]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    written = sum(path.stat().st_size for output in outputs for path in output.iterdir())
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, written


def measure(clip: Path) -> Cost:
    """The cost of rows that edit clips like this one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short, long = lengthened(clip, SHORT, folder), lengthened(clip, LONG, folder)
        one, bytes_short = spent(1, short, folder)
        several, _ = spent(COPIES, short, folder)
        longer, bytes_long = spent(1, long, folder)
        frames = (probe(short).frames or 0, probe(long).frames or 0)
    frame = (longer - one) / (frames[1] - frames[0])
    row = (several - one) / (COPIES - 1) - frames[0] * frame
    return Cost(one - row - frames[0] * frame, row, frame, (bytes_long - bytes_short) / (frames[1] - frames[0]))


@dataclass
class Night:
    """What is assumed beside the costs; none of it is measured."""

    clips: int = 10_000
    median_seconds: float = 6.0  # clip lengths: log-normal, 2 to 60 s
    spread: float = 0.7
    fps: float = 25.0
    large_share: float = 0.3  # clips of 1080 x 1920; the others 512 x 512
    megabits: float = 8.0  # a second of footage as it is read
    cores: int = 16  # of a machine; a row at a time on each
    gpu_fps: float = 0.0  # frames a second of one GPU with the EDTalk renderer; 0: processors alone
    storage: float = 110e6  # bytes a second of the shared storage, all machines together (1 Gbit/s)
    dispatch: float = 0.005  # seconds the scheduler needs for a row, one after the other
    bad: float = 0.01  # share of rows that cannot be done and say so at once
    deaths: float = 0.02  # processes that die in an hour of work on one core; the row is done again once
    losses: float = 1 / 500  # machines lost in an hour of one machine; back after REPAIR
    seed: int = 1


REPAIR = 900.0  # seconds until a lost machine works again


@dataclass
class Outcome:
    """How a night went: hours, share of the time that slots worked, bytes moved, rows done again, failed."""

    hours: float = 0.0
    busy: float = 0.0
    storage_busy: float = 0.0
    read: float = 0.0
    written: float = 0.0
    repeated: int = 0
    failed: int = 0


def loss_times(rng: random.Random, night: Night) -> list[float]:
    """When a machine is lost, in seconds, over a time longer than any night."""
    times = [rng.expovariate(night.losses / 3600)]
    while times[-1] < 1e8:
        times.append(times[-1] + REPAIR + rng.expovariate(night.losses / 3600))
    return times


def simulate(night: Night, machines: int) -> Outcome:
    """Play a night through, event by event: each slot takes the next row, reads, works, writes, and may be lost meanwhile."""
    rng = random.Random(night.seed)
    small, large = COSTS.values()
    slots_each = 1 if night.gpu_fps else night.cores
    slots = [(0.0, machine, slot) for machine in range(machines) for slot in range(slots_each)]
    heapq.heapify(slots)
    losses = [loss_times(rng, night) for _ in range(machines)]
    outcome = Outcome()
    processes: dict[tuple[int, int], float] = {}  # when the process of a slot was begun
    storage_free = dispatch_free = worked = end = 0.0
    rows = [
        (min(60.0, max(2.0, rng.lognormvariate(0, night.spread) * night.median_seconds)), 0) for _ in range(night.clips)
    ]
    rows.reverse()
    while rows:
        seconds, attempt = rows.pop()
        now, machine, slot = heapq.heappop(slots)
        now = dispatch_free = max(now, dispatch_free + night.dispatch)
        lost = bisect.bisect(losses[machine], now)
        if lost and now < losses[machine][lost - 1] + REPAIR:
            now = losses[machine][lost - 1] + REPAIR
            lost = bisect.bisect(losses[machine], now)
        if lost and processes.get((machine, slot), now) < losses[machine][lost - 1]:
            del processes[machine, slot]
        cost = large if rng.random() < night.large_share else small
        if rng.random() < night.bad:
            outcome.failed += 1
            heapq.heappush(slots, (now + 1.0, machine, slot))
            continue
        frames, size_in = seconds * night.fps, seconds * night.megabits * 1e6 / 8
        per_frame = 1 / night.gpu_fps if night.gpu_fps else cost.frame
        work = cost.row + frames * per_frame + (0 if (machine, slot) in processes else cost.process)
        processes.setdefault((machine, slot), now)
        # the storage serves one after the other: rows wait for their bytes once it is the narrowest place
        moved = size_in + frames * cost.written
        storage_free = max(storage_free, now) + moved / night.storage
        outcome.storage_busy += moved / night.storage
        outcome.read, outcome.written = outcome.read + size_in, outcome.written + frames * cost.written
        finish = max(now + work, storage_free)
        died = rng.expovariate(night.deaths / 3600) < work
        if died:
            del processes[machine, slot]
        if finish > losses[machine][lost]:
            finish, died = losses[machine][lost] + REPAIR, True
        if died:
            outcome.repeated += 1
            if attempt < 2:
                rows.append((seconds, attempt + 1))
            else:
                outcome.failed += 1
        worked += work
        end = max(end, finish)
        heapq.heappush(slots, (finish, machine, slot))
    outcome.hours, outcome.busy = end / 3600, worked / (end * machines * slots_each)
    outcome.storage_busy /= end
    return outcome


def main() -> None:
    """Print what was measured or simulated, as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    sub = actions.add_parser("measure")
    sub.add_argument("clips", nargs="+", type=Path)
    sub = actions.add_parser("simulate")
    sub.add_argument("--machines", nargs="+", type=int, default=[1, 4, 16])
    for name, value in vars(Night()).items():
        sub.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args())
    if options.pop("action") == "measure":
        for clip in options["clips"]:
            info, cost = probe(clip), measure(clip)
            print(f"{info.width} x {info.height}: {cost}, {1 / cost.frame:.1f} frames a second", flush=True)
        return
    machines = options.pop("machines")
    night = Night(**options)
    print("| machines | hours | slots at work | storage at work | read | written | rows done again | rows failed |")
    print("|---|---|---|---|---|---|---|---|")
    for count in machines:
        found = simulate(night, count)
        print(
            f"| {count} | {found.hours:.2g} | {found.busy:.0%} | {found.storage_busy:.0%} | {found.read / 1e9:.0f} GB "
            f"| {found.written / 1e9:.0f} GB | {found.repeated} | {found.failed} |"
        )


if __name__ == "__main__":
    main()
