"""Render: how, the queue with progress and pictures, and the results."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

from nicegui import ui

from cmet_engine.choices import Quality, VideoFormat
from cmet_engine.studio.page import Page
from cmet_engine.studio.session import FINISHED
from cmet_engine.studio.stage import Stage
from cmet_engine.studio.widgets import check, choice, entry, progress, push, tag

PLAYABLE = (".mp4", ".m4v", ".webm")  # movies that browsers play
TRIAL = 2.0  # seconds of a trial and of a comparison
REVEAL = {"darwin": "open", "win32": "explorer"}


class Rendering:
    """Settings and jobs."""

    def __init__(self, page: Page, stage: Stage) -> None:
        self.page, self._stage = page, stage
        self._seals: dict[str, dict[str, Any]] = {}

    def state(self) -> object:
        """See `page.Panel`."""
        session = self.page.session
        if session.project is None:
            return None
        jobs = {i: {k: v for k, v in job.items() if k != "attempts"} for i, job in session.jobs.items()}
        return repr(session.project.settings), repr(jobs), repr(session.project.renders), repr(self._seals), bool(session.project.keys or session.project.corrections)  # fmt: skip

    def build(self) -> None:
        """See `page.Panel`."""
        project = self.page.session.project
        if project is None:
            tag("p", "Open a clip to begin.", "note")
            return
        settings = project.settings
        choice(
            "Quality",
            settings["quality"],
            {name: name for name in get_args(Quality)},
            lambda v: self._set("quality", v),
        )
        formats = {"": "like the source", **{name: name for name in get_args(VideoFormat)}}
        choice("Format", settings["format"], formats, lambda v: self._set("format", v))
        check("Matte", settings["matte"], lambda v: self._set("matte", v))
        check("Shot data", settings["shot_data"], lambda v: self._set("shot_data", v))
        entry("Consent", settings["consent"], lambda v: self._set("consent", v), "who agreed, when, how")
        ready: dict[str, Any] = {} if project.keys or project.corrections else {"disabled": True}
        with tag("div", classes="row-of"):
            push("Render", lambda: self._render("Whole clip"), "main", **ready)
            push("Try 2 s", lambda: self._render("Trial", self._part()), title="Two seconds from the playhead", **ready)
            push("Compare renderers", self._compare, title="Two seconds with each that is installed", **ready)
        tag("p", self._estimate() if ready == {} else "Add an emotion first.", "note")
        for one in reversed(project.renders[-12:]):
            if job := self.page.session.jobs.get(one["id"]):
                self._job(one, job)

    def _set(self, name: str, value: Any) -> Any:
        return self.page.attempt(self.page.session.set, name, value)

    def _part(self) -> dict[str, Any]:
        end = min(self.page.time + TRIAL, self.page.session.clip["duration"])
        return {"range_from": f"{max(0.0, end - TRIAL):.3f}", "range_to": f"{end:.3f}"}

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

    async def _render(self, title: str, part: dict[str, Any] | None = None, **others: Any) -> None:
        """Queue a render."""
        session = self.page.session
        fields = {**session.opened().edit(), **self._fields(), **(part or {}), **others}
        if "renderer" in others:
            fields.pop("quality")
        about = {
            "title": title,
            "quality": fields.get("quality", ""),
            "seconds": TRIAL if part else session.clip["duration"],
        }
        await self.page.attempt(session.submit, lambda engine: engine.edit(**fields), about)

    async def _compare(self) -> None:
        """Two seconds with each renderer that is installed."""
        found = await self.page.attempt(self.page.session.link.ask, lambda engine: engine.health()["renderers"])
        for name in [name for name in found or () if name != "edtalk"]:
            await self._render(f"Compared: {name}", self._part(), renderer=name)
        if found is not None and len(found) < 2:
            ui.notify("Only warp is installed; other renderers: cmet models pull liveportrait")

    def _job(self, one: dict[str, Any], job: dict[str, Any]) -> None:
        """A job: where it stands, or what it made."""
        identity, state = job["id"], job["state"]
        with tag("div", classes="job"):
            with tag("div", classes="head"):
                tag("span", one["title"])
                tag("span", state, "good" if state == "done" else "bad" if state == "failed" else "small")
            if state not in FINISHED:
                progress(job)
                if job.get("stage") == "render" and job["done"]:
                    tag("img", src=f"/media/job/{identity}/preview?{job['done']}", alt="The newest edited picture")
                push(
                    "Cancel",
                    lambda: self.page.attempt(self.page.session.link.ask, lambda engine: engine.cancel(identity)),
                )
            elif state == "failed":
                tag("p", job["error"] or "The work failed.", "note bad")
            elif state == "done":
                self._result(identity, job["files"], job["result"].get("messages", []))

    def _result(self, identity: str, files: dict[str, str], messages: list[str]) -> None:
        video = next((name for name in files if name.startswith("edited.") and Path(name).suffix != ".npz" and not name.endswith((".json", ".otio", ".csv", ".c2pa"))), None)  # fmt: skip
        address = f"/media/job/{identity}"
        with tag("div", classes="row-of"):
            if video and Path(video).suffix in PLAYABLE:
                push("Play", lambda: self._stage.play(f"{address}/{video}"))
            if video:
                tag("a", "Save", "push", href=f"{address}/{video}", download=video)
                push("Reveal", lambda: self._reveal(files[video]), title="Show it in its folder")
            if "report.html" in files:
                tag("a", "Report", "push", href=f"{address}/report.html", target="_blank")
            if video:
                push("Credentials", lambda: self._verify(identity, files[video]), title="Verify where it comes from")
        if seal := self._seals.get(identity):
            good = seal["credentials"] == "valid"
            tag("p", ("✓ " if good else "✗ ") + " ".join(seal["sentences"][:2]), f"note {'good' if good else 'bad'}")
        for message in messages[:4]:
            tag("p", message, "note")

    async def _verify(self, identity: str, path: str) -> None:
        """Show what the Content Credentials of a result say."""
        seal = await self.page.attempt(self.page.session.link.ask, lambda engine: engine.provenance(path))
        if seal:
            self._seals[identity] = seal
            self.page.refresh()

    async def _reveal(self, path: str) -> None:
        """Show the folder of a result in the system's file manager."""
        program = REVEAL.get(sys.platform, "xdg-open")
        try:
            subprocess.Popen([program, str(Path(path).parent)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            ui.notify(f"It lies in {Path(path).parent}", multi_line=True, timeout=10000)
