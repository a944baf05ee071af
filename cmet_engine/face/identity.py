"""Whether two faces are one person's: a signature of a face from its geometry and its look.

Both are taken from one frame with landmarks. Geometry is where the landmarks lie once pose and expression are taken away; the
look is what edges and shades there are on the face, drawn as it looks from the front at rest (`texture`). Both are projected
onto the axes along which people differ most. A signature says who is seen again at another moment of a clip, or which of its
people a picture shows; it is no means of finding out who somebody is.
"""

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import scipy

from cmet_engine.face.blendshapes import load_basis, load_solver
from cmet_engine.face.landmarks import CHIN_TIP, EARS, FOREHEAD, SKIN
from cmet_engine.face.pose import normalise, template
from cmet_engine.media.info import Frame, cut
from cmet_engine.models.assets import asset
from cmet_engine.models.tensors import read_arrays

IDENTITY_FILE = "face_identity.safetensors"
SIDE = 64
"""Pixels of a texture."""
_LEFT, _TOP, _SPAN = -0.96, 0.99, 1.92  # of the texture in the pose-free space, outer-eye distances
CELL, DIRECTIONS, EDGE_SCALE, SHADES_WEIGHT = 8, 8, 40.0, 0.12
"""Of `look_features`."""
GEOMETRY_SHARE = 0.35
"""How much of a signature's squared length is the geometry's; chosen on clips of people not trained on (`cmet eval identity`)."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
MOST_TURN = 38.0
"""Degrees from the camera beyond which a face is not seen well enough to say whose it is."""
LEAST_SIDE = 36.0
"""Pixels of a face's side below which it is not, either."""


@functools.cache
def _places() -> tuple[Any, np.ndarray]:
    """Places of a texture's pixels as shares of the landmarks, [4096, 468]; and whether each lies on the face, bool [64, 64]."""
    steps = (np.arange(SIDE) + 0.5) / SIDE * _SPAN
    x, y = np.meshgrid(_LEFT + steps, _TOP - steps)
    places = np.stack([x.ravel(), y.ravel()], 1)
    mesh = scipy.spatial.Delaunay(template().points[:SKIN, :2])
    found = mesh.find_simplex(places)
    transform = mesh.transform[found]
    shares = np.einsum("nij,nj->ni", transform[:, :2], places - transform[:, 2])
    shares = np.concatenate([shares, 1 - shares.sum(1, keepdims=True)], 1)
    rows = np.repeat(np.arange(len(places)), 3)
    matrix = scipy.sparse.csr_array(
        (shares.ravel().astype(np.float32), (rows, mesh.simplices[found].ravel())), (len(places), SKIN)
    )
    return matrix, (found >= 0).reshape(SIDE, SIDE)


def on_face() -> np.ndarray:
    """Which pixels of a texture lie on the face: bool [64, 64]."""
    return _places()[1]


