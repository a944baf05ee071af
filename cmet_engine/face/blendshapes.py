"""Landmarks to the 52 ARKit coefficients (`Solver`) and coefficients back to landmark motion (`Basis`)."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.landmarks import LANDMARKS
from cmet_engine.face.pose import Pose, denormalise_motion, normalise, pose_terms, template
from cmet_engine.models.assets import asset
from cmet_engine.models.tensors import read_arrays
from cmet_engine.progress import Progress, Stage
from cmet_engine.track import FRAME_TIMES, CoefficientTrack

SOLVER_FILE = "face_solver.safetensors"
BASIS_FILE = "face_basis.safetensors"
SIDES = np.array([-1.0, 1.0, 1.0])
"""Signs of the axes in a mirror, which turns x around."""

BLIND = ("jawForward", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight")
"""Coefficients that MediaPipe's blendshape model, the teacher of the solver, never reports: they come from geometry alone."""

UNSURE = (
    "eyeWideLeft eyeWideRight jawLeft jawRight mouthClose mouthFunnel mouthLeft mouthRight mouthFrownLeft mouthFrownRight "
    "mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight mouthRollLower mouthRollUpper mouthShrugLower "
    "mouthShrugUpper mouthPressLeft mouthPressRight"
).split()
"""Coefficients that it reports with low scores."""

SELDOM_REPORTED: tuple[str, ...] = tuple(
    n
    for n in arkit.NAMES
    if n.startswith(("cheekSquint", "noseSneer", "cheekPuff", "jawForward", "tongueOut", "mouthClose", "mouthFunnel"))
    or n in ("eyeWideLeft", "jawRight", "mouthLeft", "mouthRight", "mouthDimpleRight")
)
"""Coefficients that MediaPipe's blendshape model, and so the solver on single frames, reports at 0.2 or more on less than 1 % of
faces (3,974 pictures and frames of 42 clips); `eyeWide` and `mouthDimple` on one side only."""

READABLE = np.array([n not in SELDOM_REPORTED and arkit.mirrored(n) not in SELDOM_REPORTED for n in arkit.NAMES])
"""bool [52], coefficients whose change can be read from a picture; a pair is left out where either side is."""

SURE_SPREAD, UNSURE_SPREAD, BLIND_SPREAD, TONGUE_SPREAD = 0.06, 0.1, 1.0, 1e-3
"""Standard deviation by which a coefficient may differ from the network's prediction to explain the landmarks."""
LANDMARK_SPREAD = 0.1
"""Standard deviation by which landmark motion may differ from what the coefficients explain, in outer-eye distances. These values
trade agreement with the teacher against motion explained; chosen on clips of people that the models were trained on."""
SWEEPS = 12
"""Sweeps of the coordinate descent."""
REST_FRAMES = 600
"""Frames of a clip that its rest face is taken from."""


