"""How fast the page of `cmet studio` follows the hand: milliseconds from a press on the ruler to the edited picture on the screen.

    python tests/benchmarks/studio.py CLIP [CLIP …] [--moments 100] [--first]

Random moments of each clip under two emotions, before | after, in the system's Chromium; also how long the clip takes from the command
to the first picture, what a frame costs the page's main thread while the timeline is zoomed and scrolled, and the processor time of page, engine and workers, which tells of a machine that does nothing else. The first five moments warm up and do not count. `--first` goes the way of a new user instead: from the command to a rendered edit, in clicks and seconds.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from running_engine import children_of
from running_studio import RunningStudio, chromium

from cmet_engine.media.probe import probe

PRESS = """async (share) => {
  const canvas = document.querySelector(".tl-canvas"), image = document.querySelector(".main-frame .two"), box = canvas.getBoundingClientRect();
  const before = image.dataset.moment, began = performance.now();
  const at = {clientX: box.left + share * box.width, clientY: box.top + 8, bubbles: true, button: 0};
  canvas.dispatchEvent(new PointerEvent("pointerdown", at));
  window.dispatchEvent(new PointerEvent("pointerup", at));
  while (image.dataset.moment === before) { if (performance.now() - began > 15000) return null; await new Promise((done) => setTimeout(done, 1)); }
  await image.decode();
  return performance.now() - began;
}"""

TURN = """async (zoomed) => {
  const body = document.querySelector(".tl-body"), box = body.getBoundingClientRect();
  for (let n = 0; n < 120; n++) {
    const at = {clientX: box.left + 0.37 * box.width, clientY: box.top + 30, bubbles: true, cancelable: true}, by = n < 60 ? -80 : 80;
    body.dispatchEvent(new WheelEvent("wheel", {...at, deltaY: by, ctrlKey: zoomed, shiftKey: !zoomed}));
    await new Promise(requestAnimationFrame);
  }
}"""


def timeline_milliseconds(page: Any, zoomed: bool) -> float:
    """Processor time of the page's main thread for a frame of the timeline that is zoomed, or scrolled."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
    session.send("Performance.enable")

    def spent() -> float:
        return next(
            m["value"] for m in session.send("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration"
        )

    before = spent()
    page.evaluate(TURN, zoomed)
    return 1000 * (spent() - before) / 120


def first_time(clip: Path) -> None:
    """Print how a new user gets from the command to a rendered edit."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        studio = RunningStudio(Path(folder))
        film = Path(shutil.copy(clip, studio.films / clip.name))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(1_800_000)
        began = time.perf_counter()
        said = []

        def done(what: str) -> None:
            said.append(f"{what} after {time.perf_counter() - began:.0f} s")

        try:
            page.goto(studio.start(film), wait_until="domcontentloaded")
            page.locator(".emotion").first.wait_for()
            done("the page is there")
            page.wait_for_function("document.querySelector('.main-frame .two')?.dataset.moment !== undefined")
            done("the clip can be edited")
            page.locator('.emotion[title^="happy:"]').click()
            page.wait_for_function("document.querySelector('.main-frame .two').dataset.revision > 1")
            done("click 1, happy, is seen")
            page.get_by_role("tab", name="Render").click()
            page.get_by_role("button", name="Render", exact=True).click()
            page.locator(".job span.good").wait_for()
            done("clicks 2 and 3, the tab and the button Render, have rendered")
            page.get_by_role("button", name="Play", exact=True).click()
            page.wait_for_function("document.querySelector('video.movie')?.currentTime > 0")
            done("click 4, it plays")
        finally:
            page.close()
            studio.stop()
    print(f"{clip.name}: " + "; ".join(said), flush=True)


def processor_seconds(studio: RunningStudio) -> float:
    """What page, engine and its workers have computed so far."""
    engine = studio.engine_pid
    assert studio.process
    total = 0
    for pid in (studio.process.pid, engine, *children_of(engine)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def measure(clip: Path, moments: int) -> None:
    """Print the figures of one clip."""
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        studio = RunningStudio(Path(folder))
        film = Path(shutil.copy(clip, studio.films / clip.name))
        began = time.perf_counter()
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(600_000)
        try:
            page.goto(studio.start(film))
            page.wait_for_function("document.querySelector('.main-frame .two')?.dataset.moment !== undefined")
            first = time.perf_counter() - began
            for name in ("happy", "angry"):
                page.locator(f'.emotion[title^="{name}:"]').click()
                page.locator(".tl-block", has_text=name).wait_for()
                page.get_by_role("button", name="Over the whole clip").click()
            page.wait_for_function("document.querySelector('.main-frame .two').dataset.revision > 3")
            page.wait_for_timeout(10_000)  # the small copies of the frames are made meanwhile
            taken = [page.evaluate(PRESS, draw.random()) for _ in range(5)]
            worked = processor_seconds(studio)
            taken = [page.evaluate(PRESS, draw.random()) for _ in range(moments)]
            worked = processor_seconds(studio) - worked
            turned = [timeline_milliseconds(page, zoomed) for zoomed in (True, False)]
        finally:
            page.close()
            studio.stop()
    counted = sorted(value for value in taken if value is not None)
    info = probe(clip)
    print(
        f"{clip.name}: {info.frames} frames of {info.width} x {info.height}: first picture {first:.1f} s, then "
        f"{1000 * worked / moments:.0f} ms of processor time a moment, "
        f"p50 {counted[len(counted) // 2]:.0f} ms, p95 {counted[int(0.95 * len(counted))]:.0f} ms of {len(counted)}; "
        f"timeline: {turned[0]:.0f} ms a frame to zoom, {turned[1]:.0f} ms to scroll",
        flush=True,
    )


def main() -> None:
    """Measure every clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--first", action="store_true")
    options = parser.parse_args()
    for clip in options.clips:
        first_time(clip) if options.first else measure(clip, options.moments)


if __name__ == "__main__":
    main()
