"""Whom the panels are about: one person of a clip with a rig, coefficient track and mapping; and everyone of a clip."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from cmet_engine import arkit
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.timeline import MOST_GAIN

from . import emotion_tracks, footage_view, gains, influence, layers, mapping, modes, rig, rig_settings, session

_KINDS = [(kind, kind.capitalize(), "") for kind in mapping.KINDS]
_AXES = [(sign + axis, sign + axis, f"turns about {sign}{axis} of the rig") for axis in "XYZ" for sign in "+-"]
_filling = False  # rows are being written by `show_mapping`: their update is not the user's


def is_rig(_: Any, obj: Any) -> bool:
    """Whether an object may be chosen as a rig."""
    return obj.type == "ARMATURE" or (obj.type == "MESH" and rig.shape_keys(obj) is not None)


def _rig_chosen(self: Any, context: Any) -> None:
    if self.rig is not None:
        scene = self.id_data.cmet
        scene.message, scene.told = "", "rig"
        if self.shown != self.rig:
            keep_mapping(self)
        self.shown = None
        rig_settings.begin(self)
        try:
            show_mapping(self, _known_mapping(self.rig))
            self.shown = self.rig
            refresh_footage(self)
        except CmetError as error:
            self.rows.clear()
            scene.message = str(error)


def _known_mapping(obj: Any) -> mapping.RigMapping:
    """The mapping that a rig keeps, with what is offered for its empty rows; where it keeps none, what is found."""
    found = mapping.match(obj)
    text = obj.cmet.mapping
    if not text:
        return mapping.spread(obj, found)
    kept = mapping.RigMapping.of_document(json.loads(text), obj.name)
    kept.offered = {name: offer for name, offer in found.offered.items() if not kept.rows[name].channels}
    return kept


def refresh_footage(one: Any, *, view: bool = False) -> None:
    """Show the scene's clip with the rig of a performer; see `footage_view.refresh`."""
    mapping_shown = None
    with contextlib.suppress(CmetError):
        mapping_shown = shown_mapping(one)
    footage_view.refresh(one, mapping_shown, view=view)


def keep_mapping(one: Any) -> None:
    """Keep the table with the rig that it is about, so that it is shown again when that rig is chosen again."""
    if one.shown is not None and one.rows and rig_settings.may_hold(one.shown):
        with contextlib.suppress(CmetError):  # a row that cannot be read
            one.shown.cmet.mapping = shown_mapping(one).to_json()


def _row_changed(self: Any, context: Any) -> None:
    if _filling:
        return
    try:
        weights = mapping.parse_weights(self.channels)
        self.fault = ""
    except CmetError as error:
        self.fault = str(error)
        return
    self.kind, self.confidence = (mapping.MANUAL, 1.0) if weights else (mapping.MISSING, 0.0)


def _shape_names(self: Any, context: Any, edit_text: str) -> list[str]:
    chosen = current(context.scene.cmet).rig
    if chosen is None:
        return []
    names = dict.fromkeys(name for names in rig.names_by_mesh(chosen).values() for name in names)
    return [name for name in names if edit_text.lower() in name.lower()]


class CmetRow(bpy.types.PropertyGroup):
    """One row of the mapping table."""

    name: StringProperty(name="Coefficient", description="One of the 52 ARKit coefficients")
    channels: StringProperty(
        name="Shapes", update=_row_changed, search=_shape_names, search_options={"SUGGESTION"},
        description="Shape key that takes this coefficient; several with weights: browInnerUp_L; browInnerUp_R=0.5",
    )  # fmt: skip
    kind: EnumProperty(items=_KINDS, default=mapping.MISSING)
    confidence: FloatProperty(min=0, max=1)
    fault: StringProperty()
    offer: StringProperty(description="A guess that is not sure enough to be used")
    gain: FloatProperty(
        name="Gain",
        default=1.0,
        soft_min=0,
        soft_max=3,
        description="The shape gets gain times the coefficient plus the offset",
    )
    offset: FloatProperty(
        name="Offset",
        default=0.0,
        soft_min=-1,
        soft_max=1,
        description="Added after the gain, in units of the shape key",
    )
    limited: BoolProperty(name="Limits", description="Keep the shape key's value between minimum and maximum")
    minimum: FloatProperty(
        name="Minimum",
        default=0.0,
        soft_min=-1,
        soft_max=1,
        description="Least value that the shape key gets; 0 is the rest shape",
    )
    maximum: FloatProperty(
        name="Maximum",
        default=1.0,
        soft_min=0,
        soft_max=2,
        description="Largest value that the shape key gets; 1 is the whole shape",
    )


