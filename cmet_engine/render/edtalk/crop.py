"""The square around the head that EDTalk was trained on, and the way back into the frame.

EDTalk's scripts cut a square around the box of a face detector, 20 % larger than the box, at rest for a whole clip
(FOMM's video preprocessing); portraits are aligned to a template of landmarks. On 14 pictures and clips that were cut
with those scripts, measured with our landmarks, the square's side is 2.83 outer-eye distances of the head (standard
deviation 0.20) and the head's centre lies in the middle, at 0.53 of the height (0.03). The square is reproduced from the
head's position and size, which do not depend on the expression, and smoothed over time within each shot: it follows a
walking head and is at rest for a talking one.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import scipy

from cmet_engine.errors import InvalidInput
from cmet_engine.face.pose import normalise
from cmet_engine.face.tracker import FaceGeometry

SIZE = 256  # pixels of the crop
SIDE = 2.83  # of the square, in outer-eye distances of the mean face
HEAD_X, HEAD_Y = 0.5, 0.53  # where the head's centre lies in the square
SMOOTHING_SECONDS = 0.5  # standard deviation of the smoothing over time
_ALIASING = 1.25  # shrinking by more than this needs a blur first


@dataclass(frozen=True)
class Crops:
    """The square of every frame.

    Attributes:
        centres: float64 [N, 2], pixels of the frame.
        sides: float64 [N], pixels of the frame.
    """

    centres: np.ndarray
    sides: np.ndarray

    def matrix(self, index: int) -> np.ndarray:
        """float64 [2, 3]: from pixels of the frame to pixels of the crop, pixel centres at whole numbers."""
        scale = SIZE / self.sides[index]
        left, top = self.centres[index] - self.sides[index] / 2
        # the crop's pixel 0 covers frame positions from `left` on; half a pixel lies between corner and centre
        return np.array([[scale, 0, (0.5 - left) * scale - 0.5], [0, scale, (0.5 - top) * scale - 0.5]])

    def cut(self, image: np.ndarray, index: int) -> np.ndarray:
        """The crop uint8 [256, 256, 3] of a frame uint8 [H, W, 3]; beyond the frame its edge is repeated."""
        matrix = self.matrix(index)
        shrink = self.sides[index] / SIZE
        if shrink > _ALIASING:
            # blur just the part that is needed, by what takes pixels of `shrink` size to one
            margin = 3 * shrink
            low = np.floor(self.centres[index] - self.sides[index] / 2 - margin).astype(int)
            high = np.ceil(self.centres[index] + self.sides[index] / 2 + margin).astype(int)
            height, width = image.shape[:2]
            left, top = np.clip(low, 0, [width - 1, height - 1])
            right, bottom = np.clip(high, [left + 1, top + 1], [width, height])
            image = cv2.GaussianBlur(image[top:bottom, left:right], (0, 0), 0.5 * np.sqrt(shrink**2 - 1))
            matrix[:, 2] += matrix[:, :2] @ [left, top]
        return cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def points(self, landmarks: np.ndarray, index: int) -> np.ndarray:
        """Landmarks [..., 2 or 3] in pixels of the frame as [..., 2] in pixels of the crop."""
        matrix = self.matrix(index)
        return np.asarray(landmarks)[..., :2] @ matrix[:, :2].T + matrix[:, 2]


def squares(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres [N, 2] and sides [N] of the squares around heads [N, 478, 3] in pixels, each frame for itself."""
    _, pose = normalise(landmarks)
    sides = SIDE * pose.scale
    head = pose.offset[:, :2] * [1, -1]  # the pose counts upwards
    return head + (0.5 - np.array([HEAD_X, HEAD_Y])) * sides[:, None], sides


def follow(geometry: FaceGeometry) -> Crops:
    """The squares of a whole clip, smoothed within each shot; frames without the face lie between their neighbours.

    Raises:
        InvalidInput: no frame shows the face.
    """
    count = len(geometry.valid)
    if not geometry.valid.any():
        raise InvalidInput("No frame of the clip shows a face; choose another clip or another --face.")
    centres, sides = np.empty((count, 2)), np.empty(count)
    for part, landmarks in geometry.chunks():
        centres[part], sides[part] = squares(landmarks)
    values = np.column_stack([centres, np.log(sides)])
    known = geometry.valid & np.isfinite(values).all(axis=1)
    sigma = SMOOTHING_SECONDS * float(geometry.fps)
    for first, last in geometry.shots():
        here = first + np.flatnonzero(known[first:last])
        if not len(here):  # a shot without the face is never drawn on
            values[first:last] = values[np.flatnonzero(known)[0]]
            continue
        frames = np.arange(first, last)
        filled = np.column_stack([np.interp(frames, here, column) for column in values[here].T])
        values[first:last] = scipy.ndimage.gaussian_filter1d(filled, sigma, axis=0, mode="nearest")
    return Crops(values[:, :2].copy(), np.exp(values[:, 2]))
