"""A face received live, shown on a rig and recorded.

What is shown is never keyed: the rig's values before are kept and put back at the end, before a file is saved and before
another is loaded. Objects are named, not held, because they may be deleted or undone meanwhile.
"""

import time
from fractions import Fraction
from typing import Any

import bpy
import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import NotFound
from cmet_engine.live_capture import LOOPBACK, Receiver, Recording, Sample
from cmet_engine.track import CoefficientTrack

from . import rig
from .actions import Curves
from .bones import bone_curves, rotation_curves
from .followers import free_shapes, shape_path
from .mapping import RigMapping, split_channel


class Shown:
    """Values that are set on datablocks for a while."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str, str, int], float] = {}  # collection, owner, data path, index: value

    def put(self, part: Curves) -> None:
        """Set the first value of each curve."""
        collection = "shape_keys" if part.slot_type == "KEY" else "objects"
        for (path, index), values in part.curves.items():
            old = _set(part.owner, path, index, float(values[0]))
            self._before.setdefault((collection, part.owner.name, path, index), old)

    def restore(self) -> None:
        """Set the values that were there before."""
        for (collection, name, path, index), value in self._before.items():
            owner = getattr(bpy.data, collection).get(name)
            if owner is not None:
                _set(owner, path, index, value)
        if self._before:
            scene = bpy.context.scene
            scene.frame_set(scene.frame_current, subframe=scene.frame_subframe)  # what is keyed shows its keys
        self._before.clear()


class Live(Shown):
    """A rig that follows a live face.

    Args:
        obj: an object of the rig, in the scene.
        mapping: of the rig, as it is now.
        port: UDP port to listen on.
        host: interface to listen on: this machine's own alone, or `""` for all.
        phone: see `Receiver`.

    Attributes:
        rate: frames a second that arrive, as measured.
        recording: the take that is being recorded, or None.

    Raises:
        InvalidInput: the rig's data are linked, or the port cannot be used.
    """

    def __init__(self, obj: Any, mapping: RigMapping, port: int, host: str = LOOPBACK, phone: str = "") -> None:
        super().__init__()
        rig.check_editable(obj)
        self.rig, self._mapping = obj.name, mapping
        self._arrivals: list[float] = []
        self.rate = 0.0
        self.recording: Recording | None = None
        self.receiver = Receiver(port, host, phone)

    def step(self) -> bool:
        """Show the newest sample that came, and keep all for the take; returns whether one came.

        Raises:
            NotFound: the rig was deleted.
        """
        obj = bpy.context.scene.objects.get(self.rig)
        if obj is None:
            raise NotFound(f"'{self.rig}' is no longer in this scene; choose another rig.")
        came = self.receiver.fetch()
        now = time.monotonic()
        self._arrivals = [t for t in [*self._arrivals, *(arrived for arrived, _ in came)] if t > now - 1]
        self.rate = float(len(self._arrivals))
        if self.recording is not None:
            for arrived, sample in came:
                self.recording.add(arrived, sample)
        newest = next((sample for _, sample in reversed(came) if sample.face), None)
        if newest is not None:
            for part in pose(obj, self._mapping, newest):
                self.put(part)
        return bool(came)

    def record(self) -> None:
        """Begin a take."""
        self.recording = Recording()

    def recorded(self) -> CoefficientTrack:
        """End the take and return it.

        Raises:
            InvalidInput: nothing was received.
        """
        recording, self.recording = self.recording, None
        return (recording or Recording()).track()

    def close(self) -> None:
        """Stop listening."""
        self.receiver.close()


def pose(obj: Any, mapping: RigMapping, sample: Sample) -> list[Curves]:
    """What a sample sets on a rig: one value for each data path of its shape keys, bones and objects that may be changed."""
    row = CoefficientTrack(
        Fraction(30),
        sample.values[None, : arkit.COUNT],
        sample.values[None, arkit.COUNT : arkit.COUNT + 3],
        sample.values[None, arkit.COUNT + 3 :],
    )
    names = {channel for channel in mapping.channels if split_channel(channel) is None}
    parts = []
    for mesh in rig.meshes(obj):
        keys = mesh.data.shape_keys
        free = free_shapes(mesh, keys, names)
        values = mapping.values(row.coefficients, free).astype(np.float32)
        curves = {(shape_path(name), 0): values[:, k] for k, name in enumerate(free)}
        parts.append(Curves(keys, keys.id_type, keys.name, curves))
    parts += bone_curves(obj, mapping, row.coefficients)
    return parts + rotation_curves(obj, mapping, row, bpy.context.scene, [])


def _set(owner: Any, path: str, index: int, value: float) -> float:
    """Set what a data path leads to; returns what it was."""
    place, _, name = path.rpartition(".")
    try:
        holder = owner.path_resolve(place) if place else owner
    except ValueError:  # a shape or bone that is gone
        return value
    old = getattr(holder, name)
    if isinstance(old, float):
        setattr(holder, name, value)
        return old
    before, old[index] = float(old[index]), value
    return before