class CmetRotation(bpy.types.PropertyGroup):
    """A bone or object that turns with the head or an eye."""

    name: StringProperty()
    target: StringProperty(name="Target", description="Bone of the rig's armature, or an object; empty for none")
    yaw: EnumProperty(name="Yaw", items=_AXES, default="-Z", description="Axis of turning to the character's own right")
    pitch: EnumProperty(name="Pitch", items=_AXES, default="+X", description="Axis of looking down")
    roll: EnumProperty(
        name="Roll", items=_AXES, default="-Y", description="Axis of leaning to the character's own right"
    )
    strength: FloatProperty(
        name="Strength",
        default=1.0,
        soft_min=0,
        soft_max=2,
        description="Factor on the track's angles in degrees: 1 turns as far as the actor, 0 nothing",
    )


def active_layer(one: Any) -> Any | None:
    """The track of the layer that is chosen in the panel."""
    owner = emotion_tracks.carrier(one.rig) if one.rig is not None else None
    tracks = owner.animation_data.nla_tracks if owner is not None and owner.animation_data is not None else ()
    found = 0 <= one.active_layer < len(tracks) and layers.is_layer(tracks[one.active_layer])
    return tracks[one.active_layer] if found else None


def _active_strip(self: Any) -> Any | None:
    """The strip of that layer which is seen at the current frame."""
    track = active_layer(self)
    return layers.shown_strip(track, bpy.context.scene.frame_current_final) if track is not None else None


def _of_strip(read: Callable[[Any], float]) -> Callable[[Any], float]:
    def get(self: Any) -> float:
        strip = _active_strip(self)
        return read(strip) if strip is not None else 0.0

    return get


def _to_strip(write: Callable[[Any, float], None]) -> Callable[[Any, float], None]:
    def put(self: Any, value: float) -> None:
        strip = _active_strip(self)
        if strip is not None:
            write(strip, value)
            influence.carry(strip.id_data)

    return put


def _gain(region: str, name: str) -> Any:
    """The gain of the chosen layer in a region, which is heard of at once."""

    def put(self: Any, value: float) -> None:
        strip = _active_strip(self)
        if strip is not None:
            gains.set_gain(strip, shown_mapping(self), region, value)

    return FloatProperty(
        name=name, min=0.0, soft_max=2.0, max=MOST_GAIN, options=set(), get=_of_strip(lambda strip: gains.gain(strip, region)),
        set=put, description="Gain on the strength of the layer there, of the nose with the cheeks: 0 leaves the actor's own, 1 is the emotion as it is",
    )  # fmt: skip


ASK_SECONDS = 0.3
"""How long after a change of mode the engine is asked, and how often while it has other work."""


def _mode_changed(self: Any, context: Any) -> None:
    """Show the emotions on the rig in the chosen mode: at once where both are known, else as soon as the engine has answered."""
    if self.rig is None:
        return
    scene = self.id_data.cmet
    try:
        modes.follow(self.rig, shown_mapping(self), self.mode)
    except CmetError as error:
        scene.message, scene.told = str(error), "emotion"
        return
    if modes.others(self.rig, self.mode) and (scene.clip or self.track) and not bpy.app.background:
        if bpy.app.timers.is_registered(_ask_for_mode):
            bpy.app.timers.unregister(_ask_for_mode)
        bpy.app.timers.register(_ask_for_mode, first_interval=ASK_SECONDS)


def _ask_for_mode() -> float | None:
    """Start the operator that asks the engine for the mode, once the engine is free."""
    if session.STATE.job is not None:
        return ASK_SECONDS
    for window in bpy.context.window_manager.windows:
        one = current(window.scene.cmet)
        if one.rig is not None and modes.others(one.rig, one.mode):
            with bpy.context.temp_override(window=window):
                bpy.ops.cmet.follow_mode("INVOKE_DEFAULT")
            break
    return None


