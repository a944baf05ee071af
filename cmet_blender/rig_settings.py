"""What is set for each rig: it belongs to the rig's object, and the panels' fields show that of the rig that is chosen.

Several characters in one scene have settings of their own, and these go with an object that is appended or duplicated.
"""

from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from cmet_engine.timeline import MOST_GAIN

_MODES = [
    ("add", "Add", "The actor's own expression is kept underneath"),
    ("replace", "Replace", "The actor's standing expression is removed first"),
]
MODES = tuple(name for name, _, _ in _MODES)


def _gain(name: str, what: str) -> tuple[Any, dict[str, Any]]:
    """A gain of one region of the face; see `cmet_engine.timeline.REGIONS`."""
    about = f"Gain on the strength of the new strip's {what}: 0 leaves the actor's own, 1 is as learned"
    return FloatProperty, {"name": name, "default": 1.0, "min": 0.0, "soft_max": 2.0, "max": MOST_GAIN, "description": about}  # fmt: skip


FIELDS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "mode": (EnumProperty, {"name": "Mode", "items": _MODES, "description": "What becomes of the expression that the actor has already"}),
    "strength": (FloatProperty, {"name": "Strength", "default": 1.0, "soft_min": 0.0, "soft_max": 1.5, "min": -10, "max": 10,
        "description": "Influence of the new strip: 0 is nothing, 1 the whole emotion; key it in the NLA editor"}),
    "bearing": (BoolProperty, {"name": "Head and Gaze",
        "description": "Head, gaze and blinks go with a new emotion: sadness looks down and blinks slowly, fear and surprise blink less"}),
    "gain_brows": _gain("Brows", "brows"),
    "gain_eyes": _gain("Eyes", "lids and squint"),
    "gain_cheeks": _gain("Cheeks", "cheeks and nose"),
    "gain_mouth": _gain("Mouth", "mouth and jaw"),
    "fade": (IntProperty, {"name": "Fade", "default": 8, "min": 0, "soft_max": 50,
        "description": "Frames in which a new strip comes in and goes out where it does not reach the end of the take"}),
    "natural": (BoolProperty, {"name": "Natural Course",
        "description": "A new strip relaxes to a half after its apex, as felt expressions do: after 4 seconds, surprise after one"}),
}  # fmt: skip
"""The kind and the options of each setting's property."""


class CmetRig(bpy.types.PropertyGroup):
    """The settings of one rig."""

    __annotations__ = {  # where Blender reads the properties of a class
        **{name: kind(**options, override={"LIBRARY_OVERRIDABLE"}) for name, (kind, options) in FIELDS.items()},
        "own": BoolProperty(override={"LIBRARY_OVERRIDABLE"}),  # it has been chosen before
        "mapping": StringProperty(override={"LIBRARY_OVERRIDABLE"}),  # as `RigMapping.to_json` writes it
    }


def may_hold(obj: Any) -> bool:
    """Whether settings can be kept on an object: a linked one belongs to its library."""
    return obj is not None and obj.library is None


def place(one: Any) -> Any:
    """Where the settings of a `Performer` are: on their rig, or where none is chosen or it is linked, beside it."""
    return one.rig.cmet if may_hold(one.rig) else one.unrigged


def view(name: str, update: Callable[[Any, Any], None] | None = None) -> Any:
    """A field of a scene or a person that shows a setting of the chosen rig; `update` hears of every change by it."""
    kind, options = FIELDS[name]
    options = dict(options)
    choices = [item[0] for item in options.get("items", ())]

    def get(self: Any) -> Any:
        value = getattr(place(_shown(self)), name)
        return choices.index(value) if choices else value

    def put(self: Any, value: Any) -> None:
        setattr(place(_shown(self)), name, choices[value] if choices else value)

    return kind(**options, get=get, set=put, update=update)


def _shown(settings: Any) -> Any:
    """The `Performer` whom a field is about: a person, or the one who is chosen in the scene."""
    people = getattr(settings, "people", None)
    return people[min(settings.active_person, len(people) - 1)] if people else settings


def begin(one: Any) -> None:
    """A rig that is chosen for the first time begins with what the panel showed without one."""
    if may_hold(one.rig) and not one.rig.cmet.own:
        for name in FIELDS:
            setattr(one.rig.cmet, name, getattr(one.unrigged, name))
        one.rig.cmet.own = True


def _old(settings: Any) -> Any:
    """Values that an earlier version kept in a scene or a person, by name."""
    read = getattr(settings, "bl_system_properties_get", None)
    return settings if read is None else read() or {}


def convert(one: Any) -> None:
    """Give a performer's rig, or what stands for it, the settings that an earlier version kept in the person and the scene."""
    begun = may_hold(one.rig) and one.rig.cmet.own
    for settings in (one.id_data.cmet, one):
        old = _old(settings)
        for name, (_, options) in FIELDS.items():
            if name in old and not begun and (name != "mode" or settings == one):  # people had modes of their own
                value = old[name]
                setattr(place(one), name, options["items"][value][0] if "items" in options else value)
    if may_hold(one.rig):
        one.rig.cmet.own = True
    if one.rig is not None and one.shown is None and one.rows:
        one.shown = one.rig


def forget_old(settings: Any) -> None:
    """Take away what `convert` has read from a scene and its people."""
    for one in (settings, *settings.people):
        old = _old(one)
        for name in FIELDS:
            if name in old:
                del old[name]
