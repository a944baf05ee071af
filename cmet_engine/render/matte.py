"""The mask of what an edit changed: a clip or numbered pictures beside the result, or a channel of its OpenEXR files.

White is the smallest region without holes that holds every sample that was changed; all others are the source's own. A chroma
sample counts with all pixels that it colours.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np

from cmet_engine.media.display import ORDINARY
from cmet_engine.media.info import Colors, Frame, Mastering, VideoInfo
from cmet_engine.media.planes import views
from cmet_engine.media.writer import VideoWriter

_CODECS = {".mkv": "ffv1"}  # lossless; the others have the codec of their kind
_GAP = 100  # of the short side: gaps between changed samples that count as changed


class MatteOutput:
    """Writes the matte of every frame; use it as a context manager, as a `VideoWriter`.

    Args:
        path: the file or pattern; None writes none.
        info: of the clip.
        metadata, force, segments: see `VideoWriter`.
    """

    def __init__(
        self, path: Path | None, info: VideoInfo, *, metadata: dict[str, str], force: bool, segments: Path | None
    ) -> None:
        self._before: dict[int, list[np.ndarray]] = {}
        self._writer: VideoWriter | None = None
        if path is not None:
            about = replace(
                info, pixels="gray", bit_depth=8, colors=Colors(full_range=True), display=ORDINARY, mastering=Mastering(),
                has_audio=False,
            )  # fmt: skip
            self._writer = VideoWriter(
                path, info.width, info.height, info.fps, source=about, metadata=metadata, force=force, segments=segments,
                codec=_CODECS.get(path.suffix.lower()),
            )  # fmt: skip

    @property
    def frames(self) -> int | None:
        """Mattes that are written; None where none are."""
        return self._writer.frames if self._writer else None

    def __enter__(self) -> "MatteOutput":
        if self._writer:
            self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer:
            self._writer.__exit__(kind, error, trace)

    def watched(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The same frames, before they are rendered."""
        for frame in frames:
            if frame.source is not None:
                self._before[frame.index] = [plane.copy() for plane in views(frame.source)]
            yield frame

    def add(self, frame: Frame, rendered: Frame) -> np.ndarray:
        """Write the matte of a frame that became `rendered`: uint8 [H, W], 0 or 255."""
        if frame.source is None:
            same = rendered is frame
            changed = np.zeros(frame.shape[:2], bool) if same else (rendered.image != frame.image).any(2)
        else:
            changed = _changed(self._before.pop(frame.index), views(frame.source))
        matte = _filled(changed)
        if self._writer and frame.index >= self._writer.frames:
            self._writer.write(av.VideoFrame.from_ndarray(matte, format="gray"), frame.time)
        return matte


def _changed(before: list[np.ndarray], after: list[np.ndarray]) -> np.ndarray:
    """Pixels, bool [H, W], of which a plane's samples differ in their bits."""
    height, width = before[0].shape
    result = np.zeros((height, width), bool)
    for one, other in zip(before, after, strict=True):
        kind = np.dtype(f"u{one.itemsize}")
        differs = one.view(kind) != other.view(kind)
        down, across = -(-height // len(one)), -(-width // one.shape[1])
        if down > 1 or across > 1:
            # a decoder spreads a chroma sample to those beside it
            spread = cv2.dilate(differs.astype(np.uint8), np.ones((3, 3), np.uint8))
            differs = spread.repeat(down, 0).repeat(across, 1)[:height, :width].astype(bool)
        result |= differs
    return result


def _filled(changed: np.ndarray) -> np.ndarray:
    """A mask, bool [H, W], with its holes and small gaps filled: uint8 [H, W], 0 or 255."""
    gap = max(round(min(changed.shape) / _GAP), 1) | 1
    mask = np.pad(changed.astype(np.uint8) * 255, gap)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap, gap)))
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(mask, outlines, -1, (255,), cv2.FILLED)
    return np.ascontiguousarray(mask[gap:-gap, gap:-gap])