class Performer:
    """A person of the clip and who plays them: a scene's own fields where one person is worked on, else those of `CmetPerson`."""

    track: StringProperty(
        name="Take",
        subtype="FILE_PATH",
        update=lambda self, context: refresh_footage(self),
        description="Curves of a face: .npz, as Track Footage makes it of a clip, or a recording of an application: .csv, .tsv, .txt or .json",
    )
    rig: PointerProperty(
        name="Rig",
        type=bpy.types.Object,
        poll=is_rig,
        update=_rig_chosen,
        description="Mesh of the face, or the armature of a rig with face bones",
    )
    rows: CollectionProperty(type=CmetRow)
    active_row: IntProperty()
    rotations: CollectionProperty(type=CmetRotation)
    mapping_name: StringProperty()
    unit: StringProperty()
    unused: StringProperty()
    shown: PointerProperty(type=bpy.types.Object)  # whose mapping the table shows
    unrigged: PointerProperty(type=rig_settings.CmetRig)
    mode: rig_settings.view("mode", _mode_changed)
    active_layer: IntProperty(name="Layer", description="The layer that the fields below the list are about")
    layer_strength: FloatProperty(
        name="Strength",
        soft_min=0.0,
        soft_max=1.5,
        min=-10,
        max=10,
        options=set(),
        get=_of_strip(influence.strength),
        set=_to_strip(influence.set_strength),
        description="Largest influence of the layer's strip; its keys are scaled with it",
    )
    fade_in: FloatProperty(
        name="Fade In",
        min=0,
        soft_max=100,
        precision=1,
        step=100,
        options=set(),
        get=_of_strip(lambda strip: influence.fades(strip)[0]),
        set=_to_strip(lambda strip, value: influence.set_fade(strip, value, end=False)),
        description="Frames in which the strip's influence rises from 0 at its start",
    )
    fade_out: FloatProperty(
        name="Fade Out",
        min=0,
        soft_max=100,
        precision=1,
        step=100,
        options=set(),
        get=_of_strip(lambda strip: influence.fades(strip)[1]),
        set=_to_strip(lambda strip, value: influence.set_fade(strip, value, end=True)),
        description="Frames in which the strip's influence falls to 0 at its end",
    )
    layer_brows: _gain("brows", "Brows")
    layer_eyes: _gain("eyes", "Eyes")
    layer_cheeks: _gain("cheeks", "Cheeks")
    layer_mouth: _gain("mouth", "Mouth")


class CmetPerson(Performer, bpy.types.PropertyGroup):
    """One of several people in the clip."""

    name: StringProperty(name="Name", description="What this person is called in the panels")
    number: IntProperty(name="Number", description="Number of the person, as the command cmet faces shows it")
    first: FloatProperty(description="Seconds when the face is first seen")
    last: FloatProperty(description="Seconds when the face is last seen")
    share: FloatProperty(description="Part of the clip that shows the face, 0 to 1")
    picture: PointerProperty(type=bpy.types.Image)


CLASSES = (rig_settings.CmetRig, CmetRow, CmetRotation, CmetPerson)


def current(settings: Any) -> Any:
    """The `Performer` whom the panels are about: the chosen one of the people, or the scene itself where none are listed."""
    return settings.people[min(settings.active_person, len(settings.people) - 1)] if settings.people else settings


def everyone(settings: Any) -> list[Any]:
    """Each `Performer` of a scene."""
    return list(settings.people) or [settings]


def ready(settings: Any) -> list[Any]:
    """Those of them who have a rig and a track, and so can be rendered."""
    return [one for one in everyone(settings) if one.rig is not None and one.track]


def called(one: Any) -> str:
    """What a performer is called beside others; empty for the only one."""
    return (one.name or f"Person {one.number}") if isinstance(one, CmetPerson) else ""


def hand_over(source: Any, target: Any) -> None:
    """Give the rig of a performer, with its settings and its mapping as far as it can be read, to another."""
    target.rig = source.rig
    if source.rig is not None and source.rows:
        with contextlib.suppress(CmetError):
            show_mapping(target, shown_mapping(source))


