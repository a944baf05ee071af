"""Single pictures: read from a file, and small copies of frames, to look at."""

from pathlib import Path

import cv2
import numpy as np

from cmet_engine.errors import InvalidInput

JPEG_QUALITY = 85  # of 100, for previews


def shrunk_size(shape: tuple[int, ...], longest: int) -> tuple[int, int]:
    """Width and height of a picture [H, W, ...] whose longer side has at most `longest` pixels."""
    scale = min(1.0, longest / max(shape[:2]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def shrunk(image: np.ndarray, longest: int) -> np.ndarray:
    """A copy of a picture [H, W, 3] whose longer side has at most `longest` pixels."""
    if max(image.shape[:2]) <= longest:
        return image.copy()
    return cv2.resize(image, shrunk_size(image.shape, longest), interpolation=cv2.INTER_AREA)


def small_jpeg(image: np.ndarray, longest: int, quality: int = JPEG_QUALITY) -> bytes:
    """A picture, uint8 RGB [H, W, 3], shrunk as `shrunk` does, as a JPEG file of `quality` 0 to 100."""
    small = cv2.cvtColor(shrunk(image, longest), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def read_picture(path: Path) -> np.ndarray:
    """A picture file as uint8 [H, W, 3] RGB, turned as its EXIF data say.

    Raises:
        InvalidInput: the file is missing or no picture.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InvalidInput(f"Cannot read the picture {path}: {error.strerror}.") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise InvalidInput(f"{path} is no picture that can be read; give a PNG or JPEG file.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
