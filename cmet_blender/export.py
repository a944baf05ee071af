"""A rig with its animation as FBX, glTF, USD, Alembic or .blend, or what it does as a track file.

The evaluated animation is written: NLA, drivers and modifiers of curves are sampled frame by frame. Every file starts at
time 0 with the first frame of the range (USD and Alembic keep the scene's frame numbers, as their readers expect). FBX and
glTF name the clip after the take, and textures that are packed into the .blend file come along.
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import addon_utils
import bpy

from cmet_engine import take_formats
from cmet_engine.choices import TakeFormat
from cmet_engine.errors import CmetError, InvalidInput, MissingWeights, NotFound
from cmet_engine.files import inputs_kept, whole_file

from . import keyframes, rig
from .actions import INFO
from .emotion_tracks import owners
from .frames import check_range, frame_restored, scene_fps, scene_of
from .mapping import RigMapping
from .nla import REST


@dataclass(frozen=True)
class Preset:
    """What a program expects of an FBX file.

    Attributes:
        label: name of the program.
        expects: what to know there, in a sentence or two.
        fbx: options of Blender's FBX exporter.
    """

    label: str
    expects: str
    fbx: dict[str, Any] = field(default_factory=dict)


PRESETS: dict[str, Preset] = {
    "unreal": Preset(
        "Unreal Engine",
        "Centimetres, Z up, no leaf bones; on import tick Import Morph Targets and Import Animations. The curves carry "
        "the shapes' names, so ARKit names drive ARKit rigs.",
        {
            "apply_scale_options": "FBX_SCALE_NONE",
            "axis_forward": "-Z",
            "axis_up": "Y",
            "mesh_smooth_type": "FACE",
            "use_armature_deform_only": True,
        },
    ),
    "unity": Preset(
        "Unity",
        "Metres, Y up; in the importer tick Import BlendShapes. Curves are named blendShape.NAME and run from 0 to 100.",
        {
            "apply_scale_options": "FBX_SCALE_ALL",
            "axis_forward": "-Z",
            "axis_up": "Y",
            "mesh_smooth_type": "OFF",
            "use_armature_deform_only": True,
        },
    ),
    "maya": Preset(
        "Maya",
        "Centimetres, Y up; the FBX plug-in turns shapes into one blendShape node for each mesh, weights from 0 to 1.",
        {
            "apply_scale_options": "FBX_SCALE_UNITS",
            "axis_forward": "-Z",
            "axis_up": "Y",
            "mesh_smooth_type": "EDGE",
            "use_armature_deform_only": False,
        },
    ),
}


def frame_span(obj: Any) -> tuple[int, int]:
    """First and last whole scene frame that the rig's keys and strips cover; the scene's range if there are none."""
    first, last = float("inf"), float("-inf")
    for owner in owners(obj):
        animation = owner.animation_data
        if animation is None:
            continue
        if animation.action is not None:
            low, high = animation.action.frame_range
            first, last = min(first, low), max(last, high)
        for track in animation.nla_tracks:
            if track.mute or track.name == REST:
                continue
            for strip in track.strips:
                first, last = min(first, strip.frame_start), max(last, strip.frame_end)
    if first > last:
        scene = scene_of(obj)
        return scene.frame_start, scene.frame_end
    return round(first), max(round(first), int(last + 1e-3))


def animated_apart(obj: Any, action: Any) -> bool:
    """Whether anything of the character moves by another Action than this one, or by NLA strips."""
    parts = rig.members(obj)
    for block in [*owners(obj), *parts, *(part.data for part in parts if part.data is not None)]:
        animation = block.animation_data
        if animation is None:
            continue
        strips = [track for track in animation.nla_tracks if track.strips and not track.mute and track.name != REST]
        if strips or animation.action not in (None, action):
            return True
    return False


def take_name(obj: Any) -> str:
    """What a character performs: its Action, or that of the performance below the emotions; else the object's name."""
    for owner in owners(obj):
        animation = owner.animation_data
        if animation is None:
            continue
        if animation.action is not None:
            return str(animation.action.name)
        for strips in (track.strips for track in animation.nla_tracks if not track.mute and track.name != REST):
            for strip in strips:
                if strip.action is not None:
                    return str(strip.action.name)
    return str(obj.name)


def packed_images(parts: list[Any]) -> list[Any]:
    """The images of a character's materials that lie inside the .blend file, not on the disk."""
    materials = {slot.material for part in parts for slot in part.material_slots if slot.material is not None}
    trees = [material.node_tree for material in materials if material.node_tree is not None]
    nodes = [node for tree in trees for node in tree.nodes if node.type == "TEX_IMAGE" and node.image is not None]
    return list({node.image for node in nodes if node.image.packed_file is not None})


