"""What a scene remembers for the panels, and the preferences of the add-on."""

import zlib
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
from cmet_engine.emotions import LIBRARY
from cmet_engine.errors import CmetError, InvalidInput

from . import icons, mapping, rig, session
from .export import PRESETS

_KINDS = [(kind, kind.capitalize(), "") for kind in mapping.KINDS]
_AXES = [(sign + axis, sign + axis, f"turns about {sign}{axis} of the rig") for axis in "XYZ" for sign in "+-"]
RATE_FACTORS = {"small": 28, "default": None, "large": 6}  # constant rate factor of H.264; None is the engine's default
_filling = False  # rows are being written by `show_mapping`: their update is not the user's


def _is_rig(_: Any, obj: Any) -> bool:
    return obj.type == "ARMATURE" or (obj.type == "MESH" and rig.shape_keys(obj) is not None)


def _rig_chosen(self: Any, context: Any) -> None:
    if self.rig is not None:
        self.message = ""
        try:
            show_mapping(self, mapping.spread(self.rig, mapping.match(self.rig)))
        except CmetError as error:
            self.rows.clear()
            self.message = str(error)


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
    chosen = context.scene.cmet.rig
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


_emotion_items: list[tuple[str, str, str, int, int]] = []  # Blender needs the texts kept alive


def _number(name: str) -> int:
    """What a file stores for an emotion: the same whatever else the library holds."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def emotion_items(self: Any, context: Any) -> list[tuple[str, str, str, int, int]]:
    """The gallery: what the engine's library holds, or the names that every engine has."""
    known = {e["name"]: e.get("reliability") for e in session.STATE.emotions} or dict.fromkeys(LIBRARY)
    items = []
    for name, reliability in known.items():
        text = (
            f"measured reliability {reliability:.0%}"
            if isinstance(reliability, float)
            else "reliability not measured yet"
        )
        items.append((name, name.replace("_", " ").capitalize(), f"{name}: {text}", icons.icon(name), _number(name)))
    if items != _emotion_items:
        _emotion_items[:] = items
    return _emotion_items


class CmetScene(bpy.types.PropertyGroup):
    """What a scene remembers."""

    clip: StringProperty(name="Clip", subtype="FILE_PATH", description="Video of a talking face")
    match_rate: BoolProperty(
        name="Use the Clip's Rate",
        default=True,
        description="Give the scene the clip's frame rate, length and picture size, so that background and keys fall on the same frames",
    )
    start_frame: IntProperty(name="Start", default=1, description="Scene frame of the clip's first frame")
    face: IntProperty(
        name="Face", default=0, min=0, max=20, description="Which face when there are several: 0 is the largest"
    )
    person: StringProperty(
        name="Person",
        description="Number or name of the person, as the command cmet faces shows them; empty takes the face above",
    )
    colorspace: StringProperty(
        name="Color Space",
        description="Of the clip: ACEScg, LogC3, S-Log3, PQ or another that OpenColorIO knows; empty takes it from the clip's tags",
    )
    track: StringProperty(
        name="Coefficient Track",
        subtype="FILE_PATH",
        description="Coefficient track of the clip: .npz, Live Link Face .csv or Audio2Face .json",
    )
    rig: PointerProperty(
        name="Rig",
        type=bpy.types.Object,
        poll=_is_rig,
        update=_rig_chosen,
        description="Mesh of the face, or the armature of a rig with face bones",
    )
    rows: CollectionProperty(type=CmetRow)
    active_row: IntProperty()
    rotations: CollectionProperty(type=CmetRotation)
    mapping_name: StringProperty()
    unit: StringProperty()
    unused: StringProperty()
    simplify: FloatProperty(
        name="Simplify",
        default=0.0,
        min=0.0,
        soft_max=0.05,
        precision=3,
        description="Leave out keys where straight lines stay within this error: 0.01 is a hundredth of a whole shape, or a degree; 0 keeps every frame",
    )
    emotion: EnumProperty(name="Emotion", items=emotion_items, default=_number("happy"), description="Emotion to add")
    strength: FloatProperty(
        name="Strength",
        default=1.0,
        soft_min=0.0,
        soft_max=1.5,
        min=-10,
        max=10,
        description="Influence of the new strip: 0 is nothing, 1 the whole emotion; key it in the NLA editor",
    )
    mode: EnumProperty(
        name="Mode",
        items=[
            ("add", "Add", "The actor's own expression is kept underneath"),
            ("replace", "Replace", "The actor's standing expression is removed first"),
        ],
        description="What becomes of the expression that the actor has already",
    )
    voice: StringProperty(
        name="Voice",
        subtype="FILE_PATH",
        description="Recording that sounds like the emotion: .wav .flac .mp3 .m4a .ogg",
    )
    neutral_voice: StringProperty(
        name="Neutral",
        subtype="FILE_PATH",
        description="The same voice speaking neutrally; empty takes the neutral of the library",
    )
    record_seconds: FloatProperty(
        name="Length",
        default=8.0,
        min=0.5,
        max=600,
        soft_max=60,
        subtype="TIME_ABSOLUTE",
        description="Seconds that Record takes; a few sentences are enough",
    )
    replace_emotion: BoolProperty(name="Replace", description="Replace an emotion of this name in your library")
    voice_name: StringProperty(
        name="Name", default="my_emotion", description="Name of the new emotion: small letters, digits and _"
    )
    quality: EnumProperty(
        name="Quality",
        items=[
            ("auto", "Automatic", "Standard on a GPU, else Draft"),
            ("draft", "Draft", "Moves the pixels of the original frames; quick"),
            (
                "standard",
                "Standard",
                "Also takes teeth, lids and folds from other frames of the clip, blended by a network",
            ),
            ("best", "Best", "Like Standard, in finer detail; takes longer"),
        ],
        description="How much work the renderer puts into each frame",
    )
    video_format: EnumProperty(
        name="Format",
        items=[
            ("mp4", "MP4 (H.264)", "For viewing"),
            ("mov", "MOV (ProRes)", "For editing on"),
            ("mkv", "MKV (H.264)", "For viewing"),
            ("mxf", "MXF (DNxHR)", "For editing on"),
            ("webm", "WebM (VP9)", "For the web"),
        ],
        description="File type of the edited clip; its rate, size and sound are the clip's own",
    )
    rate_factor: EnumProperty(
        name="Rate Factor",
        items=[
            ("small", "Small File (28)", "To look at"),
            ("default", "Default", "No visible loss"),
            ("large", "Large File (6)", "To work on"),
        ],
        default="default",
        description="Constant rate factor, in .mp4, .mkv and .webm: a lower one keeps more and makes larger files",
    )
    watermark: BoolProperty(
        name="Watermark",
        default=True,
        description="Mark the edited face invisibly as edited; the mark survives re-encoding and carries an id",
    )
    export_path: StringProperty(
        name="File",
        subtype="FILE_PATH",
        options={"OUTPUT_PATH"},
        description="The suffix chooses the format: .fbx .glb .usdc .abc .csv .json .npz",
        default="//character.fbx",
    )
    preset: EnumProperty(
        name="For",
        items=[
            ("none", "Any Program", "Blender's own axes and units"),
            ("unreal", "Unreal Engine", PRESETS["unreal"].expects),
            ("unity", "Unity", PRESETS["unity"].expects),
            ("maya", "Maya", PRESETS["maya"].expects),
        ],
        description="FBX as this program expects it",
    )
    message: StringProperty()
    done: StringProperty()


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


