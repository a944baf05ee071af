"""What one run of Blender shares: the engine, the preferences, folders, and the job that is under way."""

import atexit
import contextlib
import os
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from cmet_engine.errors import InvalidInput
from cmet_engine.progress import label_of

from .engine import Engine

MANIFEST = "blender_manifest.toml"
PACKAGE = __package__ or "cmet_blender"
SETS_UP = (Path(__file__).parent / "setup").is_dir()
"""Whether Set Up Engine is part of this build; it is none of that for the public listing."""


@dataclass
class Job:
    """The engine job that this Blender waits for; one at a time."""

    title: str = ""
    identity: str = ""
    stage: str = ""
    done: int = 0
    total: int | None = None
    eta: float | None = None
    cancelled: bool = False
    panel: str = "footage"  # where it was started

    @property
    def factor(self) -> float:
        """0..1, for a progress bar."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def text(self) -> str:
        """Everything in one line."""
        return ": ".join(filter(None, (self.title, self.course())))

    def course(self) -> str:
        """How far it is: stage, steps, the time that is left."""
        parts = [label_of(self.stage)] if self.stage else []
        if self.total:
            parts.append(f"{self.done}/{self.total}")
        if self.eta is not None:
            parts.append(f"about {self.eta:.0f} s left" if self.eta < 90 else f"about {self.eta / 60:.0f} min left")
        return ", ".join(parts)


@dataclass
class State:
    """Everything that lives as long as Blender and is not in the file."""

    engine: Engine | None = None
    job: Job | None = None
    health: dict[str, Any] = field(default_factory=dict)
    emotions: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Any] = field(default_factory=list)
    live: Any = None  # the `live.Live` face that is shown
    trial: Any = None  # the `live.Shown` turn that Find Axes shows
    setup: Any = None  # the `setup.environment.Setup` that is under way


STATE = State()


def preferences() -> Any | None:
    """The add-on's preferences; None when it runs as a plain module."""
    addon = bpy.context.preferences.addons.get(PACKAGE)
    return addon.preferences if addon is not None else None


def device_field() -> dict[str, str]:
    """The field `device` of a request, from the preferences; empty where the engine chooses."""
    settings = preferences()
    return {"device": settings.device} if settings is not None and settings.device != "auto" else {}


def user_folder() -> Path:
    """The only folder outside the user's project that the add-on writes to."""
    with contextlib.suppress(ValueError):  # a plain module is no extension
        return Path(bpy.utils.extension_path_user(PACKAGE, create=True))
    return Path(tempfile.gettempdir()) / f"cmet-blender-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def results_folder() -> Path:
    """Where tracks and videos of this scene go: `cmet` beside the .blend, or the user folder if that cannot be.

    Raises:
        InvalidInput: neither can be written.
    """
    own = user_folder() / "results"
    places = [Path(bpy.data.filepath).parent / "cmet", own] if bpy.data.filepath else [own]
    for folder in places:
        if _takes_files(folder, parents=folder == own):
            return folder
    raise InvalidInput(
        f"Results cannot be kept: {' and '.join(str(p) for p in places)} cannot be written. "
        "Save the scene in a folder of your own, or free the disk, and try again."
    )


def _takes_files(folder: Path, *, parents: bool) -> bool:
    """Whether a file can really be made there: permission bits do not tell on shared disks, for root and on Windows."""
    try:
        folder.mkdir(parents=parents, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def kept_elsewhere(path: Path) -> str:
    """A sentence for a result that could not be kept beside the scene; empty when it was, or the scene has no file."""
    if not bpy.data.filepath or Path(bpy.data.filepath).parent in path.parents:
        return ""
    return " The scene's own folder cannot be written."


def engine(*extra: Path) -> Engine:
    """The engine with the settings of the preferences; made once, it may read the user's files and `extra`."""
    settings = preferences()
    python = bpy.path.abspath(settings.engine_python) if settings and settings.engine_python else ""
    models = bpy.path.abspath(settings.model_folder) if settings and settings.model_folder else None
    ports = (settings.port_first, settings.port_last) if settings else (0, 0)
    online = bool(getattr(bpy.app, "online_access", False))
    wanted = (python, str(models or ""), ports, online)
    if STATE.engine is not None and getattr(STATE.engine, "wanted", None) == wanted and not extra:
        return STATE.engine
    if STATE.engine is not None:
        if extra and all(
            any(folder in path.parents or folder == path for folder in STATE.engine.allow) for path in extra
        ):
            return STATE.engine
        STATE.engine.stop()
    allow = [Path.home(), user_folder(), Path(bpy.app.tempdir), *extra]
    if bpy.data.filepath:
        allow.append(Path(bpy.data.filepath).parent)
    if STATE.engine is not None:
        allow += STATE.engine.allow
    STATE.engine = Engine(
        python,
        folder=user_folder() / "engine",
        allow=[folder for folder in dict.fromkeys(allow) if folder.is_dir()],
        ports=ports,
        models=models,
        online=online,
    )
    STATE.engine.wanted = wanted  # type: ignore[attr-defined]
    return STATE.engine


def website() -> str:
    """The page of the extension, as its manifest names it."""
    folder = Path(__file__).parent
    found = next(path for path in (folder, folder.parent) if (path / MANIFEST).is_file())
    return str(tomllib.loads((found / MANIFEST).read_text("utf-8"))["website"])


def close() -> None:
    """End the engine that this Blender started."""
    if STATE.engine is not None:
        STATE.engine.stop()
        STATE.engine = None


def end_live() -> None:
    """Stop listening to a live face, and give its rig the values that it had before."""
    live, STATE.live = STATE.live, None
    if live is not None:
        live.close()
        live.restore()


def end() -> None:
    """End everything that goes on beside Blender: the engine, a live face, and a set-up that is under way."""
    if STATE.live is not None:
        STATE.live.close()
        STATE.live = None
    if STATE.setup is not None:
        STATE.setup.stop()
        STATE.setup = STATE.job = None
    close()


atexit.register(end)
