"""C-MET for Blender: coefficient tracks on rigs, emotions on the timeline, exports, and the edited video.

As an extension, `register` adds the panels and operators. As a module beside `bpy`, its functions work without a
window: `mapping.match`, `keyframes.apply_track`, `keyframes.read_track`, `emotion_strips.add`, `export.fbx` …
"""

import sys
from typing import Any

if __package__.startswith("bl_ext."):  # an extension brings its own; those of the build before it may be loaded still
    for _name in [_name for _name in sys.modules if _name.split(".")[0] == "cmet_engine"]:
        del sys.modules[_name]

from . import commands

_command: Any = None


def _classes() -> tuple[Any, ...]:
    """What Blender is told of; the build for the public listing has no folder `setup`."""
    from . import menus, operators, panels, properties, session

    own = (*properties.CLASSES, *operators.CLASSES, *panels.CLASSES, *menus.CLASSES)
    if not session.SETS_UP:
        return own
    from .setup import operators as setup

    return (*own, *setup.CLASSES)


def register() -> None:
    """Called by Blender when the add-on is switched on."""
    import bpy

    from . import handlers, menus, properties, rig_settings, shortcuts

    for cls in _classes():
        bpy.utils.register_class(cls)
    bpy.types.Object.cmet = bpy.props.PointerProperty(type=rig_settings.CmetRig, override={"LIBRARY_OVERRIDABLE"})
    bpy.types.Scene.cmet = bpy.props.PointerProperty(type=properties.CmetScene)
    menus.register()
    shortcuts.register()
    handlers.register()
    global _command
    _command = bpy.utils.register_cli_command(
        "cmet", lambda arguments: commands.main(arguments, prog="blender --command cmet")
    )


def unregister() -> None:
    """Called by Blender when the add-on is switched off: removes what `register` added and stops the engine."""
    import bpy

    from . import handlers, icons, menus, session, shortcuts

    global _command
    if _command is not None:
        bpy.utils.unregister_cli_command(_command)
        _command = None
    shortcuts.unregister()
    menus.unregister()
    handlers.unregister()
    session.end_live()
    session.end()
    del bpy.types.Scene.cmet, bpy.types.Object.cmet
    for cls in reversed(_classes()):
        bpy.utils.unregister_class(cls)
    icons.forget()