def sampling_notes(obj: Any, path: str | Path) -> list[str]:
    """What is lost of a take whose keys lie between the frames that an export samples, in a sentence; a .blend keeps all keys."""
    if Path(path).suffix.lower() == ".blend":
        return []
    rate = scene_fps(scene_of(obj))
    for owner in owners(obj):
        action = owner.animation_data.action if owner.animation_data else None
        info = json.loads(action.get(INFO, "{}")) if action else {}
        if "fps" in info and Fraction(info["fps"]) != rate:
            return [
                f"The take's {info['frames']} keys at {float(Fraction(info['fps'])):g} a second were sampled at the scene's "
                f"{float(rate):g} frames a second; give the scene the take's rate to keep every key."
            ]
    return []


@contextlib.contextmanager
def _output(path: str | Path, force: bool) -> Iterator[Path]:
    """`whole_file`, never in the place of the open file or of one that it uses."""
    used = [("open file", bpy.data.filepath)] if bpy.data.filepath else []
    used += [("file that the scene uses", name) for name in bpy.utils.blend_paths(absolute=True)]
    with inputs_kept((name, Path(file)) for name, file in used), whole_file(path, force=force) as temporary:
        yield temporary


@contextlib.contextmanager
def _only(obj: Any, frame_range: tuple[int, int] | None) -> Iterator[tuple[Any, tuple[int, int]]]:
    """Select only the character and set the scene's range, which exporters read; restore both at the end."""
    try:
        scene = scene_of(obj)
        parts = rig.members(obj)
    except ReferenceError:
        raise NotFound("The object was deleted in the meantime; choose another rig.") from None
    first, last = frame_range or frame_span(obj)
    check_range(first, last)
    if first < 0:  # a scene's range begins at 0 at the earliest, and would cut them off
        raise InvalidInput(
            f"The animation begins at frame {first}, and Blender exports from frame 0 on; move it to later frames, or give a range."
        )
    view_layer = bpy.context.view_layer if bpy.context.scene == scene else scene.view_layers[0]
    in_layer = set(view_layer.objects)
    parts = [part for part in parts if part in in_layer]
    if bpy.context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    selected = [o for o in view_layer.objects if o.select_get(view_layer=view_layer)]
    active = view_layer.objects.active
    hidden = [(o, o.hide_get(view_layer=view_layer), o.hide_viewport, o.hide_select) for o in parts]
    span = (scene.frame_start, scene.frame_end, scene.use_preview_range)
    with frame_restored(scene):
        try:
            scene.frame_start, scene.frame_end, scene.use_preview_range = first, last, False
            for other in selected:
                other.select_set(False, view_layer=view_layer)
            for part in parts:
                part.hide_viewport = part.hide_select = False
                part.hide_set(False, view_layer=view_layer)
                part.select_set(True, view_layer=view_layer)
            view_layer.objects.active = obj
            # a command on Blender's command line has no window, and with it no selection in its context
            context = {
                "selected_objects": parts,
                "selected_editable_objects": parts,
                "active_object": obj,
                "object": obj,
            }
            if bpy.context.window is None and len(bpy.context.window_manager.windows):
                context["window"] = bpy.context.window_manager.windows[0]
            with bpy.context.temp_override(scene=scene, view_layer=view_layer, **context):
                yield scene, (first, last)
        finally:
            for part, hide, viewport, select in hidden:
                part.select_set(False, view_layer=view_layer)
                part.hide_set(hide, view_layer=view_layer)
                part.hide_viewport, part.hide_select = viewport, select
            for other in selected:
                other.select_set(True, view_layer=view_layer)
            view_layer.objects.active = active
            scene.frame_start, scene.frame_end, scene.use_preview_range = span


@contextlib.contextmanager
def _named_by_take(obj: Any, scene: Any) -> Iterator[None]:
    """Give the scene, after which exporters name the clip, the take's name; restore its own at the end."""
    own, take = scene.name, take_name(obj)
    if scene.library is None and take not in bpy.data.scenes:
        scene.name = take
    try:
        yield
    finally:
        if scene.name != own:
            scene.name = own


def _run(what: str, operator: Callable[..., set[str]], path: Path, **options: Any) -> None:
    """Call an exporter; its own complaints become one sentence."""
    try:
        known = operator.get_rna_type().properties.keys()  # type: ignore[attr-defined]
    except KeyError as error:
        raise MissingWeights(
            f"This Blender was built without {what}; export from one of blender.org's builds."
        ) from error
    options = {key: value for key, value in options.items() if key in known}  # options come and go with versions
    try:
        result = operator(filepath=str(path), **options)
    except RuntimeError as error:
        raise CmetError(f"Blender's {what} exporter failed: {reason_of(error)}") from error
    if "FINISHED" not in result or not path.is_file() or path.stat().st_size == 0:
        raise CmetError(f"Blender's {what} exporter wrote nothing; the console holds its reason.")


