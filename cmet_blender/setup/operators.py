"""Set Up Engine and Remove Engine, and what the preferences show of them.

The work is watched by a timer of Blender's, not by a modal operator: it goes on when the preferences are closed or another
file is opened.
"""

import sys
from pathlib import Path
from typing import Any

import bpy

from cmet_engine.errors import Busy, Cancelled, CmetError, InvalidInput

from .. import session
from ..engine import version_mismatch
from ..engine_check import Finding, check
from ..operators.base import POLL_SECONDS, Reporter, SimpleOperator, in_plain_words, redraw, tell
from ..wrapping import wrapped
from . import environment, plan, pythons

OFFLINE = (
    "Blender's online access is off. Switch on Allow Online Access (Preferences > System > Network), or choose a folder "
    "of wheels."
)
_DIALOG = 560  # pixels, at a scale of 1
_found: list[pythons.Python] = []  # kept while Blender runs: looking takes seconds


def folder_of(settings: Any) -> Path:
    """Where the engine is, or shall be set up."""
    if settings.setup_folder:
        return Path(bpy.path.abspath(settings.setup_folder)).resolve()
    usual = session.user_folder() / "setup"
    return usual if len(str(usual)) <= plan.WINDOWS_PATH or sys.platform != "win32" else Path.home() / "cmet"


def source_of(settings: Any) -> plan.Source:
    """Where the engine shall come from."""
    kind = settings.setup_source.lower()
    bundled = plan.bundled_wheel(Path(__file__).parents[1])
    place = {
        "wheel": bpy.path.abspath(settings.setup_wheel) if settings.setup_wheel else str(bundled or ""),
        "folder": bpy.path.abspath(settings.setup_wheels),
        "index": settings.setup_index.strip(),
    }[kind]
    return plan.Source(kind, place, settings.setup_cuda)


def planned(settings: Any) -> plan.Plan:
    """What Set Up Engine will do.

    Raises:
        CmetError: it cannot be done; see `plan.make` and `environment.check_folder`.
        InvalidInput: it needs the network, and Blender's online access is off.
    """
    folder = folder_of(settings)
    environment.check_folder(folder)
    if not any(one.fits for one in _found):
        _found[:] = pythons.find()
    made = plan.make(folder, source_of(settings), _found, pythons.find_uv())
    if made.hosts and not bpy.app.online_access:
        raise InvalidInput(OFFLINE)
    return made