def texture(image: np.ndarray | Frame, landmarks: np.ndarray) -> np.ndarray:
    """A face as it looks from the front at rest: the picture between the landmarks, drawn onto the mean face.

    Args:
        image: uint8 [H, W, 3] RGB, or a frame.
        landmarks: [478, 3] pixels.

    Returns:
        uint8 [64, 64, 3], black beside the face.
    """
    shares, face = _places()
    low = np.floor(landmarks[:SKIN, :2].min(0)).astype(int)
    high = np.ceil(landmarks[:SKIN, :2].max(0)).astype(int) + 1
    x0, y0 = np.clip(low, 0, [image.shape[1] - 1, image.shape[0] - 1])
    x1, y1 = np.clip(high, [x0 + 1, y0 + 1], [image.shape[1], image.shape[0]])
    region, points = cut(image, (int(x0), int(y0), int(x1), int(y1))), landmarks[:SKIN, :2] - [x0, y0]
    shrink = int(max(1.0, (high - low).max() / (2 * SIDE)))  # fine texture must not turn into noise
    if shrink > 1:
        size = max(1, region.shape[1] // shrink), max(1, region.shape[0] // shrink)
        points = (points + 0.5) * (np.array(size) / [region.shape[1], region.shape[0]]) - 0.5
        region = cv2.resize(region, size, interpolation=cv2.INTER_AREA)
    x, y = (shares @ points.astype(np.float32)).T.reshape(2, SIDE, SIDE)
    drawn = cv2.remap(
        region, np.ascontiguousarray(x), np.ascontiguousarray(y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    drawn[~face] = 0
    return drawn


def clearly_seen(landmarks: np.ndarray) -> bool:
    """Whether a face [478, 3] is large enough and turned to the camera enough to say whose it is."""
    if float(np.ptp(landmarks[:, :2], axis=0).max()) < LEAST_SIDE:
        return False
    across, up = landmarks[EARS[1]] - landmarks[EARS[0]], landmarks[FOREHEAD] - landmarks[CHIN_TIP]
    x, y, z = np.cross(across, up)  # towards the viewer from an upright face: z below 0
    yaw, pitch = np.degrees(np.arctan2(x, abs(z))), np.degrees(np.arctan2(y, abs(z)))
    return bool(np.hypot(yaw, pitch) < MOST_TURN)


def rest_shape(landmarks: np.ndarray) -> np.ndarray:
    """Faces [N, 478, 3] without pose and expression, minus the mean face, seen from the front: float32 [N, 936]."""
    points, _ = normalise(landmarks)
    moved = load_basis().pose_free_motion(load_solver().coefficients(landmarks))
    rest = points - template().points - moved
    return rest[:, :SKIN, :2].reshape(len(rest), -1).astype(np.float32)


def look_features(textures: np.ndarray) -> np.ndarray:
    """Edges and shades of textures uint8 [N, 64, 64, 3], without brightness and contrast: float32 [N, 768].

    Histograms of oriented gradients (Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005,
    section 4: 8 directions in cells of 8 pixels, each cell normalised, square root) and means of 4 x 4 pixels.
    """
    gray = textures.astype(np.float32) @ _LUMA
    face = on_face()
    seen = gray[:, face]
    even = (gray - seen.mean(1)[:, None, None]) / (seen.std(1)[:, None, None] + 5) * face
    shades = even.reshape(-1, SIDE // 4, 4, SIDE // 4, 4).mean((2, 4)).reshape(len(gray), -1)
    across, down = np.zeros_like(even), np.zeros_like(even)
    across[:, :, 1:-1] = even[:, :, 2:] - even[:, :, :-2]
    down[:, 1:-1] = even[:, 2:] - even[:, :-2]
    strength = EDGE_SCALE * np.hypot(across, down)
    angle = np.mod(np.arctan2(down, across), np.pi) / np.pi * DIRECTIONS
    first = np.floor(angle).astype(int)
    share = angle - first
    cells = SIDE // CELL
    histogram = np.empty((len(gray), cells, cells, DIRECTIONS), np.float32)
    for k in range(DIRECTIONS):
        weight = strength * ((first % DIRECTIONS == k) * (1 - share) + ((first + 1) % DIRECTIONS == k) * share)
        histogram[..., k] = weight.reshape(-1, cells, CELL, cells, CELL).sum((2, 4))
    histogram /= np.linalg.norm(histogram, axis=-1, keepdims=True) + 3 * CELL
    return np.concatenate([np.sqrt(histogram).reshape(len(gray), -1), SHADES_WEIGHT * shades], 1).astype(np.float32)


@dataclass(frozen=True)
class IdentityModel:
    """What turns faces into signatures: a mean and discriminant axes each for geometry and look.

    Attributes:
        geometry_mean, geometry_axes: [936] and [936, G].
        look_mean, look_axes: [768] and [768, L].
    """

    geometry_mean: np.ndarray
    geometry_axes: np.ndarray
    look_mean: np.ndarray
    look_axes: np.ndarray

    def signatures(self, textures: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Signatures of faces: float32 [N, G + L], unit vectors; see `distance`.

        Args:
            textures: uint8 [N, 64, 64, 3]; see `texture`.
            landmarks: [N, 478, 3] pixels.
        """
        geometry, look = self.geometry(rest_shape(landmarks)), self.look(look_features(textures))
        return np.concatenate([np.sqrt(GEOMETRY_SHARE) * geometry, np.sqrt(1 - GEOMETRY_SHARE) * look], 1)

    def geometry(self, shapes: np.ndarray) -> np.ndarray:
        """Unit vectors [N, G] of shapes [N, 936]; see `rest_shape`."""
        return _unit((shapes - self.geometry_mean) @ self.geometry_axes)

    def look(self, features: np.ndarray) -> np.ndarray:
        """Unit vectors [N, L] of features [N, 768]; see `look_features`."""
        return _unit((features - self.look_mean) @ self.look_axes)


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def distance(signature: np.ndarray, others: np.ndarray) -> float:
    """How unlike a face [D] is to several [K, D] of one person: 1 minus the cosine to their mean; about 0 to 1."""
    mean = _unit(others.mean(0, keepdims=True))[0]
    return float(1 - signature @ mean)


@functools.cache
def load_identity() -> IdentityModel:
    """The embedded model.

    Raises:
        CmetError: the embedded file is missing or damaged.
    """
    arrays, _ = read_arrays(asset(IDENTITY_FILE))
    return IdentityModel(**{name: values.astype(np.float32) for name, values in arrays.items()})
