"""A square that follows a face through a clip: cut out of a frame, and drawn pictures brought back."""

from dataclasses import dataclass

import cv2
import numpy as np

_ALIASING = 1.25  # shrinking by more than this needs a blur first


@dataclass(frozen=True)
class CropPath:
    """The crop of every frame of a clip.

    Attributes:
        matrices: float64 [N, 2, 3], similarities from pixels of the frame to those of the crop.
        size: side of the crop in pixels.
    """

    matrices: np.ndarray
    size: int

    def scale(self, index: int) -> float:
        """Pixels of the crop for one of the frame."""
        return float(np.hypot(*self.matrices[index][0, :2]))

    def within(self, index: int, corner: tuple[int, int], size: int | None = None) -> np.ndarray:
        """The matrix [2, 3] from pixels of a part of the frame, whose first pixel is `corner`, to a crop of `size` pixels."""
        matrix = self.matrices[index].copy()
        matrix[:, 2] += matrix[:, :2] @ corner
        return matrix * ((size or self.size) / self.size)

    def cut(self, part: np.ndarray, index: int, corner: tuple[int, int] = (0, 0)) -> np.ndarray:
        """The crop [S, S, 3] of a part of a frame, of its type; beyond the part its edge is repeated."""
        return cut(part, self.within(index, corner), self.size)

    def points(self, landmarks: np.ndarray, index: int) -> np.ndarray:
        """Landmarks [..., 2 or 3] in pixels of the frame as [..., 2] in pixels of the crop."""
        matrix = self.matrices[index]
        return np.asarray(landmarks)[..., :2] @ matrix[:, :2].T + matrix[:, 2]

    def corners(self, index: int) -> np.ndarray:
        """The corners [4, 2] of the crop in pixels of the frame."""
        matrix, side = self.matrices[index], self.size
        square = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float64)
        return (square - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def cut(part: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """A square of `size` pixels out of a picture [h, w, 3], blurred first where it shrinks."""
    shrink = 1 / np.hypot(*matrix[0, :2])
    if shrink > _ALIASING:
        part = cv2.GaussianBlur(part, (0, 0), 0.5 * np.sqrt(shrink**2 - 1))
    return cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def back(
    crop: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], *, border: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """A crop brought back to a part of `shape` [h, w, …] with the matrix that cut it: float32."""
    shrink = float(np.hypot(*matrix[0, :2]))
    crop = crop.astype(np.float32)
    if shrink > _ALIASING:
        crop = cv2.GaussianBlur(crop, (0, 0), 0.5 * np.sqrt(shrink**2 - 1))
    way = cv2.INTER_CUBIC if shrink < 1 else cv2.INTER_LINEAR
    return cv2.warpAffine(crop, matrix, (shape[1], shape[0]), flags=way | cv2.WARP_INVERSE_MAP, borderMode=border)
