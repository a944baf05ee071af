"""Small copies of all frames of a clip, for scrubbing: any of them is there in a millisecond, however far its key frame is.

They are JPEG pictures in one file, kept in the cache by the clip's content.
"""

from pathlib import Path

import cv2
import numpy as np

from cmet_engine import cache, fingerprint
from cmet_engine.media.picture import small_jpeg
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.npz import load_array

LONGEST = 640  # pixels on the long side
_QUALITY = 92  # of 100
_PICTURES, _ENDS = "frames.bin", "ends.npy"


class Proxy:
    """The small copies of a clip's frames.

    Args:
        folder: the cache's entry.
    """

    def __init__(self, folder: Path) -> None:
        self._ends = load_array(folder / _ENDS)
        self._file = folder / _PICTURES

    def __len__(self) -> int:
        return len(self._ends)

    def frame(self, index: int) -> np.ndarray:
        """The copy of a frame, uint8 [h, w, 3] RGB."""
        start = int(self._ends[index - 1]) if index else 0
        with self._file.open("rb") as file:
            file.seek(start)
            data = np.frombuffer(file.read(int(self._ends[index]) - start), np.uint8)
        return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _name(footage: Source) -> str:
    code = fingerprint.code("cmet_engine.media.proxy")
    return cache.key("proxy", footage.path, code, footage.space, footage.part)


def find(footage: Source) -> Proxy | None:
    """The copies of a clip's frames, where they were made before."""
    folder = cache.get(_name(footage))
    return None if folder is None else Proxy(folder)


def make(footage: Source) -> None:
    """Make the copies, one pass through the clip; a cache that is switched off keeps none.

    Raises:
        CmetError: the clip cannot be read.
    """

    def fill(folder: Path) -> None:
        ends, end = [], 0
        with (folder / _PICTURES).open("wb") as file:
            for frame in VideoReader(footage).frames():
                end += file.write(small_jpeg(frame.image, LONGEST, _QUALITY))
                ends.append(end)
        np.save(folder / _ENDS, np.asarray(ends, np.int64))

    cache.put(_name(footage), fill)
