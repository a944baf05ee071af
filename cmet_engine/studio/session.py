"""What is open: one clip, its project, and the jobs that the engine does for it. The pages show this; there is no logic of the work here."""

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from cmet_engine.client import Client
from cmet_engine.emotions import LIKE
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.studio.link import EngineLink
from cmet_engine.studio.project import Project, called, recent
from cmet_engine.timeline import EmotionKey, EmotionTimeline

FINISHED = ("done", "failed", "cancelled")
DRAFT = 400  # pixels on the long side of pictures while the hand moves; the engine has small copies up to 640
SHOWN_RENDERS = 12
NO_VIDEO = (".npz", ".json", ".otio", ".csv", ".c2pa")
PICTURES = "frames/"  # where numbered pictures of a result are
POINTS = 10_000  # of a curve and of the waveform, at most: a frame each of seven minutes


class Session:
    """The one session of a studio; several pages may show it.

    Args:
        link: the engine.
        folder: of the projects.
        blender: the user's Blender; None where there is none.

    Attributes:
        revision: grows with every change of what is shown.
        tracking: the job that tracks the open clip, as the engine answers; None without a clip.
        curves: what the timeline shows of the edit; empty until the clip is tracked.
        blend: the shot as a .blend, where one was made of the open clip.
        drawn: the `edit_revision` that `curves` are of; -1 before there are any.
        seals: what the Content Credentials of finished renders say, by job.
        problem: a sentence to show; empty where all is well.
        time: seconds at which the playhead was put last, for a page that is loaded again.
    """

    def __init__(self, link: EngineLink, folder: Path, blender: Path | None = None) -> None:
        self.link, self.folder, self.blender = link, folder, blender
        self.project: Project | None = None
        self.clip: dict[str, Any] = {}
        self.tracking: dict[str, Any] | None = None
        self.listing: dict[str, Any] | None = None
        self.curves: dict[str, Any] = {}
        self.emotions: list[dict[str, Any]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.blend: Path | None = None
        self.seals: dict[str, dict[str, Any]] = {}
        self._further: dict[str, dict[str, Any]] = {}
        self.problem = ""
        self.time = 0.0
        self.revision = 0
        self.drawn = -1
        self._edit = 0
        self._lock = threading.RLock()

    def open(self, clip: str) -> None:
        """Open a clip with its project, and have it tracked and its people listed.

        Raises:
            CmetError: the engine cannot read it.
        """
        info = self.link.ask(lambda engine: engine.clip(clip))
        with self._lock:
            self.project, self.clip, self.curves, self.jobs = Project.of(self.folder, info["path"]), info, {}, {}
            self.drawn, self._further = -1, {}
            self.problem, self.time, self.blend = " ".join(info["warnings"]), 0.0, None
            self.project.save()
            self._look()
        self.refresh_emotions()

    def refresh_emotions(self) -> None:
        """Read the library of emotions anew."""
        self.emotions = self.link.ask(Client.emotions)
        self.revision += 1

    def choose(self, face: str) -> None:
        """Another person, whose edit is seen; see `Project.choose`."""
        project = self.opened()
        if face != project.face:
            with self._lock:
                self.tracking = None
                project.choose(face)
                self._look()

    def opened(self) -> Project:
        """The project.

        Raises:
            InvalidInput: no clip is open.
        """
        if self.project is None:
            raise InvalidInput("Open a clip first.")
        return self.project

    def _look(self) -> None:
        project = self.opened()
        self.tracking = self.link.ask(lambda engine: engine.track(project.clip, face=project.face))
        if not project.people:
            self.listing = self.link.ask(lambda engine: engine.faces(project.clip))
        self.changed()

    @property
    def tracked(self) -> bool:
        """Whether pictures and curves of the edit can be read."""
        return self.tracking is not None and self.tracking["state"] == "done"

    @property
    def edit_revision(self) -> int:
        """Grows with every change of the edit: part of the addresses of its pictures."""
        return self._edit

    def changed(self) -> None:
        """Note that the edit is another one."""
        self._edit += 1
        self.revision += 1

    def change(self, keys: list[dict[str, Any]], corrections: list[str]) -> None:
        """Another timeline; see `Project.change`."""
        try:
            self.opened().change(keys, corrections)
        finally:
            self.changed()

    def set(self, name: str, value: Any) -> None:
        """Another setting of the project; see `project.SETTINGS`."""
        project = self.opened()
        project.settings[name] = value
        project.save()
        self.changed()

    def sent(self, data: bytes, suffix: str) -> str:
        """Hand the bytes of a file to the engine; returns its path there."""
        with tempfile.NamedTemporaryFile(suffix=suffix.lower()) as file:
            file.write(data)
            file.flush()
            return self.link.ask(lambda engine: Client.upload(engine, file.name))

    def heard(self, recording: str, start: float) -> int:
        """Add keys for what is felt in a recording, or in the clip's own sound, when and how strongly.

        Args:
            recording: a file that the engine may read.
            start: seconds of the clip at which it begins.

        Returns:
            How many keys.

        Raises:
            CmetError: nobody speaks in it, or it sounds neutral.
        """
        project, length = self.opened(), float(self.clip["duration"])
        job = self.wait(self.link.ask(lambda engine: engine.hear(recording)))
        keys = []
        for key in EmotionTimeline.load(job["files"]["timeline.json"]).keys:
            end = min(length, start + key.end) if key.end is not None else length
            if start + key.start < end:
                keys.append(asdict(replace(key, start=start + key.start, end=end, person=project.person)))
        if not keys:
            raise InvalidInput("It sounds neutral; nothing was added.")
        self.change([*project.plain_keys(), *keys], list(project.corrections))
        return len(keys)

    def refer_to(self, reference: str, name: str) -> None:
        """A picture, clip or take whose expression the keys named `like` put on; what is said of it is kept.

        Args:
            reference: a file that the engine may read.
            name: what the user calls it.

        Raises:
            CmetError: it shows no face, or cannot be read.
        """
        project = self.opened()
        fields = {**project.alone(), "keys": [asdict(EmotionKey(LIKE))], "corrections": [], "like": reference}
        job = self.wait(self.link.ask(lambda engine: engine.edit(**fields, renderer="none")))
        file = Path(reference).name
        said = [message for message in job["result"].get("messages", []) if file in message]
        project.reference, project.reference_name = reference, name
        project.reference_notes = [project.readable(message) for message in said]
        project.save()
        self.changed()

    def picture(self, view: str, time: float, size: int) -> bytes:
        """A picture of the open clip at a moment (JPEG); see `spec.LiveSpec`."""
        asked = {**self.opened().edit(), "view": view, "size": size}
        return self.link.patiently(lambda engine: engine.live_picture(time=time, **asked))

    def poll(self) -> None:
        """Ask the engine how far its jobs are, and for the curves of an edit that changed."""
        if self.project is None:
            return
        with self._lock:
            project = self.project
            self.tracking = self._newer(self.tracking)
            self.listing = self._newer(self.listing)
            if not project.people and self.listing and self.listing["state"] == "done":
                project.people = self._people(self.listing)
                project.save()
                self.revision += 1
                if len(project.people) > 1 and isinstance(project.face, int):
                    self.choose(f"#{called(project.people[0])}")
            for identity in [one["id"] for one in project.renders[-SHOWN_RENDERS:]]:
                known = self.jobs.get(identity, {"id": identity, "state": "queued"})
                self.jobs[identity] = self._newer(known) or known
            self._look_at_others(project)
            self._verify_one()
            if self.tracked and self.drawn != self._edit:
                self._draw(project)

    def _newer(self, job: dict[str, Any] | None) -> dict[str, Any] | None:
        if job is None or (job["state"] in FINISHED and "files" in job):
            return job
        try:
            newer = self._asked(job["id"])
        except CmetError as error:
            newer = {**job, "state": "failed", "error": str(error), "files": {}}
        if newer.get("error") and newer["state"] == "failed":
            self.problem = newer["error"]
        if newer != job:
            self.revision += 1
        return newer

    def _look_at_others(self, project: Project) -> None:
        """Have everyone tracked who has emotions, so that the picture shows them."""
        for person in dict.fromkeys(key.person for key in project.keys):
            if person is None or person == project.person:
                continue
            face = f"#{person}"
            if face not in self._further:
                self._further[face] = self.link.ask(partial(_track, project.clip, face))
            before = self._further[face]["state"]
            self._further[face] = self._newer(self._further[face]) or self._further[face]
            if before != "done" == self._further[face]["state"]:
                self.changed()

    def _verify_one(self) -> None:
        """Verify the Content Credentials of a finished render that were not looked at."""
        for identity, job in self.jobs.items():
            video = shown_video(job.get("files", {})) if job["state"] == "done" and identity not in self.seals else None
            if video:
                file = Path(job["files"][video])
                try:
                    where = file.parent if video.startswith(PICTURES) else file
                    self.seals[identity] = self.link.ask(partial(_provenance, where))
                except CmetError as error:
                    self.seals[identity] = {"credentials": "unreadable", "sentences": [str(error)]}
                return

    def _people(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        rows = job["result"].get("people", [])
        return [
            {**row, "picture": f"/media/job/{job['id']}/{row['picture']}" if row["picture"] else ""} for row in rows
        ]

    def _draw(self, project: Project) -> None:
        edit = self._edit
        try:
            self.curves = self.link.ask(lambda engine: engine.curves(**project.edit(), points=POINTS))
            self.problem = ""
        except CmetError as error:
            if "ask again" in str(error):
                return
            self.problem = str(error)
        self.drawn = edit
        self.revision += 1

    def submit(self, ask: Callable[[Client], dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
        """Queue a job about the open clip, which is shown among the results.

        Args:
            ask: queues it.
            about: `title`, `quality` and `seconds` of footage, to show and to estimate by.
        """
        project = self.opened()
        job = self.link.ask(ask)
        with self._lock:
            self.jobs[job["id"]] = job
            project.renders = [*project.renders, {"id": job["id"], **about}][-100:]
            project.save()
            self.revision += 1
        return job

    def wait(self, job: dict[str, Any], seconds: float = 600.0) -> dict[str, Any]:
        """A job when it is finished.

        Raises:
            CmetError: it failed, or takes longer.
        """
        until = time.monotonic() + seconds
        while job["state"] not in FINISHED:
            if time.monotonic() > until:
                raise CmetError(f"The engine did not finish within {seconds:.0f} s; the work goes on there.")
            time.sleep(0.2)
            job = self._asked(job["id"])
        if job["state"] != "done":
            raise CmetError(job["error"] or "The work was cancelled.")
        return job

    def _asked(self, identity: str) -> dict[str, Any]:
        return self.link.ask(lambda engine: engine.job(identity))

    def recent(self) -> list[str]:
        """The clips worked on last."""
        return recent(self.folder) if self.folder.is_dir() else []


def _track(clip: str, face: str, engine: Client) -> dict[str, Any]:
    return engine.track(clip, face=face)


def _provenance(file: Path, engine: Client) -> dict[str, Any]:
    return engine.provenance(file)


def shown_video(files: dict[str, str]) -> str | None:
    """Among the names of a finished edit's files the movie, or the first of its pictures; None where it has neither."""
    shown = (name for name in files if name.startswith(("edited.", PICTURES)) and Path(name).suffix not in NO_VIDEO)
    return next(shown, None)
