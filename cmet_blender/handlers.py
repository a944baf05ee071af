"""Puts right, while the animator works, what Blender's own edits of strips leave behind, and keeps a live face out of files."""

from collections.abc import Iterator
from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import layers, performers, rig_settings, session

_busy = False


@persistent
def _keep(scene: Any, graph: Any) -> None:
    """Look after the layers of the scene's rigs, after every change of their animation."""
    global _busy
    settings = getattr(scene, "cmet", None)
    live = session.STATE.live is not None  # sixty updates a second; its end is one more
    if _busy or live or settings is None or not _animation_changed(graph):
        return
    _busy = True  # the changes made here come back as another update
    try:
        for rig in [one.rig for one in performers.everyone(settings) if one.rig is not None]:
            layers.keep(rig)
    finally:
        _busy = False


@persistent
def _leave(*_: Any) -> None:
    """Another file is loaded."""
    session.end_live()
    session.STATE.trial = None


@persistent
def _before_save(*_: Any) -> None:
    """A file never holds what a live face shows, and rigs hold their mappings."""
    if session.STATE.live is not None:
        session.STATE.live.restore()
    if session.STATE.trial is not None:
        session.STATE.trial.restore()
    for one in _everyone():
        performers.keep_mapping(one)


@persistent
def _loaded(*_: Any) -> None:
    """Settings of an earlier version's file go from the scene to its rigs."""
    for scene in bpy.data.scenes:
        for one in performers.everyone(scene.cmet):
            rig_settings.convert(one)
        rig_settings.forget_old(scene.cmet)


def _everyone() -> Iterator[Any]:
    """Each `Performer` of the file."""
    return (one for scene in bpy.data.scenes for one in performers.everyone(scene.cmet))


def _animation_changed(graph: Any) -> bool:
    return any(graph.id_type_updated(kind) for kind in ("KEY", "ACTION", "ARMATURE"))


_HANDLERS = {"depsgraph_update_post": _keep, "load_pre": _leave, "load_post": _loaded, "save_pre": _before_save}


def register() -> None:
    """Start to look."""
    for kind, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, kind).append(handler)


def unregister() -> None:
    """Stop."""
    for kind, handler in _HANDLERS.items():
        listed = getattr(bpy.app.handlers, kind)
        if handler in listed:
            listed.remove(handler)
