"""How fast a running engine answers about a moment of a tracked clip: median and 95th percentile in milliseconds.

    python tests/benchmarks/live.py CLIP [CLIP …] [--requests 100]

Three ways of scrubbing: through time with one setting, another strength each time, and frames drawn as JPEG.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cmet_engine.client import Client
from cmet_engine.errors import CmetError
from cmet_engine.media.probe import probe


def percentiles(ask: Callable[[int], object], requests: int) -> str:
    """Median and 95th percentile of `ask(number)`, in milliseconds; the first requests warm up and do not count."""
    for number in range(-5, 0):
        while True:
            try:
                ask(number)
                break
            except CmetError as error:
                if "ask again" not in str(error):
                    raise
    taken = []
    for number in range(requests):
        start = time.perf_counter()
        ask(number)
        taken.append(1000 * (time.perf_counter() - start))
    taken.sort()
    return f"p50 {taken[len(taken) // 2]:6.1f} ms   p95 {taken[int(0.95 * len(taken))]:6.1f} ms"


def main() -> None:
    """Start an engine, track the clips, ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--requests", type=int, default=100)
    options = parser.parse_args()
    clips = [clip.resolve() for clip in options.clips]
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder) / "engine.json"
        command = [sys.executable, "-m", "cmet_engine.cli", "serve", "--root", folder, "--token-file", str(address)]
        for clip in clips:
            command += ["--allow", str(clip.parent)]
        engine = subprocess.Popen(command)
        try:
            while not address.exists():
                time.sleep(0.1)
            client = Client.from_file(address)
            for clip in clips:
                job = client.track(clip)["id"]
                while client.job(job)["state"] in ("queued", "running"):
                    time.sleep(0.2)
                info, draw = probe(clip), random.Random(1)
                setting = {"emotions": ["happy", "sad=0.5@1-2"]}
                print(f"{clip.name}: {info.frames} frames of {info.width} x {info.height}")

                def moment(length: float = info.duration, draw: random.Random = draw) -> float:
                    return draw.uniform(0, length)

                ways: dict[str, Callable[[int], object]] = {
                    "through time": lambda _, c=clip, m=moment, s=setting: client.live(c, m(), **s),
                    "another strength": lambda _, c=clip, m=moment, d=draw, s=setting: client.live(
                        c, m(), strength=d.uniform(0.1, 1.5), **s
                    ),
                    "drawn": lambda _, c=clip, m=moment, s=setting: client.live_picture(c, m(), **s),
                }
                for name, ask in ways.items():
                    print(f"  {name:<18}{percentiles(ask, options.requests)}")
        finally:
            engine.terminate()
            engine.wait()


if __name__ == "__main__":
    main()
