"""What the panels of a page share: what is chosen in it, and how the engine is asked beside it."""

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import run, ui

from cmet_engine.errors import CmetError
from cmet_engine.studio.session import Session
from cmet_engine.studio.widgets import tag

TICK = 0.4  # seconds between two questions to the engine


class Panel:
    """A part of the page that is built anew when its `state` is another one."""

    def state(self) -> object:
        """What it shows."""
        raise NotImplementedError

    def build(self) -> None:
        """Make its elements."""
        raise NotImplementedError

    def update(self) -> None:
        """Show what changes while its elements stay."""


class Refreshed:
    """A part of the page that keeps its element."""

    def refresh(self, again: bool = False) -> None:
        """Show what is not as it was; with `again` in any case."""
        raise NotImplementedError


class Page:
    """One browser tab.

    Args:
        session: what it shows.

    Attributes:
        selected: index of the chosen block.
        also: further people whom new emotions are for, as keys name them.
        choices: how often a block was chosen otherwise than in the timeline.
        time: seconds at which the playhead stands.
        view: one of `stage.VIEWS`.
        movie: the results that are played, addresses by title; empty for none.
        panels: in which element each is; None for one that keeps its elements.
        timeline: the timeline.
    """

    timeline: Refreshed

    def __init__(self, session: Session) -> None:
        self.session = session
        self.selected: int | None = None
        self.choices = 0
        self.also: list[str] = []
        self.time, self.view, self.tab = session.time, "compare", "emotion"
        self.movie: dict[str, str] = {}
        self._dark = ui.dark_mode(None)
        self._shown: dict[int, object] = {}
        self.panels: list[tuple[Panel, Any]] = []
        self._tick: asyncio.Lock = asyncio.Lock()

    def place(self, panel: Panel, name: str, classes: str, label: str = "") -> None:
        """Make the element of a panel."""
        with tag(name, classes=classes, **({"aria_label": label} if label else {})) as place:
            self.panels.append((panel, place))

    async def tick(self) -> None:
        """Ask the engine, and show what is new."""
        if self._tick.locked():
            return
        async with self._tick:
            try:
                await run.io_bound(self.session.poll)
            except CmetError as error:
                self.session.problem = str(error)
            self.refresh()

    def refresh(self) -> None:
        """Build anew what is not as it was."""
        self.timeline.refresh()
        for panel, place in self.panels:
            state = panel.state()
            if self._shown.get(id(panel)) == state:
                panel.update()
                continue
            self._shown[id(panel)] = state
            if place is None:
                panel.build()
                continue
            place.clear()
            with place:
                panel.build()

    def pick(self, person: str, more: bool) -> Any:
        """Pick a person for new emotions, alone or with `more` beside the others; who is picked alone is looked at."""
        chosen = self.session.opened().person
        if not more:
            self.also = []
            return self.attempt(self.session.choose, f"#{person}")
        if person != chosen:
            self.also = [one for one in self.also if one != person] if person in self.also else [*self.also, person]
            self.refresh()
        return None

    def choose(self, index: int | None) -> None:
        """Choose a block otherwise than in the timeline."""
        self.selected = index
        self.choices += 1

    def settled(self, panel: Panel) -> None:
        """Leave a panel as it is, since what changed was changed in it: a slider keeps the focus."""
        self._shown[id(panel)] = panel.state()

    async def attempt(self, work: Callable[..., Any], *arguments: Any, say: str = "") -> Any:
        """The result of some work of the engine, done beside the page; None where it fails, which is shown in its sentence."""
        try:
            result = await run.io_bound(work, *arguments)
        except CmetError as error:
            ui.notify(str(error), type="negative", multi_line=True, timeout=8000, close_button="Close")
            return None
        if say:
            ui.notify(say)
        self.refresh()
        return result

    async def change(self, keys: list[dict[str, Any]], corrections: list[str] | None = None) -> None:
        """Another timeline."""
        project = self.session.opened()
        fixes = list(project.corrections) if corrections is None else corrections
        await self.attempt(self.session.change, keys, fixes)
        self.timeline.refresh(again=True)

    async def add(self, emotion: str, start: float | None = None, whole: bool = False) -> None:
        """A block with an emotion at the playhead, two seconds long, or over the whole clip; one for each who is picked."""
        session = self.session
        if session.project is None:
            ui.notify("Open a clip first.", type="negative")
            return
        duration = session.clip["duration"]
        begin = 0.0 if whole else min(self.time if start is None else start, max(0.0, duration - 0.2))
        end = duration if whole else min(duration, begin + 2.0)
        people = [*self.also, session.project.person]
        added = [{"emotion": emotion, "person": person, "start": begin, "end": end} for person in people]
        keys = [*session.project.plain_keys(), *added]
        await self.change(keys)
        self.choose(len(keys) - 1)
        self.tab = "emotion"
        self.refresh()

    def theme(self) -> None:
        """Light, dark, or as the system: the next of them."""
        self._dark.value = {None: True, True: False, False: None}[self._dark.value]
