"""Who is in the clip, and the gallery of emotions."""

import re
import tempfile
from pathlib import Path
from typing import Any

from nicegui import events, ui

from cmet_engine.client import Client
from cmet_engine.studio.page import Page
from cmet_engine.studio.project import called
from cmet_engine.studio.widgets import push, tag

DRAG = "(event) => event.dataTransfer.setData('text/emotion', '{name}')"
MAX_VOICE = 64 << 20  # bytes, as the engine takes them


class People:
    """People and emotions."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._start: float | None = None

    def state(self) -> object:
        """See `page.Panel`."""
        session, project = self.page.session, self.page.session.project
        people = repr(project.people) if project else None
        listing = (session.listing or {}).get("state")
        return session.clip.get("path"), people, project and project.face, repr(session.emotions), listing

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
            tag("p", "The picture shows the edit of the chosen one; a render shows everyone's.", "note")
        tag("h2", "Emotions")
        tag(
            "p",
            "Click adds two seconds at the playhead; or drag to the timeline. The bar is the measured reliability.",
            "note",
        )
        with tag("div", classes="gallery"):
            for entry in self.page.session.emotions:
                self._emotion(entry)
        tag("h2", "A voice becomes an emotion")
        tag("p", "A recording in which somebody sounds as wanted, up to 64 MB.", "note")
        ui.upload(label="Drop or choose a recording", auto_upload=True, max_file_size=MAX_VOICE, on_upload=self._voice, on_rejected=self._rejected).classes(
            "voice-upload"
        ).props("accept='audio/*,video/mp4,.wav,.flac,.mp3,.m4a,.ogg' flat")  # fmt: skip

    def _person(self, number: int, row: dict[str, Any]) -> None:
        project = self.page.session.opened()
        face = f"#{called(row)}"
        chosen = project.face == face or (project.face == 0 and number == 0)
        with push(
            "",
            lambda: self.page.attempt(self.page.session.choose, face),
            "person",
            aria_pressed="true" if chosen else "false",
        ):
            if row["picture"]:
                tag("img", src=row["picture"], alt="")
            with tag("span"):
                tag("div", row["name"] or f"Person {row['id']}")
                tag("div", f"seen {row['share']:.0%} of the time", "small")

    def _emotion(self, entry: dict[str, Any]) -> None:
        name, trust = entry["name"], entry["reliability"]
        said = f"measured reliability {trust:.0%}" if isinstance(trust, float) else "reliability not measured"
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
                tag("i", style=f"width: {trust if isinstance(trust, float) else 0:.0%}")
            tag("span", f"{trust:.0%}" if isinstance(trust, float) else "unmeasured", "trust")

    def start_voice(self, start: float) -> None:
        """Where the next recording's emotion begins: it was dropped on the timeline there."""
        self._start = start

    def _rejected(self) -> None:
        ui.notify("The recording is larger than 64 MB; cut it, or make the emotion with: cmet vector", type="negative")

    async def _voice(self, event: events.UploadEventArguments) -> None:
        """Make an emotion of a recording, and put it on the timeline."""
        start, self._start = self._start, None
        path = Path(event.file.name)
        name = (re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem).strip("_-")[:36] or "voice").lower()
        name = name if name[0].isalpha() else f"v{name}"[:40]
        data = await event.file.read()
        ui.notify(f"Listening to {path.name} …")
        if await self.page.attempt(self._make, data, path.suffix, name, say=f"{name} is among the emotions now."):
            await self.page.add(name, start)

    def _make(self, data: bytes, suffix: str, name: str) -> bool:
        link, session = self.page.session.link, self.page.session
        with tempfile.NamedTemporaryFile(suffix=suffix.lower()) as file:
            file.write(data)
            file.flush()
            sent = link.ask(lambda engine: Client.upload(engine, file.name))
        job = link.ask(lambda engine: engine.vector([sent], [], name, replace=True))
        session.wait(job)
        session.refresh_emotions()
        return True
