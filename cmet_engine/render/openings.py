"""Eyes and mouth as openings: their edges move with the skin, and slide over what lies behind instead of stretching it."""

from typing import Any

import cv2
import numpy as np

from cmet_engine.face.teeth import ONE_ROW
from cmet_engine.smoothstep import smoothstep

STILL = 0.05
"""Pixels: a motion that goes no further counts as none."""

FINE, FINE_UP_TO = 2, 110
"""Supersampling: eyes and mouths narrower than the second (pixels) are rendered the first times larger and averaged down."""

DARKNESS = 0.25
"""Brightness of the inside of a wide open mouth, as a share of the brightness of the lips."""

ASIDE = (0.1, 0.22)
"""How far an iris is beside the middle of the eye, as a share of its width: from the second on, nothing is known of what the lids hide."""

LID_SHADOW = 0.3
"""Share of the light that the upper lid takes from what it uncovers next to it."""

DEEP = (0.04, 0.14)
"""Gap as a share of the mouth's width: up to the first, and where the frame's own mouth is open beyond the second, the inside is as
dark as what the frame shows darkest between the lips."""

SHOWN_DARK = (0.65, 0.45)
"""Brightness of what is darkest between the lips as a share of theirs: above the first no darkness is seen, but teeth alone."""

CORNERS, WIDENED = (0.4, 0.9), 0.04
"""Where, between the middle of the mouth and a corner, what lies behind begins to go with the lips, and does; in full where the
corner has moved outwards by the third share of the mouth's width."""

ENDS = (0.7, 0.9)
"""Where, between the middle of the mouth and a corner, darkness begins to give way to what the frame shows there, and does."""

DARKEST = 0.1
"""Share of the places between the lips that count as the darkest."""

TONGUE = 0.5
"""The same where the tongue lies, before the lower teeth."""

ROW_EDGE = 0.04
"""How soft the edge of a row of teeth is, as a share of the opening."""

ROW_STRETCH = 0.2
"""Lips that uncover a row of teeth stretch it by at most this share of its height; further on they take it along, or leave it."""

THROAT_STRETCH = 0.6
"""The same of tongue and throat."""

JAW_BACK = 0.7
"""Rows part less at the corners of the mouth, nearer the joints of the jaw: by this share of what they do in the middle."""

ROW_SINKS = 0.4
"""Teeth go down with a mouth that sinks as a whole by at most this share of their height; further on the upper lip covers them."""

EDGE_LEFT, EDGE_KEPT = 0.015, 0.03
"""Teeth are seen from the first share of the mouth's width beside the lips on; their outermost places go on for the second beyond."""

TEETH = (1.25, 1.1)
"""Brightness of the brightest tenth of an open mouth as a share of the lips': above the first it shows teeth, below the second
tongue and throat."""

DARK_FROM = (1.0, 3.0)
"""Pixels: a gap narrower than the first gets no darkness, which would be a dotted line; from the second on it gets all."""

SLIT = (0.6, 1.8)
"""Pixels: between lips nearer than the first nothing is rendered, from the second on everything is."""

_ROW = 256  # places in a row of the table that OpenCV reads


def quantised(picture: np.ndarray, kind: Any) -> np.ndarray:
    """A float picture, 0 to 255, rounded and clipped where it must become uint8; float pictures keep fractions and range."""
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8) if kind == np.uint8 else picture


