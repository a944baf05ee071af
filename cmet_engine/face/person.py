"""The person who is followed through a clip: what is known of their face, and whether another one may be theirs."""

from collections.abc import Sequence

import cv2
import numpy as np

from cmet_engine.face.identity import SIDE, clearly_seen, distance, load_identity, on_face, texture
from cmet_engine.face.landmarks import LANDMARKS
from cmet_engine.media.info import Frame

SAME, OTHER, SURELY_OTHER = 0.5, 0.68, 0.77
"""Distance (`identity.distance`) up to which a face is the person's; from which it is somebody else's if several frames say so;
from which one frame is enough."""
MIDDLE = 0.66
"""Distance that decides where a decision must be made."""
STRANGE, LASTING = 0.88, 10
"""A face that is followed and has become so unlike, over so many compared frames, is somebody else's whoever else is seen."""
MOST_SAMPLES = 24
"""Views of the person that are kept: the first half for good, the others are the latest."""
FEWEST = 3
"""Graded frames that are needed to say that a face between `OTHER` and `SURELY_OTHER` is somebody else's."""
DECIDED = 6
"""Graded frames after which the nearer side of the middle decides."""
FAMILIAR = 0.83
"""Correlation with the person's mean picture from which a face is not looked at more closely."""


class Person:
    """Views of one person, and a comparison of other faces with them.

    Args:
        signatures: float32 [K, D] of the person, known beforehand (a picture, another part of the clip), or None.
    """

    def __init__(self, signatures: np.ndarray | None = None) -> None:
        self._given = signatures
        self._textures: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._signatures: list[np.ndarray] = []  # of the first of them; the others are computed when they are needed
        self._mean = np.zeros((SIDE // 2) ** 2, np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """What was learned, for `restore`."""
        return {
            "textures": np.array(self._textures, np.uint8).reshape(-1, SIDE, SIDE, 3),
            "faces": np.array(self._faces, np.float32).reshape(-1, LANDMARKS, 3),
            "mean": self._mean,
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        self._textures, self._faces = list(state["textures"]), list(state["faces"])
        self._signatures, self._mean = [], state["mean"]

    @property
    def known(self) -> bool:
        """Whether there is anything to compare a face with."""
        return self._given is not None or bool(self._textures)

    def familiar(self, picture: np.ndarray) -> bool:
        """Whether a texture uint8 [64, 64, 3] looks so much like the latest views that it need not be compared."""
        return float(_pattern(picture) @ self._mean) > FAMILIAR * float(np.linalg.norm(self._mean))

    def learn(self, picture: np.ndarray, landmarks: np.ndarray) -> None:
        """Add a view of the person: its texture and landmarks."""
        self._mean = 0.8 * self._mean + 0.2 * _pattern(picture)
        if len(self._textures) >= MOST_SAMPLES:
            for views in (self._textures, self._faces, self._signatures):
                del views[MOST_SAMPLES // 2 : MOST_SAMPLES // 2 + 1]
        self._textures.append(picture)
        self._faces.append(np.asarray(landmarks, np.float32))

    def distance(self, picture: np.ndarray, landmarks: np.ndarray) -> float:
        """How unlike the person a face is: about 0 to 1; see `identity.distance`."""
        return distance(signature(picture, landmarks), self._all())

    def _all(self) -> np.ndarray:
        for i in range(len(self._signatures), len(self._textures)):
            self._signatures.append(signature(self._textures[i], self._faces[i]))
        given = [] if self._given is None else list(self._given)
        return np.stack(given + self._signatures)


def signature(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Signature [D] of one face; computed alone, so that it never depends on what else is computed."""
    return load_identity().signatures(picture[None], landmarks[None])[0]


def seen_clearly(image: np.ndarray | Frame, landmarks: np.ndarray) -> np.ndarray | None:
    """Texture of a face in a picture, or None where it is not seen well enough to say whose it is."""
    return texture(image, landmarks) if clearly_seen(landmarks) else None


def verdict(distances: Sequence[float], *, settled: bool = False) -> bool | None:
    """Whether a face that was found anew and compared in some frames is the person's; None where that is not known yet.

    Args:
        distances: in each of the frames.
        settled: decide now; no more frames will come.
    """
    if not distances:
        return None
    mean, count = float(np.mean(distances)), len(distances)
    if mean <= SAME:
        return True
    if mean >= SURELY_OTHER or (mean >= OTHER and count >= FEWEST):
        return False
    return mean <= MIDDLE if settled or count >= DECIDED else None


def covered_or_another(distances: Sequence[float], *, others: bool, settled: bool = False) -> bool | None:
    """Whether a face that looks otherwise than before, while it was followed, is still the person's; None where not known yet.

    A hand before the mouth, or glasses put on, make a face as unlike as many a stranger's. So a change alone says that somebody
    else is followed only where others are in the clip, or where it is great and lasts.

    Args:
        distances: in the frames since it changed.
        others: other people are in the clip.
        settled: the face was lost; no more frames will come.
    """
    recent = distances[-DECIDED:]
    mean, count = float(np.mean(recent)), len(distances)
    if (others and count >= FEWEST and mean >= SURELY_OTHER) or (
        mean >= STRANGE and count >= (FEWEST if settled else LASTING)
    ):
        return False
    return True if settled else None


def _pattern(picture: np.ndarray) -> np.ndarray:
    """A texture without colour, brightness and contrast: a unit vector [1024]."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    face = on_face()
    small = cv2.resize((gray - gray[face].mean()) * face, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA).ravel()
    return small / max(float(np.linalg.norm(small)), 1e-6)
