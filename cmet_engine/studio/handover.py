"""Hand over: the timeline file, tracks, a character's animation, an edit list, and the shot in Blender."""

import json
from pathlib import Path
from typing import Any

from nicegui import events, ui

from cmet_engine.errors import InvalidInput
from cmet_engine.studio.blender import open_shot, write_blend, write_shot
from cmet_engine.studio.page import Page, Panel
from cmet_engine.studio.session import Session
from cmet_engine.studio.widgets import entry, push, tag
from cmet_engine.timeline import FORMAT, EmotionTimeline


class HandOver(Panel):
    """What goes to other programs."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._rig = ""

    def state(self) -> object:
        """See `page.Panel`."""
        session = self.page.session
        tracks = [i for i, job in session.jobs.items() if job["state"] == "done"]
        return session.clip.get("path"), repr(tracks), session.blend

    def build(self) -> None:
        """See `page.Panel`."""
        session = self.page.session
        if session.project is None:
            tag("p", "Open a clip to begin.", "note")
            return
        self._character(session)
        tag("h2", "Timeline")
        tag("p", "The file that cmet edit --keys and batches read.", "note")
        with tag("div", classes="row-of"):
            push("Save timeline", self._save_timeline)
        ui.upload(
            label="Open a timeline (.json)", auto_upload=True, max_file_size=1 << 20, on_upload=self._open_timeline
        ).props("accept='.json' flat")
        tag("h2", "Curves")
        with tag("div", classes="row-of"):
            push("Tracks (.npz)", lambda: self._tracks("npz"))
            push("Live Link Face (.csv)", lambda: self._tracks("csv"))
            push("Audio2Face (.json)", lambda: self._tracks("json"))
        tag("h2", "Edit list")
        tag(
            "p",
            "“Shot data” under Render writes a .json and an OpenTimelineIO file beside the video; they are listed here.",
            "note",
        )
        self._lists()

    def _character(self, session: Session) -> None:
        """What needs a character: its animation, and the shot in Blender."""
        tag("h2", "On a character")
        entry("Character", self._rig, self._name_rig, "/rigs/hero.blend")
        with tag("div", classes="row-of"):
            push("Open in Blender" if session.blender else "Make a .blend", self._in_blender, "main")
            if session.blend:
                tag("a", "Save .blend", "push", href="/media/shot", download=f"{Path(session.clip['path']).stem}.blend")
            push("FBX", lambda: self._tracks("fbx"))
            push("glTF", lambda: self._tracks("glb"))
        tag(
            "p",
            "In Blender: the clip beside the face, the performance on the character (without one on the demo head), and each "
            "emotion as a strip. FBX and glTF need the package bpy: pip install 'cmet[blender]'.",
            "note",
        )
        if not session.blender:
            tag(
                "p",
                "No Blender was found; name its program with cmet studio --blender PROGRAM to open shots there.",
                "note",
            )

    async def _in_blender(self) -> None:
        """Open the shot in the user's Blender; where there is none, make a .blend of it."""
        session = self.page.session
        ui.notify("Computing the emotions' tracks …")
        shot = await self.page.attempt(write_shot, session, self._rig)
        if shot is None:
            return
        if session.blender:
            ui.notify("Blender starts …")
            said = await self.page.attempt(open_shot, session.blender, shot)
        else:
            session.blend = await self.page.attempt(write_blend, shot)
            said = session.blend and "The shot is a .blend now."
        if said:
            ui.notify(said, multi_line=True, timeout=8000, close_button="Close")
            self.page.refresh()

    def _lists(self) -> None:
        with tag("div", classes="row-of"):
            for identity, job in self.page.session.jobs.items():
                for name in job.get("files", {}) if job["state"] == "done" else ():
                    if name.endswith((".otio", ".shot.json")):
                        tag("a", name, "push", href=f"/media/job/{identity}/{name}", download=name)

    def _name_rig(self, path: str) -> None:
        self._rig = path.strip()

    def _save_timeline(self) -> None:
        project = self.page.session.opened()
        text = EmotionTimeline(list(project.keys)).to_json()
        ui.download.content(text, f"{Path(project.clip).stem}.keys.json", "application/json")

    async def _open_timeline(self, event: events.UploadEventArguments) -> None:
        """Take the keys of a timeline file."""
        data = await event.file.read()
        event.sender.run_method("reset")  # or it would refuse the same file again
        keys = await self.page.attempt(_keys_of, data, event.file.name)
        if keys is not None:
            await self.page.change(keys)

    async def _tracks(self, kind: str) -> None:
        """Write the edited curves, and hand them to the browser."""
        if kind in ("fbx", "glb") and not self._rig:
            ui.notify("Name the file of a character first.", type="negative")
            return
        ui.notify("Writing the curves …")
        made = await self.page.attempt(self._made, kind)
        if made:
            ui.download.from_url(*made)

    def _made(self, kind: str) -> tuple[str, str]:
        """Address and name of the edited curves in a format."""
        session = self.page.session
        fields = session.opened().alone()
        job = session.wait(session.link.ask(lambda engine: engine.edit(**fields, renderer="none")))
        name = "edited.npz"
        if kind != "npz":
            track, rig = job["files"][name], {"rig": self._rig} if kind in ("fbx", "glb") else {}
            job = session.wait(session.link.ask(lambda engine: engine.export(track, format=kind, **rig)))
            name = f"edited.{kind}"
        return f"/media/job/{job['id']}/{name}", f"{Path(session.clip['path']).stem}.{kind}"


def _keys_of(data: bytes, name: str) -> list[dict[str, Any]]:
    """The keys of a timeline file, as plain values.

    Raises:
        InvalidInput: it is none.
    """
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError
        return list(document["keys"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{name} is not an emotion timeline.") from error
