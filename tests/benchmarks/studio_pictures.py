"""Draws the documentation's pictures of `cmet studio`: every state at 1280 and 1920 pixels, light and dark, in the system's Chromium.

    python tests/benchmarks/studio_pictures.py [FOLDER]     (default: cmet_engine/docs/studio)

The footage is the drawn head that comes with the package, and two drawn people.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from running_engine import children_of
from running_studio import RunningStudio, chromium, until
from two_people import heads, side_by_side, write

from cmet_engine.models.assets import ASSETS

FOLDER = Path(__file__).parents[2] / "cmet_engine" / "docs" / "studio"
SIZES = ((1280, 800), (1920, 1080))
THEMES = ("light", "dark")
QUALITY = 28  # of WebP
SETTLED = 900  # milliseconds after which a page of another size or theme is drawn, and the picture is the full one
DONE = ".job span.good"


class Painter:
    """Takes the pictures of one page."""

    def __init__(self, page: Any, folder: Path) -> None:
        self.page, self.folder = page, folder

    def take(self, state: str) -> None:
        """A state in every size and theme."""
        self.page.evaluate("document.querySelectorAll('.left, .right').forEach((panel) => panel.scrollTo(0, 0))")
        for width, height in SIZES:
            for theme in THEMES:
                self.page.set_viewport_size({"width": width, "height": height})
                self.page.emulate_media(color_scheme=theme)
                self.page.wait_for_timeout(SETTLED)
                shot = cv2.imdecode(np.frombuffer(self.page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
                path = self.folder / f"{state}_{width}_{theme}.webp"
                cv2.imwrite(str(path), shot, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
                print(path.name, f"{path.stat().st_size / 1000:.0f} kB", flush=True)
        self.page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})

    def open(self, clip: Path) -> None:
        """Open a clip by its path."""
        self.page.get_by_role("button", name="Open …").click()
        self.page.get_by_label("Path", exact=True).fill(str(clip))
        self.page.get_by_label("Path", exact=True).press("Enter")
        self.page.locator(".chooser").wait_for(state="hidden")

    def add(self, emotion: str, share: float) -> None:
        """An emotion at a part of the clip."""
        box = self.page.locator(".tl-body").bounding_box()
        self.page.mouse.click(box["x"] + share * box["width"], box["y"] + 10)
        self.page.locator(f'.emotion[title^="{emotion}:"]').click()
        self.page.locator(".tl-block.chosen", has_text=emotion).wait_for()


@contextlib.contextmanager
def at_rest(studio: RunningStudio) -> Iterator[None]:
    """Let the engine's workers wait, so that what they do is not done before its picture is taken."""
    assert studio.process
    workers = [worker for engine in children_of(studio.process.pid) for worker in children_of(engine)]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)


def paint(painter: Painter, studio: RunningStudio, one: Path, two: Path) -> None:
    """Go through the states."""
    page = painter.page
    page.locator(".emotion").first.wait_for()
    painter.take("welcome")
    page.get_by_role("button", name="Open …").click()
    page.locator(".entry").first.wait_for()
    painter.take("open")
    page.get_by_role("button", name="Close").click()
    painter.open(one)
    page.locator(".cover progress[value]").wait_for()
    with at_rest(studio):
        painter.take("tracking")
    page.wait_for_function("document.querySelector('.main-frame .two')?.dataset.moment !== undefined")
    painter.add("happy", 0.1)
    painter.add("angry", 0.55)
    page.keyboard.press("k")
    until(lambda: any(key.get("strength_keys") for key in studio.project()["timeline"]["keys"]))
    page.locator("select[aria-label='Curve to correct'] option").first.wait_for(state="attached")
    box = page.locator(".tl-curves").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 30)
    page.mouse.up()
    page.locator(".tl-point").wait_for()
    page.locator("[aria-label=Playhead]").click(position={"x": 0.28 * box["width"], "y": 10})
    page.wait_for_timeout(4000)
    painter.take("edit")
    page.get_by_role("button", name="Side by side").first.click()
    painter.take("side")
    page.get_by_role("button", name="Before | after").click()
    page.get_by_role("tab", name="Render").click()
    page.get_by_label("Quality").select_option("draft")
    page.get_by_role("button", name="Render", exact=True).click()
    page.locator(".job img[src*=preview]").wait_for()
    with at_rest(studio):
        painter.take("rendering")
    page.locator(DONE).wait_for()
    page.locator(".job .note.good").wait_for()
    page.get_by_role("button", name="Play", exact=True).click()
    painter.take("result")
    page.get_by_role("tab", name="Hand over").click()
    painter.take("handover")
    page.get_by_role("tab", name="Emotion").click()
    painter.open(two)
    page.locator(".person").nth(1).wait_for()
    page.wait_for_function("document.querySelector('.main-frame .two')?.dataset.moment === '0'")
    painter.add("happy", 0.1)
    page.locator(".person").nth(1).click()
    page.wait_for_timeout(3000)
    painter.add("angry", 0.3)
    page.wait_for_timeout(6000)
    painter.take("people")


def main() -> None:
    """Draw all of them."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, chromium() as browser:
        studio = RunningStudio(Path(place))
        one = Path(shutil.copy(ASSETS / "sample" / "talking_head.mp4", studio.films / "take3.mp4"))
        pairs = zip(*heads(50), strict=True)
        two = write(studio.films / "two_people.mp4", [side_by_side(left, right) for left, right in pairs])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(600_000)
        try:
            page.goto(studio.start())
            paint(Painter(page, folder), studio, one, two)
        finally:
            page.close()
            studio.stop()


if __name__ == "__main__":
    main()
