"""The `warp` draft drives a generator: the face is drawn anew with the draft's expression and put back into the frame.

The draft is a picture of the same person in the same frame, light and pose with exactly the wanted expression. Two passes over the
clip: the constructor drafts every frame that is edited and reads both crops; `render` draws. Outside a soft mask around the face
every sample stays the frame's own. Where the generator cannot be trusted (a small face, a face turned away), the draft is shown.
"""

import copy
import logging
import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from cmet_engine import cache, fingerprint
from cmet_engine.face.geometry import runs_of
from cmet_engine.face.landmarks import COARSE_LIPS
from cmet_engine.face.mesh import Detector
from cmet_engine.media.planes import Box
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.base import Generator, PartRenderer
from cmet_engine.render.crops import back, cut
from cmet_engine.render.edtalk.crop import SIZE as MASK
from cmet_engine.render.edtalk.paste import colour_levels, outline_mask, skin_mask
from cmet_engine.render.warp import WarpRenderer, box_around
from cmet_engine.smoothstep import smoothstep

log = logging.getLogger(__name__)

TURNED = (35.0, 45.0)
"""Degrees of yaw or pitch from which, and up to which, the generator's picture fades to the draft."""
SMALL = (48.0, 72.0)
"""Pixels of a face below which the draft is shown, and above which the generator's picture is."""
LEAST = 0.03
"""Largest change of a coefficient up to which the generator's picture fades in."""
FACE_SHARE = 1 / 2.3
"""Larger extent of the face over the side of the crop."""
OTHER = 0.5
"""Size of a second face in the crop over that of the first from which it is spoken of."""
HIDDEN = 1 / 512
"""A mask below half a step of an 8-bit picture changes nothing."""


