"""Frames rendered into the planes that they came in.

A clip of 8 bits is rendered in its 8-bit RGB. Of a deeper one the face's region is read in floating point, brought to a picture
that a display shows, rendered there, and brought back. Either way the change is added to the planes; the rest of them is not touched.
Of an interlaced frame whole pictures of both moments are rendered, and their lines woven.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import av
import cv2
import numpy as np

from cmet_engine.media.info import Frame, VideoInfo, cut
from cmet_engine.media.planes import Box, box_of, changed_pixels, proxy_place, read_rgb, weave, write_change
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

    def add_proxy(
        self, source: av.VideoFrame, box: Box, before: np.ndarray, after: np.ndarray, lighter: np.ndarray | None = None
    ) -> None:
        """Add a change of the 8-bit picture, `Frame.image`, and `lighter` [h, w] to all its colours."""
        if self.display is None:
            colors = replace(self.colors, chroma_place=proxy_place(self.colors))
            write_change(source, box, before, after, colors, lighter)
        else:
            shown, change = self.read(source, box), after.astype(np.float32) - before
            self.add(source, box, shown, shown + (change if lighter is None else change + lighter[..., None]))


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

    def __call__(self, frames: Sequence[Frame]) -> list[Frame]:
        """Some frames rendered, in their order; `Frame.source`, where there is one, is changed in place.

        Where nothing changes it is the very same frame. Of an interlaced frame it is that of its first moment.
        """
        rendered = self._rendered(self.renderer, [frame.fields[0] if frame.fields else frame for frame in frames])
        self._rendered(self.late, [frame.fields[1] for frame in frames if frame.fields])
        for frame in frames:
            first, second = (one.source for one in frame.fields) if frame.fields else (None, None)
            if frame.source and first and second:
                weave(frame.source, first, second, self.field_order)
        return rendered

    def _rendered(self, renderer: Renderer, frames: Sequence[Frame]) -> list[Frame]:
        """`__call__` for whole pictures."""
        if isinstance(renderer, PartRenderer):
            return self._parts(renderer, frames)
        pictures = renderer.render_batch(frames) if frames else []
        return [self._finished(*pair) for pair in zip(frames, pictures, strict=True)]

    def _parts(self, renderer: PartRenderer, frames: Sequence[Frame]) -> list[Frame]:
        """Render the regions of frames that may change: in floating point where they have more than 8 bits."""
        boxes = [renderer.region(frame.index) for frame in frames]
        befores = [self._before(frame, box) for frame, box in zip(frames, boxes, strict=True) if box]
        places = [(frame.index, box[:2]) for frame, box in zip(frames, boxes, strict=True) if box]
        afters = iter(renderer.render_parts([(part, *place) for part, place in zip(befores, places, strict=True)]))
        parts = iter(befores)
        return [
            self._after(frame, box, next(parts), next(afters)) if box else frame
            for frame, box in zip(frames, boxes, strict=True)
        ]

    def _before(self, frame: Frame, box: Box) -> np.ndarray:
        """A region of a frame, as it is rendered."""
        return self.shown.read(frame.source, box) if self.shown.deep and frame.source else frame.part(box)

    def _after(self, frame: Frame, box: Box, before: np.ndarray, after: np.ndarray) -> Frame:
        """A frame of which a region was rendered."""
        if after is before:
            return frame
        if not (self.shown.deep and frame.source):
            return self._changed(frame, box, before, after)
        if self.marker:
            edited = changed_pixels(before, after, LEAST_CHANGE)
            lighter = self.marker(frame.index, float(frame.time), after, edited, box[:2])
            after = after + cv2.merge([lighter] * 3)
        self.shown.add(frame.source, box, before, after)
        shown, changed = np.clip(after + 0.5, 0, 255).astype(np.uint8), changed_pixels(before, after, LEAST_CHANGE)
        return Frame(frame.index, frame.time, _Pasted(frame, box, shown, changed=changed), frame.source)

    def _finished(self, frame: Frame, picture: np.ndarray) -> Frame:
        """A frame whose 8-bit picture was rendered as a whole."""
        if picture is frame.image:
            return frame
        return self._changed(frame, (0, 0, picture.shape[1], picture.shape[0]), frame.image, picture)

    def _changed(self, frame: Frame, box: Box, before: np.ndarray, after: np.ndarray) -> Frame:
        """A frame of which a region of the 8-bit picture was rendered."""
        changed = changed_pixels(before, after)
        if (within := box_of(changed)) is None:
            return frame
        before, after, changed = cut(before, within), cut(after, within), cut(changed, within)
        box = (box[0] + within[0], box[1] + within[1], box[0] + within[2], box[1] + within[3])
        lighter = self.marker(frame.index, float(frame.time), after, changed, box[:2]) if self.marker else None
        if frame.source is not None:
            self.shown.add_proxy(frame.source, box, before, after, lighter)
        return Frame(frame.index, frame.time, _Pasted(frame, box, after, lighter), frame.source)


class _Pasted:
    """The picture of a frame in which a region was rendered; see `info.Picture`.

    Args:
        frame: as it was.
        box: the region.
        after: uint8 [h, w, 3], the region.
        lighter: float32 [h, w] of 255 that is added to its colours.
        changed: uint8 [h, w], 0 where the region is as it was; None where all of it may differ.
    """

    def __init__(
        self,
        frame: Frame,
        box: Box,
        after: np.ndarray,
        lighter: np.ndarray | None = None,
        changed: np.ndarray | None = None,
    ) -> None:
        self._frame, self._box, self._after, self._lighter, self._where = frame, box, after, lighter, changed
        self.shape = frame.shape
        self._whole: np.ndarray | None = None

    @property
    def whole(self) -> np.ndarray:
        """See `info.Picture`."""
        if self._whole is None:
            self._whole = self.part((0, 0, self.shape[1], self.shape[0]))
        return self._whole

    def part(self, box: Box) -> np.ndarray:
        """See `info.Picture`."""
        if self._whole is not None:
            return cut(self._whole, box)
        part, (left, top, right, bottom) = self._frame.part(box).copy(), self._box
        x0, y0, x1, y1 = max(left, box[0]), max(top, box[1]), min(right, box[2]), min(bottom, box[3])
        if x0 < x1 and y0 < y1:
            within = (x0 - left, y0 - top, x1 - left, y1 - top)
            after = cut(self._after, within)
            if self._lighter is not None:
                after = cv2.add(after, cv2.merge([cut(self._lighter, within)] * 3), dtype=cv2.CV_8U)
            own = part[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]]
            own[...] = after if self._where is None else cv2.copyTo(after, cut(self._where, within), own.copy())
        return part

    def sparse(self, step: int) -> np.ndarray:
        """See `info.Picture`."""
        return self.whole[::step, ::step]
