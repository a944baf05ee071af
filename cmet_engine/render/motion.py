"""Landmark motion: how the landmarks of a face must move so that its coefficients change as asked.

A linear basis is too weak for brows and mouth corners, because the blendshape model responds late and steeply to their motion.
So a small network predicts, from a face and a change of its coefficients, a mixture of the motions that real faces make
(principal components of landmark motion, scaled by their standard deviations). It was trained through a differentiable copy of
the blendshape model, so that the rendered picture reads back as asked (`training.motion`). Coefficients that the blendshape
model hardly ever reports (`cheekSquint`, `noseSneer`, `cheekPuff`, `jawForward`, `tongueOut`), and the gaze, come from the
linear basis.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.face.blendshapes import load_basis
from cmet_engine.face.landmarks import IRIS, OUTER_EYE_CORNERS
from cmet_engine.face.pose import LANDMARKS, denormalise_motion, normalise, template
from cmet_engine.models.assets import asset
from cmet_engine.models.tensors import read_arrays
from cmet_engine.render.eye_motion import keep_brows, keep_forehead, keep_lid_skin, keep_lids, tilt_brows
from cmet_engine.render.lip_motion import keep_red, keep_width, move_lips, move_sideways, round_corners
from cmet_engine.smoothstep import smoothstep

MOTION_FILE = "warp_motion.safetensors"

UNSEEN: tuple[str, ...] = tuple(
    n for n in arkit.NAMES if n.startswith(("cheekSquint", "noseSneer", "cheekPuff", "jawForward", "tongueOut"))
)
"""Coefficients that MediaPipe's blendshape model hardly ever reports, whatever the face does."""

UNSEEN_SHARE = np.array([0.6 if n.startswith("noseSneer") else 1.0 for n in UNSEEN], np.float32)
"""Share of the basis motion of each. A sneer raises the upper lip, which the network moves already: its share is smaller."""

_DRIVEN = {
    "mouthFrown": 1.15, "mouthPress": 0.9, "mouthStretch": 0.8, "browInnerUp": 2.3, "browOuterUp": 1.7, "browDown": 1.6,
    "mouthShrugLower": 1.2, "eyeBlink": 2.0, "eyeSquint": 1.5, "eyeWide": 2.8, "mouthUpperUp": 1.4, "mouthDimple": 0.4,
    "mouthSmile": 1.2, "mouthLowerDown": 1.6, "jawOpen": 1.2,
}  # fmt: skip
DRIVE = np.array([next((v for k, v in _DRIVEN.items() if n.startswith(k)), 1.1) for n in arkit.NAMES], np.float32)
"""Input to the network per unit of change: most of its output is a little weak, a stretched mouth too strong."""

MIDDLE = 0.28
"""Half the width, in outer-eye distances, of the strip down the middle in which left and right blend."""

ALONE = np.array([0.25 if n.startswith("mouthSmile") else 0.0 for n in arkit.NAMES], np.float32)
"""How much further one side goes where it acts alone, per unit of its lead over the other: half a smile is noticed less."""

BROW_ALONE = 0.7
"""A brow raised alone rises as a whole, but ARKit has one `browInnerUp` for both: its side gets this share of the lead."""


