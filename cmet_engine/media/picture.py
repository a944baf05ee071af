"""Small copies of frames, to look at."""

import cv2
import numpy as np

JPEG_QUALITY = 85


def shrunk(image: np.ndarray, longest: int) -> np.ndarray:
    """A copy of a picture [H, W, 3] whose longer side has at most `longest` pixels."""
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image.copy()
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def small_jpeg(image: np.ndarray, longest: int) -> bytes:
    """A picture, uint8 RGB [H, W, 3], shrunk as `shrunk` does, as a JPEG file."""
    small = cv2.cvtColor(shrunk(image, longest), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