class CMET_OT_setup_engine(Reporter, bpy.types.Operator):
    """Make an environment for the engine: says first what it fetches, from where and how large, and asks"""

    bl_idname = "cmet.setup_engine"
    bl_label = "Set Up Engine"

    @classmethod
    def poll(cls, context: Any) -> bool:
        if session.STATE.job is not None:
            cls.poll_message_set("Another job is under way; wait for it or cancel it")  # type: ignore[attr-defined]
            return False
        return session.preferences() is not None

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Say what will be done, and ask."""
        try:
            self._plan = planned(session.preferences())
        except (CmetError, OSError) as error:
            return self._refuse(context, error)
        if bpy.app.background:
            return self.execute(context)
        return context.window_manager.invoke_props_dialog(
            self, width=_DIALOG, title="Set Up Engine", confirm_text="Set Up"
        )

    def draw(self, context: Any) -> None:
        """The question."""
        scale = context.preferences.system.ui_scale
        before = environment.installed(self._plan.folder)
        for text in self._plan.sentences():
            wrapped(self.layout, text, int(_DIALOG * scale), "DOT")
        if before is not None:
            text = f"It takes the place of the engine {before.version} there, once it has been tried."
            wrapped(self.layout, text, int(_DIALOG * scale), "FILE_REFRESH")

    def execute(self, context: Any) -> set[str]:
        """Begin; without a window, also wait."""
        try:
            work = environment.Setup(getattr(self, "_plan", None) or planned(session.preferences()))
            if session.STATE.setup is not None:
                raise Busy("An engine is being set up already; wait for it or cancel it.")
        except (CmetError, OSError) as error:
            return self._refuse(context, error)
        session.close()  # the engine that runs, which this one replaces
        if bpy.app.background:
            work.work()
            return self._report(context, work)
        session.STATE.setup, session.STATE.findings = work, []
        session.STATE.job = session.Job("Set up the engine", stage=work.stage)
        work.start()
        bpy.app.timers.register(_tick, first_interval=POLL_SECONDS, persistent=True)
        return {"FINISHED"}

    def _refuse(self, context: Any, error: Exception) -> set[str]:
        session.STATE.findings = [Finding(False, in_plain_words(error))]
        return self.report_error(context, error)

    def _report(self, context: Any, work: environment.Setup) -> set[str]:
        text, failed = _receive(work)
        return self._refuse(context, failed) if failed else self.report_done(context, text)


def _tick() -> float | None:
    """Watch the set-up; Blender calls it again after the seconds that it returns."""
    work, job = session.STATE.setup, session.STATE.job
    if work is None:
        return None
    if job is not None:
        job.stage, job.done, job.total = work.stage, work.done, work.total
        if job.cancelled:
            work.cancel()
    if work.finished:
        session.STATE.setup = session.STATE.job = None
        text, failed = _receive(work)
        if failed:
            session.STATE.findings = [Finding(isinstance(failed, Cancelled), text)]
        tell(bpy.context.scene.cmet, "footage", **{"message" if failed else "done": text})
    redraw(bpy.context)
    return None if work.finished else POLL_SECONDS


def _receive(work: environment.Setup) -> tuple[str, CmetError | None]:
    """Use what was set up: the preferences point there, and the engine is checked. Returns a sentence, and the error."""
    if work.result is None:
        error = work.error or Cancelled("Setting up the engine ended without a result.")
        return str(error), error
    settings: Any = session.preferences()
    settings.engine_python = str(work.result.python)
    bpy.context.preferences.is_dirty = True  # so that Blender keeps it
    session.STATE.findings = [*check(session.engine()), *(Finding(False, text) for text in work.warnings)]
    return f"The engine {work.result.version} is set up in {work.result.folder}.", None


class CMET_OT_remove_engine(SimpleOperator, bpy.types.Operator):
    """Remove the environment that Set Up Engine made; other files in its folder stay"""

    bl_idname = "cmet.remove_engine"
    bl_label = "Remove Engine"

    @classmethod
    def poll(cls, context: Any) -> bool:
        return session.STATE.job is None and session.preferences() is not None

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask."""
        if bpy.app.background:
            return self.execute(context)
        text = f"Everything that Set Up Engine made in {folder_of(session.preferences())} is removed."
        return context.window_manager.invoke_confirm(
            self, event, title="Remove the engine?", message=text, confirm_text="Remove"
        )

    def work(self, context: Any) -> str:
        settings: Any = session.preferences()
        folder = folder_of(settings)
        before = environment.installed(folder)
        session.close()
        text = environment.remove(folder)
        if before is not None and settings.engine_python == str(before.python):
            settings.engine_python = ""
            context.preferences.is_dirty = True
        session.STATE.findings = []
        return text


CLASSES = (CMET_OT_setup_engine, CMET_OT_remove_engine)


def draw(layout: Any, settings: Any, width: int) -> None:
    """The part of the preferences that sets up the engine."""
    box = layout.box()
    folder = folder_of(settings)
    there = environment.installed(folder)
    label, icon = "Set Up Engine", "IMPORT"
    if there is not None:
        mismatch = version_mismatch(there.version)
        text = mismatch or (f"The engine {there.version} is set up." if there.whole else "The engine there is broken.")
        wrapped(box, text, width, "CHECKMARK" if there.whole and not mismatch else "ERROR")
        label, icon = ("Update Engine", "FILE_REFRESH") if mismatch else ("Repair Engine", "TOOL_SETTINGS")
    else:
        wrapped(box, "Tracking, emotions and videos need the engine. It can be set up here.", width, "INFO")
    box.prop(settings, "setup_source")
    kind = settings.setup_source.lower()
    bundled = plan.bundled_wheel(Path(__file__).parents[1])
    name, hint = {
        "wheel": ("setup_wheel", bundled.name if bundled else "cmet-….whl"),
        "folder": ("setup_wheels", "a folder that also holds the packages it needs"),
        "index": ("setup_index", "https://…/simple"),
    }[kind]
    box.prop(settings, name, placeholder=hint)
    box.prop(settings, "setup_folder", placeholder="in the extension's own folder")
    if kind == "wheel" and sys.platform == "linux":
        box.prop(settings, "setup_cuda")
    job = session.STATE.job
    if session.STATE.setup is not None and job is not None:
        box.progress(factor=job.factor, type="BAR", text=job.text())
        box.operator("cmet.cancel", icon="CANCEL")
        return
    row = box.row()
    row.operator("cmet.setup_engine", icon=icon, text=f"{label}…")
    if there is not None:
        row.operator("cmet.remove_engine", icon="TRASH", text="Remove Engine…")
    if not bpy.app.online_access and kind != "folder":
        wrapped(box, OFFLINE, width, "INTERNET_OFFLINE")