@dataclass(frozen=True)
class Solver:
    """478 landmarks -> 52 coefficients.

    A small network predicts them from the pose-free landmarks of single frames. The prediction is averaged with that for the
    mirrored face, so left and right are treated alike. Over a clip (`track`) the predictions are then corrected to explain,
    through the basis, how the landmarks move from the person's rest face. The coefficients that the network's teacher never
    reports (`BLIND`) come from this correction.
    """

    scale: np.ndarray  # [1434]
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]  # (weight [out, in], bias [out])

    def coefficients(self, landmarks: np.ndarray) -> np.ndarray:
        """Coefficients of single frames, from the network alone: without a clip there is no rest face to compare with.

        Args:
            landmarks: [N, 478, 3] pixels.

        Returns:
            float32 [N, 52] in 0..1, canonical order; those of `BLIND` are near 0.

        Raises:
            InvalidInput: wrong shape, or a frame holds a value that is not finite.
        """
        points, pose = normalise(landmarks)
        if not np.isfinite(points).all():
            frame = int(np.argwhere(~np.isfinite(points).all((1, 2)))[0, 0])
            raise InvalidInput(f"Landmarks of frame {frame} are not numbers; leave frames without a face out.")
        return self._network(points, pose)

    def _network(self, points: np.ndarray, pose: Pose) -> np.ndarray:
        x = (points - template().points).reshape(len(points), 3 * LANDMARKS).astype(np.float32)
        turns = pose_terms(pose.rotation)[:, :2].astype(np.float32)
        mirrored = self._forward(mirror_motion(x), turns * np.array([-1, 1], np.float32))
        return (self._forward(x, turns) + mirrored[:, arkit.MIRROR]) / 2

    def _forward(self, x: np.ndarray, turns: np.ndarray) -> np.ndarray:
        x = np.concatenate([x * self.scale, turns], 1)  # [N, 1436]
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = _gelu(x)
        return (1 / (1 + np.exp(-x))).astype(np.float32)

    def track(self, geometry: FaceGeometry, progress: Progress | None = None) -> CoefficientTrack:
        """Coefficients of a whole clip.

        Args:
            geometry: landmarks of every frame.
            progress: called with ("solving", frames done, frames in all).
        """
        n = len(geometry)
        components = load_basis().components.reshape(arkit.COUNT, -1).astype(np.float64)
        coefficients = np.zeros((n, arkit.COUNT), np.float32)
        projected = np.zeros((n, arkit.COUNT))  # landmarks minus the mean face, projected onto the components
        sampled = set(np.flatnonzero(geometry.valid)[:: max(1, int(geometry.valid.sum()) // REST_FRAMES)].tolist())
        faces, predictions = [], []
        for part, landmarks in geometry.chunks():
            points, pose = normalise(landmarks)
            coefficients[part] = self._network(points, pose)
            motion = (points - template().points).reshape(len(points), 3 * LANDMARKS)
            projected[part] = motion @ components.T
            keep = [i - part.start for i in range(part.start, part.stop) if i in sampled]
            faces.append(motion[keep].astype(np.float32))
            predictions.append(coefficients[part][keep])
            if progress:
                progress(Stage.SOLVING, part.stop, n)
        if sampled:
            rest = rest_face(np.concatenate(faces), np.concatenate(predictions), components)
            coefficients = read_back(projected - rest @ components.T, coefficients, components).astype(np.float32)
        meta: dict[str, Any] = {"source": "footage"}
        if geometry.variable:
            meta[FRAME_TIMES] = [round(float(t), 6) for t in geometry.times]
        return CoefficientTrack(
            geometry.fps, coefficients, geometry.head_rotation, geometry.eye_rotation, geometry.valid, meta
        )


def mirror_motion(motion: np.ndarray) -> np.ndarray:
    """Pose-free landmarks or motion [N, 1434] of the same face in a mirror."""
    faces = motion.reshape(len(motion), LANDMARKS, 3)[:, template().mirror] * SIDES.astype(motion.dtype)
    return faces.reshape(len(motion), 3 * LANDMARKS)


def trust_of() -> np.ndarray:
    """float64 [52]: how much each of the network's predictions weighs against the landmarks."""
    spread = np.full(arkit.COUNT, SURE_SPREAD)
    spread[arkit.columns(UNSURE)] = UNSURE_SPREAD
    spread[arkit.columns(BLIND)] = BLIND_SPREAD
    spread[arkit.INDEX["tongueOut"]] = TONGUE_SPREAD
    return (LANDMARK_SPREAD / spread) ** 2


def read_back(projected: np.ndarray, predictions: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Coefficients in 0..1 that explain how landmarks moved from rest and stay near the network's predictions.

    Ridge regression with bounds, solved by cyclic coordinate descent (Friedman, Hastie and Tibshirani, "Regularization
    paths for generalized linear models via coordinate descent", 2010, section 2, with clipping in place of shrinking).

    Args:
        projected: float64 [N, 52], landmark motion from rest projected onto each component.
        predictions: [N, 52] of the network.
        components: float64 [52, 1434].

    Returns:
        float64 [N, 52].
    """
    trust = trust_of()
    system = components @ components.T + np.diag(trust)
    wanted = projected + predictions * trust
    result = predictions.astype(np.float64)
    for _ in range(SWEEPS):
        for j in range(arkit.COUNT):
            step = (wanted[:, j] - result @ system[j]) / system[j, j]
            result[:, j] = np.clip(result[:, j] + step, 0, 1)
    return result


def rest_face(faces: np.ndarray, predictions: np.ndarray, components: np.ndarray) -> np.ndarray:
    """The person's face at rest, minus the mean face: [1434].

    The median over frames of what the coefficients leave unexplained: first those the network predicts, then those of `read_back`.

    Args:
        faces: [N, 1434] pose-free landmarks minus the mean face.
        predictions: [N, 52] of the network.
        components: [52, 1434].
    """
    rest = np.median(faces - predictions @ components, axis=0)
    explained = read_back((faces - rest) @ components.T, predictions, components)
    return np.median(faces - explained @ components, axis=0)


@dataclass(frozen=True)
class Basis:
    """52 coefficients -> motion of the 478 landmarks.

    Attributes:
        components: float32 [52, 478, 3], pose-free motion of each coefficient at 1, in outer-eye distances.
    """

    components: np.ndarray

    def pose_free_motion(self, delta: np.ndarray) -> np.ndarray:
        """Motion [N, 478, 3] in outer-eye distances of a coefficient difference [N, 52]."""
        return np.tensordot(np.asarray(delta, np.float32), self.components, 1)

    def motion(self, landmarks: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """How the landmarks of these frames move when the coefficients change.

        Args:
            landmarks: [N, 478, 3] pixels, of the frames as they are.
            delta: [N, 52] change of the coefficients; may leave -1..1.

        Returns:
            float32 [N, 478, 3] pixels, turned with the head; 0 where the landmarks are not finite.

        Raises:
            InvalidInput: shapes do not match.
        """
        delta = np.asarray(delta, np.float32)
        if delta.shape != (len(landmarks), arkit.COUNT):
            raise InvalidInput(
                f"The coefficient change has shape {list(delta.shape)}; expected {[len(landmarks), arkit.COUNT]}."
            )
        _, pose = normalise(landmarks)
        return np.nan_to_num(denormalise_motion(self.pose_free_motion(delta), pose)).astype(np.float32)


def _gelu(x: np.ndarray) -> np.ndarray:
    """Gaussian error linear unit, the tanh form (Hendrycks and Gimpel 2016, section 2)."""
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))


@functools.cache
def load_solver() -> Solver:
    """The embedded solver.

    Raises:
        CmetError: the embedded file is missing or damaged.
    """
    w, _ = read_arrays(asset(SOLVER_FILE))
    count = sum(name.endswith(".bias") for name in w)
    layers = tuple((w[f"layers.{i}.weight"], w[f"layers.{i}.bias"]) for i in range(count))
    return Solver(w["scale"], layers)


@functools.cache
def load_basis() -> Basis:
    """The embedded basis.

    Raises:
        CmetError: the embedded file is missing or damaged.
    """
    components = read_arrays(asset(BASIS_FILE))[0]["components"]
    assert components.shape == (arkit.COUNT, LANDMARKS, 3)
    return Basis(components)