class CmetPreferences(bpy.types.AddonPreferences):
    """Where the engine is."""

    bl_idname = session.PACKAGE

    engine_python: StringProperty(
        name="Engine's Python",
        subtype="FILE_PATH",
        description="Python program where C-MET is installed; empty looks for `cmet` on the path",
    )
    model_folder: StringProperty(
        name="Model Folder",
        subtype="DIR_PATH",
        description="Folder of the engine's models and own emotions; empty for the usual one",
    )
    device: EnumProperty(
        name="Device",
        items=[
            ("auto", "Automatic", "The fastest that the engine finds"),
            ("cpu", "CPU", "The processor"),
            ("cuda", "CUDA", "An NVIDIA graphics card"),
            ("mps", "Metal", "The graphics of an Apple computer"),
        ],
        description="Where the engine's networks run",
    )
    port_first: IntProperty(
        name="Ports, First",
        default=0,
        min=0,
        max=65535,
        description="First port on this machine's loopback that the engine may use; 0 takes any free one",
    )
    port_last: IntProperty(name="Last", default=0, min=0, max=65535, description="Last port that the engine may use")

    def draw(self, context: Any) -> None:
        """The preferences' page."""
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "engine_python", placeholder="found automatically")
        layout.prop(self, "model_folder", placeholder="the engine's own")
        layout.prop(self, "device")
        column = layout.column(align=True)
        column.prop(self, "port_first")
        column.prop(self, "port_last")
        row = layout.row()
        row.operator("cmet.engine_check", icon="CHECKMARK")
        row.operator("cmet.engine_start", icon="PLAY")
        row.operator("cmet.engine_stop", icon="SNAP_FACE")
        for finding in session.STATE.findings:
            layout.label(text=finding.text, icon="CHECKMARK" if finding.ok else "ERROR")
        if not getattr(bpy.app, "online_access", False):
            layout.label(
                text="Online access is off: the engine downloads no models. It is reached on this machine alone.",
                icon="INTERNET_OFFLINE",
            )


CLASSES = (CmetRow, CmetRotation, CmetScene, CmetPreferences)
