"""What the operators share: the rig and the clip they work on, and how they run and report."""

import contextlib
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import bpy

from cmet_engine.errors import CmetError, InvalidInput, NotFound
from cmet_engine.files import whole_file, whole_folder
from cmet_engine.track import CoefficientTrack

from .. import mapping, performers, session
from ..engine import FINISHED, finished

POLL_SECONDS = 0.3


def chosen(context: Any) -> Any:
    """The `Performer` whom the panels are about, with a rig.

    Raises:
        InvalidInput: no rig is chosen.
        NotFound: it was deleted.
    """
    one = performers.current(context.scene.cmet)
    if one.rig is None:
        active = context.active_object
        if not performers.called(one) and active is not None and performers.is_rig(None, active):
            one.rig = active
        else:
            whose = f" for {performers.called(one)}" if performers.called(one) else ""
            raise InvalidInput(f"No rig is chosen{whose}; select the mesh of the face and choose it in the Rig panel.")
    return there(context, one)


def there(context: Any, one: Any) -> Any:
    """A `Performer` whose rig is in the scene.

    Raises:
        NotFound: it was deleted.
    """
    if context.scene.objects.get(one.rig.name) != one.rig:
        name, one.rig = one.rig.name, None
        raise NotFound(f"'{name}' is no longer in this scene; choose another rig.")
    return one


def still_there(context: Any, name: str) -> Any:
    """The `Performer` with the rig that a job was started for.

    Raises:
        NotFound: it was deleted or another was chosen while the job ran.
    """
    obj = context.scene.objects.get(name)
    found = [one for one in performers.everyone(context.scene.cmet) if obj is not None and one.rig == obj]
    if not found:
        raise NotFound(
            f"'{name}' was deleted or is no longer a chosen rig; nothing was changed. Choose a rig and try again."
        )
    return found[0]


def check_apart(people: list[Any]) -> None:
    """Refuse one rig for two people.

    Raises:
        InvalidInput: two of them have the same.
    """
    for first, second in itertools.combinations([one for one in people if one.rig is not None], 2):
        if first.rig == second.rig:
            raise InvalidInput(
                f"{performers.called(first)} and {performers.called(second)} have one rig, '{first.rig.name}'; give each their own."
            )


def face_of(settings: Any) -> int | str:
    """Whose face the panels are about, as the engine takes it: a rank, or `#` with a person's number or name."""
    one = performers.current(settings)
    person = str(one.number) if performers.called(one) else settings.person.strip().removeprefix("#")
    return f"#{person}" if person else int(settings.face)


def clip_path(settings: Any) -> Path:
    """The scene's clip.

    Raises:
        InvalidInput: none is chosen.
        NotFound: the file does not exist.
    """
    if not settings.clip:
        raise InvalidInput("No clip is chosen; load one in the Footage panel.")
    path = Path(bpy.path.abspath(settings.clip)).resolve()
    if not path.is_file():
        raise NotFound(f"The clip {path} no longer exists; choose another.")
    return path


def colour_field(settings: Any) -> dict[str, str]:
    """What a request says about the colours of the clip: nothing where they are to be taken from its tags."""
    return {"colorspace": settings.colorspace} if settings.colorspace else {}


def consent_field(settings: Any) -> dict[str, str]:
    """What a request says about consent: a sentence, or the path of a consent file; nothing where the field is empty."""
    text = settings.consent.strip()
    path = str(Path(bpy.path.abspath(text)).resolve()) if text.lower().endswith(".json") else text
    return {"consent": path} if text else {}


def files_read(settings: Any) -> list[tuple[str, Path]]:
    """The files that the panels name, and what each is; none of them is ever written over."""
    named = {"clip": settings.clip, "voice": settings.voice, "neutral voice": settings.neutral_voice}
    for one in performers.everyone(settings):
        named[" of ".join(filter(None, ("track", performers.called(one))))] = one.track
    return [(name, Path(bpy.path.abspath(path))) for name, path in named.items() if path]


def source_track(one: Any) -> CoefficientTrack:
    """The track of a `Performer`.

    Raises:
        InvalidInput: the clip is not tracked yet.
        CmetError: the file cannot be read.
    """
    if not one.track:
        raise InvalidInput("The clip is not tracked yet; press Track Footage, or choose a take.")
    return CoefficientTrack.load(bpy.path.abspath(one.track))


