"""The `warp` renderer: a coefficient difference displaces the landmarks, and a mesh warp displaces the original pixels.

Within the face every pixel follows its triangle of the mesh; beyond the outline of the face the displacement fades to zero.
Eyes and mouth are openings: their edges move with the skin, and slide over what lies behind (eyeball, teeth) instead of
stretching it. What lies before the face (`face.occlusion`) is taken off first and put back unmoved. Every frame is rendered by
itself, so frames may come in any order.
"""

import copy
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.face.landmarks import (
    CHIN,
    EARS,
    LEFT_IRIS,
    LOWER_LIP_OUTER,
    NOSE,
    OPENINGS,
    OVAL,
    RIGHT_IRIS,
    SKIN,
    UPPER_LIP_OUTER,
)
from cmet_engine.face.occlusion import Occlusion
from cmet_engine.face.teeth import colour_of_lips, row_border
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.planes import Box
from cmet_engine.processes import cores
from cmet_engine.render import mesh
from cmet_engine.render.base import PartRenderer
from cmet_engine.render.closing import clear_edges, draw_lashes, draw_seam
from cmet_engine.render.creases import creased
from cmet_engine.render.lip_motion import hold_lips
from cmet_engine.render.motion import landmark_motion
from cmet_engine.render.occluder import Occluder, occluder
from cmet_engine.render.openings import STILL, Opening, draw_eye, draw_mouth
from cmet_engine.smoothstep import smoothstep
from cmet_engine.track import CoefficientTrack

CHUNK = 64
"""Frames whose landmark motion is computed together."""

MOST_WORKERS = 8
"""Frames that are rendered at the same time, at most: each is held in memory."""

GRID = 320
"""Longest side of the grid on which the displacement is computed; it is enlarged for larger faces."""

UNMOVED = 0.0156
"""Pixels of displacement, across and down, that OpenCV's interpolation rounds to none."""

BAND = 32
"""Rows of the picture that are displaced together."""

SMOOTHING = 0.016
"""Gaussian width, in face sizes, that rounds the creases between triangles."""

SQUEEZED, SQUEEZED_FINE = 1.5, 4
"""Lips whose rows are squeezed by the first or more are rendered in the second times as many rows, and averaged down."""

REGION_MARGIN = 8
"""Pixels around mesh and creases that are looked at too."""

_REACH = 5  # standard deviations that OpenCV's Gaussians are cut off before
_SUBPIXEL = 4  # bits of a fraction of a pixel in OpenCV's drawing


