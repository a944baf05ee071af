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

ENDS, AT_ENDS = (0.7, 0.9), 0.75
"""Where, between the middle of the mouth and a corner, darkness begins to give way to what the frame shows there, and does; that is no
brighter than the last share of the lips' brightness."""

EXTREME = 0.1
"""Share of the places between the lips that count as the darkest, and as the brightest."""

TONGUE = 0.5
"""The same where the tongue lies, before the lower teeth."""

ROW_EDGE = 0.04
"""How soft the edge of a row of teeth is, as a share of the opening."""

LIP_EDGE, SHADE_EDGE, SHADE = 0.025, 0.018, (0.35, 0.65)
"""How soft the border of teeth to what is as red as lips and to darkness is, as shares of the mouth's width, and from which share of dark places around
on a place is dark, and fully: narrow slivers are none."""

LIP_SIDE, LIKE_LIP, LEAST_REDNESS = (0.5, 0.3), (0.5, 0.85), 0.03
"""Where a row of teeth has its free edge, as a share of the opening from the lip there, what is as red as lips is that lip, and no
tooth: on the way from the teeth's redness to the lips', where these differ by the third at least."""

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

SHADED, ROOM, NARROW = 0.5, 0.06, (0.8, 0.3)
"""Brightness of what lies beside teeth in shade as a share of the lips', where little is free: by the share of free places within the
second, of the mouth's width, in full from the last share on."""

OWN_DARK, MUCH_DARK = (0.6, 0.4), (0.15, 0.35)
"""Brightness as a share of the lips': what the frame shows between them and is darker than the second is drawn as it is, where it is
so dark in more than the first of the latter shares of the mouth; fully from the second on."""

WIDE, BESIDE, ALIKE = (0.4, 0.6), 0.08, (0.15, 0.1)
"""Of a mouth that is open by the first share of its width: so far inside the tracked edge of the lower lip, as a share of that width,
and half as far outside, colours that differ by less than the last share are both the lip's. Set by looking at shouting mouths."""

_ROW = 256  # places in a row of the table that OpenCV reads


def quantised(picture: np.ndarray, kind: Any) -> np.ndarray:
    """A float picture, 0 to 255, rounded and clipped where it must become uint8; float pictures keep fractions and range."""
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8) if kind == np.uint8 else picture


def _complex(points: np.ndarray) -> np.ndarray:
    """Places or ways [n, 2] as complex numbers [n]: x + iy."""
    return np.ascontiguousarray(points, np.float64).view(np.complex128)[..., 0]


