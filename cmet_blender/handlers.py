"""Puts right, while the animator works, what Blender's own edits of strips leave behind."""

from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import layers, performers

_busy = False


@persistent
def _keep(scene: Any, graph: Any) -> None:
    """Look after the layers of the scene's rigs, after every change of their animation."""
    global _busy
    settings = getattr(scene, "cmet", None)
    if _busy or settings is None or not _animation_changed(graph):
        return
    _busy = True  # the changes made here come back as another update
    try:
        for rig in [one.rig for one in performers.everyone(settings) if one.rig is not None]:
            layers.keep(rig)
    finally:
        _busy = False


def _animation_changed(graph: Any) -> bool:
    return any(graph.id_type_updated(kind) for kind in ("KEY", "ACTION", "ARMATURE"))


def register() -> None:
    """Start to look."""
    bpy.app.handlers.depsgraph_update_post.append(_keep)


def unregister() -> None:
    """Stop."""
    if _keep in bpy.app.handlers.depsgraph_update_post:
        bpy.app.handlers.depsgraph_update_post.remove(_keep)
