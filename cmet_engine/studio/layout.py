"""The layout: the panels and where they stand."""

from nicegui import ui

from cmet_engine.studio.handover import HandOver
from cmet_engine.studio.opening import Opening
from cmet_engine.studio.others import Others
from cmet_engine.studio.page import TICK, Page, Panel
from cmet_engine.studio.people import People
from cmet_engine.studio.properties import Properties
from cmet_engine.studio.rendering import Rendering
from cmet_engine.studio.session import Session
from cmet_engine.studio.stage import VIEWS, Stage
from cmet_engine.studio.timeline import Timeline
from cmet_engine.studio.widgets import push, tag

KEYS = {
    "Space": "play with sound", "← →": "a frame back or on; with Shift a second", "Home End": "beginning, end", "S": "split the block at the playhead",
    "C": "corrects the chosen curve at the playhead; ↑ ↓ on the point", "1 … 6": "what the picture shows", "Alt ↑ ↓": "strength of the block",
    "D": "copy the block behind itself", "K": "strength key at the playhead", "Delete": "remove the block", "Alt ← →": "move the block; with Shift stretch it",
    "Ctrl Z": "undo; with Shift redo", "+ − 0": "zoom; the wheel with Ctrl too", "Esc": "choose nothing",
}  # fmt: skip


def build(session: Session) -> None:
    """Make a page that shows a session."""
    page = Page(session)
    opening, others, stage = Opening(page), Others(page), Stage(page)
    page.timeline = timeline = Timeline(page, others.start_voice)
    with ui.element("main").classes("studio"):
        page.place(_Top(page, opening), "header", "top")
        with tag("nav", classes="left", aria_label="People and emotions"):
            page.place(People(page), "div", "")
            page.place(others, "div", "")
        with tag("section", classes="centre", aria_label="Picture"):
            stage.make()
        page.place(_Right(page, stage), "aside", "right", label="Properties")
        with tag("footer", classes="bottom"):
            timeline.build()
    page.panels.append((stage, None))
    page.refresh()
    ui.timer(TICK, page.tick)


class _Top(Panel):
    """Clip, views, problems."""

    def __init__(self, page: Page, opening: Opening) -> None:
        self.page, self._opening = page, opening

    def state(self) -> object:
        """See `page.Panel`."""
        session = self.page.session
        return session.clip.get("path"), session.problem, self.page.view, bool(self.page.movie)

    def build(self) -> None:
        """See `page.Panel`."""
        page, clip = self.page, self.page.session.clip
        tag("h1", "C-MET studio")
        push("Open …", self._opening.show, "" if clip else "main")
        if clip:
            path = clip["path"]
            about = f"{path.rsplit('/', 1)[-1]} · {clip['width']} × {clip['height']} · {clip['fps']:g} fps"
            tag("span", about, "clip", title=path)
        tag("span", page.session.problem, "problem", role="status", title=page.session.problem)
        with tag("div", classes="segments", role="group", aria_label="View"):
            for name, (title, about) in VIEWS.items():
                pressed = "true" if name == page.view and not page.movie else "false"
                push(title, lambda name=name: self._view(name), title=about, aria_pressed=pressed)
        push("Theme", page.theme, title="Light, dark, or as the system")
        push("?", self._help, aria_label="Keyboard", title="Keyboard")

    def _view(self, name: str) -> None:
        self.page.view, self.page.movie = name, {}
        self.page.refresh()

    def _help(self) -> None:
        with ui.dialog() as dialog, ui.card().classes("chooser"):
            tag("h2", "Keyboard")
            with tag("table", classes="keys"), tag("tbody"):
                for key, about in KEYS.items():
                    with tag("tr"):
                        with tag("td"):
                            tag("kbd", key)
                        tag("td", about)
            push("Close", dialog.close)
        dialog.open()


class _Right(Panel):
    """The tabs on the right."""

    def __init__(self, page: Page, stage: Stage) -> None:
        self.page = page
        self.tabs: dict[str, tuple[str, Panel]] = {
            "emotion": ("Emotion", Properties(page, self)),
            "render": ("Render", Rendering(page, stage)),
            "handover": ("Hand over", HandOver(page)),
        }

    def state(self) -> object:
        """See `page.Panel`."""
        return self.page.tab, self.tabs[self.page.tab][1].state()

    def update(self) -> None:
        """See `page.Panel`."""
        self.tabs[self.page.tab][1].update()

    def build(self) -> None:
        """See `page.Panel`."""
        with tag("div", classes="tabs", role="tablist"):
            for name, (title, _) in self.tabs.items():
                chosen = "true" if name == self.page.tab else "false"
                tag("button", title, type="button", role="tab", aria_selected=chosen).on(
                    "click", lambda _, name=name: self._choose(name)
                )
        self.tabs[self.page.tab][1].build()

    def _choose(self, name: str) -> None:
        self.page.tab = name
        self.page.refresh()
