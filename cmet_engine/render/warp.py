"""The `warp` renderer: a coefficient difference moves the landmarks, the landmarks move the original pixels.

Around every moved landmark the picture follows its triangle of the mesh; beyond the outline of the face the motion fades to
nothing. Eyes and mouth are openings: their edges move with the skin, and slide over what lies behind (eyeball, teeth)
instead of stretching it. Every frame is worked on alone, so frames may come in any order.
"""

from typing import Any

import cv2
import numpy as np

from cmet_engine.errors import CmetError
from cmet_engine.face.pose import template
from cmet_engine.render import mesh
from cmet_engine.render.motion import landmark_motion
from cmet_engine.track import CoefficientTrack

CHUNK = 64
"""Frames whose motion is prepared together."""

STILL = 0.05
"""Pixels: a frame in which nothing moves further is handed back as it is."""

GRID = 320
"""Longest side of the grid that the motion is drawn on; larger faces get it enlarged."""

SMOOTHING = 0.016
"""Gaussian width, in face sizes, that rounds the creases between triangles."""

_SUBPIXEL = 4  # bits of a fraction of a pixel in OpenCV's drawing


def smoothstep(values: Any, low: float, high: float) -> Any:
    """0 below `low`, 1 above `high`, smooth between; the other way round where `low` is the larger."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


class WarpRenderer:
    """Draws the frames of a clip with the expression of an edited track.

    Args:
        geometry: a `FaceGeometry`: where the face is.
        source_track: what the actor does.
        edited_track: what the actor shall do; the difference of the two is drawn, times `geometry.fade`.

    Raises:
        CmetError: geometry and tracks have different lengths.
    """

    def __init__(self, geometry: Any, source_track: CoefficientTrack, edited_track: CoefficientTrack) -> None:
        counts = {len(geometry), len(source_track), len(edited_track)}
        if len(counts) > 1:
            raise CmetError(
                f"The clip has {len(geometry)} frames, the source track {len(source_track)} and the edited track "
                f"{len(edited_track)}; they must be of the same clip."
            )
        self._geometry = geometry
        self._source = source_track.coefficients
        self._edited = edited_track.coefficients
        self._start, self._landmarks, self._moves = -CHUNK, np.empty(0), np.empty(0)

    def render(self, image: np.ndarray, index: int) -> np.ndarray:
        """Frame `index` with the edited expression.

        Args:
            image: uint8 [H, W, 3], the original frame.
            index: its number in the clip.

        Returns:
            uint8 [H, W, 3]; the very same array where nothing is to change.
        """
        if not 0 <= index < len(self._geometry):
            return image
        if float(self._geometry.fade[index]) <= 0 or not np.any(self._edited[index] != self._source[index]):
            return image
        landmarks, moves = self._prepared(index)
        if not np.isfinite(moves).all() or np.abs(moves[:, :2]).max() < STILL:
            return image
        return warp(image, landmarks, moves)

    def _prepared(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks [478, 3] of a frame and how they move [478, 3], both in pixels."""
        if not self._start <= index < self._start + len(self._landmarks):
            start = index - index % CHUNK
            part = slice(start, min(start + CHUNK, len(self._geometry)))
            landmarks = np.asarray(self._geometry.landmarks[part], np.float64)
            fade = np.asarray(self._geometry.fade[part], np.float32)[:, None]
            source = self._source[part]
            moves = landmark_motion(landmarks, source, (self._edited[part] - source) * fade)
            moves = moves * held_weights(landmarks)[:, :, None]
            self._start, self._landmarks, self._moves = start, landmarks, moves
        return self._landmarks[index - self._start], self._moves[index - self._start]