def mapping_of(one: Any) -> mapping.RigMapping:
    """The mapping of a `Performer`'s table, which is filled where it is empty."""
    if not one.rows:
        performers.show_mapping(one, mapping.spread(one.rig, mapping.match(one.rig)))
    return performers.shown_mapping(one)


def in_plain_words(error: Exception) -> str:
    """A sentence for what went wrong."""
    if isinstance(error, CmetError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}; choose another place or change its permissions."
    return f"An internal fault stopped the work ({type(error).__name__}: {error})."


class Reporter:
    """Reports what was done, and errors in plain words, in the panel that it belongs to and in Info."""

    panel = "footage"  # as `panels.base.news` takes it

    def report_done(self, context: Any, text: str) -> set[str]:
        """Report what was done."""
        tell(context.scene.cmet, self.panel, done=text)
        self.report({"INFO"}, text)  # type: ignore[attr-defined]
        return {"FINISHED"}

    def report_error(self, context: Any, error: Exception) -> set[str]:
        """Report what went wrong; nothing in the scene was changed."""
        text = in_plain_words(error)
        tell(context.scene.cmet, self.panel, message=text)
        self.report({"ERROR"}, text)  # type: ignore[attr-defined]
        return {"CANCELLED"}


def tell(settings: Any, panel: str, *, message: str = "", done: str = "") -> None:
    """Show what went wrong, or what was done, in one of the panels, in place of what was said before."""
    settings.told, settings.message, settings.done = panel, message, done


class SimpleOperator(Reporter):
    """An operator whose `work` either succeeds and returns a sentence, or raises."""

    def execute(self, context: Any) -> set[str]:
        """Run the operator."""
        try:
            return self.report_done(context, self.work(context))
        except (CmetError, ReferenceError, OSError, RuntimeError) as error:
            if isinstance(error, ReferenceError):
                error = NotFound("The object was deleted in the meantime; choose another rig.")
            return self.report_error(context, error)

    def work(self, context: Any) -> str:
        """Do the work; returns what was done."""
        raise NotImplementedError


