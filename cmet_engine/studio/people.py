"""Who is in the clip, and the gallery of emotions."""

from typing import Any

from cmet_engine.studio.page import Page, Panel
from cmet_engine.studio.project import called
from cmet_engine.studio.widgets import tag

DRAG = "(event) => event.dataTransfer.setData('text/emotion', '{name}')"


class People(Panel):
    """People and emotions."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def state(self) -> object:
        """See `page.Panel`."""
        session, project = self.page.session, self.page.session.project
        people = repr(project.people) if project else None
        listing = (session.listing or {}).get("state")
        face = project.face if project else None
        return session.clip.get("path"), people, face, self.page.also, repr(session.emotions), listing

    def build(self) -> None:
        """See `page.Panel`."""
        project = self.page.session.project
        tag("h2", "People")
        if project is None:
            tag("p", "They are found when a clip is opened.", "note")
        elif not project.people:
            tag("p", "Looking who is there …", "note")
        with tag("div", classes="people", role="group", aria_label="Whose face"):
            for number, row in enumerate(project.people if project else ()):
                self._person(number, row)
        if project and len(project.people) > 1:
            tag(
                "p",
                "New emotions are for whom you click; Ctrl and a click takes others along. The picture shows everyone's.",
                "note",
            )
        tag("h2", "Emotions")
        tag(
            "p",
            "Click adds two seconds at the playhead; or drag to the timeline. The bar: in how many edits of other people it "
            "was seen, by independent classifiers where they know it.",
            "note",
        )
        with tag("div", classes="gallery"):
            for entry in self.page.session.emotions:
                self._emotion(entry)

    def _person(self, number: int, row: dict[str, Any]) -> None:
        project = self.page.session.opened()
        face = f"#{called(row)}"
        chosen = project.face == face or (project.face == 0 and number == 0) or called(row) in self.page.also
        button = tag("button", classes="person", type="button", aria_pressed="true" if chosen else "false")
        button.on(
            "click",
            lambda event: self.page.pick(called(row), any(event.args.values())),
            args=["ctrlKey", "metaKey", "shiftKey"],
        )
        with button:
            if row["picture"]:
                tag("img", src=row["picture"], alt="")
            with tag("span"):
                tag("div", row["name"] or f"Person {row['id']}")
                tag("div", f"seen {row['share']:.0%} of the time", "small")

    def _emotion(self, entry: dict[str, Any]) -> None:
        name, trust = entry["name"], seen(entry)
        said = f"seen in {trust:.0%} of edits" if trust is not None else unmeasured(entry)
        button = tag(
            "button",
            classes="emotion",
            type="button",
            draggable="true",
            title=f"{name}: {said}",
            aria_label=f"{name}, {said}",
        )
        button.on("click", lambda: self.page.add(name))
        button.on("dragstart", js_handler=DRAG.format(name=name))
        with button:
            tag("img", src=f"/media/emotion/{name}", alt="", draggable="false")
            tag("span", name, "name")
            with tag("span", classes="meter", aria_hidden="true"):
                tag("i", style=f"width: {trust or 0:.0%}")
            tag("span", f"{trust:.0%}" if trust is not None else unmeasured(entry), "trust")


def seen(entry: dict[str, Any]) -> float | None:
    """In which share of edited clips an emotion was seen: by independent judges, else by our classifier; None where neither knows it."""
    return next((entry[name] for name in ("judges", "recognised") if isinstance(entry[name], float)), None)


def unmeasured(entry: dict[str, Any]) -> str:
    """What is said of an emotion that no judge has a name for."""
    return f"like {entry['taken_for']}" if entry["taken_for"] else "unmeasured"
