"""Content Credentials for what Blender itself exports: a running engine is asked to sign it, for no signing is done in Blender."""

from pathlib import Path
from typing import Any

import bpy

from cmet_engine.errors import CmetError

from . import emotion_strips, export, session


def signed(obj: Any, path: Path, consent: str, track: str | Path = "", *, replaced: bool = False) -> list[str]:
    """Have an exported file signed and put on record; the file stays as it is where that cannot be done, and it is said.

    Args:
        obj: the rig whose animation was written.
        path: the file; tracks are not signed.
        consent: a sentence, or the path of a consent file; empty where nothing is said.
        track: the curves that the rig was driven by, if there is a file of them.
        replaced: the file took the place of an earlier one, whose credentials do not fit any more.

    Returns:
        Sentences for the user.
    """
    path = path.resolve()
    if export.WRITERS[path.suffix.lower()] is export.track:
        return []
    if replaced:
        path.with_name(f"{path.name}.c2pa").unlink(missing_ok=True)
    files = {"track": bpy.path.abspath(str(track)), "rig": bpy.data.filepath}
    if consent.lower().endswith(".json"):
        files["consent"] = bpy.path.abspath(consent)
    request: dict[str, Any] = {"consent": consent} if consent else {}
    request |= {name: str(Path(file).resolve()) for name, file in files.items() if Path(file).is_file()}
    folders = [Path(request[name]).parent for name in files if name in request]
    request["emotions"] = list(emotion_strips.strips(obj))
    try:
        return _asked(path, folders, request)
    except CmetError as error:
        return [f"{path.name} carries no Content Credentials: {error}"]


def _asked(path: Path, folders: list[Path], request: dict[str, Any]) -> list[str]:
    """Ask the engine that runs; while it works on a job it is not started anew for the sake of further folders.

    Raises:
        CmetError: none runs, or it refuses.
    """
    service = session.engine()
    if not service.ready():
        raise CmetError("no engine is running to sign it. Start the engine and export again, or use `cmet export`.")
    if session.STATE.job is None:
        service = session.engine(path.parent, *folders)
        service.start()
        service.wait()
    return service.seal(path, **request)
