"""Coefficient tracks as keys on a rig, and back.

`apply_track` makes one new Action with a slot for every datablock it animates (the shape keys of the leading mesh, which
the others follow, the armature, objects that turn with the head) and never touches an earlier one. Keys lie at the frame's own time in the
scene's rate, between whole frames if need be. `read_track` reads evaluated values: NLA, drivers and curve modifiers
included.
"""

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np

from cmet_engine.errors import InvalidInput
from cmet_engine.progress import Progress, Stage
from cmet_engine.track import CoefficientTrack

from . import followers, rig
from . import mapping as mapping_module
from .actions import INFO, Curves, merged, write_action
from .bones import bone_channels, bone_curves, read_bones, read_rotation, rotation_curves
from .emotion_tracks import refresh_rest
from .frames import check_range, frame_restored, frames_at, key_positions, scene_fps, scene_of
from .mapping import RigMapping, split_channel


def apply_track(
    obj: Any,
    track: CoefficientTrack,
    mapping: RigMapping | None = None,
    start_frame: float = 1,
    *,
    simplify: float = 0.0,
    rotations: bool = True,
    name: str | None = None,
    scene: Any = None,
) -> Any:
    """Write a track as keys on a rig, as a new Action; earlier Actions stay in the file.

    Args:
        obj: an object of the rig: its face mesh, or the armature or empty above it.
        track: what to write, at its own frame rate.
        mapping: default `mapping.match(obj)`.
        start_frame: scene frame of the track's first frame.
        simplify: largest error in coefficient units (degrees / 100 for angles) that leaving out keys may cause; 0 keeps all.
        rotations: also turn the head and eye bones or objects that the mapping names.
        name: of the Action; default from the object and the track's source.
        scene: whose frame rate counts; default the object's.

    Returns:
        The Action. Its custom property `cmet` holds JSON with `fps`, `frames`, `notes` (what was left alone and why).

    Raises:
        CmetError: linked data, no shape of the mapping on the rig, everything locked or driven, an empty track.
    """
    rig.check_editable(obj)
    if len(track) == 0:
        raise InvalidInput("The track has no frames; nothing was applied.")
    mapping = mapping or mapping_module.match(obj)
    scene = scene or scene_of(obj)
    positions = key_positions(track.times, start_frame, scene_fps(scene))
    notes: list[str] = []
    parts = shape_curves(obj, mapping, mapping.values, track.coefficients, notes)
    parts += bone_curves(obj, mapping, track.coefficients)
    if rotations:
        parts = merged(parts + rotation_curves(obj, mapping, track, scene, notes))
    if not any(part.curves for part in parts):
        raise InvalidInput(_nothing(obj, mapping, notes))
    label = name or f"{obj.name} {track.meta.get('source') or 'C-MET'}"
    info = {"fps": str(track.fps), "frames": len(track), "notes": notes}
    action = write_action(label, parts, positions, simplify=simplify, info=info)
    for part in parts:
        refresh_rest(part.owner, set(part.curves))
    return action


def _nothing(obj: Any, mapping: RigMapping, notes: list[str]) -> str:
    if notes:
        return f"Nothing on '{obj.name}' could be keyed: {' '.join(notes)}"
    return (
        f"No shape key of '{obj.name}' takes any of the mapping's channels; match the rig again or correct the table."
    )


def notes_of(action: Any) -> list[str]:
    """What `apply_track` left alone, in sentences."""
    return list(json.loads(action.get(INFO, "{}")).get("notes", ()))


def shape_curves(
    obj: Any, mapping: RigMapping, values_of: Any, coefficients: np.ndarray, notes: list[str]
) -> list[Curves]:
    """Curves of the shapes that may be keyed, all on the leading mesh; why others may not is added to `notes`.

    Args:
        obj: an object of the rig.
        mapping: which channels there are.
        values_of: channel values [N, K] of `(coefficients, names)`, as `RigMapping.values` gives them.
        coefficients: [N, 52].
        notes: in plain words, for the user.
    """
    shapes = [c for c in mapping.channels if split_channel(c) is None]
    first, paths, found_notes = followers.connect(obj, set(shapes))
    notes += found_notes
    if first is None or not paths:
        return []
    values = values_of(coefficients, list(paths)).astype(np.float32)
    keys = first.data.shape_keys
    curves = {(path, 0): values[:, k] for k, path in enumerate(paths.values())}
    return [Curves(keys, keys.id_type, keys.name, curves)]


