"""The timeline's element; what happens in it is in `timeline.js`."""

from collections.abc import Callable
from typing import Any

from nicegui import ui

from cmet_engine.studio.page import Page, Refreshed
from cmet_engine.studio.project import called
from cmet_engine.studio.session import DRAFT

MOST_FULL = 1920  # pixels on the long side of a picture at rest


class TimelineElement(ui.element, component="timeline.js"):
    """The component."""


class Timeline(Refreshed):
    """The timeline of the page's clip.

    Args:
        page: where it stands.
        voice: told where a recording is dropped.
    """

    def __init__(self, page: Page, voice: Callable[[float], None]) -> None:
        self.page, self._voice = page, voice
        self._shown: dict[str, Any] = {}
        self._began = page.time
        self._answered = 0  # number of the last change that came from the element

    def build(self) -> None:
        """Make its element."""
        self._element = TimelineElement()
        self._element.on("change", lambda event: self._change(event.args))
        self._element.on("select", lambda event: self._select(event.args))
        self._element.on("scrub", lambda event: self._scrub(event.args))
        self._element.on("undo", lambda: self._step("undo"))
        self._element.on("redo", lambda: self._step("redo"))
        self._element.on("add", lambda event: self.page.add(event.args["emotion"], event.args["start"]))
        self._element.on("voice", lambda event: self._voice(event.args))
        self.refresh()

    def refresh(self, again: bool = False) -> None:
        """Show what is not as it was; with `again` the blocks in any case, for a change that was refused."""
        if not hasattr(self, "_element"):
            return
        values = self._values()
        if values != self._shown or again:
            self._element.props.update(values)
            self._shown = values
            self._element.update()

    def _values(self) -> dict[str, Any]:
        session, project = self.page.session, self.page.session.project
        clip = session.clip
        return {
            "duration": clip.get("duration", 0), "fps": clip.get("fps", 25), "timecode": clip.get("timecode", ""),
            "blocks": project.plain_keys() if project else [], "corrections": list(project.corrections) if project else [],
            "lanes": self._lanes(), "person": project.person if project else None, "drawn": session.drawn, "chosen": {"index": self.page.selected, "number": self.page.choices}, "answered": self._answered, "at": self._began,
            "can_undo": bool(project and project.done), "can_redo": bool(project and project.undone),
            "revision": session.edit_revision, "draft": DRAFT, "ready": session.tracked,
            "full": min(MOST_FULL, max(clip.get("width", 0), clip.get("height", 0))),
        }  # fmt: skip

    def _lanes(self) -> list[dict[str, Any]]:
        """A lane for everyone, that of the chosen person first; and one for keys that name nobody."""
        project = self.page.session.project
        if project is None or len(project.people) < 2:
            return [{"person": None, "label": ""}]
        labels = {called(row): row["name"] or f"Person {row['id']}" for row in project.people}
        labels |= {key.person: key.person for key in project.keys if key.person and key.person not in labels}
        order = sorted(labels, key=lambda person: person != project.person)
        lanes: list[dict[str, Any]] = [{"person": person, "label": labels[person]} for person in order]
        return lanes + (
            [{"person": None, "label": "nobody named"}] if any(not key.person for key in project.keys) else []
        )

    def _select(self, index: int | None) -> None:
        self.page.selected = index
        if index is not None and self.page.tab != "emotion":
            self.page.tab = "emotion"
        self.page.refresh()

    async def _change(self, asked: dict[str, Any]) -> None:
        self._answered = asked["number"]
        await self.page.change(asked["keys"], asked["corrections"])

    def _scrub(self, time: float) -> None:
        self.page.time = self.page.session.time = time

    async def _step(self, name: str) -> None:
        project = self.page.session.project
        if project and getattr(project, name)():
            self.page.session.changed()
            if self.page.selected is not None and self.page.selected >= len(project.keys):
                self.page.choose(None)
            self.page.refresh()
