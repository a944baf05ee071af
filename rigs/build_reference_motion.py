"""Write `reference_motion.npz`: how the demo head's skin moves, sampled, for rigs that lack some of the 52 shapes.

    python rigs/build_reference_motion.py         needs the package bpy; seconds

Holds `points` float32 [R, 3] (metres, Z up, facing -Y), `motion` float16 [52, R, 3] and `names` [52].
"""

import io
import sys
from pathlib import Path

import bpy
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cmet_blender import rig  # noqa: E402
from cmet_engine import arkit  # noqa: E402
from cmet_engine.files import whole_file  # noqa: E402

POINTS = 900  # dense enough that a lip is followed point by point, small enough to ship
STILL = 2e-4  # metres: skin that no shape moves further than this says nothing


def farthest(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` points that lie evenly over the surface (farthest-point sampling, Eldar 1997)."""
    chosen = [int(points[:, 2].argmax())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return np.array(sorted(chosen))


def main() -> None:
    """Read the demo head, write the file."""
    bpy.ops.wm.open_mainfile(filepath=str(ROOT / "rigs" / "demo_head.blend"))
    points, deltas = rig.geometry(bpy.data.objects["head"])
    meshes = rig.meshes(bpy.data.objects["head"])
    skin = np.zeros(len(points), bool)
    start = 0
    for mesh in meshes:
        skin[start : start + len(mesh.data.vertices)] = mesh.name in ("head", "tongue")
        start += len(mesh.data.vertices)
    motion = np.stack([deltas[name] for name in arkit.NAMES])
    moving = np.flatnonzero(skin & (np.linalg.norm(motion, axis=2).max(0) > STILL))
    kept = moving[farthest(points[moving], POINTS)]
    data = io.BytesIO()
    np.savez_compressed(
        data,
        points=points[kept].astype(np.float32),
        motion=motion[:, kept].astype(np.float16),
        names=np.array(arkit.NAMES),
    )
    with whole_file(ROOT / "rigs" / "reference_motion.npz", force=True) as path:
        path.write_bytes(data.getvalue())
    print(f"{len(kept)} points, {len(data.getvalue()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