def held_weights(landmarks: np.ndarray) -> np.ndarray:
    """How far each landmark may move, 0 to 1: [N, 478] for landmarks [N, 478, 3].

    The motion fades before the face ends at temples and ears, keeps a part under the hairline and all of it at the
    chin; skin that turns away from the camera is held, because there the landmarks are guesses.
    """
    points = template().points  # y up
    oval = points[list(mesh.OVAL), :2]
    away = np.sqrt(((points[:, None, :2] - oval) ** 2).sum(-1)).min(1)
    height = -points[:, 1]
    still = smoothstep(away, 0.0, 0.22)
    chin = smoothstep(height, 0.55, 0.95)
    brow = 0.4 * smoothstep(height, -0.2, -0.45)
    weights = np.maximum(np.maximum(still, chin), brow)
    corners = mesh.triangles()
    a, b, c = (landmarks[:, corners[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)  # [N, 852, 3]
    at_point = np.einsum("pt,ntc->npc", mesh.incidence(), normals)
    facing = np.abs(at_point[..., 2]) / (np.linalg.norm(at_point, axis=-1) + 1e-9)
    held = np.ones(landmarks.shape[:2])
    held[:, : mesh.SKIN] = smoothstep(facing, 0.0, 0.35)
    return held * weights


def warp(image: np.ndarray, landmarks: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Move the landmarks of a face and the picture with them.

    Args:
        image: uint8 [H, W, 3].
        landmarks: [478, 3] pixels.
        moves: [478, 3] pixels, how far each landmark goes.

    Returns:
        A new uint8 [H, W, 3]; equal to `image` outside the outermost ring around the face.
    """
    face = landmarks[: mesh.SKIN, :2]
    move = moves[: mesh.SKIN, :2]
    oval = list(mesh.OVAL)
    centre = face[oval].mean(0)
    rings = np.concatenate([centre + reach * (face[oval] - centre) for reach in mesh.RING_REACH])
    ring_moves = np.concatenate([share * move[oval] for share in mesh.RING_SHARE])
    source = np.concatenate([face, rings])
    shift = np.concatenate([move, ring_moves])
    target = source + shift
    height, width = image.shape[:2]
    x0, y0 = (int(v) for v in np.maximum(np.floor(target.min(0)) - 2, 0))
    x1, y1 = (int(v) for v in np.minimum(np.ceil(target.max(0)) + 3, [width, height]))
    if x1 - x0 < 8 or y1 - y0 < 8:
        return image
    size = float(np.ptp(face, axis=0).max())
    flow = _skin_flow(target, shift, landmarks[: mesh.SKIN, 2], (x0, y0, x1, y1), size)
    corner = np.array([x0, y0], np.float64)
    iris = moves[[mesh.RIGHT_IRIS, mesh.LEFT_IRIS], :2]
    for k, (upper, lower) in enumerate(mesh.OPENINGS):
        edges = [(source[list(line)], target[list(line)]) for line in (upper, lower)]
        if k < 2:
            ring = landmarks[[mesh.RIGHT_IRIS, mesh.LEFT_IRIS][k] :][:5, :2]
            _slide_lids(flow, edges, corner, ring, iris[k])
        else:
            _part_lips(flow, edges, corner, move[list(mesh.CHIN)].mean(0))
    columns = np.arange(x1 - x0, dtype=np.float32)[None, :]
    rows = np.arange(y1 - y0, dtype=np.float32)[:, None]
    region = image[y0:y1, x0:x1]
    moved = cv2.remap(
        region, columns - flow[..., 0], rows - flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    result = image.copy()
    result[y0:y1, x0:x1] = moved
    return result


def _skin_flow(
    target: np.ndarray, shift: np.ndarray, depth: np.ndarray, box: tuple[int, int, int, int], size: float
) -> np.ndarray:
    """How far the skin seen at each pixel has come: float32 [h, w, 2] pixels, over `box` (left, top, right, bottom)."""
    x0, y0, x1, y1 = box
    scale = min(1.0, GRID / max(x1 - x0, y1 - y0))
    columns, rows = int(np.ceil((x1 - x0) * scale)), int(np.ceil((y1 - y0) * scale))
    corner = np.array([x0, y0], np.float64)
    corners, kind = mesh.layers()
    far = np.concatenate([depth, np.full(len(target) - mesh.SKIN, depth.max())])[corners].mean(1)
    far += np.choose(kind, [1e5, 0.0, -1e5])  # rings lie behind the face, the fillings of the openings before it
    order = np.argsort(-far)
    points = np.round((target - corner) * (scale * 2**_SUBPIXEL)).astype(np.int32)
    drawn = points[corners[order]]
    which = np.full((rows, columns), len(corners), np.int32)
    fill = cv2.fillConvexPoly
    for triangle, number in zip(drawn, order.tolist(), strict=True):
        fill(which, triangle, (number,), 8, _SUBPIXEL)
    # shift within a triangle is linear in the place: shift = gx * x + gy * y + constant
    a, b, c = ((target[corners[:, k]] - corner) * scale for k in range(3))
    sa, sb, sc = (shift[corners[:, k]] for k in range(3))
    e1, e2 = b - a, c - a
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    area = np.where(np.abs(area) < 0.05, np.inf, area)[:, None]
    f1, f2 = sb - sa, sc - sa
    gx = (f1 * e2[:, 1:] - f2 * e1[:, 1:]) / area
    gy = (f2 * e1[:, :1] - f1 * e2[:, :1]) / area
    table = np.zeros((len(corners) + 1, 6), np.float32)
    table[:-1] = np.concatenate([gx, gy, sa - gx * a[:, :1] - gy * a[:, 1:]], 1)
    x = np.arange(columns, dtype=np.float32)[None, :]
    y = np.arange(rows, dtype=np.float32)[:, None]
    entry = table[which]  # [h, w, 6]
    flow: Any = np.empty((rows, columns, 2), np.float32)
    for k in range(2):
        flow[..., k] = entry[..., k] * x + entry[..., 2 + k] * y + entry[..., 4 + k]
    flow = _round_off(flow, target - corner, size, scale)
    if scale < 1:
        flow = cv2.resize(flow, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    return flow


def _round_off(flow: np.ndarray, target: np.ndarray, size: float, scale: float) -> np.ndarray:
    """Smooth the flow except where lids and lips have their edges."""
    smooth = cv2.GaussianBlur(flow, (0, 0), max(SMOOTHING * size * scale, 0.5))
    sharp: Any = np.zeros(flow.shape[:2], np.float32)
    thickness = max(1, round(0.02 * size * scale))
    for upper, lower in mesh.OPENINGS:
        outline = np.concatenate([target[list(upper)], target[list(lower)][::-1]])
        outline = np.round(outline * (scale * 2**_SUBPIXEL)).astype(np.int32)
        cv2.fillPoly(sharp, [outline], (1.0,), shift=_SUBPIXEL)
        cv2.polylines(sharp, [outline], True, (1.0,), thickness, shift=_SUBPIXEL)
    sharp = cv2.GaussianBlur(sharp, (0, 0), max(0.02 * size * scale, 0.5))
    share = smoothstep(sharp, 0.1, 0.6)[..., None]
    return smooth + (flow - smooth) * share


class _Opening:
    """The pixels between two edges that meet in two corners, in a frame of their own: u along, v across.

    Attributes:
        inside: bool [h, w] over `region`, which pixels lie between the edges.
        to_upper, to_lower: [K] pixels from the edges, for the K pixels inside.
        gap: [K], distance of the edges there.
        upper_shift, lower_shift: [K, 2], how far the edges have come there.
    """

    def __init__(self, shape: tuple[int, ...], edges: list[tuple[np.ndarray, np.ndarray]], corner: np.ndarray) -> None:
        (upper_source, upper), (lower_source, lower) = edges
        self.width = float(np.linalg.norm(upper[-1] - upper[0]))
        self.empty = True
        if self.width < 4:
            return
        along = (upper[-1] - upper[0]) / self.width
        self.along, self.across = along, np.array([-along[1], along[0]])
        both = np.concatenate([upper, lower]) - corner
        low = np.clip(np.floor(both.min(0)).astype(int) - 1, 0, None)
        high = np.minimum(np.ceil(both.max(0)).astype(int) + 2, [shape[1], shape[0]])
        if (high - low < 2).any():
            return
        self.region = (slice(low[1], high[1]), slice(low[0], high[0]))
        x = np.arange(low[0], high[0])[None, :] + corner[0] - upper[0][0]
        y = np.arange(low[1], high[1])[:, None] + corner[1] - upper[0][1]
        u, v = x * along[0] + y * along[1], x * self.across[0] + y * self.across[1]

        def follow(edge: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
            return np.interp(at, np.maximum.accumulate((edge - upper[0]) @ along), values)

        top = follow(upper, (upper - upper[0]) @ self.across, u)
        bottom = follow(lower, (lower - upper[0]) @ self.across, u)
        self.inside = (v > top) & (v < bottom) & (u > 0) & (u < self.width)
        self.empty = not self.inside.any()
        if self.empty:
            return
        u, v = u[self.inside], v[self.inside]
        self.to_upper, self.to_lower = v - top[self.inside], bottom[self.inside] - v
        self.gap = np.maximum(self.to_upper + self.to_lower, 1e-3)
        self.place = np.stack(np.nonzero(self.inside)[::-1], 1) + low + corner  # [K, 2] pixels of the frame
        moved = ((upper, upper - upper_source), (lower, lower - lower_source))
        self.upper_shift, self.lower_shift = (
            np.stack([follow(edge, shift[:, k], u) for k in range(2)], -1) for edge, shift in moved
        )

    def shares(self, margin: float, blend: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """How far the pixels go with the upper and the lower edge, [K, 1] each, together at most 1.

        An edge that closes carries a narrow margin (lashes, the wet line of a lip) and covers what lies behind; an edge
        that opens draws what was next to it along, over `reach` of the gap, so that its old place is not seen.
        """
        result = []
        for distance, inward in (
            (self.to_upper, self.upper_shift @ self.across),
            (self.to_lower, -(self.lower_shift @ self.across)),
        ):
            covers = 1 - smoothstep(distance, margin, margin + blend)
            draws = 1 - smoothstep(distance / self.gap, 0.0, reach)
            result.append(np.where(inward > 0, covers, draws)[:, None])
        total = np.maximum(result[0] + result[1], 1.0)
        return result[0] / total, result[1] / total

    def write(self, flow: np.ndarray, shift: np.ndarray) -> None:
        """Put the shift [K, 2] of the pixels inside into the flow."""
        flow[self.region][self.inside] = shift


def _slide_lids(
    flow: np.ndarray,
    edges: list[tuple[np.ndarray, np.ndarray]],
    corner: np.ndarray,
    iris: np.ndarray,
    iris_move: np.ndarray,
) -> None:
    """Eyelids slide over an eyeball that stays, or whose iris turns when the gaze is edited."""
    eye = _Opening(flow.shape, edges, corner)
    if eye.empty:
        return
    with_upper, with_lower = eye.shares(0.05 * eye.width, 0.06 * eye.width, 0.75)
    ball = np.zeros((len(eye.gap), 2))
    if np.abs(iris_move).max() > STILL:
        radius = np.linalg.norm(iris[1:] - iris[0], axis=1).mean()
        distance = np.linalg.norm(eye.place - iris[0] - iris_move, axis=1)
        ball = iris_move * smoothstep(distance, 2.2 * radius, 1.1 * radius)[:, None]
    eye.write(flow, ball * (1 - with_upper - with_lower) + eye.upper_shift * with_upper + eye.lower_shift * with_lower)


def _part_lips(
    flow: np.ndarray, edges: list[tuple[np.ndarray, np.ndarray]], corner: np.ndarray, jaw_move: np.ndarray
) -> None:
    """Lips slide over teeth: the upper ones stay with the skull, the lower ones go with the jaw."""
    mouth = _Opening(flow.shape, edges, corner)
    if mouth.empty:
        return
    with_upper, with_lower = mouth.shares(0.02 * mouth.width, 0.05 * mouth.width, 0.75)
    lower_half = smoothstep(mouth.to_upper / mouth.gap, 0.25, 0.75)[:, None]
    teeth = jaw_move * lower_half
    mouth.write(
        flow, teeth * (1 - with_upper - with_lower) + mouth.upper_shift * with_upper + mouth.lower_shift * with_lower
    )
