"""Keeps the strips of a rig's other meshes with the leading one while the animator works on it."""

from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import emotion_strips, performers
from .emotion_tracks import owners

_busy = False


@persistent
def _follow(scene: Any, graph: Any) -> None:
    """Carry what was done to a leading strip to the others, after every change of the scene."""
    global _busy
    settings = getattr(scene, "cmet", None)
    if _busy or settings is None or not _animation_changed(graph):
        return
    _busy = True  # the changes made here come back as another update
    try:
        for rig in [one.rig for one in performers.everyone(settings) if one.rig is not None]:
            # strips cannot be changed while one is being tweaked; the next update catches up
            if not any(o.animation_data is not None and o.animation_data.use_tweak_mode for o in owners(rig)):
                emotion_strips.sync(rig)
    finally:
        _busy = False


def _animation_changed(graph: Any) -> bool:
    return graph.id_type_updated("KEY") or graph.id_type_updated("ACTION")


def register() -> None:
    """Start to follow."""
    bpy.app.handlers.depsgraph_update_post.append(_follow)


def unregister() -> None:
    """Stop."""
    if _follow in bpy.app.handlers.depsgraph_update_post:
        bpy.app.handlers.depsgraph_update_post.remove(_follow)
