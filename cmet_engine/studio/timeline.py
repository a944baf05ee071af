"""The timeline's element; what happens in it is in `timeline.js`."""

from collections.abc import Callable
from typing import Any

from nicegui import ui

from cmet_engine.studio.page import Page
from cmet_engine.studio.session import DRAFT

MOST_FULL = 1920  # pixels on the long side of a picture at rest


class TimelineElement(ui.element, component="timeline.js"):
    """The component."""


class Timeline:
    """The timeline of the page's clip.

    Args:
        page: where it stands.
        voice: told where a recording is dropped.
    """

    def __init__(self, page: Page, voice: Callable[[float], None]) -> None:
        self.page, self._voice = page, voice
        self._shown: dict[str, Any] = {}

    def build(self) -> None:
        """Make its element."""
        self._element = TimelineElement()
        self._element.on("change", lambda event: self.page.change(event.args["keys"], event.args["corrections"]))
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
            "lanes": self._lanes(), "curve_data": session.curves, "chosen": self.page.selected,
            "can_undo": bool(project and project.done), "can_redo": bool(project and project.undone),
            "revision": session.edit_revision, "draft": DRAFT, "ready": session.tracked,
            "full": min(MOST_FULL, max(clip.get("width", 0), clip.get("height", 0))),
        }  # fmt: skip

    def _lanes(self) -> list[dict[str, Any]]:
        """A lane for the chosen person, and one for everyone else whom keys name."""
        project = self.page.session.project
        if project is None:
            return [{"person": None, "label": ""}]
        named = {key.person for key in project.keys if key.person}
        rows = {str(row["name"] or row["id"]) for row in project.people}
        own = str(project.face).removeprefix("#") if isinstance(project.face, str) else ""
        others = sorted((named | (rows if len(rows) > 1 else set())) - {own})
        if not own and project.people and len(rows) > 1:  # the largest face is the first
            others = [name for name in others if name != str(project.people[0]["name"] or project.people[0]["id"])]
        return [{"person": None, "label": own or "chosen person"}, *({"person": n, "label": n} for n in others)]

    def _select(self, index: int | None) -> None:
        self.page.selected = index
        if index is not None and self.page.tab != "emotion":
            self.page.tab = "emotion"
        self._shown["chosen"] = index
        self._element.props["chosen"] = index
        self.page.refresh()

    def _scrub(self, time: float) -> None:
        self.page.time = time

    async def _step(self, name: str) -> None:
        project = self.page.session.project
        if project and getattr(project, name)():
            self.page.session.changed()
            self.page.refresh()
