"""Landmarks to the 52 ARKit coefficients (`Solver`) and coefficients back to landmark motion (`Basis`)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.face.lips import eye_opening, lip_opening
from cmet_engine.face.pose import LANDMARKS, Pose, denormalise, denormalise_motion, normalise, template
from cmet_engine.models import asset
from cmet_engine.track import FRAME_TIMES, CoefficientTrack

__all__ = [
    "Basis",
    "Pose",
    "Solver",
    "denormalise",
    "eye_opening",
    "lip_opening",
    "load_basis",
    "load_solver",
    "normalise",
]

SOLVER_FILE = "face_solver.safetensors"
BASIS_FILE = "face_basis.safetensors"
SIDES = np.array([-1.0, 1.0, 1.0])  # a mirror turns x around

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Solver:
    """478 landmarks -> 52 coefficients: a small network on pose-free landmarks.

    Every face is also seen in a mirror and both answers are averaged, so left and right are treated alike.
    """

    mean: np.ndarray  # [1434] of pose-free landmarks minus the mean face
    scale: np.ndarray  # [1434]
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]  # (weight [out, in], bias [out])

    def coefficients(self, landmarks: np.ndarray) -> np.ndarray:
        """Coefficients of single frames.

        Args:
            landmarks: [N, 478, 3] pixels.

        Returns:
            float32 [N, 52] in 0..1, canonical order.

        Raises:
            CmetError: wrong shape, or a frame holds a value that is not finite.
        """
        points, _ = normalise(landmarks)
        if not np.isfinite(points).all():
            frame = int(np.argwhere(~np.isfinite(points).all((1, 2)))[0, 0])
            raise CmetError(f"Landmarks of frame {frame} are not numbers; leave frames without a face out.")
        x = (points - template().points).astype(np.float32)
        flipped = (x * SIDES.astype(np.float32))[:, template().mirror]
        return (self._forward(x) + self._forward(flipped)[:, arkit.MIRROR]) / 2

    def _forward(self, x: np.ndarray) -> np.ndarray:
        x = (x.reshape(len(x), -1) - self.mean) * self.scale  # [N, 1434]
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = _gelu(x)
        return 1 / (1 + np.exp(-x))

    def track(self, geometry: Any, progress: Progress | None = None) -> CoefficientTrack:
        """Coefficients of a whole clip.

        Args:
            geometry: a `FaceGeometry`.
            progress: called with ("solving", frames done, frames in all).
        """
        n = len(geometry)
        coefficients = np.zeros((n, arkit.COUNT), np.float32)
        for part, landmarks in geometry.chunks():
            coefficients[part] = self.coefficients(landmarks)
            if progress:
                progress("solving", part.stop, n)
        meta: dict[str, Any] = {"source": "footage"}
        if geometry.variable:
            meta[FRAME_TIMES] = [round(float(t), 6) for t in geometry.times]
        return CoefficientTrack(
            geometry.fps, coefficients, geometry.head_rotation, geometry.eye_rotation, geometry.valid, meta
        )


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
            CmetError: shapes do not match.
        """
        delta = np.asarray(delta, np.float32)
        if delta.shape != (len(landmarks), arkit.COUNT):
            raise CmetError(
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
    w = load_file(asset(SOLVER_FILE))
    count = sum(name.endswith(".bias") for name in w)
    layers = tuple((w[f"layers.{i}.weight"], w[f"layers.{i}.bias"]) for i in range(count))
    return Solver(w["mean"], w["scale"], layers)


@functools.cache
def load_basis() -> Basis:
    """The embedded basis.

    Raises:
        CmetError: the embedded file is missing or damaged.
    """
    components = load_file(asset(BASIS_FILE))["components"]
    assert components.shape == (arkit.COUNT, LANDMARKS, 3)
    return Basis(components)