class WarpRenderer(PartRenderer):
    """Renders the frames of a clip with the expression of an edited track.

    Args:
        geometry: where the face is.
        source_track: what the actor does.
        edited_track: what the actor shall do; the difference of the two is rendered, times `geometry.fade`.
        messages: sentences for the user that are known beforehand.
        occlusion: what lies before the face; None for nothing.
        chunk: frames whose landmark motion is computed together; 1 for frames that are far apart.

    Raises:
        InvalidInput: geometry and tracks have different lengths.
    """

    name = "warp"

    def __init__(
        self,
        geometry: FaceGeometry,
        source_track: CoefficientTrack,
        edited_track: CoefficientTrack,
        messages: Sequence[str] = (),
        occlusion: Occlusion | None = None,
        chunk: int = CHUNK,
    ) -> None:
        counts = {len(geometry), len(source_track), len(edited_track)}
        if len(counts) > 1:
            raise InvalidInput(
                f"The clip has {len(geometry)} frames, the source track {len(source_track)} and the edited track "
                f"{len(edited_track)}; they must be of the same clip."
            )
        self.geometry, self._messages = geometry, list(messages)
        self._source = source_track.coefficients
        self._edited = edited_track.coefficients
        self._occlusion = occlusion if occlusion and occlusion.any() else None
        if self._occlusion:
            self._edited = self._occlusion.held_back(self._source, self._edited)
            self._messages += self._occlusion.messages(geometry)
        self.workers = min(MOST_WORKERS, cores())
        self._lock = threading.Lock()
        self._chunks: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._late = False
        self._together = chunk

    def half_later(self) -> "WarpRenderer":
        """See `Renderer.half_later`: the face halfway to where it is in the next frame."""
        other = copy.copy(self)
        other._lock, other._chunks, other._late = threading.Lock(), {}, True
        return other

    def render_part(self, part: np.ndarray, index: int, corner: tuple[int, int]) -> np.ndarray:
        """See `PartRenderer.render_part`."""
        if (moving := self._moving(index)) is None:
            return part
        landmarks, moves = moving
        landmarks = landmarks - [*corner, 0]
        before = self._before(part, landmarks, index)
        if before is None:
            return self._drawn(part, landmarks, moves, index)
        behind = before.taken_off(part)
        return before.put_back(part, self._drawn(behind, landmarks, moves, index), behind)

    def without_occluder(self, part: np.ndarray, index: int, corner: tuple[int, int]) -> np.ndarray:
        """A part of frame `index` without what lies before the face."""
        before = self._before(part, self._prepared(index)[0] - [*corner, 0], index) if self._occlusion else None
        return part if before is None else before.taken_off(part)

    def with_occluder(self, part: np.ndarray, drawn: np.ndarray, index: int, corner: tuple[int, int]) -> np.ndarray:
        """A drawn part of frame `index` with what lies before the face put back; `part` is the frame's own."""
        before = self._before(part, self._prepared(index)[0] - [*corner, 0], index) if self._occlusion else None
        return drawn if before is None else before.put_back(part, drawn, before.taken_off(part))

    def change(self, index: int) -> float:
        """The largest change of a coefficient in frame `index`, 0 to 1."""
        return float(np.abs(self._edited[index] - self._source[index]).max()) * float(self.geometry.fade[index])

    def _before(self, part: np.ndarray, landmarks: np.ndarray, index: int) -> Occluder | None:
        """What lies before the face in a part of frame `index`; `landmarks` are pixels of the part."""
        matte = self._occlusion.matte(index) if self._occlusion else None
        return None if matte is None else occluder(matte, landmarks, part.shape)

    def _drawn(self, part: np.ndarray, landmarks: np.ndarray, moves: np.ndarray, index: int) -> np.ndarray:
        """A part of frame `index` with its landmarks [478, 3], pixels of the part, moved by `moves`."""
        drawn = warp(part, landmarks, moves)
        change = (self._edited[index] - self._source[index]) * float(self.geometry.fade[index])
        return creased(drawn, landmarks + moves, change, facing_weights(landmarks[None])[0])

    def region(self, index: int) -> Box | None:
        """See `PartRenderer.region`."""
        if (moving := self._moving(index)) is None:
            return None
        landmarks, moves = moving
        both = np.concatenate([_mesh_points(at, moves)[1] for at in (landmarks, landmarks + moves)])
        return box_around(both, REGION_MARGIN, self.geometry.size)

    @property
    def messages(self) -> list[str]:
        """See `Renderer.messages`."""
        return self._messages

    @property
    def state(self) -> Iterator[object]:
        """See `Renderer.state`."""
        yield self._source
        yield self._edited
        if self._occlusion:
            yield from self._occlusion.mattes

    def target(self, index: int) -> np.ndarray:
        """The landmarks of frame `index` once it is edited: float64 [478, 3] pixels."""
        landmarks, moves = self._prepared(index)
        return landmarks + moves

    def _moving(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """What `_prepared` says of a frame; None where nothing is to change in it."""
        if not 0 <= index < len(self.geometry):
            return None
        if float(self.geometry.fade[index]) <= 0 or not np.any(self._edited[index] != self._source[index]):
            return None
        landmarks, moves = self._prepared(index)
        if not np.isfinite(moves).all() or np.abs(moves[:, :2]).max() < STILL:
            return None
        return landmarks, moves

    def _prepared(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks [478, 3] of a frame and their displacement [478, 3], both in pixels."""
        start = index - index % self._together
        with self._lock:
            if start not in self._chunks:
                if len(self._chunks) > 1:  # frames that are rendered at the same time lie in two at the most
                    del self._chunks[next(iter(self._chunks))]
                self._chunks[start] = self._chunk(start)
            landmarks, moves = self._chunks[start]
        return landmarks[index - start], moves[index - start]

    def _chunk(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """`_prepared` for the frames whose landmark motion is computed together."""
        part = slice(start, min(start + self._together + self._late, len(self.geometry)))
        landmarks = np.asarray(self.geometry.landmarks[part], np.float64)
        fade = np.asarray(self.geometry.fade[part], np.float32)[:, None]
        source = self._source[part]
        change = (self._edited[part] - source) * fade
        moves = landmark_motion(landmarks, change, source)
        moves = moves * facing_weights(landmarks)[:, :, None]
        if self._occlusion:
            moves = moves * self._occlusion.kept(part)[:, :, None]
        jaw = change[:, arkit.INDEX["jawOpen"]] - change[:, arkit.INDEX["mouthClose"]]
        moves = hold_lips(landmarks, moves, self.geometry.teeth[part], jaw)
        if self._late:
            landmarks, moves = (self._halfway(values, start)[: self._together] for values in (landmarks, moves))
        return landmarks, moves

    def _halfway(self, values: np.ndarray, start: int) -> np.ndarray:
        """Values [N, 478, 3] of the frames from `start` on, each half a frame later; as they are before cuts and gaps."""
        after = np.concatenate([values[1:], values[-1:]])
        for last in (cut - 1 - start for cut in self.geometry.cuts if 0 < cut - start < len(values)):
            after[last] = values[last]
        means = (values + after) / 2
        return np.where(np.isfinite(means), means, values)


def facing_weights(landmarks: np.ndarray) -> np.ndarray:
    """How far each landmark may move, 0 to 1: [N, 478] for landmarks [N, 478, 3].

    Skin that turns away from the camera is held, because there the landmarks are guesses. The orientation of a place is its
    direction as seen from the middle between the ears, which is smooth and robust to noisy depth.
    """
    away = landmarks - landmarks[:, list(EARS)].mean(1, keepdims=True)
    facing = -away[..., 2] / (np.linalg.norm(away, axis=-1) + 1e-9)  # MediaPipe's z grows away from the camera
    nose = facing[:, NOSE, None]  # beyond 45 degrees the whole edit fades
    return smoothstep(facing, -0.1, 0.25) * smoothstep(nose, 0.45, 0.85)


def warp(image: np.ndarray, landmarks: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Displace the landmarks of a face and the picture with them.

    Args:
        image: uint8 or float32 [H, W, 3].
        landmarks: [478, 3] pixels.
        moves: [478, 3] pixels, displacement of each landmark.

    Returns:
        A new picture of the same type and shape; equal to `image` outside the outermost ring around the face.
    """
    face, move = landmarks[:SKIN, :2], moves[:SKIN, :2]
    source, target = _mesh_points(landmarks, moves)
    source, seams = clear_edges(source, target)
    shift = target - source
    height, width = image.shape[:2]
    x0, y0 = (int(v) for v in np.maximum(np.floor(target.min(0)) - 2, 0))
    x1, y1 = (int(v) for v in np.minimum(np.ceil(target.max(0)) + 3, [width, height]))
    if x1 - x0 < 8 or y1 - y0 < 8:
        return image
    size = float(np.ptp(face, axis=0).max())
    box = (x0, y0, x1, y1)
    flow = _skin_flow(target, shift, landmarks[:SKIN, 2], box, size, 2 in seams)
    moved = _moved(image[y0:y1, x0:x1], flow)
    lips = target[list(UPPER_LIP_OUTER + LOWER_LIP_OUTER)] - [x0, y0]
    _smooth_lips(moved, image[y0:y1, x0:x1], flow, lips)
    result = image.copy()
    result[y0:y1, x0:x1] = moved
    for k, (upper, lower) in enumerate(OPENINGS):
        opening = Opening([(source[list(line)], target[list(line)]) for line in (upper, lower)], box)
        if opening.empty:
            continue
        if k < 2:
            centre_of_iris = (RIGHT_IRIS, LEFT_IRIS)[k]
            iris = landmarks[centre_of_iris : centre_of_iris + 5, :2]
            draw_eye(result, image, opening, iris, moves[centre_of_iris, :2])
        else:
            red, border = colour_of_lips(image, landmarks), row_border(image, landmarks)
            draw_mouth(result, image, opening, red, move[list(CHIN)].mean(0), border)
    for k, seam in seams.items():
        if k < 2:
            draw_lashes(result, seam, image, landmarks[list(OPENINGS[k][0]), :2])
        else:
            draw_seam(result, seam, colour_of_lips(image, landmarks))
    return result


def _mesh_points(landmarks: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the mesh, face and rings around it, before and after: [K, 2] pixels each."""
    face, move, oval = landmarks[:SKIN, :2], moves[:SKIN, :2], list(OVAL)
    centre = face[oval].mean(0)
    rings = np.concatenate([centre + reach * (face[oval] - centre) for reach in mesh.RING_REACH])
    source = np.concatenate([face, rings])
    return source, source + np.concatenate([move, *(share * move[oval] for share in mesh.RING_SHARE)])


def box_around(points: np.ndarray, margin: int, size: tuple[int, int]) -> Box | None:
    """The pixels of a picture of `size` that lie around points [K, 2]; None where there are none."""
    x0, y0 = (int(v) for v in np.clip(np.floor(points.min(0)) - margin, 0, size))
    x1, y1 = (int(v) for v in np.clip(np.ceil(points.max(0)) + margin + 1, 0, size))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _moved(region: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A picture [h, w, 3] displaced by `flow` [h, w, 2] pixels."""
    moved = region.copy()
    for top in range(0, len(flow), BAND):  # the face is narrower above and below
        band = flow[top : top + BAND]
        moves = (np.abs(band) > UNMOVED).view(np.uint8)
        x, y, columns, count = cv2.boundingRect(moves.reshape(len(band), -1))
        if columns:
            x, right = x // 2, (x + columns + 1) // 2
            part = slice(top + y, top + y + count), slice(x, right)
            at = _places(band[y : y + count, x:right], x, np.arange(top + y, top + y + count))
            moved[part] = cv2.remap(region, at, np.empty(0), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return moved


def _places(flow: np.ndarray, x: int, rows: np.ndarray) -> np.ndarray:
    """Where pixels come from that lie from column `x` on in `rows` [h] and are displaced by `flow` [h, w, 2]: float32 [h, w, 2]."""
    columns = np.arange(x, x + flow.shape[1], dtype=np.float32)
    places = columns + (1j * rows[:, None]).astype(np.complex64)
    places -= _pairs(flow)
    return places.view(np.float32).reshape(flow.shape)


def _pairs(flow: np.ndarray) -> np.ndarray:
    """A flow [h, w, 2] as complex numbers [h, w], which NumPy computes with several times as fast; writes into it."""
    return flow.view(np.complex64)[..., 0]


def _smooth_lips(moved: np.ndarray, region: np.ndarray, flow: np.ndarray, lips: np.ndarray) -> None:
    """Render lips that are squeezed together again, in rows `SQUEEZED_FINE` times as dense, averaged down.

    Several rows of pixels come to lie in one there. Sampled once a pixel, the dark line between the lips would be jagged.
    """
    height, width = flow.shape[:2]
    room = 0.15 * float(np.ptp(lips[:, 0]))
    x0, y0 = (int(v) for v in np.clip(np.floor(lips.min(0) - room), 0, [width, height]))
    x1, y1 = (int(v) for v in np.clip(np.ceil(lips.max(0) + room), 0, [width, height]))
    if x1 - x0 < 4 or y1 - y0 < 4 or 1 - np.gradient(flow[y0:y1, x0:x1, 1], axis=0).min() < SQUEEZED:
        return
    rows = (np.arange((y1 - y0) * SQUEEZED_FINE, dtype=np.float32) + 0.5) / SQUEEZED_FINE - 0.5 + y0
    dense = cv2.resize(flow[y0:y1, x0:x1], (x1 - x0, len(rows)), interpolation=cv2.INTER_LINEAR)
    fine = cv2.remap(region, _places(dense, x0, rows), np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved[y0:y1, x0:x1] = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)


def _skin_flow(
    target: np.ndarray, shift: np.ndarray, depth: np.ndarray, box: Box, size: float, closing: bool
) -> np.ndarray:
    """Displacement of the skin seen at each pixel of `box` (left, top, right, bottom): float32 [h, w, 2] pixels.

    `closing` says that the lips close, and move towards each other in neighbouring pixels.
    """
    x0, y0, x1, y1 = box
    scale = min(1.0, GRID / max(x1 - x0, y1 - y0))
    columns, rows = int(np.ceil((x1 - x0) * scale)), int(np.ceil((y1 - y0) * scale))
    corner = np.array([x0, y0], np.float64)
    corners, kind = mesh.layers()
    far = np.concatenate([depth, np.full(len(target) - SKIN, depth.max())])[corners].mean(1)
    far += np.choose(kind, [1e5, 0.0, -1e5])  # rings lie behind the face, the fillings of the openings before it
    flow: Any = mesh.interpolated((target - corner) * scale, shift, corners[np.argsort(-far)], (rows, columns))
    flow = _round_off(flow, target - corner, size, scale, closing)
    if scale < 1:
        flow = cv2.resize(flow, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    return flow


def _round_off(flow: np.ndarray, target: np.ndarray, size: float, scale: float, closing: bool) -> np.ndarray:
    """Smooth the flow except at the edges of lids and lips, and further around lips that close."""
    result = cv2.GaussianBlur(flow, (0, 0), max(SMOOTHING * size * scale, 0.5))
    sigma = max(0.02 * size * scale, 0.5)
    thickness = max(1, round(0.02 * size * scale))
    thicknesses = (thickness, thickness, 3 * thickness if closing else thickness)
    outlines = [np.concatenate([target[list(upper)], target[list(lower)][::-1]]) * scale for upper, lower in OPENINGS]
    reach, extent = round(_REACH * sigma) + max(thicknesses), (flow.shape[1], flow.shape[0])
    for box in _apart([box_around(points, reach, extent) for points in outlines]):
        left, top, right, bottom = box
        sharp: Any = np.zeros((bottom - top, right - left), np.float32)
        for points, thickness in zip(outlines, thicknesses, strict=True):
            outline = np.round((points - [left, top]) * 2**_SUBPIXEL).astype(np.int32)
            cv2.fillPoly(sharp, [outline], (1.0,), shift=_SUBPIXEL)
            cv2.polylines(sharp, [outline], True, (1.0,), thickness, shift=_SUBPIXEL)
        share = smoothstep(cv2.GaussianBlur(sharp, (0, 0), sigma), 0.1, 0.6)
        smooth: Any = _pairs(result[top:bottom, left:right])
        smooth += (_pairs(flow[top:bottom, left:right]) - smooth) * share
    return result


def _apart(boxes: list[Box | None]) -> list[Box]:
    """Boxes, those that overlap made one."""
    result: list[Box] = []
    for box in boxes:
        if box is None:
            continue
        for other in [o for o in result if o[0] < box[2] and box[0] < o[2] and o[1] < box[3] and box[1] < o[3]]:
            result.remove(other)
            box = (min(box[0], other[0]), min(box[1], other[1]), max(box[2], other[2]), max(box[3], other[3]))
        result.append(box)
    return result
