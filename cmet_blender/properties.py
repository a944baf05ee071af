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
    StringProperty,
)

from cmet_engine.choices import CODEC_OUT, CODEC_TITLES, COLOR_SPACES
from cmet_engine.emotions import LIBRARY

from . import footage_view, icons, performers, rig_settings, session, shortcuts
from .export import PRESETS
from .performers import CmetPerson, Performer
from .wrapping import wrapped

RATE_FACTORS = {"small": 28, "default": None, "large": 6}  # constant rate factor of H.264; None is the engine's default

LISTED = (
    "Tracking, emotions and videos need the engine, a program of its own. This extension does not fetch programs: install "
    "the engine as the page below says, and choose its Python here."
)
LIKE_SOURCE = "source"
_FORMATS = [  # the numbers are what a .blend stores
    (LIKE_SOURCE, "Like the Source", "File type and codec nearest to the clip's own", "", 5),
    ("mp4", "MP4", "For viewing: H.264, or HEVC of clips with more than 8 bits", "", 0),
    ("m4v", "M4V", "MP4 under the name that Apple's programs prefer", "", 6),
    ("mov", "QuickTime", "For editing: ProRes, DNxHR, H.264 or HEVC", "", 1),
    ("mkv", "Matroska", "For viewing, or FFV1 without any loss", "", 2),
    ("mxf", "MXF", "For editing and broadcast: DNxHR", "", 3),
    ("webm", "WebM", "For the web: VP9", "", 4),
    ("png", "PNG Pictures", "Numbered pictures of 8 or 16 bits, without loss", "", 7),
    ("tif", "TIFF Pictures", "Numbered pictures of 8 or 16 bits, without loss", "", 8),
    ("dpx", "DPX Pictures", "Numbered pictures of 8 to 16 bits, without loss", "", 9),
    ("exr", "OpenEXR Pictures", "Numbered pictures in half floats, ZIP compression", "", 10),
]
_CODEC_ITEMS = {
    name: (name, title, f"{title}, in {' '.join(CODEC_OUT[name])}", "", number)
    for number, (name, title) in enumerate(CODEC_TITLES.items(), 1)
}
_codec_items: list[tuple[str, str, str, str, int]] = []  # Blender needs the texts kept alive


def codecs_of(video_format: str) -> list[str]:
    """The codecs that go into a kind of file; none of pictures, and where the clip decides."""
    return [name for name, suffixes in CODEC_OUT.items() if f".{video_format}" in suffixes]


def codec_items(self: Any, context: Any) -> list[tuple[str, str, str, str, int]]:
    """The codecs of the chosen format."""
    automatic = ("auto", "Automatic", "The one of the format that loses least of the clip", "", 0)
    _codec_items[:] = [automatic, *(_CODEC_ITEMS[name] for name in codecs_of(self.video_format))]
    return _codec_items


def _format_chosen(self: Any, context: Any) -> None:
    self.codec = "auto"  # the other format may not know the codec


def _color_spaces(self: Any, context: Any, edit_text: str) -> list[str]:
    return [name for name in COLOR_SPACES if edit_text.lower() in name.lower()]


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