def reason_of(error: RuntimeError) -> str:
    """The reason in an operator's exception, without the traceback around it."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("Location:", "File ", "Traceback"))]
    return (lines[-1] if lines else "no reason given").removeprefix("Error: ")


def enable(module: str) -> None:
    """Switch one of Blender's own importers and exporters on."""
    if not addon_utils.check(module)[1] and addon_utils.enable(module) is None:
        raise MissingWeights(f"Blender's add-on '{module}' is not available; enable it in the preferences.")


@contextlib.contextmanager
def _fbx_from_zero() -> Iterator[None]:
    """Let the exporter count time from the first frame.

    Baking the scene it counts from frame 0, so a range from frame 1 begins one frame late in every reader, Blender's
    included. The function that bakes has the switch; only its caller does not offer it.
    """
    enable("io_scene_fbx")
    from io_scene_fbx import export_fbx_bin

    original = export_fbx_bin.fbx_animations_do

    def from_zero(
        scene_data: Any, ref_id: Any, f_start: float, f_end: float, start_zero: bool, *args: Any, **kwargs: Any
    ) -> Any:
        return original(scene_data, ref_id, f_start, f_end, True, *args, **kwargs)

    export_fbx_bin.fbx_animations_do = from_zero
    try:
        yield
    finally:
        export_fbx_bin.fbx_animations_do = original


def fbx(
    obj: Any,
    path: str | Path,
    frame_range: tuple[int, int] | None = None,
    *,
    preset: str | None = None,
    force: bool = False,
) -> Path:
    """Write the character as FBX with its shape-key animation inside.

    Blender's defaults write no curves for shape keys: they bake single Actions and NLA strips. Here the scene is
    baked instead, every frame, and curves that never change are written too.

    Args:
        obj: an object of the rig.
        path: `.fbx` to write.
        frame_range: first and last scene frame; default what is animated.
        preset: one of `PRESETS`.
        force: replace a file that is there.

    Raises:
        CmetError: unknown preset, the file exists or cannot be written, or the exporter failed.
    """
    if preset is not None and preset not in PRESETS:
        raise InvalidInput(f"'{preset}' is not a preset; use one of {', '.join(PRESETS)}.")
    options: dict[str, Any] = {
        "use_selection": True,
        "object_types": {"ARMATURE", "MESH", "EMPTY"},
        "use_mesh_modifiers": False,  # applying modifiers drops shape keys; the armature is exported as such anyway
        "add_leaf_bones": False,
        "bake_anim": True,
        "bake_anim_use_all_actions": False,
        "bake_anim_use_nla_strips": False,
        "bake_anim_use_all_bones": True,
        "bake_anim_force_startend_keying": True,
        "bake_anim_simplify_factor": 0.0,  # keeps curves that never change, which some readers need to see
        "bake_anim_step": 1.0,
        "path_mode": "AUTO",
        **(PRESETS[preset].fbx if preset else {}),
    }
    if packed_images(rig.members(obj)):
        options |= {"path_mode": "COPY", "embed_textures": True}
    with (
        _output(path, force) as temporary,
        _only(obj, frame_range) as (scene, _),
        _named_by_take(obj, scene),
        _fbx_from_zero(),
    ):
        _run("FBX", bpy.ops.export_scene.fbx, temporary, **options)
    return Path(path)


def gltf(obj: Any, path: str | Path, frame_range: tuple[int, int] | None = None, *, force: bool = False) -> Path:
    """Write the character as binary glTF (`.glb`) with morph-target animation, sampled at every frame; see `fbx`."""
    if Path(path).suffix.lower() != ".glb":
        raise InvalidInput(f"{Path(path).name}: glTF is written as one file; use the suffix .glb.")
    enable("io_scene_gltf2")
    with _output(path, force) as temporary, _only(obj, frame_range) as (scene, _), _named_by_take(obj, scene):
        _run(
            "glTF",
            bpy.ops.export_scene.gltf,
            temporary,
            export_format="GLB",
            use_selection=True,
            export_apply=False,  # modifiers applied: no shape keys
            export_animations=True,
            export_animation_mode="SCENE",  # samples the scene: the sum of NLA, Actions and drivers
            export_anim_scene_split_object=False,
            export_frame_range=True,
            export_anim_slide_to_zero=True,
            export_force_sampling=True,
            export_frame_step=1,
            export_optimize_animation_size=False,
            export_optimize_animation_keep_anim_object=True,
            export_morph=True,
            export_morph_normal=False,
            export_morph_animation=True,
            export_morph_reset_sk_data=True,
            export_extra_animations=False,
        )
    return Path(path)


