"""Render: how, the queue with progress and pictures, and the results."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

from nicegui import ui

from cmet_engine.choices import Quality, VideoFormat
from cmet_engine.studio.page import Page, Panel
from cmet_engine.studio.session import FINISHED, PICTURES, SHOWN_RENDERS, shown_video
from cmet_engine.studio.stage import Stage
from cmet_engine.studio.widgets import Progress, check, choice, entry, push, tag

PLAYABLE = (".mp4", ".m4v", ".webm")  # movies that browsers play
SEEN = {"format": "mp4", "codec": "h264", "like_source": False}  # of what is made to be looked at here
TRIAL = 2.0  # seconds of a trial and of a comparison
REVEAL = {"darwin": "open", "win32": "explorer"}


class Rendering(Panel):
    """Settings and jobs."""

    def __init__(self, page: Page, stage: Stage) -> None:
        self.page, self._stage = page, stage
        self._rows: dict[str, _Row] = {}

    def state(self) -> object:
        """See `page.Panel`."""
        return self.page.session.clip.get("path")

    def build(self) -> None:
        """See `page.Panel`."""
        project = self.page.session.project
        if project is None:
            tag("p", "Open a clip to begin.", "note")
            return
        settings = project.settings
        qualities = {name: name for name in get_args(Quality)}
        choice("Quality", settings["quality"], qualities, lambda v: self._set("quality", v))
        formats = {"": "like source", **{name: name for name in get_args(VideoFormat)}}
        choice("Format", settings["format"], formats, lambda v: self._set("format", v))
        check("Matte", settings["matte"], lambda v: self._set("matte", v))
        check("Shot data", settings["shot_data"], lambda v: self._set("shot_data", v))
        entry("Consent", settings["consent"], lambda v: self._set("consent", v), "who agreed, when, how")
        with tag("div", classes="row-of"):
            self._buttons = [
                push("Render", lambda: self._render("Whole clip"), "main"),
                push("Try 2 s", lambda: self._render("Trial", self._part()), title="Two seconds from the playhead"),
                push("Compare renderers", self._compare, title="Two seconds with each that is installed"),
            ]
        self._said = tag("p", classes="note")
        self._list = tag("div", role="list", aria_label="Renders")
        self._rows = {}
        self.update()

    def update(self) -> None:
        """See `page.Panel`."""
        project, session = self.page.session.project, self.page.session
        if project is None:
            return
        ready = bool(project.keys or project.corrections)
        for button in self._buttons:
            if button.props.get("disabled", False) == ready:
                button.props["disabled"] = not ready
                button.update()
        self._said.text = self._estimate() if ready else "Add an emotion first."
        shown = {one["id"]: one for one in reversed(project.renders[-SHOWN_RENDERS:]) if one["id"] in session.jobs}
        if list(shown) != list(self._rows):
            self._list.clear()
            with self._list:
                self._rows = {identity: _Row(self.page, self._stage, one) for identity, one in shown.items()}
        for row in self._rows.values():
            row.show()

    def _set(self, name: str, value: Any) -> Any:
        return self.page.attempt(self.page.session.set, name, value)

    def _part(self) -> dict[str, Any]:
        end = min(self.page.time + TRIAL, self.page.session.clip["duration"])
        return {"range_from": f"{max(0.0, end - TRIAL):.3f}", "range_to": f"{end:.3f}", **SEEN}

    def _fields(self) -> dict[str, Any]:
        settings = self.page.session.opened().settings
        fields: dict[str, Any] = {"quality": settings["quality"]}
        fields |= {"format": settings["format"]} if settings["format"] else {"like_source": True}
        fields |= {"matte": "matte.mkv"} if settings["matte"] else {}
        fields |= {"shot_data": "auto"} if settings["shot_data"] else {}
        return fields | ({"consent": settings["consent"]} if settings["consent"] else {})

    def _estimate(self) -> str:
        """How long the whole clip takes, from the last render at this quality."""
        session, quality = self.page.session, self.page.session.opened().settings["quality"]
        for one in reversed(session.opened().renders):
            job = session.jobs.get(one["id"], {})
            if one["quality"] == quality and job.get("state") == "done" and job["started_at"]:
                took = (job["finished_at"] - job["started_at"]) * session.clip["duration"] / max(one["seconds"], 0.1)
                return f"About {took:.0f} s for the whole clip, as the last render at this quality went."
        return "Try 2 s tells how long the whole will take."

    async def _render(self, title: str, part: dict[str, Any] | None = None, compared: str = "", **others: Any) -> None:
        """Queue a render; those with the same `compared` are shown side by side."""
        session = self.page.session
        fields = {**session.opened().edit(), **self._fields(), **(part or {}), **others}
        if "renderer" in others:
            fields.pop("quality")
        about = {
            "title": title,
            "quality": fields.get("quality", ""),
            "seconds": min(TRIAL, session.clip["duration"]) if part else session.clip["duration"],
            **({"compared": compared} if compared else {}),
        }
        await self.page.attempt(session.submit, lambda engine: engine.edit(**fields), about)

    async def _compare(self) -> None:
        """Two seconds with each renderer that is installed."""
        found = await self.page.attempt(self.page.session.link.ask, lambda engine: engine.health()["renderers"])
        together = f"{time.time():.3f}"
        for name in found or ():
            await self._render(f"Compared: {name}", self._part(), together, renderer=name)
        if found is not None and len(found) < 2:
            ui.notify("Only warp is installed; other renderers: cmet models pull liveportrait")


class _Row:
    """A job: where it stands, or what it made."""

    def __init__(self, page: Page, stage: Stage, one: dict[str, Any]) -> None:
        self.page, self._stage, self._one, self._identity = page, stage, one, one["id"]
        self._place = tag("div", classes="job", role="listitem")
        self._shown: object = None
        self._progress: Progress | None = None

    def show(self) -> None:
        """Show what is not as it was."""
        job = self.page.session.jobs[self._identity]
        shown = job["state"], list(job["files"]), self.page.session.seals.get(self._identity), self._others()
        if shown != self._shown:
            self._shown, self._progress = shown, None
            self._place.clear()
            with self._place:
                self._build(job)
        if self._progress:
            self._progress.show(job)
            if job["stage"] == "render" and job["done"]:
                self._picture.props["src"] = f"/media/job/{self._identity}/preview?{job['done']}"
                self._picture.props.pop("hidden", None)
                self._picture.update()

    def _build(self, job: dict[str, Any]) -> None:
        identity, state = self._identity, job["state"]
        with tag("div", classes="head"):
            tag("span", self._one["title"])
            tag("span", state, "good" if state == "done" else "bad" if state == "failed" else "small")
        if state not in FINISHED:
            self._progress = Progress(job)
            self._picture = tag("img", hidden=True, alt="The newest edited picture")
            ask = self.page.session.link.ask
            push("Cancel", lambda: self.page.attempt(ask, lambda engine: engine.cancel(identity)))
        elif state == "failed":
            tag("p", job["error"] or "The work failed.", "note bad")
        elif state == "done":
            self._result(job["files"], job["result"].get("messages", []))

    def _result(self, files: dict[str, str], messages: list[str]) -> None:
        video, address = shown_video(files), f"/media/job/{self._identity}"
        with tag("div", classes="row-of"):
            if video and Path(video).suffix in PLAYABLE:
                push("Play", lambda: self._stage.play({"": f"{address}/{video}"}))
            if len(self._others()) > 1:
                push("Side by side", lambda: self._stage.play(self._others()), title="All that were compared")
            if video and not video.startswith(PICTURES):
                tag("a", "Save", "push", href=f"{address}/{video}", download=video)
            if video:
                push("Reveal", lambda: self._reveal(files[video]), title="Show it in its folder")
            if "report.html" in files:
                tag("a", "Report", "push", href=f"{address}/report.html", target="_blank")
        if seal := self.page.session.seals.get(self._identity):
            good = seal["credentials"] == "valid"
            tag("p", ("✓ " if good else "✗ ") + " ".join(seal["sentences"][:2]), f"note {'good' if good else 'bad'}")
        for message in messages[:4]:
            tag("p", self.page.session.opened().readable(message), "note")

    def _others(self) -> dict[str, str]:
        """The finished videos that this one was compared with, and itself: address by title; none where it was not."""
        session, videos = self.page.session, dict[str, str]()
        for one in session.opened().renders if "compared" in self._one else ():
            job = session.jobs.get(one["id"], {"state": ""})
            together = one.get("compared") == self._one["compared"] and job["state"] == "done"
            video = shown_video(job["files"]) if together else None
            if video and Path(video).suffix in PLAYABLE:
                videos[one["title"]] = f"/media/job/{one['id']}/{video}"
        return videos

    async def _reveal(self, path: str) -> None:
        """Show the folder of a result in the system's file manager."""
        program = REVEAL.get(sys.platform, "xdg-open")
        try:
            subprocess.Popen([program, str(Path(path).parent)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            ui.notify(f"It lies in {Path(path).parent}", multi_line=True, timeout=10000)
