"""Frames rendered into the planes that they came in.

A clip of 8 bits is rendered in its 8-bit RGB. Of a deeper one the face's region is read in floating point, brought to a picture
that a display shows, rendered there, and brought back. Either way the change is added to the planes; the rest of them is not touched.
Of an interlaced frame whole pictures of both moments are rendered, and their lines woven.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import av
import numpy as np

from cmet_engine.media.info import Frame, VideoInfo
from cmet_engine.media.planes import Box, changed_box, proxy_place, read_rgb, weave, write_change
from cmet_engine.provenance.watermark import Marker
from cmet_engine.render.base import PartRenderer, Renderer

LEAST_CHANGE = 0.01
"""Of 255: what a float picture may differ from another by rounding."""

UNBENT = np.float32(217)
"""Of 255: what is darker in a display picture is not compressed, so what overshoots there stays small."""


class Display(Protocol):
    """From the values of a colour space to a picture that looks right on a display, and back.

    Attributes:
        ordinary: both are the same.
    """

    @property
    def ordinary(self) -> bool:
        """See above."""

    def to_display(self, code: np.ndarray) -> np.ndarray:
        """Values as they are stored, float32 [h, w, 3] RGB, 0 to 1 and beyond, as a display picture of the same kind."""

    def from_display(self, picture: np.ndarray) -> np.ndarray:
        """The inverse."""


class ShownPlanes:
    """What is seen of a clip's planes.

    Args:
        info: of the clip.
        display: of the clip's colour space; None where what is stored is what is shown.

    Attributes:
        deep: 8-bit RGB would lose something of it.
    """

    def __init__(self, info: VideoInfo, display: Display | None = None) -> None:
        self.colors = info.colors
        self.display = None if display is None or display.ordinary else display
        self.deep = info.bit_depth > 8 or self.display is not None

    def read(self, source: av.VideoFrame, box: Box) -> np.ndarray:
        """The display picture of a region: float32 [h, w, 3], 0 to 255 and beyond."""
        stored = read_rgb(source, box, self.colors)
        if self.display is None:
            return stored
        # filters would spread what is no number; such samples keep their bits
        stored = np.nan_to_num(stored / 255, posinf=65504, neginf=-65504)
        return self.display.to_display(stored) * np.float32(255)

    def add(self, source: av.VideoFrame, box: Box, before: np.ndarray, after: np.ndarray) -> None:
        """Add a change of the display picture to the planes."""
        if self.display:
            knee = np.full((1, 1, 3), UNBENT, np.float32)
            before, after, least = (
                self.display.from_display(shown / 255) * np.float32(255) for shown in (before, after, knee)
            )
            # what interpolation overshoots above the brightest has become very bright
            after = np.minimum(after, np.maximum(before.max((0, 1)), least))
        write_change(source, box, before, after, self.colors)

    def add_proxy(self, source: av.VideoFrame, box: Box, before: np.ndarray, after: np.ndarray) -> None:
        """Add a change of the 8-bit picture, `Frame.image`."""
        if self.display is None:
            write_change(source, box, before, after, replace(self.colors, chroma_place=proxy_place(self.colors)))
        else:
            shown = self.read(source, box)
            self.add(source, box, shown, shown + (after.astype(np.float32) - before))


class FrameRenderer:
    """A renderer that changes frames in their own pixel format.

    Args:
        renderer: prepared for the clip.
        info: of the clip.
        display: see `ShownPlanes`.
        marker: adds a watermark to what the renderer changes.
    """

    def __init__(
        self, renderer: Renderer, info: VideoInfo, display: Display | None = None, marker: Marker | None = None
    ) -> None:
        self.renderer, self.late, self.shown = renderer, renderer.half_later(), ShownPlanes(info, display)
        self.field_order, self.marker = info.field_order, marker

    def __call__(self, frames: Sequence[Frame]) -> list[np.ndarray]:
        """The pictures of some frames, uint8 [H, W, 3], in their order; `Frame.source`, where there is one, is changed in place.

        Of an interlaced frame it is the picture of its first moment.
        """
        pictures = self._rendered(self.renderer, [frame.fields[0] if frame.fields else frame for frame in frames])
        self._rendered(self.late, [frame.fields[1] for frame in frames if frame.fields])
        for frame in frames:
            first, second = (one.source for one in frame.fields) if frame.fields else (None, None)
            if frame.source and first and second:
                weave(frame.source, first, second, self.field_order)
        return pictures

    def _rendered(self, renderer: Renderer, frames: Sequence[Frame]) -> list[np.ndarray]:
        """`__call__` for whole pictures."""
        if not frames:
            return []
        if self.shown.deep and isinstance(renderer, PartRenderer) and all(frame.source for frame in frames):
            return [self._part(renderer, frame) for frame in frames]
        pictures = renderer.render_batch(frames)
        for frame, picture in zip(frames, pictures, strict=True):
            if picture is frame.image or (frame.source is None and self.marker is None):
                continue
            within = renderer.region(frame.index) if isinstance(renderer, PartRenderer) else None
            if (box := changed_box(frame.image, picture, within)) is None:
                continue
            before, after = _cut(frame.image, box), _cut(picture, box)
            if self.marker:
                marked = self.marker(frame.index, float(frame.time), before, after, box[:2])
                before = before.astype(np.float32)
                after[...] = np.clip(marked + 0.5, 0, 255)
                after = marked
            if frame.source is not None:
                self.shown.add_proxy(frame.source, box, before, after)
        return pictures

    def _part(self, renderer: PartRenderer, frame: Frame) -> np.ndarray:
        """Render the region of a frame that may change, in floating point."""
        box = renderer.region(frame.index)
        if box is None or frame.source is None:
            return frame.image
        before = self.shown.read(frame.source, box)
        after = renderer.render_part(before, frame.index, box[:2])
        if after is before:
            return frame.image
        if self.marker:
            after = self.marker(frame.index, float(frame.time), before, after, box[:2], LEAST_CHANGE)
        self.shown.add(frame.source, box, before, after)
        picture = frame.image.copy()
        region, changed = _cut(picture, box), (np.abs(after - before) > LEAST_CHANGE).any(2)
        region[changed] = np.clip(after[changed] + 0.5, 0, 255).astype(np.uint8)
        return picture


def _cut(picture: np.ndarray, box: Box) -> np.ndarray:
    left, top, right, bottom = box
    return picture[top:bottom, left:right]