def fill(settings: Any, found: list[dict[str, Any]], pictures: dict[str, str]) -> None:
    """List the people of the clip; who was listed before under the same number keeps rig, track, mapping and name.

    Args:
        settings: of a scene.
        found: rows of people, as the engine's job `faces` gives them.
        pictures: path of each picture by its name.
    """
    known = {person.number for person in settings.people}
    asked = settings.person.strip().removeprefix("#")
    for row in found:
        if row["id"] in known:
            person = next(one for one in settings.people if one.number == row["id"])
        else:
            person = settings.people.add()
            person.number, person.name = row["id"], row["name"] or f"Person {row['id']}"
        person.first, person.last, person.share = row["first"], row["last"], row["share"]
        _show_picture(person, pictures.get(row["picture"]))
    if not known:  # the scene's own person becomes one of them
        index = next((i for i, row in enumerate(found) if asked in (str(row["id"]), row["name"])), None)
        settings.active_person = index or 0
        hand_over(settings, settings.people[settings.active_person])
        if index is not None:
            settings.people[index].track = settings.track
    for index in reversed(range(len(settings.people))):
        if settings.people[index].number not in {row["id"] for row in found}:
            settings.people.remove(index)


def _show_picture(person: Any, path: str | None) -> None:
    """Keep the picture of a person in the .blend."""
    if person.picture is not None and person.picture.users <= 1:
        bpy.data.images.remove(person.picture)
    person.picture = bpy.data.images.load(path) if path else None
    if person.picture is not None:
        person.picture.name = f"C-MET {person.name}"
        person.picture.pack()


def forget(settings: Any, *, same_clip: bool = True) -> None:
    """List nobody any more; the scene goes on with the chosen person."""
    if not settings.people:
        return
    one = current(settings)
    hand_over(one, settings)
    settings.track, settings.person = (one.track, str(one.number)) if same_clip else ("", "")
    for person in settings.people:
        _show_picture(person, None)
    settings.people.clear()


def show_mapping(settings: Any, found: mapping.RigMapping) -> None:
    """Write a mapping into the table of the panel."""
    global _filling
    _filling = True
    try:
        settings.rows.clear()
        for name in arkit.NAMES:
            source = found.rows[name]
            row = settings.rows.add()
            row.name, row.kind, row.confidence = name, source.kind, source.confidence
            row.channels = mapping.format_weights(source.channels)
            offer = found.offered.get(name)
            row.offer = mapping.format_weights(offer.channels) if offer else ""
            row.gain, row.offset = source.gain, source.offset
            row.limited = source.minimum is not None or source.maximum is not None
            row.minimum = 0.0 if source.minimum is None else source.minimum
            row.maximum = 1.0 if source.maximum is None else source.maximum
        settings.rotations.clear()
        for key in mapping.ROTATIONS:
            rotation = found.rotations.get(key, mapping.Rotation())
            entry = settings.rotations.add()
            entry.name = key
            for attribute in ("target", "yaw", "pitch", "roll", "strength"):
                setattr(entry, attribute, getattr(rotation, attribute))
        settings.mapping_name = found.name
        settings.unit = "|".join(found.unit or ())
        settings.unused = "; ".join(found.unused)
    finally:
        _filling = False


def shown_mapping(settings: Any) -> mapping.RigMapping:
    """The mapping that the table of the panel shows.

    Raises:
        InvalidInput: no rig is chosen, or a row cannot be read.
    """
    if not settings.rows:
        raise InvalidInput("No rig is chosen; choose one, and its shapes are matched.")
    rows = {}
    for row in settings.rows:
        weights = mapping.parse_weights(row.channels)
        limits = (row.minimum, row.maximum) if row.limited else (None, None)
        rows[row.name] = mapping.Row(row.name, weights, row.kind, row.confidence, row.gain, row.offset, *limits)
    rotations = {
        entry.name: mapping.Rotation(entry.target, entry.yaw, entry.pitch, entry.roll, entry.strength)
        for entry in settings.rotations
        if entry.target
    }
    unit = tuple(settings.unit.split("|")) if settings.unit else None
    return mapping.RigMapping(
        rows, tuple(n for n in settings.unused.split("; ") if n), rotations, settings.mapping_name, unit
    )  # type: ignore[arg-type]