def usd(obj: Any, path: str | Path, frame_range: tuple[int, int] | None = None, *, force: bool = False) -> Path:
    """Write the character as USD (`.usd .usda .usdc .usdz`) with blend-shape animation; see `fbx`.

    Packed textures go into a folder `textures` beside the file; a .usdz holds them itself.
    """
    folder = Path(path).parent
    with _output(path, force) as temporary, tempfile.TemporaryDirectory(dir=folder) as apart:
        layer = Path(apart, Path(path).name)
        with _only(obj, frame_range):
            _run(
                "USD",
                bpy.ops.wm.usd_export,
                layer,
                selected_objects_only=True,
                export_animation=True,
                export_shapekeys=True,
                export_armatures=True,
                only_deform_bones=False,
                export_textures_mode="NEW" if packed_images(rig.members(obj)) else "KEEP",
                convert_world_material=False,
            )
        _move_textures(Path(apart, "textures"), folder / "textures")
        layer.replace(temporary)
    return Path(path)


def _move_textures(source: Path, target: Path) -> None:
    """Put exported textures into a folder where another file of the same name may lie, which is never replaced."""
    files = list(source.iterdir()) if source.is_dir() else []
    for file in files:
        there = target / file.name
        if there.exists() and there.read_bytes() != file.read_bytes():
            raise InvalidInput(
                f"{there} is another texture of the same name; export to a .usdz, which holds its textures, or into another folder."
            )
    for file in files:
        target.mkdir(exist_ok=True)
        shutil.move(file, target / file.name)


def alembic(obj: Any, path: str | Path, frame_range: tuple[int, int] | None = None, *, force: bool = False) -> Path:
    """Write the moving meshes as Alembic (`.abc`): every frame's points, no shapes or bones; see `fbx`."""
    with _output(path, force) as temporary, _only(obj, frame_range) as (_, (first, last)):
        # as_background_job: without it the module would return before the file is written
        _run(
            "Alembic",
            bpy.ops.wm.alembic_export,
            temporary,
            start=first,
            end=last,
            selected=True,
            uvs=True,
            normals=True,
            as_background_job=False,
            evaluation_mode="VIEWPORT",
        )
    return Path(path)


def blend(obj: Any, path: str | Path, frame_range: tuple[int, int] | None = None, *, force: bool = False) -> Path:
    """Write a copy of the whole file; the open one keeps its name. The scene's range is set to `frame_range`."""
    first, last = frame_range or frame_span(obj)
    with _output(path, force) as temporary, _only(obj, (max(first, 0), last)):
        _run("Blender", bpy.ops.wm.save_as_mainfile, temporary, copy=True, check_existing=False)
        temporary.with_suffix(".blend1").unlink(missing_ok=True)
    return Path(path)


def track(
    obj: Any,
    path: str | Path,
    frame_range: tuple[int, int] | None = None,
    *,
    mapping: RigMapping | None = None,
    form: TakeFormat | None = None,
    force: bool = False,
    **options: Any,
) -> Path:
    """Write what the rig does as a coefficient track: Live Link Face `.csv`, Audio2Face `.json`, native `.npz`, or `form`.

    Further options are those of `keyframes.read_track`.
    """
    with _output(path, force) as temporary:
        found = keyframes.read_track(obj, frame_range or frame_span(obj), mapping, **options)
        take_formats.save(found, temporary, form)
    return Path(path)


WRITERS: dict[str, Callable[..., Path]] = {
    ".fbx": fbx,
    ".glb": gltf,
    ".usd": usd,
    ".usda": usd,
    ".usdc": usd,
    ".usdz": usd,
    ".abc": alembic,
    ".blend": blend,
    ".csv": track,
    ".json": track,
    ".npz": track,
}


def write(
    obj: Any,
    path: str | Path,
    frame_range: tuple[int, int] | None = None,
    *,
    preset: str | None = None,
    mapping: RigMapping | None = None,
    force: bool = False,
) -> Path:
    """Write the rig in the format that the suffix names: `.fbx .glb .usdc .abc .blend .csv .json .npz`.

    Raises:
        CmetError: unknown suffix; and what the format's own function raises.
    """
    suffix = Path(path).suffix.lower()
    writer = WRITERS.get(suffix)
    if writer is None:
        raise InvalidInput(f"{Path(path).name}: cannot export to '{suffix}'; use one of {' '.join(WRITERS)}.")
    if writer is fbx:
        return fbx(obj, path, frame_range, preset=preset, force=force)
    if writer is track:
        return track(obj, path, frame_range, mapping=mapping, force=force)
    return writer(obj, path, frame_range, force=force)