def read_track(
    obj: Any,
    frame_range: tuple[int, int] | None = None,
    mapping: RigMapping | None = None,
    *,
    fps: Fraction | None = None,
    times: np.ndarray | None = None,
    reference: CoefficientTrack | None = None,
    scene: Any = None,
    progress: Progress | None = None,
) -> CoefficientTrack:
    """Read what the rig does as a track: evaluated values, NLA, drivers and curve modifiers included.

    Args:
        obj: an object of the rig.
        frame_range: first and last scene frame, both read; default the scene's.
        mapping: default `mapping.match(obj)`.
        fps: rate of the track; default the scene's. Another rate is sampled in time, between frames.
        times: float64 [N] seconds after the first frame to read at, instead of an even rate.
        reference: the track that the rig was driven from, sample for sample: what the rig cannot show is kept from it.
        scene: default the object's.
        progress: `(stage, done, total)`; raising cancels.

    Raises:
        CmetError: the range is empty, or the reference has another length.
    """
    mapping = mapping or mapping_module.match(obj)
    scene = scene or scene_of(obj)
    first, last = frame_range or (scene.frame_start, scene.frame_end)
    check_range(first, last)
    rate = scene_fps(scene)
    fps = Fraction(fps) if fps else rate
    if times is None:
        count = math.floor((last - first) / float(rate) * float(fps) + 1e-6) + 1
        times = np.arange(count) * float(1 / fps)
    times = np.asarray(times, np.float64)
    if reference is not None and len(reference) != len(times):
        raise InvalidInput(
            f"The reference track has {len(reference)} frames, the range {len(times)}; choose the range it was applied to."
        )
    rig_channels = _RigChannels(obj, mapping, scene)
    values, angles = rig_channels.sample(key_positions(times, first, rate), progress)
    coefficients = mapping.invert(values, rig_channels.names, None if reference is None else reference.coefficients)
    zeros = np.zeros((len(times), 3))
    left, right = angles.get("leftEye", zeros), angles.get("rightEye", zeros)
    head, eyes = angles.get("head", zeros), np.concatenate([left[:, :2], right[:, :2]], 1)
    if reference is not None:
        head = head if "head" in angles else reference.head_rotation
        eyes = eyes if "leftEye" in angles else reference.eye_rotation
    meta = dict(reference.meta) if reference is not None else {"source": f"blender: {obj.name}"}
    valid = reference.valid if reference is not None else np.ones(len(times), bool)
    return CoefficientTrack(fps, coefficients.astype(np.float32), head, eyes, valid, meta)


class _RigChannels:
    """The channels of a mapping that exist on a rig, to be read frame by frame.

    Attributes:
        names: of the channels, in the order of the columns that `sample` returns.
    """

    def __init__(self, obj: Any, mapping: RigMapping, scene: Any) -> None:
        self._mapping, self._scene = mapping, scene
        self._skeleton = rig.armature(obj)
        self._bones = bone_channels(mapping, self._skeleton) if self._skeleton is not None else {}
        self._shapes: dict[Any, list[str]] = {}  # names by shape-key datablock, each name in the first that has it
        taken: set[str] = set()
        wanted = [c for c in mapping.channels if split_channel(c) is None]
        for mesh in rig.meshes(obj):
            keys = mesh.data.shape_keys
            names = [n for n in wanted if n in keys.key_blocks and n not in taken]
            if names:
                self._shapes[keys] = names
                taken |= set(names)
        self.names = [name for names in self._shapes.values() for name in names]
        self.names += [channel for channels in self._bones.values() for channel in channels]
        self._column = {name: k for k, name in enumerate(self.names)}

    def sample(self, positions: np.ndarray, progress: Progress | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Values [N, K] of the channels, and angles [N, 3] in degrees of each rotation, at scene frames `positions` [N]."""
        values = np.zeros((len(positions), len(self.names)))
        angles = {key: np.zeros((len(positions), 3)) for key in self._mapping.rotations}
        if progress:
            progress(Stage.READ_RIG, 0, len(positions))
        with frame_restored(self._scene):
            for i, graph in enumerate(frames_at(self._scene, positions)):
                for keys, names in self._shapes.items():
                    blocks = keys.evaluated_get(graph).key_blocks
                    for name in names:
                        values[i, self._column[name]] = blocks[name].value
                if self._skeleton is not None:
                    evaluated = self._skeleton.evaluated_get(graph)
                    read_bones(evaluated, self._skeleton, self._mapping, self._bones, self._column, values[i])
                for key, rotation in self._mapping.rotations.items():
                    angles[key][i] = read_rotation(rotation, self._skeleton, self._scene, graph)
                if progress:
                    progress(Stage.READ_RIG, i + 1, len(positions))
        return values, angles
