"""A voice, a face or another take, from which emotions are made, that are followed, or that set the whole."""

import re
import tempfile
import time
from pathlib import Path

from nicegui import events, ui

from cmet_engine.emotions import LIKE
from cmet_engine.media.record import record
from cmet_engine.studio.page import Page, Panel
from cmet_engine.studio.widgets import push, tag

WAYS = {
    "emotion": ("An emotion", "… becomes an emotion of yours, two seconds of it at the playhead."),
    "follow": (
        "Over time",
        "… is followed moment by moment: a voice from the playhead on, a face or take from the clip's beginning.",
    ),
    "whole": ("The whole", "… sets the whole clip: its emotion from beginning to end."),
}
"""Titles and explanations of what becomes of a voice or a face."""
RECORDED = 5.0  # seconds; a sentence or two are enough
MAX_VOICE = 64 << 20  # bytes, as the engine takes them


class Others(Panel):
    """What becomes of a voice, a face or a take. Its elements stay: a file that is being sent goes to one of them."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._start: float | None = None
        self._way = "emotion"

    def state(self) -> object:
        """See `page.Panel`."""
        return "built once"

    def build(self) -> None:
        """See `page.Panel`."""
        tag("h2", "From a voice, a face or a take")
        tag("p", "What you record or drop here or on the timeline …", "note")
        with tag("div", classes="segments ways", role="group", aria_label="What becomes of it"):
            self._ways = {
                way: push(title, lambda way=way: self._set_way(way), title=about)
                for way, (title, about) in WAYS.items()
            }
        self._about = tag("p", classes="note")
        with tag("div", classes="row-of"):
            push(f"Record {RECORDED:.0f} s", self._record, title="From the microphone of this machine")
            push("As the clip sounds", self._own_voice, title="Blocks for what is heard in the clip's own sound")
        ui.upload(label="A voice (up to 64 MB)", auto_upload=True, max_file_size=MAX_VOICE, on_upload=self._voice, on_rejected=self._rejected).classes(
            "voice-upload"
        ).props("accept='audio/*,video/mp4,.wav,.flac,.mp3,.m4a,.ogg' flat")  # fmt: skip
        ui.upload(label="A face: picture, clip or take", auto_upload=True, max_file_size=MAX_VOICE, on_upload=self._face, on_rejected=self._rejected).classes(
            "face-upload"
        ).props("accept='image/*,video/*,.mp4,.mov,.npz,.csv,.json' flat")  # fmt: skip
        self._notes = tag("p", classes="note", role="status")
        self.update()

    def update(self) -> None:
        """See `page.Panel`."""
        for way, button in self._ways.items():
            pressed = "true" if way == self._way else "false"
            if button.props.get("aria-pressed") != pressed:
                button.props["aria-pressed"] = pressed
                button.update()
        self._about.text = WAYS[self._way][1]
        project = self.page.session.project
        self._notes.text = " ".join(project.reference_notes) if project else ""

    def start_voice(self, start: float) -> None:
        """Where the next recording's emotion begins: it was dropped on the timeline there."""
        self._start = start

    def _rejected(self) -> None:
        ui.notify("The recording is larger than 64 MB; cut it, or make the emotion with: cmet vector", type="negative")

    async def _voice(self, event: events.UploadEventArguments) -> None:
        """Use a recording that was dropped or chosen."""
        start, self._start = self._start, None
        path = Path(event.file.name)
        data = await event.file.read()
        event.sender.run_method("reset")  # or it would refuse the same file again
        ui.notify(f"Listening to {path.name} …")
        await self._use(data, path, start)

    async def _record(self) -> None:
        """Use what this machine's microphone hears now."""
        ui.notify(f"Recording {RECORDED:.0f} s: speak now.", timeout=1000 * RECORDED)
        if data := await self.page.attempt(self._recorded):
            await self._use(data, Path(f"voice_{time.strftime('%H%M%S')}.wav"), None)

    def _recorded(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "voice.wav"
            record(path, RECORDED)
            return path.read_bytes()

    async def _use(self, data: bytes, path: Path, start: float | None) -> None:
        """Make an emotion of a recording and put it on the timeline; or blocks of what is felt in it."""
        name = (re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem).strip("_-")[:36] or "voice").lower()
        name = name if name[0].isalpha() else f"v{name}"[:40]
        if self._way == "follow":
            begin = self.page.time if start is None else start
            await self.page.attempt(
                self._heard, data, path.suffix, begin, say=f"The blocks are what was heard in {path.name}."
            )
        elif await self.page.attempt(self._make, data, path.suffix, name, say=f"{name} is among the emotions now."):
            await self.page.add(name, start, whole=self._way == "whole")

    def _set_way(self, way: str) -> None:
        self._way = way
        self.page.refresh()

    async def _own_voice(self) -> None:
        """Blocks for what is heard in the clip's own sound."""
        session = self.page.session
        if await self.page.attempt(
            lambda: session.heard(session.opened().clip, 0.0), say="The blocks are what was heard."
        ):
            self.page.timeline.refresh(again=True)

    async def _face(self, event: events.UploadEventArguments) -> None:
        """Put the expression of a face on, at the playhead."""
        data, suffix = await event.file.read(), Path(event.file.name).suffix
        event.sender.run_method("reset")  # or it would refuse the same file again
        ui.notify(f"Looking at {event.file.name} …")
        if await self.page.attempt(self._refer, data, suffix, event.file.name):
            await self.page.add(LIKE, whole=self._way != "emotion")

    def _refer(self, data: bytes, suffix: str, name: str) -> bool:
        self.page.session.refer_to(self.page.session.sent(data, suffix), name)
        return True

    def _heard(self, data: bytes, suffix: str, start: float) -> int:
        return self.page.session.heard(self.page.session.sent(data, suffix), start)

    def _make(self, data: bytes, suffix: str, name: str) -> bool:
        link, session = self.page.session.link, self.page.session
        sent = self.page.session.sent(data, suffix)
        job = link.ask(lambda engine: engine.vector([sent], [], name, replace=True))
        session.wait(job)
        session.refresh_emotions()
        return True