@dataclass(frozen=True)
class Motion:
    """The network and the motions it mixes.

    Attributes:
        mean: float32 [1434], pose-free landmarks of the mean face.
        shape: float32 [1434, 40], turns a face into a short code.
        linear: float32 [60, 52].
        layers: three (weight [out, in], bias [out]) of the network on code and change.
        components: float32 [1434, 60], motions of the landmarks, one standard deviation each, fading at the outline.
        weights: float32 [478], how far a landmark takes part in any motion.
    """

    mean: np.ndarray
    shape: np.ndarray
    linear: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    components: np.ndarray
    weights: np.ndarray

    def pose_free(self, points: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """Motion [N, 478, 3] in outer-eye distances of pose-free faces [N, 478, 3] for a change [N, 52]; 0 for none.

        The network was trained on whole faces, and moves one half alone too little. Each half is therefore predicted for a change
        in which both sides do what this one does, and the halves blend across the middle. Predictions for the face and for its
        mirror image are averaged, so left and right are treated alike.
        """
        delta = np.asarray(delta, np.float32)
        driven = delta * np.where(delta > 0, DRIVE, 1.1)
        driven[:, arkit.columns(arkit.GAZE)] = 0
        points = points.astype(np.float32)
        mirror, sides = template().mirror, np.array([-1, 1, 1], np.float32)
        motion = np.zeros_like(points)
        for share, both in zip(_halves(), _evened(driven), strict=True):
            predicted = self._predict(points, both)
            predicted += (self._predict((points * sides)[:, mirror], both) * sides)[:, mirror]
            motion += predicted * share[:, None] / 2
        rest = np.zeros_like(delta)
        unseen = arkit.columns(UNSEEN)
        rest[:, unseen] = delta[:, unseen] * UNSEEN_SHARE
        motion += load_basis().pose_free_motion(rest) * self.weights[:, None]
        gaze = np.zeros_like(delta)
        gaze[:, arkit.columns(arkit.GAZE)] = delta[:, arkit.columns(arkit.GAZE)]
        motion[:, IRIS] = load_basis().pose_free_motion(gaze)[:, IRIS]
        return motion

    def _predict(self, points: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """Motion [N, 478, 3] of faces [N, 478, 3] for a change [N, 52]."""
        code = (points.reshape(len(points), -1) - self.mean) @ self.shape
        mix = delta @ self.linear.T + self._network(code, delta) - self._network(code, np.zeros_like(delta))
        return (mix @ self.components.T).reshape(-1, LANDMARKS, 3)

    def _network(self, code: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """Shares of the components, [N, 60], from the code of a face [N, 40] and a change [N, 52]."""
        x = np.concatenate([code, delta], 1)  # [N, 92]
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = x / (1 + np.exp(-x))
        return x


def _halves() -> tuple[np.ndarray, np.ndarray]:
    """How far each landmark belongs to the left and to the right half of the face: [478] each, together 1."""
    x = template().points[:, 0]
    left = smoothstep(x * np.sign(x[OUTER_EYE_CORNERS[1]]), -MIDDLE, MIDDLE).astype(np.float32)
    return left, 1 - left


def _evened(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The change [N, 52] with both sides doing what the left one does, and what the right one does."""
    left, right = np.array([[arkit.INDEX[a], arkit.INDEX[b]] for a, b in arkit.PAIRS]).T
    results = change.copy(), change.copy()
    results[0][:, right], results[1][:, left] = change[:, left], change[:, right]
    inner = arkit.INDEX["browInnerUp"]
    lead = change[:, arkit.INDEX["browOuterUpLeft"]] - change[:, arkit.INDEX["browOuterUpRight"]]
    for result, above in zip(results, (lead, -lead), strict=True):
        result[:, inner] += BROW_ALONE * np.maximum(above, 0)
    for a, b in ((left, right), (right, left)):
        result = results[0] if a is left else results[1]
        more = np.maximum(change[:, a] - np.maximum(change[:, b], 0), 0) * ALONE[a]
        result[:, a] += more
        result[:, b] += more
    return results


@cache
def load_motion() -> Motion:
    """The embedded network.

    Raises:
        CmetError: the embedded file is missing.
    """
    w, _ = read_arrays(asset(MOTION_FILE))
    layers = tuple((w[f"layers.{i}.weight"], w[f"layers.{i}.bias"]) for i in range(3))
    return Motion(w["mean"], w["shape"], w["linear"], layers, w["components"], w["weights"])


def landmark_motion(landmarks: np.ndarray, delta: np.ndarray, source: np.ndarray | None = None) -> np.ndarray:
    """The motion of the landmarks of single frames for a change of their coefficients, with all corrections.

    Args:
        landmarks: [N, 478, 3] pixels, of the frames as they are.
        delta: [N, 52], change of the coefficients.
        source: [N, 52], the coefficients of the frames, which say how much of an opening of the lips a change takes away; None
            where they are unknown.

    Returns:
        float64 [N, 478, 3] pixels, rotated with the head; 0 where the landmarks are not finite.

    Raises:
        InvalidInput: shapes do not match.
    """
    if np.shape(delta) != (len(landmarks), arkit.COUNT):
        raise InvalidInput(
            f"The coefficient change has shape {list(np.shape(delta))}; expected {[len(landmarks), arkit.COUNT]}."
        )
    points, pose = normalise(landmarks)
    known = np.isfinite(points).all((1, 2))
    points = np.where(known[:, None, None], points, template().points)
    wanted = np.asarray(delta, np.float64)
    motion = keep_lids(points, tilt_brows(load_motion().pose_free(points, delta), wanted), wanted, source)
    motion = keep_lid_skin(points, keep_brows(points, round_corners(motion)))
    motion = keep_forehead(points, motion)
    motion = move_lips(points, keep_width(points, motion, wanted), wanted, source)
    motion = keep_red(points, move_sideways(motion, wanted), wanted)
    return np.where(known[:, None, None], np.nan_to_num(denormalise_motion(motion, pose)), 0.0)