class Opening:
    """The pixels between two edges that meet in two corners, in a frame of their own.

    Small ones are rendered at `FINE` times the picture's resolution, because lashes, lids and lips are narrow. Places and ways in
    this frame are complex numbers in pixels: the real part runs along the opening, the imaginary one across it, downwards.

    Attributes:
        box: (left, top, right, bottom), pixels of the picture.
        inside: bool [h, w] at fine resolution, which places lie between the edges.
        place: complex64 [K], the K places inside.
        aside: float32 [K], where they lie between the corners, -1 to 1.
        to_upper, to_lower: float32 [K] pixels from the edges.
        gap: float32 [K], distance of the edges there.
        upper_shift, lower_shift: complex64 [K], displacement of the edges there.
    """

    def __init__(self, edges: list[tuple[np.ndarray, np.ndarray]], bounds: tuple[int, int, int, int]) -> None:
        lines = [(_complex(source), _complex(target)) for source, target in edges]
        upper = lines[0][1]
        self.width = float(abs(upper[-1] - upper[0]))
        self.empty = True
        if self.width < 4:
            return
        self._origin, self._along = complex(upper[0]), complex(upper[-1] - upper[0]) / self.width
        both = np.concatenate([target for _, target in edges])
        low = np.maximum(np.floor(both.min(0)).astype(int) - 1, bounds[:2])
        high = np.minimum(np.ceil(both.max(0)).astype(int) + 2, bounds[2:])
        if (high - low < 2).any():
            return
        self.box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        fine = FINE if self.width < FINE_UP_TO else 1
        columns, rows = (high - low) * fine
        x = (np.arange(columns) + 0.5)[None, :] / fine - 0.5 + low[0] - self._origin.real  # centres of fine pixels
        y = (np.arange(rows) + 0.5)[:, None] / fine - 0.5 + low[1] - self._origin.imag
        place = (self.way(x) + self.way(1j * y)).astype(np.complex64)
        u, v = place.real, place.imag
        # by edge: where it lies, and by how much it was displaced
        self._edges = [(self.way(target - self._origin), self.way(target - source)) for source, target in lines]
        top, bottom = (self._follow(line, line.imag, u) for line, _ in self._edges)
        self.inside = (v > top) & (v < bottom) & (u > 0) & (u < self.width)
        self._at = np.flatnonzero(self.inside)
        self.empty = not len(self._at)
        if self.empty:
            return
        self.place = place.take(self._at)
        self.u, v = np.ascontiguousarray(self.place.real), self.place.imag
        self.aside = 2 / self.width * self.u - 1
        self.to_upper, self.to_lower = v - top.take(self._at), bottom.take(self._at) - v
        self.gap = np.maximum(self.to_upper + self.to_lower, 1e-3)
        self.upper_shift, self.lower_shift = (self._follow(line, shift, self.u) for line, shift in self._edges)

    def way(self, way: Any) -> Any:
        """Ways x + iy of the picture as ways of the opening's frame."""
        return way * self._along.conjugate()

    def place_of(self, point: np.ndarray) -> complex:
        """A place [2] of the picture as a place of the opening's frame."""
        return complex(self.way(complex(*point) - self._origin))

    @staticmethod
    def _follow(line: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Values given at the landmarks of an edge, interpolated at places `at` along the opening; of single precision."""
        found = np.interp(at, np.maximum.accumulate(line.real), values)
        return found.astype(np.complex64 if found.dtype == np.complex128 else np.float32)

    def depths(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far places [K] lay below the upper edge and above the lower one as they were: [K] pixels each."""
        depth = []
        for (line, shift), sign in zip(self._edges, (1.0, -1.0), strict=True):
            before = line - shift
            depth.append(sign * (place.imag - self._follow(before, before.imag, place.real)))
        return depth[0], depth[1]

    def inside_source(self, place: np.ndarray) -> np.ndarray:
        """How deep places [K] lie in the opening as it was: [K] pixels to the nearer edge, below 0 outside."""
        return np.minimum(*self.depths(place))

    def _ends(self) -> list[float]:
        """Displacement of both corners along the opening, pixels."""
        return [float(np.mean([shift[end] for _, shift in self._edges]).real) for end in (0, -1)]

    def widening(self) -> np.ndarray:
        """Displacement along the opening where it is stretched evenly between its corners: [K]."""
        first, last = self._ends()
        widening: np.ndarray = first + (last - first) / self.width * self.u
        return widening

    def cornering(self, evenly: float) -> tuple[np.ndarray, np.ndarray]:
        """Where corners move outwards: displacement along the opening [K], and how far places [K] go with the edges.

        With `evenly` 0 the middle is not stretched, with 1 as much as the corners.
        """
        first, last = self._ends()
        t = self.aside
        outwards = np.where(t < 0, np.float32(max(-first, 0.0)), np.float32(max(last, 0.0)))
        share = smoothstep(np.abs(t), *CORNERS) * smoothstep(outwards / self.width, 0.0, WIDENED)
        return t * outwards * (np.abs(t) + evenly * (1 - np.abs(t))), share

    def carried(self, margin: float, blend: float) -> tuple[np.ndarray, np.ndarray]:
        """How far places move with the upper and the lower edge, 0 to 1, where these carry only a narrow margin along: [K] each."""
        result = [1 - smoothstep(distance, margin, margin + blend) for distance in (self.to_upper, self.to_lower)]
        total = np.maximum(result[0] + result[1], 1.0)
        return result[0] / total, result[1] / total

    def drawn(self, margin: float, blend: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """The same where an edge that opens draws along what was next to it, over `reach` of the gap.

        Nothing that was hidden is needed then; what is seen gets stretched instead.
        """
        result = []
        for distance, inward in ((self.to_upper, self.upper_shift.imag), (self.to_lower, -self.lower_shift.imag)):
            covers = 1 - smoothstep(distance, margin, margin + blend)
            draws = np.maximum(1 - smoothstep(distance / self.gap, 0.0, reach), covers)
            draws += (covers - draws) * smoothstep(inward, -0.5, 0.5)
            result.append(draws)
        total = np.maximum(result[0] + result[1], 1.0)
        return result[0] / total, result[1] / total

    def sample(self, image: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Colours float32 [3, K] of the places inside, sampled at their displacement `shift` [K] back."""
        count = len(self.place)
        at = np.zeros(-(-count // _ROW) * _ROW, np.complex64)  # OpenCV takes no line longer than 32767 places
        at[:count] = (self.place - shift) * self._along + self._origin
        places = at.view(np.float32).reshape(-1, _ROW, 2)
        colours = cv2.remap(image, places, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.stack([colour.ravel()[:count] for colour in cv2.split(colours)]).astype(np.float32)

    def blurred(self, values: np.ndarray, sigma: float) -> np.ndarray:
        """Values [K] of the places inside, blurred with 0 around the opening; `sigma` in pixels."""
        plane = np.zeros(self.inside.shape, np.float32)
        plane.ravel()[self._at] = values
        fine = len(plane) / (self.box[3] - self.box[1])
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), max(sigma * fine, 0.3)).take(self._at))

    def paste(self, result: np.ndarray, colours: np.ndarray, opaque: np.ndarray | float = 1.0) -> None:
        """Blend the colours [3, K] of the places inside over the picture, antialiased at the edge.

        `opaque` [K] is how far they cover what is there.
        """
        left, top, right, bottom = self.box
        fine = np.zeros((4, *self.inside.shape), np.float32)
        fine.reshape(4, -1)[:, self._at] = (
            np.concatenate([colours, np.ones((1, colours.shape[1]), np.float32)]) * opaque
        )
        covered: Any = cv2.resize(cv2.merge(list(fine)), (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        *planes, alpha = cv2.split(covered)
        region = result[top:bottom, left:right]
        region[...] = quantised(region * cv2.merge([1 - alpha] * 3) + cv2.merge(planes), region.dtype)


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
    centre = eye.place_of(iris[0])
    ball: Any = 0
    if np.abs(iris_move).max() > STILL:
        move = complex(eye.way(complex(*iris_move)))
        radius = float(np.linalg.norm(iris[1:] - iris[0], axis=1).mean())
        ball = move * smoothstep(np.abs(eye.place - (centre + move)), 2.2 * radius, 1.1 * radius)
    # where a lid uncovers the eyeball, show what lies opposite or beside on it: the iris stays round
    behind = eye.place - ball
    hidden = smoothstep(eye.inside_source(behind), 1.5 * lash, 0.5 * lash)
    opened = np.maximum(-eye.upper_shift.imag, eye.lower_shift.imag)
    share, around = hidden * smoothstep(opened, 0.3, 1.0 + 0.2 * lash), None
    known = np.zeros_like(share)
    if share.max() > 0.01:
        around, known = _around_iris(image, eye, behind - centre, centre, lash)
        around *= 1 - LID_SHADOW * smoothstep(eye.to_upper, 5 * lash, lash)
    ball_stays = float((share * known).sum() / max(share.sum(), 1e-6))
    with_upper, with_lower = (
        stretched + ball_stays * (carried - stretched)
        for stretched, carried in zip(eye.drawn(lash, blend, 0.75), eye.carried(lash, blend), strict=True)
    )
    lids = eye.upper_shift * with_upper + eye.lower_shift * with_lower
    colours = eye.sample(image, ball * (1 - with_upper - with_lower) + lids)
    if around is not None:
        colours += (around - colours) * (share * known * (1 - np.maximum(*eye.carried(0.5 * lash, blend))))
    eye.paste(result, colours)


def _around_iris(
    image: np.ndarray, eye: Opening, offset: np.ndarray, centre: complex, lash: float
) -> tuple[np.ndarray, np.ndarray]:
    """What the original shows of the eyeball at places `offset` [K] from the iris's centre, had it no lids.

    Taken from opposite places, below for above, and where these are covered, too, from beside the centre at the same distance.

    Returns:
        float32 [3, K], and how far it is known, [K] in 0..1.
    """
    distance = np.abs(offset)
    side = smoothstep(offset.real / np.maximum(distance, 1e-3), -0.5, 0.5)
    colours, total = np.zeros((3, len(offset)), np.float32), np.zeros(len(offset), np.float32)
    for place, weight in ((offset.conj(), 1.0), (distance, side), (-distance, 1 - side)):
        seen = smoothstep(eye.inside_source(centre + place), 0.8 * lash, 1.6 * lash)
        weight = np.minimum(weight * seen, 1 - total)
        colours += eye.sample(image, eye.place - centre - place) * weight
        total += weight
    aside = abs(centre.real - float(eye.u.mean())) / eye.width
    return colours / np.maximum(total, 1e-3), total * smoothstep(aside, *ASIDE[::-1])


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
    depth = mouth.to_upper / mouth.gap
    gap_before = mouth.gap - (mouth.lower_shift - mouth.upper_shift).imag
    evenly = mouth.upper_shift.imag * (1 - depth) + mouth.lower_shift.imag * depth
    whole = mouth.sample(image, mouth.widening() + 1j * evenly)
    # an open mouth that shows tongue and throat may be stretched; teeth keep their size and part over a dark gap
    tongue = float(smoothstep(gap_before.max() / mouth.width, 0.08, 0.2))
    if tongue:
        tongue *= float(smoothstep(np.quantile(whole.mean(0), 0.9) / red.mean(), *TEETH))
    dark, known = _darkness(mouth, float(gap_before.max()), smoothstep(depth, min(border, 0.6), 1.0), whole, red)
    dark += (np.minimum(whole, AT_ENDS * red[:, None]) - dark) * smoothstep(np.abs(mouth.aside), *ENDS)
    teeth, free = _rows(image, mouth, gap_before, complex(mouth.way(complex(*jaw_move))), border, tongue, whole, red)
    around, shade = _around_teeth(mouth, free, whole, dark, known, red)
    shade *= 1 - _lip_goes_on(image, mouth, gap_before)
    colours = teeth + whole * free
    colours += (around - colours) * shade
    new = smoothstep(gap_before / mouth.gap, 0.35, 0.1) * smoothstep(mouth.gap, *DARK_FROM)
    colours += (dark - colours) * new  # lips that hardly parted before showed nothing
    upper, lower = mouth.carried(0.01 * mouth.width, 0.03 * mouth.width)
    lips = (mouth.upper_shift * upper + mouth.lower_shift * lower) / np.maximum(upper + lower, 1e-6)
    colours += (mouth.sample(image, lips) - colours) * (upper + lower)
    # edges that meet cross each other from pixel to pixel: so narrow a gap is left to the skin, or it would be jagged
    mouth.paste(result, colours, smoothstep(mouth.gap, *SLIT))


def _rows(
    image: np.ndarray,
    mouth: Opening,
    gap_before: np.ndarray,
    jaw: complex,
    border: float,
    tongue: float,
    whole: np.ndarray,
    red: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Teeth that keep their size and place, the upper row before the lower one.

    Args:
        image, mouth, border, red: as for `draw_mouth`.
        gap_before: [K] pixels, the gap as it was.
        jaw: motion of the chin in the mouth's frame.
        tongue: 0 to 1, how far the mouth shows tongue and throat instead, which stretch.
        whole: [3, K], the mouth stretched evenly.

    Returns:
        float32 [3, K], their colours times how far they are seen; and [K], the rest.
    """
    stretch = ROW_STRETCH + tongue * (THROAT_STRETCH - ROW_STRETCH)
    border += tongue * (ONE_ROW - border)
    rows = _row_shifts(mouth, gap_before, jaw, border, stretch)
    alone = float(smoothstep(border, 0.9, 1.0))  # the lower lip uncovers the upper row, too
    lips, depth = (mouth.upper_shift.imag, mouth.lower_shift.imag), mouth.to_upper / mouth.gap
    evenly = lips[0] * (1 - depth) + lips[1] * depth
    outwards, corner = mouth.cornering(tongue)
    result, free, back = np.zeros_like(whole), np.ones_like(depth), 1 - JAW_BACK * mouth.aside**2
    redness = [float(_redness(colour)) for colour in (_extreme(whole, -1), red)]
    reddens = max(redness[1] - redness[0], LEAST_REDNESS)
    facing = (1 - tongue) * smoothstep(np.abs(mouth.aside), *CORNERS[::-1])  # at the sides, teeth are red by shade
    for row, heights, side in zip(rows, ((border, alone), (0.0, 1 - border)), (-1.0, 1.0), strict=True):
        along = outwards + (row - rows[0]).real * back + rows[0].real
        down = (row - rows[0]).imag * back + rows[0].imag
        for lip, distance, height, out in zip(
            lips, (mouth.to_upper, mouth.to_lower), heights, (-1.0, 1.0), strict=True
        ):
            if height > 0:
                room = height * np.maximum(gap_before, 0)
                further = np.clip(out * (lip - down), 0, stretch * room)
                down += out * further * smoothstep(distance / np.maximum(room, 1.0), 1.0, 0.0)
        down += corner * (evenly - down)
        above, below = (
            distance - EDGE_LEFT * mouth.width for distance in mouth.depths(mouth.place - (along + 1j * down))
        )
        out_above, out_below = (np.clip(-distance, 0, EDGE_KEPT * mouth.width) for distance in (above, below))
        beyond = out_below - out_above
        above, below = above - beyond, below + beyond
        share = smoothstep(side * (above / np.maximum(above + below, 1e-3) - border), -ROW_EDGE, ROW_EDGE)
        share = np.minimum(share * smoothstep(np.minimum(above, below) / mouth.width, -0.01, 0.0), free)
        seen = mouth.sample(image, along + 1j * (down + beyond))
        edge = above if side > 0 else below
        near_lip = facing * smoothstep(edge / np.maximum(above + below, 1e-3), *LIP_SIDE)
        like_lip = near_lip * smoothstep((_redness(seen) - redness[0]) / reddens, *LIKE_LIP)
        share = share * (1 - mouth.blurred(like_lip, LIP_EDGE * mouth.width))
        free = free - share
        result += seen * share
    return result, free


def _around_teeth(
    mouth: Opening, free: np.ndarray, whole: np.ndarray, dark: np.ndarray, known: float, red: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is seen beside and between rows of teeth where these leave places `free` [K].

    Args:
        mouth: where.
        free: see there.
        whole: [3, K], the mouth stretched evenly, which fills what is too narrow to be dark.
        dark, known: see `_darkness`.
        red: [3], colour of the lips.

    Returns:
        float32 [3, K], and [K] in 0..1, where that shows.
    """
    own = smoothstep(whole.mean(0) / red.mean(), *OWN_DARK)
    shown = known * smoothstep(np.abs(mouth.aside), *CORNERS[::-1])  # at the sides it is darker than what lies there
    narrow = (1 - shown) * smoothstep(mouth.blurred(free, ROOM * mouth.width), *NARROW)
    colours = np.maximum(dark, SHADED * red[:, None] * narrow)
    colours += (whole - colours) * own * smoothstep(own.mean(), *MUCH_DARK)
    return colours, np.asarray(smoothstep(mouth.blurred(free, SHADE_EDGE * mouth.width), *SHADE))


def _lip_goes_on(image: np.ndarray, mouth: Opening, gap_before: np.ndarray) -> float:
    """How far the tracked edge of the lower lip lies within the lip that is seen, 0 to 1: it looks the same on both sides."""
    inwards, outwards = np.minimum(BESIDE * mouth.width, gap_before / 2), -BESIDE / 2 * mouth.width
    inner, lip = (mouth.sample(image, mouth.lower_shift + 1j * (m - mouth.to_lower)) for m in (inwards, outwards))
    differs = np.abs(inner - lip).sum(0) / np.maximum(lip.sum(0), 1.0)
    middle = np.abs(mouth.aside) < CORNERS[0]
    wide = float(smoothstep(gap_before.max() / mouth.width, *WIDE))
    return wide * float(smoothstep(np.median(differs[middle]), *ALIKE)) if middle.any() else 0.0


def _extreme(colours: np.ndarray, sign: int) -> np.ndarray:
    """Mean [3] of the darkest (`sign` 1) or brightest (-1) of colours [3, K]."""
    count = max(1, int(EXTREME * colours.shape[1]))
    return np.asarray(colours[:, np.argpartition(sign * colours.mean(0), count - 1)[:count]].mean(1))


def _redness(colours: np.ndarray) -> np.ndarray:
    """Share of red in the light of colours [3, ...], which shade leaves as it is."""
    return np.asarray(colours[0] / np.maximum(colours.sum(0), 1.0))


def _darkness(
    mouth: Opening, gap_before: float, lit: np.ndarray, shown: np.ndarray, red: np.ndarray
) -> tuple[np.ndarray, float]:
    """The inside of the mouth where the frame does not show it.

    Args:
        mouth: where.
        gap_before: how far the lips were apart at most, pixels.
        lit: [K], 0 to 1, where the tongue lies.
        shown: [3, K], colours between the lips of the frame.
        red: [3], colour of the lips.

    Returns:
        float32 [3, K]; and how far it is what the frame shows between the lips, 0 to 1.
    """
    as_shown = _extreme(shown, 1)
    made_up = red[:, None] * (DARKNESS + (TONGUE - DARKNESS) * lit)
    known = float(smoothstep(gap_before / mouth.width, *DEEP) * smoothstep(as_shown.mean() / red.mean(), *SHOWN_DARK))
    as_shown = np.minimum(as_shown, red / 2)[:, None]
    deep = (1 - known) * smoothstep(mouth.gap / mouth.width, *DEEP)
    return np.asarray(as_shown + deep * (made_up - as_shown), np.float32), known


def _row_shifts(
    mouth: Opening, gap_before: np.ndarray, jaw: complex, border: float, stretch: float
) -> tuple[complex, complex]:
    """How far the upper and the lower row of teeth move, pixels."""
    middle = np.abs(mouth.u / mouth.width - 0.5) < 0.25
    if not middle.any():
        return 0j, jaw
    upper, lower = (float(shift[middle].imag.mean()) for shift in (mouth.upper_shift, mouth.lower_shift))
    # both lips go the same way, the whole mouth moves: else a raised one would show gums above and lose its teeth below
    common = min((upper, lower), key=abs) if upper * lower > 0 else 0.0
    height = max(float(gap_before[middle].mean()), 0)
    room, common = stretch * height, min(common, ROW_SINKS * height)
    top = min(common, upper + room * min(border, 1.0))
    bottom = max(min(jaw.imag, top), common, lower - room * max(1 - border, 0.0))
    return complex(0, top), complex(jaw.real, bottom)