class EngineOperator(Reporter):
    """An operator whose work the engine does: `request` describes the job, `receive` uses its result.

    Of several jobs, one after another, `requests` and `receive_all` do that; `further` adds jobs that depend on finished ones.
    """

    _timer: Any = None
    _rig = ""  # name of the rig that the result is for
    _requests: list[tuple[str, dict[str, Any]]]
    _states: list[dict[str, Any]]  # of those of them that are finished

    @classmethod
    def poll(cls, context: Any) -> bool:
        if session.STATE.job is not None:
            cls.poll_message_set("Another job is under way; wait for it or cancel it")  # type: ignore[attr-defined]
            return False
        return True

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        """Title of the job, and what is asked: see `Engine.submit`."""
        raise NotImplementedError

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        """Use the finished job; returns what was done."""
        raise NotImplementedError

    def requests(self, context: Any) -> list[tuple[str, dict[str, Any]]]:
        """What `request` returns for each of several jobs."""
        return [self.request(context)]

    def further(self, context: Any, states: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
        """Jobs that are asked for now that those of `states` are finished, like `requests`."""
        return []

    def receive_all(self, context: Any, states: list[dict[str, Any]]) -> str:
        """Use all finished jobs; returns what was done."""
        return self.receive(context, states[0])

    def execute(self, context: Any) -> set[str]:
        """Submit and wait: for scripts and background mode."""
        try:
            requests = self.requests(context)
            states: list[dict[str, Any]] = []
            service = self._engine(context)
            while len(states) < len(requests):
                states.append(service.run(requests[len(states)][1]))
                requests += self.further(context, states)
            session.STATE.health = service.health() or session.STATE.health
            return self.report_done(context, self.receive_all(context, states))
        except (CmetError, ReferenceError, OSError) as error:
            return self.report_error(context, error)

    def _engine(self, context: Any) -> Any:
        settings = context.scene.cmet
        places = [
            Path(bpy.path.abspath(p)).resolve().parent
            for p in (settings.clip, settings.voice, settings.neutral_voice, settings.reference)
            if p
        ]
        return session.engine(*places)

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Submit and watch."""
        if bpy.app.background:
            return self.execute(context)
        try:
            self._requests, self._states = self.requests(context), []
            self._service = self._engine(context)
            self._service.start()
        except (CmetError, ReferenceError, OSError) as error:
            return self.report_error(context, error)
        self._scene = context.scene.name
        session.STATE.job = session.Job(self._requests[0][0], stage="starting the engine", panel=self.panel)
        manager = context.window_manager
        self._timer = manager.event_timer_add(POLL_SECONDS, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Watch the job."""
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        job = session.STATE.job
        if job is None:
            return self._end(context, {"CANCELLED"})
        if self._scene not in bpy.data.scenes:
            if job.identity:
                with contextlib.suppress(CmetError):
                    self._service.cancel(job.identity)
            return self._end(context, {"CANCELLED"})
        # another scene may be open by now
        with context.temp_override(scene=bpy.data.scenes[self._scene]):
            return self._step(bpy.context, job)

    def _step(self, context: Any, job: Any) -> set[str]:
        try:
            state = self._watch(job)
            redraw(context)
            if state is None:
                return {"PASS_THROUGH"}
            if state["state"] == "cancelled":
                self.report_done(context, f"{job.title}: cancelled; nothing was changed.")
                return self._end(context, {"CANCELLED"})
            self._states.append(finished(state))
            self._requests += self.further(context, self._states)
            if len(self._states) < len(self._requests):
                session.STATE.job = session.Job(self._requests[len(self._states)][0], panel=self.panel)
                return {"PASS_THROUGH"}
            text = self.receive_all(context, self._states)
            if bpy.ops.ed.undo_push.poll():
                bpy.ops.ed.undo_push(message=f"C-MET: {job.title}")
            self.report_done(context, text)
            return self._end(context, {"FINISHED"})
        except (CmetError, ReferenceError, OSError, RuntimeError) as error:
            self.report_error(context, error)
            return self._end(context, {"CANCELLED"})

    def _watch(self, job: Any) -> dict[str, Any] | None:
        """The job's state once it is finished."""
        if not job.identity:
            if job.cancelled:
                return {"state": "cancelled"}
            if self._service.ready():
                session.STATE.health = self._service.health() or session.STATE.health
                job.identity = self._service.submit(self._requests[len(self._states)][1])
            return None
        if job.cancelled:
            self._service.cancel(job.identity)
        state = self._service.watch(job.identity)
        if state is None:
            job.stage = "the engine ended and was started again"
            return None
        job.stage, job.done, job.total = state["stage"] or "waiting", state["done"], state["total"]
        job.eta = state["eta_seconds"]
        return state if state["state"] in FINISHED else None

    def _end(self, context: Any, result: set[str]) -> set[str]:
        session.STATE.job = None
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
        redraw(context)
        return result


def redraw(context: Any) -> None:
    """Draw the panels, the preferences and the status bar anew."""
    for window in context.window_manager.windows:
        window.workspace.status_text_set_internal(None)  # no area of a screen: only a text makes it look again
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()


def keep_result(state: dict[str, Any], name: str, target: str) -> Path:
    """Copy a job's file into the folder of results, never over an earlier one."""
    made = Path(state["files"][name])
    path = new_result(f"{target}{made.suffix}")
    with whole_file(path) as temporary:
        shutil.copyfile(made, temporary)
    return path


def keep_results(state: dict[str, Any], target: str) -> list[Path]:
    """Copy all files of a job into the folder of results: one as a file, several under their own names into a folder.

    Returns:
        Their paths, in the order of the names.
    """
    files = dict(sorted(state["files"].items()))
    if len(files) == 1:
        return [keep_result(state, next(iter(files)), target)]
    folder = new_result(target)
    with whole_folder(folder) as temporary:
        for name, made in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, temporary / name)
    return [folder / name for name in files]


def new_result(name: str) -> Path:
    """A path in the folder of results that is not taken: the name, with a number where need be."""
    wanted = session.results_folder() / name
    others = (wanted.with_stem(f"{wanted.stem}_{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([wanted], others) if not os.path.lexists(path))