class DrivenRenderer(PartRenderer):
    """Renders the frames of a clip with the expression of an edited track, drawn by a generator.

    Args:
        clip: the footage.
        draft: the `warp` renderer of its edit.
        generator: draws.
        timed: say how long the work will about take.
        progress: called as ("encode", frames done, frames in all) while drafts are read.
        messages: of what was found so far; the generator's warnings are added to it.

    Raises:
        CmetError: the clip cannot be read.
    """

    def __init__(
        self,
        clip: Source,
        draft: WarpRenderer,
        generator: Generator,
        *,
        timed: bool = False,
        progress: Progress | None = None,
        messages: list[str] | None = None,
    ):
        self.draft, self.generator, self.geometry = draft, generator, draft.geometry
        self.name, self.batch_size = generator.name, generator.batch
        self._messages = [] if messages is None else messages
        self.path = generator.crops(self.geometry)
        self.weights, self._timed = self._trust(), timed
        self.readings, self._read = self._cached(clip, progress)

    def half_later(self) -> "DrivenRenderer":
        """See `Renderer.half_later`."""
        other = copy.copy(self)
        other.draft = self.draft.half_later()
        return other

    @property
    def messages(self) -> Sequence[str]:
        """See `Renderer.messages`."""
        return [*self.draft.messages, *self._messages]

    @property
    def state(self) -> Iterator[object]:
        """See `Renderer.state`."""
        yield from self.draft.state
        yield from (self.readings, self.weights, self.generator.name, self.generator.identity, self.generator.device)

    def region(self, index: int) -> Box | None:
        """See `PartRenderer.region`."""
        drafted = self.draft.region(index)
        if drafted is None or not self._draws(index):
            return drafted
        margin = 2 + round(4 / min(1.0, self.path.scale(index)))  # what is blurred before the crop is cut
        square = box_around(self.path.corners(index), margin, self.geometry.size)
        boxes = np.array([drafted] if square is None else [drafted, square])
        left, top = (int(value) for value in boxes[:, :2].min(0))
        right, bottom = (int(value) for value in boxes[:, 2:].max(0))
        return left, top, right, bottom

    def render_part(self, part: np.ndarray, index: int, corner: tuple[int, int]) -> np.ndarray:
        """See `PartRenderer.render_part`."""
        return self.render_parts([(part, index, corner)])[0]

    def _draws(self, index: int) -> bool:
        return 0 <= index < len(self.weights) and bool(self._read[index]) and self.weights[index] > 0

    def render_parts(self, parts: Sequence[tuple[np.ndarray, int, tuple[int, int]]]) -> list[np.ndarray]:
        """See `PartRenderer.render_parts`."""
        drafts = [self.draft.render_part(*given) for given in parts]
        drawing = [n for n, (part, index, _) in enumerate(parts) if drafts[n] is not part and self._draws(index)]
        if not drawing:
            return drafts
        crops = []
        for n in drawing:
            part, index, corner = parts[n]
            crops.append(self.path.cut(_levels(self.draft.without_occluder(part, index, corner)), index, corner))
        began = time.perf_counter()
        pictures = self.generator.draw(crops, self.readings[[parts[n][1] for n in drawing]])
        self._say_time((time.perf_counter() - began) / len(drawing))
        for n, crop, picture in zip(drawing, crops, pictures, strict=True):
            drafts[n] = self._composed(*parts[n], drafts[n], crop, picture)
        return drafts

    def _composed(
        self,
        part: np.ndarray,
        index: int,
        corner: tuple[int, int],
        draft: np.ndarray,
        crop: np.ndarray,
        picture: np.ndarray,
    ) -> np.ndarray:
        """The part with a drawn crop under the mask of the face."""
        target = self.draft.target(index)[:, :2]
        matrix, coarse = self.path.within(index, corner), self.path.within(index, corner, MASK)
        points, moved = (
            (p - corner) @ coarse[:, :2].T + coarse[:, 2] for p in (self.geometry.landmarks[index][:, :2], target)
        )
        mask = np.maximum(outline_mask(points), outline_mask(moved)) * np.float32(self._amount(index))
        weight = cv2.warpAffine(mask, coarse, part.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        weight[weight < HIDDEN] = 0
        small = [cv2.resize(p, (MASK, MASK), interpolation=cv2.INTER_AREA) for p in (picture, crop)]
        picture = picture.astype(np.float32)
        if levels := colour_levels(small[0].astype(np.float32), small[1], skin_mask(points) & skin_mask(moved)):
            mean, gain, wanted = levels
            picture = (picture - mean) * gain + wanted
        face = back(picture, matrix, part.shape)
        if (
            self.path.scale(index) < 1
        ):  # the frame is finer than the crop: the draft's detail, which moved like the face
            drafted = draft.astype(np.float32)
            fine = drafted - back(cut(drafted, matrix, self.path.size), matrix, part.shape)
            face += fine * _beside_lips(target - corner, part.shape)[..., None]
        own, trust = part.astype(np.float32), np.float32(self.weights[index])
        drawn = own + weight[..., None] * (face - own)
        result = drawn + (1 - trust) * (draft - drawn)
        changed = (weight > 0) | ((draft != part).any(2) if trust < 1 else False)
        whole = part.copy()
        if part.dtype == np.uint8:
            result = np.clip(np.rint(result), 0, 255).astype(np.uint8)
        whole[changed] = result[changed]
        return self.draft.with_occluder(part, whole, index, corner)

    def _amount(self, index: int) -> float:
        """How far the drawn picture shows, 0 to 1: not where nothing is edited, so that it comes and goes softly."""
        return float(smoothstep(self.draft.change(index), 0, LEAST)) * float(self.geometry.fade[index])

    def _trust(self) -> np.ndarray:
        """How far the generator is trusted with each frame, float32 [N]; says where it is not."""
        turned = np.abs(np.nan_to_num(self.geometry.head_rotation[:, :2])).max(1)
        sides = np.array([np.ptp(self.path.corners(n), axis=0).max() for n in range(len(self.geometry))]) * FACE_SHARE
        trust = (1 - smoothstep(turned, *TURNED)) * smoothstep(np.nan_to_num(sides), *SMALL)
        for which, words in (
            (turned > TURNED[1], "is turned by more than 45 degrees"),
            (sides < SMALL[0], "is too small to be drawn"),
        ):
            if (which & self.geometry.valid).any():
                self._messages.append(
                    f"The face {words} at {self.geometry.spans(which & self.geometry.valid)}; the draft is shown there."
                )
        return trust.astype(np.float32)

    def _cached(self, clip: Source, progress: Progress | None) -> tuple[np.ndarray, np.ndarray]:
        """What `_read_clip` gives, cached by the clip's content and the edit."""
        name = None
        if self.generator.identity and clip.path.is_file():
            landmarks = (part for _, part in self.geometry.chunks())
            about = fingerprint.data(landmarks, self.geometry.fade, self.weights, self.geometry.cuts, *self.draft.state)
            who = (self.generator.name, self.generator.identity, self.generator.device, self.generator.batch)
            name = cache.key(
                "driven_readings",
                clip.path,
                fingerprint.code(__name__, type(self.generator).__module__),
                about,
                *who,
                clip.reading,
            )
        found = cache.arrays(name, lambda: self._read_clip(clip, progress))
        if len(found["others"]):
            times = ", ".join(f"{self.geometry.times[n]:.2f} s" for n in found["others"])
            self._messages.append(
                f"A second face lies in the square around the face at {times}; {self.name} may mix their expressions up. Choose "
                "the renderer warp where that shows."
            )
        return found["readings"], found["read"]

    def _read_clip(self, clip: Source, progress: Progress | None) -> dict[str, np.ndarray]:
        """Readings float32 [N, …] of the frames that are edited, settled within each shot, and which those are: bool [N]."""
        count = len(self.geometry)
        read: np.ndarray = np.zeros(count, bool)
        waiting: list[tuple[int, np.ndarray, np.ndarray]] = []
        rows: dict[int, np.ndarray] = {}
        looked: set[int] = set()
        others: list[int] = []

        def flush() -> None:
            if waiting:
                found = self.generator.read([w[1] for w in waiting], [w[2] for w in waiting])
                rows.update(zip([w[0] for w in waiting], found, strict=True))
                waiting.clear()

        for frame in VideoReader(clip):
            if frame.index >= count:
                break
            if self.weights[frame.index] > 0:
                drafted = self.draft.render(frame.image, frame.index)
                if drafted is not frame.image:
                    source = self.path.cut(self.draft.without_occluder(frame.image, frame.index, (0, 0)), frame.index)
                    waiting.append((frame.index, source, self.path.cut(drafted, frame.index)))
                    read[frame.index] = True
                    shot = next(first for first, last in self.geometry.shots() if first <= frame.index < last)
                    if shot not in looked:
                        looked.add(shot)
                        others += self._others(source, frame.index)
            if len(waiting) >= self.generator.batch:
                flush()
            if progress:
                progress(Stage.ENCODE, frame.index + 1, count)
        flush()
        shape = next(iter(rows.values())).shape if rows else (1,)
        readings = np.zeros((count, *shape), np.float32)
        for index, row in rows.items():
            readings[index] = row
        for first, last in self.geometry.shots():
            for a, b in runs_of(read[first:last]):
                readings[first + a : first + b] = self.generator.settled(readings[first + a : first + b])
        return {"readings": readings, "read": read, "others": np.array(others, np.int64)}

    def _others(self, crop: np.ndarray, index: int) -> list[int]:
        """The frame's number, if its crop shows a second face that is about as large."""
        detector = Detector()
        try:
            sizes = sorted((face.side for face in detector.find(crop)), reverse=True)
        finally:
            detector.close()
        return [index] if len(sizes) > 1 and sizes[1] > OTHER * sizes[0] else []

    def _say_time(self, seconds: float) -> None:
        """Say once, on a CPU, how long the clip will take."""
        if not self._timed or self.generator.device != "cpu":
            return
        self._timed, count = False, int(self._read.sum())
        whole = f"{seconds * count / 60:.0f} min" if seconds * count > 90 else f"{seconds * count:.0f} s"
        sentence = f"{self.name} takes {seconds:.1f} s a frame on this CPU: about {whole} for {count} frames."
        log.warning("%s", sentence)
        self._messages.append(sentence)


def _levels(picture: np.ndarray) -> np.ndarray:
    """A picture as uint8."""
    return picture if picture.dtype == np.uint8 else np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _beside_lips(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """float32 [h, w]: 0 on the mouth, which the generator draws anew, 1 away from it; soft between."""
    mask = np.zeros(shape[:2], np.float32)
    lips = points[list(COARSE_LIPS)]
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(lips).astype(np.int32)), (1.0,))
    width = max(1.0, 0.12 * float(np.ptp(lips[:, 0])))
    grown = cv2.dilate(mask, np.ones((2 * int(width) + 1,) * 2, np.uint8))
    return 1 - cv2.GaussianBlur(grown, (0, 0), width / 2)