class Opening:
    """The pixels between two edges that meet in two corners, in a frame of their own: u along, v across.

    Small ones are rendered at `FINE` times the picture's resolution, because lashes, lids and lips are narrow.

    Attributes:
        box: (left, top, right, bottom), pixels of the frame.
        inside: bool [h, w] at fine resolution, which places lie between the edges.
        place: float64 [K, 2], the K places inside, in pixels of the frame.
        to_upper, to_lower: [K] pixels from the edges.
        gap: [K], distance of the edges there.
        upper_shift, lower_shift: [K, 2], displacement of the edges there.
    """

    def __init__(self, edges: list[tuple[np.ndarray, np.ndarray]], bounds: tuple[int, int, int, int]) -> None:
        (upper_source, upper), (lower_source, lower) = edges
        self.width = float(np.linalg.norm(upper[-1] - upper[0]))
        self.empty = True
        if self.width < 4:
            return
        along = (upper[-1] - upper[0]) / self.width
        self.along, self.across = along, np.array([-along[1], along[0]])
        both = np.concatenate([upper, lower])
        low = np.maximum(np.floor(both.min(0)).astype(int) - 1, bounds[:2])
        high = np.minimum(np.ceil(both.max(0)).astype(int) + 2, bounds[2:])
        if (high - low < 2).any():
            return
        self.box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        fine = FINE if self.width < FINE_UP_TO else 1
        columns, rows = (high - low) * fine
        x = ((np.arange(columns) + 0.5)[None, :] / fine - 0.5 + low[0]).astype(np.float32)  # centres of fine pixels
        y = ((np.arange(rows) + 0.5)[:, None] / fine - 0.5 + low[1]).astype(np.float32)
        u = (x - upper[0, 0]) * along[0] + (y - upper[0, 1]) * along[1]
        v = (x - upper[0, 0]) * self.across[0] + (y - upper[0, 1]) * self.across[1]
        self._origin = upper[0]
        self._target = (upper, lower)
        self._shifts = (upper - upper_source, lower - lower_source)
        top, bottom = (self._follow(edge, (edge - self._origin) @ self.across, u) for edge in (upper, lower))
        self.inside = (v > top) & (v < bottom) & (u > 0) & (u < self.width)
        self.empty = not self.inside.any()
        if self.empty:
            return
        self.u, self.v = u[self.inside], v[self.inside]
        self.to_upper, self.to_lower = self.v - top[self.inside], bottom[self.inside] - self.v
        self.gap = np.maximum(self.to_upper + self.to_lower, 1e-3)
        self.place = np.stack([np.broadcast_to(x, u.shape)[self.inside], np.broadcast_to(y, u.shape)[self.inside]], 1)
        self.upper_shift, self.lower_shift = (
            np.stack([self._follow(edge, shift[:, k], self.u) for k in range(2)], -1)
            for edge, shift in zip(self._target, self._shifts, strict=True)
        )

    def _follow(self, edge: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Values given at the landmarks of an edge, interpolated at places `at` along the opening."""
        return np.interp(at, np.maximum.accumulate((edge - self._origin) @ self.along), values)

    def depths(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far places [K, 2] lay below the upper edge and above the lower one as they were: [K] pixels each."""
        u, v = (place - self._origin) @ self.along, (place - self._origin) @ self.across
        depth = []
        for edge, shift, sign in zip(self._target, self._shifts, (1.0, -1.0), strict=True):
            line = edge - shift
            depth.append(sign * (v - self._follow(line, (line - self._origin) @ self.across, u)))
        return depth[0], depth[1]

    def inside_source(self, place: np.ndarray) -> np.ndarray:
        """How deep places [K, 2] lie in the opening as it was: [K] pixels to the nearer edge, below 0 outside."""
        return np.minimum(*self.depths(place))

    def _ends(self) -> list[float]:
        """Displacement of both corners along the opening, pixels."""
        return [float(np.mean([shift[end] for shift in self._shifts], 0) @ self.along) for end in (0, -1)]

    def widening(self) -> np.ndarray:
        """Displacement along the opening where it is stretched evenly between its corners: [K, 2]."""
        ends = self._ends()
        return (ends[0] + (ends[1] - ends[0]) * self.u / self.width)[:, None] * self.along

    def cornering(self, evenly: float) -> tuple[np.ndarray, np.ndarray]:
        """Where corners move outwards: displacement along the opening [K], and how far places [K] go with the edges.

        With `evenly` 0 the middle is not stretched, with 1 as much as the corners.
        """
        first, last = self._ends()
        t = 2 * self.u / self.width - 1
        outwards = np.where(t < 0, max(-first, 0.0), max(last, 0.0))
        share = smoothstep(np.abs(t), *CORNERS) * smoothstep(outwards / self.width, 0.0, WIDENED)
        return t * outwards * (np.abs(t) + evenly * (1 - np.abs(t))), share

    def carried(self, margin: float, blend: float) -> tuple[np.ndarray, np.ndarray]:
        """How far places move with the upper and the lower edge, 0 to 1, where these carry only a narrow margin along: [K, 1] each."""
        result = [1 - smoothstep(distance, margin, margin + blend) for distance in (self.to_upper, self.to_lower)]
        total = np.maximum(result[0] + result[1], 1.0)
        return (result[0] / total)[:, None], (result[1] / total)[:, None]

    def drawn(self, margin: float, blend: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """The same where an edge that opens draws along what was next to it, over `reach` of the gap.

        Nothing that was hidden is needed then; what is seen gets stretched instead.
        """
        result = []
        for distance, inward, covers in (
            (self.to_upper, self.upper_shift @ self.across, 0),
            (self.to_lower, -(self.lower_shift @ self.across), 1),
        ):
            covers = 1 - smoothstep(distance, margin, margin + blend)
            draws = np.maximum(1 - smoothstep(distance / self.gap, 0.0, reach), covers)
            share = smoothstep(inward, -0.5, 0.5)
            result.append(covers * share + draws * (1 - share))
        total = np.maximum(result[0] + result[1], 1.0)
        return (result[0] / total)[:, None], (result[1] / total)[:, None]

    def sample(self, image: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Colours float32 [K, 3] of the places inside, sampled at their displacement `shift` [K, 2] back."""
        count = len(self.place)
        at = np.zeros((-(-count // _ROW) * _ROW, 2), np.float32)  # OpenCV takes no line longer than 32767 places
        at[:count] = self.place - shift
        at = at.reshape(-1, _ROW, 2)
        colours = cv2.remap(image, at, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return colours.reshape(-1, 3)[:count].astype(np.float32)

    def paste(self, result: np.ndarray, colours: np.ndarray, opaque: np.ndarray | float = 1.0) -> None:
        """Blend the colours [K, 3] of the places inside over the picture, antialiased at the edge.

        `opaque` [K] is how far they cover what is there.
        """
        left, top, right, bottom = self.box
        alpha: Any = np.zeros(self.inside.shape, np.float32)
        alpha[self.inside] = opaque
        fine: Any = np.zeros((*self.inside.shape, 3), np.float32)
        fine[self.inside] = colours * np.reshape(opaque, (-1, 1))
        size = (right - left, bottom - top)
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)[..., None]
        fine = cv2.resize(fine, size, interpolation=cv2.INTER_AREA)
        region = result[top:bottom, left:right]
        region[...] = quantised(region * (1 - alpha) + fine, region.dtype)


def draw_eye(result: np.ndarray, image: np.ndarray, eye: Opening, iris: np.ndarray, iris_move: np.ndarray) -> None:
    """Render an eye: lids slide over an eyeball that stays, or whose iris moves where the gaze is edited.

    Args:
        result: the picture to render into.
        image: the original.
        eye: where, and how the lids have moved.
        iris: [5, 2] pixels: centre and edge.
        iris_move: [2] pixels.
    """
    lash, blend = 0.05 * eye.width, 0.05 * eye.width
    radius = np.linalg.norm(iris[1:] - iris[0], axis=1).mean()
    ball = np.zeros((len(eye.gap), 2))
    if np.abs(iris_move).max() > STILL:
        distance = np.linalg.norm(eye.place - iris[0] - iris_move, axis=1)
        ball = iris_move * smoothstep(distance, 2.2 * radius, 1.1 * radius)[:, None]
    # where a lid uncovers the eyeball, show what lies opposite or beside on it: the iris stays round
    behind = eye.place - ball
    hidden = smoothstep(eye.inside_source(behind), 1.5 * lash, 0.5 * lash)
    opened = np.maximum(-(eye.upper_shift @ eye.across), eye.lower_shift @ eye.across)
    share, around = hidden * smoothstep(opened, 0.3, 1.0 + 0.2 * lash), None
    known = np.zeros_like(share)
    if share.max() > 0.01:
        around, known = _around_iris(image, eye, behind - iris[0], iris[0], lash)
        around *= 1 - LID_SHADOW * smoothstep(eye.to_upper, 5 * lash, lash)[:, None]
    ball_stays = float((share * known).sum() / max(share.sum(), 1e-6))
    with_upper, with_lower = (
        stretched + ball_stays * (carried - stretched)
        for stretched, carried in zip(eye.drawn(lash, blend, 0.75), eye.carried(lash, blend), strict=True)
    )
    lids = eye.upper_shift * with_upper + eye.lower_shift * with_lower
    colours = eye.sample(image, ball * (1 - with_upper - with_lower) + lids)
    if around is not None:
        share = share * known * (1 - np.maximum(*eye.carried(0.5 * lash, blend))[:, 0])
        colours += (around - colours) * share[:, None]
    eye.paste(result, colours)


def _around_iris(
    image: np.ndarray, eye: Opening, offset: np.ndarray, centre: np.ndarray, lash: float
) -> tuple[np.ndarray, np.ndarray]:
    """What the original shows of the eyeball at places `offset` [K, 2] from the iris's centre, had it no lids.

    Taken from opposite places, below for above, and where these are covered, too, from beside the centre at the same distance.

    Returns:
        float32 [K, 3], and how far it is known, [K] in 0..1.
    """
    along = (offset @ eye.along)[:, None]
    distance = np.linalg.norm(offset, axis=1, keepdims=True)
    side = smoothstep(along / np.maximum(distance, 1e-3), -0.5, 0.5)
    colours, total = np.zeros((len(offset), 3), np.float32), np.zeros((len(offset), 1))
    for place, weight in (
        (2 * along * eye.along - offset, 1.0),
        (distance * eye.along, side),
        (-distance * eye.along, 1 - side),
    ):
        seen = smoothstep(eye.inside_source(centre + place), 0.8 * lash, 1.6 * lash)[:, None]
        weight = np.minimum(weight * seen, 1 - total)
        colours += eye.sample(image, eye.place - centre - place) * weight
        total += weight
    aside = abs(float((centre - eye.place.mean(0)) @ eye.along)) / eye.width
    return colours / np.maximum(total, 1e-3), total[:, 0] * smoothstep(aside, *ASIDE[::-1])


def draw_mouth(
    result: np.ndarray, image: np.ndarray, mouth: Opening, red: np.ndarray, jaw_move: np.ndarray, border: float
) -> None:
    """Render the inner mouth: lips slide over teeth that stay with skull and jaw; a new gap between the rows is dark.

    Args:
        result: the picture to render into.
        image: the original.
        mouth: where, and how the inner edges of the lips have moved.
        red, jaw_move: [3], colour of the lips in the original; [2] pixels.
        border: where the upper row of teeth ends (`face.teeth.row_border`).
    """
    depth = (mouth.to_upper / mouth.gap)[:, None]
    gap_before = mouth.gap - (mouth.lower_shift - mouth.upper_shift) @ mouth.across
    evenly = mouth.across * ((mouth.upper_shift * (1 - depth) + mouth.lower_shift * depth) @ mouth.across)[:, None]
    whole = mouth.sample(image, evenly + mouth.widening())
    # an open mouth that shows tongue and throat may be stretched; teeth keep their size and part over a dark gap
    tongue = float(smoothstep(gap_before.max() / mouth.width, 0.08, 0.2))
    tongue *= float(smoothstep(np.quantile(whole.mean(1), 0.9) / red.mean(), *TEETH))
    dark = _darkness(mouth, float(gap_before.max()), smoothstep(depth[:, 0], min(border, 0.6), 1.0), whole, red)
    dark += (whole - dark) * smoothstep(np.abs(2 * mouth.u / mouth.width - 1), *ENDS)[:, None]
    colours = _rows(image, mouth, gap_before, jaw_move, border, tongue, dark)
    new = smoothstep(gap_before / mouth.gap, 0.35, 0.1) * smoothstep(mouth.gap, *DARK_FROM)
    colours += (dark - colours) * new[:, None]  # lips that hardly parted before showed nothing
    upper, lower = mouth.carried(0.01 * mouth.width, 0.03 * mouth.width)
    lips = (mouth.upper_shift * upper + mouth.lower_shift * lower) / np.maximum(upper + lower, 1e-6)
    colours += (mouth.sample(image, lips) - colours) * (upper + lower)
    # edges that meet cross each other from pixel to pixel: so narrow a gap is left to the skin, or it would be jagged
    mouth.paste(result, colours, smoothstep(mouth.gap, *SLIT))


def _rows(
    image: np.ndarray,
    mouth: Opening,
    gap_before: np.ndarray,
    jaw_move: np.ndarray,
    border: float,
    tongue: float,
    dark: np.ndarray,
) -> np.ndarray:
    """Colours [K, 3] of teeth that keep their size and place, the upper row before the lower one, and `dark` where none are seen.

    `gap_before` [K] pixels is the gap as it was, `tongue` in 0..1 how far it shows tongue and throat instead, which stretch.
    """
    stretch = ROW_STRETCH + tongue * (THROAT_STRETCH - ROW_STRETCH)
    border += tongue * (ONE_ROW - border)
    rows = _row_shifts(mouth, gap_before, jaw_move, border, stretch)
    alone = float(smoothstep(border, 0.9, 1.0))  # the lower lip uncovers the upper row, too
    lips = [shift @ mouth.across for shift in (mouth.upper_shift, mouth.lower_shift)]
    depth = mouth.to_upper / mouth.gap
    evenly = lips[0] * (1 - depth) + lips[1] * depth
    outwards, corner = mouth.cornering(tongue)
    back = JAW_BACK * (2 * mouth.u / mouth.width - 1) ** 2
    result, free = np.zeros_like(dark), np.ones(len(dark))
    for row, heights, side in zip(rows, ((border, alone), (0.0, 1 - border)), (-1.0, 1.0), strict=True):
        shift = rows[0] + (row - rows[0]) * (1 - back)[:, None]
        for lip, distance, height, out in zip(
            lips, (mouth.to_upper, mouth.to_lower), heights, (-1.0, 1.0), strict=True
        ):
            room = max(height, 0.0) * np.maximum(gap_before, 0)
            further = np.clip(out * (lip - shift @ mouth.across), 0, stretch * room)
            shift += (out * further * smoothstep(distance / np.maximum(room, 1.0), 1.0, 0.0))[:, None] * mouth.across
        shift += (corner * (evenly - shift @ mouth.across))[:, None] * mouth.across + outwards[:, None] * mouth.along
        above, below = (distance - EDGE_LEFT * mouth.width for distance in mouth.depths(mouth.place - shift))
        out_above, out_below = (np.clip(-distance, 0, EDGE_KEPT * mouth.width) for distance in (above, below))
        above, below = above + out_above - out_below, below + out_below - out_above
        shift += (out_below - out_above)[:, None] * mouth.across
        share = smoothstep(side * (above / np.maximum(above + below, 1e-3) - border), -ROW_EDGE, ROW_EDGE)
        share = np.minimum(share * smoothstep(np.minimum(above, below) / mouth.width, -0.01, 0.0), free)
        free = free - share
        result += mouth.sample(image, shift) * share[:, None]
    return np.asarray(result + dark * free[:, None], np.float32)


def _darkness(mouth: Opening, gap_before: float, lit: np.ndarray, shown: np.ndarray, red: np.ndarray) -> np.ndarray:
    """The inside of the mouth where the frame does not show it.

    Args:
        mouth: where.
        gap_before: how far the lips were apart at most, pixels.
        lit: [K], 0 to 1, where the tongue lies.
        shown: [K, 3], colours between the lips of the frame.
        red: [3], colour of the lips.

    Returns:
        float32 [K, 3].
    """
    count = max(1, int(DARKEST * len(shown)))
    darkest = np.argpartition(shown.mean(1), count - 1)[:count]
    as_shown = shown[darkest].mean(0)
    made_up = red * (DARKNESS + (TONGUE - DARKNESS) * lit)[:, None]
    known = smoothstep(gap_before / mouth.width, *DEEP) * smoothstep(as_shown.mean() / red.mean(), *SHOWN_DARK)
    as_shown = np.minimum(as_shown, red / 2)
    deep = (1 - known) * smoothstep(mouth.gap / mouth.width, *DEEP)[:, None]
    return np.asarray(as_shown + deep * (made_up - as_shown), np.float32)


def _row_shifts(
    mouth: Opening, gap_before: np.ndarray, jaw_move: np.ndarray, border: float, stretch: float
) -> tuple[np.ndarray, np.ndarray]:
    """How far the upper and the lower row of teeth move: [2] pixels each."""
    middle = np.abs(mouth.u / mouth.width - 0.5) < 0.25
    if not middle.any():
        return np.zeros(2), jaw_move
    upper, lower = (float((shift[middle] @ mouth.across).mean()) for shift in (mouth.upper_shift, mouth.lower_shift))
    # both lips go the same way, the whole mouth moves: else a raised one would show gums above and lose its teeth below
    common = min((upper, lower), key=abs) if upper * lower > 0 else 0.0
    height = max(float(gap_before[middle].mean()), 0)
    room, common = stretch * height, min(common, ROW_SINKS * height)
    top = min(common, upper + room * min(border, 1.0))
    bottom = max(min(float(jaw_move @ mouth.across), top), common, lower - room * max(1 - border, 0.0))
    along = float(jaw_move @ mouth.along)
    return top * mouth.across, bottom * mouth.across + along * mouth.along