class CmetScene(Performer, bpy.types.PropertyGroup):
    """What a scene remembers."""

    clip: StringProperty(name="Clip", subtype="FILE_PATH", description="Video of a talking face")
    match_rate: BoolProperty(
        name="Use the Clip's Rate",
        default=True,
        description="Give the scene the clip's frame rate, length and picture size, so that background and keys fall on the same frames",
    )
    start_frame: IntProperty(name="Start", default=1, description="Scene frame of the clip's first frame")
    footage_place: EnumProperty(
        name="Shown",
        items=[
            (footage_view.BESIDE, "Beside the Face", "A camera of the clip's own shows it to the left of the face, both of one size"),
            (footage_view.BEHIND, "Behind the Face", "A camera of the clip's own shows the face where the clip has it"),
            (footage_view.SCENE_CAMERA, "On the Scene's Camera", "Behind everything that the scene's camera sees; it stays where it is"),
        ],
        update=lambda self, context: performers.refresh_footage(performers.current(self), view=True),
        description="Where the clip is seen in the 3D view",
    )  # fmt: skip
    face: IntProperty(
        name="Face", default=0, min=0, max=20, description="Which face when there are several: 0 is the largest"
    )
    people: CollectionProperty(type=CmetPerson)
    active_person: IntProperty(name="Person", min=0, description="Whom the panels Emotion, Rig and Export are about")
    person: StringProperty(
        name="Person",
        description="Number or name of the person, as the command cmet faces shows them; empty takes the face above",
    )
    colorspace: StringProperty(
        name="Color Space", search=_color_spaces, search_options={"SUGGESTION"},
        description="Of the clip: ACEScg, LogC3, S-Log3, PQ or another that OpenColorIO knows; empty takes it from the clip's tags",
    )  # fmt: skip
    simplify: FloatProperty(
        name="Simplify",
        default=0.0,
        min=0.0,
        soft_max=0.05,
        precision=3,
        description="Leave out keys where straight lines stay within this error: 0.01 is a hundredth of a whole shape, or a degree; 0 keeps every frame",
    )
    emotion: EnumProperty(name="Emotion", items=emotion_items, default=_number("happy"), description="Emotion to add")
    strength: rig_settings.view("strength")
    gain_brows: rig_settings.view("gain_brows")
    gain_eyes: rig_settings.view("gain_eyes")
    gain_cheeks: rig_settings.view("gain_cheeks")
    gain_mouth: rig_settings.view("gain_mouth")
    place: EnumProperty(
        name="Over",
        items=[
            ("frame", "From Current Frame", "The strip begins at the current frame and lasts to the end of the take"),
            ("range", "Preview Range", "The strip lies over the preview range of the scene (P in the timeline)"),
            ("take", "Whole Take", "The strip lies over the whole take"),
        ],
        description="Where the new strip lies",
    )
    fade: rig_settings.view("fade")
    natural: rig_settings.view("natural")
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
    reference: StringProperty(
        name="Reference",
        subtype="FILE_PATH",
        description="Picture, clip or take whose expression is put on the rig",
    )
    bearing: rig_settings.view("bearing")
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
    renderer: EnumProperty(
        name="Renderer",
        items=[
            ("warp", "Warp", "Moves the frame's own pixels, as Quality says; needs no download"),
            ("liveportrait", "LivePortrait", "Draws the face anew; needs weights (cmet models pull liveportrait)"),
            ("performrecast", "PerformRecast", "Draws the face anew; needs weights fetched by hand"),
            ("edtalk", "EDTalk", "Draws the face anew with 256 pixels; needs weights (cmet models pull cmet)"),
        ],
        description="What draws the edited face",
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
            (
                "best",
                "Best",
                "Like Standard, in finer detail, by a network that is fitted to the clip first; takes long",
            ),
        ],
        description="How much work the renderer puts into each frame",
    )
    video_format: EnumProperty(
        name="Format",
        items=_FORMATS,
        default="mp4",
        update=_format_chosen,
        description="File type of the edited clip; its rate, size and sound are the clip's own",
    )
    codec: EnumProperty(
        name="Codec", items=codec_items, default=0, description="How the pictures are stored in the file"
    )
    rate_factor: EnumProperty(
        name="Rate Factor",
        items=[
            ("small", "Small File (28)", "To look at"),
            ("default", "Default", "No visible loss"),
            ("large", "Large File (6)", "To work on"),
        ],
        default="default",
        description="Constant rate factor of H.264, HEVC and VP9: a lower one keeps more and makes larger files",
    )
    range_from: StringProperty(
        name="From",
        description="First frame that is rendered: seconds (2.5), frames from the clip's beginning (120f) or a timecode (01:00:10:00); empty is the beginning",
    )
    range_to: StringProperty(
        name="To",
        description="The frame behind the last one that is rendered: seconds (2.5), frames (120f) or a timecode (01:00:10:00); empty is the end",
    )
    handles: IntProperty(
        name="Handles",
        default=0,
        min=0,
        max=100_000,
        soft_max=50,
        description="Frames more at either end of the range, as far as the clip has them",
    )
    matte: BoolProperty(
        name="Matte",
        description="Also write the mask of what was changed: matte.mkv, numbered pictures beside pictures, a channel in OpenEXR",
    )
    shot_data: BoolProperty(
        name="Shot Data",
        description="Also write in and out, timecode and names for conform, as JSON and OpenTimelineIO",
    )
    consent: StringProperty(
        name="Consent",
        description="Consent of the person shown: who, when, how; or the path of a consent file (.json). It goes into the Content Credentials of videos and exports",
    )
    verified: StringProperty()
    badge: StringProperty()
    watermark: BoolProperty(
        name="Watermark",
        default=True,
        description="Mark the edited face invisibly as edited; the mark survives re-encoding and carries an id",
    )
    export_path: StringProperty(
        name="File",
        subtype="FILE_PATH",
        options={"OUTPUT_PATH"},
        description="The suffix chooses the format: .fbx .glb .usdc .abc .csv .json .npz; empty is an .fbx of the rig's name beside the scene",
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
    told: StringProperty(default="footage")  # the panel that shows them


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
    setup_source: EnumProperty(
        name="From",
        items=[
            ("WHEEL", "Wheel", "The wheel that came with the extension, or another; the packages it needs come from pip's index"),
            ("FOLDER", "Folder of Wheels", "A folder with the engine's wheel and those of the packages it needs; no network"),
            ("INDEX", "Package Index", "An index that holds the engine and the packages it needs, such as a studio's own"),
        ],
        description="Where Set Up Engine takes the engine from",
    )  # fmt: skip
    setup_wheel: StringProperty(
        name="Wheel", subtype="FILE_PATH", description="Wheel of the engine; empty takes the one that came with the extension"
    )  # fmt: skip
    setup_wheels: StringProperty(
        name="Wheels",
        subtype="DIR_PATH",
        description="Folder with the engine's wheel and those of the packages it needs",
    )
    setup_index: StringProperty(
        name="Index", description="Address of a package index that holds the engine, as pip takes it"
    )
    setup_folder: StringProperty(
        name="Folder",
        subtype="DIR_PATH",
        description="Where the engine is set up: an empty or new folder; empty takes one in the extension's own",
    )
    setup_cuda: BoolProperty(
        name="For an NVIDIA GPU",
        description="Fetch the build of torch that brings CUDA, which is gigabytes larger",
    )

    def draw(self, context: Any) -> None:
        """The preferences' page."""
        layout = self.layout
        layout.use_property_split = True
        width = context.region.width - 60  # the page stands in a box
        if session.SETS_UP:
            from .setup import operators

            operators.draw(layout, self, width)
        else:
            wrapped(layout, LISTED, width, "INFO")
            layout.operator("wm.url_open", text="How to Install the Engine", icon="URL").url = session.website()
        row = layout.row()
        row.operator("cmet.engine_check", icon="CHECKMARK")
        row.operator("cmet.engine_start", icon="PLAY")
        row.operator("cmet.engine_stop", icon="SNAP_FACE")
        for finding in session.STATE.findings:
            wrapped(layout, finding.text, width, "CHECKMARK" if finding.ok else "ERROR")
        layout.prop(self, "engine_python", placeholder="found automatically")
        layout.prop(self, "model_folder", placeholder="the engine's own")
        layout.prop(self, "device")
        column = layout.column(align=True)
        column.prop(self, "port_first")
        column.prop(self, "port_last")
        if not getattr(bpy.app, "online_access", False):
            text = "Online access is off: the engine downloads no models. It is reached on this machine alone."
            wrapped(layout, text, width, "INTERNET_OFFLINE")
        shortcuts.draw(layout)


CLASSES = (*performers.CLASSES, CmetScene, CmetPreferences)
