"""Eyes and mouth as openings: their edges move with the skin, and slide over what lies behind instead of stretching it."""

from typing import Any

import cv2
import numpy as np

from cmet_engine.smoothstep import smoothstep

STILL = 0.05
"""Pixels: a motion that goes no further counts as none."""

FINE, FINE_UP_TO = 2, 110
"""Supersampling: eyes and mouths narrower than the second (pixels) are rendered the first times larger and averaged down."""

DARKNESS = 0.25
"""Brightness of the inside of a wide open mouth, as a share of the brightness of the lips."""

DEEP = (0.04, 0.14)
"""Gap as a share of the mouth's width: up to the first, and where the frame's own mouth is open beyond the second, the inside is as
dark as what the frame shows darkest between the lips."""

DARKEST = 0.1
"""Share of the places between the lips that count as the darkest."""

TONGUE = 0.5
"""The same where the tongue lies, before the lower teeth."""

UPPER_ROW, LOWER_ROW = 0.62, 0.33
"""Of an open mouth that shows teeth: the upper part that stays with the skull, and the lower part that moves with the lower lip."""

ROW_EDGE = 0.05
"""How soft their edges are, as a share of the opening."""

TONGUE_PART = (0.15, 1.0)
"""Where the frame shows tongue and throat: between these depths the motion of the skull turns into that of the jaw."""

TEETH = (1.25, 1.1)
"""Brightness of the brightest tenth of an open mouth as a share of the lips': above the first it shows teeth, below the second
tongue and throat."""

MOST_STRETCH = (0.66, 0.74)
"""Opening before as a share of the opening after: teeth that meet are stretched where it is above the second, not below the first."""

NARROWED = (0.0, 0.06)
"""Share of its width that a mouth has lost: from the second on, its teeth are not squeezed with it."""

DARK_FROM = (1.0, 3.0)
"""Pixels: a gap narrower than the first gets no darkness, which would be a dotted line; from the second on it gets all."""

SLIT = (0.6, 1.8)
"""Pixels: between lips nearer than the first nothing is rendered, from the second on everything is."""

_ROW = 256  # places in a row of the table that OpenCV reads


def quantised(picture: np.ndarray, kind: Any) -> np.ndarray:
    """A float picture, 0 to 255, rounded and clipped where it must become uint8; float pictures keep fractions and range."""
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8) if kind == np.uint8 else picture


def _complex(points: np.ndarray) -> np.ndarray:
    """Places or ways [n, 2] as complex numbers [n]: x + iy."""
    return np.ascontiguousarray(points, np.float64).view(np.complex128)[..., 0]


class Opening:
    """The pixels between two edges that meet in two corners, in a frame of their own: u along, v across.

    Small ones are rendered at `FINE` times the picture's resolution, because lashes, lids and lips are narrow. Places and ways in
    this frame are complex numbers, u + iv, in pixels.

    Attributes:
        box: (left, top, right, bottom), pixels of the frame.
        inside: bool [h, w] at fine resolution, which places lie between the edges.
        place: complex64 [K], the K places inside.
        to_upper, to_lower: float32 [K] pixels from the edges.
        gap: [K], distance of the edges there.
        upper_shift, lower_shift: complex64 [K], displacement of the edges there.
    """

    def __init__(self, edges: list[tuple[np.ndarray, np.ndarray]], bounds: tuple[int, int, int, int]) -> None:
        lines = [(_complex(source), _complex(target)) for source, target in edges]
        (_, upper), (_, lower) = lines
        self.width = float(abs(upper[-1] - upper[0]))
        self.empty = True
        if self.width < 4:
            return
        self._origin, self._along = complex(upper[0]), complex(upper[-1] - upper[0]) / self.width
        both = np.concatenate([upper, lower])
        both = np.stack([both.real, both.imag], 1)
        low = np.maximum(np.floor(both.min(0)).astype(int) - 1, bounds[:2])
        high = np.minimum(np.ceil(both.max(0)).astype(int) + 2, bounds[2:])
        if (high - low < 2).any():
            return
        self.box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        fine = FINE if self.width < FINE_UP_TO else 1
        columns, rows = (high - low) * fine
        x = (np.arange(columns) + 0.5)[None, :] / fine - 0.5 + low[0] - self._origin.real  # centres of fine pixels
        y = (np.arange(rows) + 0.5)[:, None] / fine - 0.5 + low[1] - self._origin.imag
        place = (x + 1j * y).astype(np.complex64) * self._along.conjugate()
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
        self.to_upper = (v - top.take(self._at)).astype(np.float32)
        self.to_lower = (bottom.take(self._at) - v).astype(np.float32)
        self.gap = np.maximum(self.to_upper + self.to_lower, 1e-3)
        self.upper_shift, self.lower_shift = (
            self._follow(line, shift, self.u).astype(np.complex64) for line, shift in self._edges
        )

    def way(self, way: Any) -> Any:
        """Ways x + iy of the picture as ways of the opening's frame."""
        return way * self._along.conjugate()

    def place_of(self, point: np.ndarray) -> complex:
        """A place [2] of the picture as a place of the opening's frame."""
        return complex(self.way(complex(*point) - self._origin))

    @staticmethod
    def _follow(line: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Values given at the landmarks of an edge, interpolated at places `at` along the opening."""
        return np.interp(at, np.maximum.accumulate(line.real), values)

    def inside_source(self, place: np.ndarray) -> np.ndarray:
        """How deep places [K] lie in the opening as it was: [K] pixels to the nearer edge, below 0 outside."""
        depth = []
        for (line, shift), sign in zip(self._edges, (1.0, -1.0), strict=True):
            before = line - shift
            depth.append(sign * (place.imag - self._follow(before, before.imag, place.real)))
        return np.minimum(*depth).astype(np.float32)

    def _ends(self) -> list[float]:
        """Displacement of both corners along the opening, pixels."""
        return [float(np.mean([shift[end] for _, shift in self._edges]).real) for end in (0, -1)]

    def widened(self) -> float:
        """By how many pixels the opening has become wider."""
        first, last = self._ends()
        return last - first

    def widening(self) -> np.ndarray:
        """Displacement along the opening where it is stretched evenly between its corners: [K]."""
        ends = self._ends()
        widening: np.ndarray = ends[0] + (ends[1] - ends[0]) * self.u / self.width
        return widening

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
            share = smoothstep(inward, -0.5, 0.5)
            result.append(covers * share + draws * (1 - share))
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

    def paste(self, result: np.ndarray, colours: np.ndarray, opaque: np.ndarray | None = None) -> None:
        """Blend the colours [3, K] of the places inside over the picture, antialiased at the edge.

        `opaque` [K] is how far they cover what is there; None is everywhere.
        """
        left, top, right, bottom = self.box
        values = np.ones((4, colours.shape[1]), np.float32)
        values[:3] = colours
        if opaque is not None:
            values *= opaque
        fine = np.zeros((4, *self.inside.shape), np.float32)
        fine.reshape(4, -1)[:, self._at] = values
        *planes, alpha = cv2.split(
            cv2.resize(cv2.merge(list(fine)), (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        )
        region = result[top:bottom, left:right]
        kept = 1 - alpha
        region[...] = quantised(region * cv2.merge([kept] * 3) + cv2.merge(planes), region.dtype)


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
        radius = np.linalg.norm(iris[1:] - iris[0], axis=1).mean()
        ball = move * smoothstep(np.abs(eye.place - (centre + move)), 2.2 * radius, 1.1 * radius)
    with_upper, with_lower = eye.drawn(lash, blend, 0.75)
    lids = eye.upper_shift * with_upper + eye.lower_shift * with_lower
    colours = eye.sample(image, ball * (1 - with_upper - with_lower) + lids)
    # where a lid has uncovered the eyeball, show what lies opposite on it, so that the iris stays round
    behind = eye.place - ball
    hidden = smoothstep(eye.inside_source(behind), 1.5 * lash, 0.5 * lash)
    mirrored = behind.conj() + 2j * centre.imag
    known = smoothstep(eye.inside_source(mirrored), 0.8 * lash, 1.6 * lash)
    opened = np.maximum(-eye.upper_shift.imag, eye.lower_shift.imag)
    share = hidden * known * smoothstep(opened, 0.3, 1.0 + 0.2 * lash)
    share *= 1 - np.maximum(*eye.carried(0.5 * lash, blend))
    if share.max() > 0.01:
        colours += (eye.sample(image, eye.place - mirrored) - colours) * share
    eye.paste(result, colours)


def draw_mouth(
    result: np.ndarray, image: np.ndarray, mouth: Opening, red: np.ndarray, jaw_move: np.ndarray, meet: float
) -> None:
    """Render the inner mouth: lips slide over teeth that stay with skull and jaw; a new gap between the rows is dark.

    Args:
        result: the picture to render into.
        image: the original.
        mouth: where, and how the inner edges of the lips have moved.
        red, jaw_move: [3], colour of the lips in the original; [2] pixels.
        meet: 0 to 1, whether the rows of teeth meet.
    """
    jaw = complex(mouth.way(complex(*jaw_move)))
    with_upper, with_lower = mouth.drawn(0.02 * mouth.width, 0.05 * mouth.width, 0.75)
    along_upper, along_lower = mouth.carried(0.01 * mouth.width, 0.025 * mouth.width)
    upper_across, lower_across = _as_wide(mouth)
    gap_before = mouth.gap - (mouth.lower_shift - mouth.upper_shift).imag
    depth = mouth.to_upper / mouth.gap
    # an open mouth that shows tongue and throat may be stretched; teeth keep their size and part over a dark gap
    tongue = float(smoothstep(gap_before.max() / mouth.width, 0.08, 0.2))
    if tongue:
        seen = mouth.sample(image, jaw * depth)
        tongue *= float(smoothstep(np.quantile(seen.mean(0), 0.9) / red.mean(), *TEETH))
    kept = np.clip(gap_before / mouth.gap, 0, 1)  # of a mouth that opens further: the part that the frame shows
    rows = (UPPER_ROW * kept, 1 - LOWER_ROW * kept)
    low, high = ((1 - tongue) * a + tongue * b for a, b in zip(rows, TONGUE_PART, strict=True))
    upper_row, lower_row = _row_shifts(mouth, jaw)
    teeth = upper_row + (lower_row - upper_row) * smoothstep(depth, low, high)
    # teeth that meet do not part because the lips do: the lips show more of them
    evenly = upper_across + (lower_across - upper_across) * depth
    meeting = meet * (1 - tongue) * float(smoothstep(gap_before.max() / mouth.gap.max(), *MOST_STRETCH))
    teeth += meeting * (evenly - teeth)
    # tongue and throat widen with the mouth, teeth do not
    teeth += tongue * mouth.widening()
    shift = teeth * (1 - with_upper - with_lower) + upper_across * with_upper + lower_across * with_lower
    shift += np.minimum(along_upper, with_upper) * (mouth.upper_shift - upper_across)
    shift += np.minimum(along_lower, with_lower) * (mouth.lower_shift - lower_across)
    colours = mouth.sample(image, shift)
    # teeth are not stretched: what opens between the rows is dark
    between = smoothstep(depth, low - ROW_EDGE, low + ROW_EDGE) * smoothstep(depth, high + ROW_EDGE, high - ROW_EDGE)
    smear = between * smoothstep(kept, 0.92, 0.75) * (1 - tongue) * (1 - meeting)
    new = smoothstep(gap_before / mouth.gap, 0.35, 0.1)
    # the corners of one that widens would show what lay beside it
    inside = mouth.inside_source(mouth.place - shift) / mouth.width
    beside = smoothstep(inside, 0.01 + 0.05 * tongue, -0.01 + 0.02 * tongue)
    beside *= 1 - np.maximum(*mouth.carried(0.01 * mouth.width, 0.02 * mouth.width))
    gap = smoothstep(mouth.gap, *DARK_FROM)
    inner = 1 - np.maximum(*mouth.carried(0.02 * mouth.width, 0.04 * mouth.width))
    shown = np.maximum(new * inner, beside)  # what the frame did not show: dark, or the nearest that it showed
    if smear.any() or shown.any():
        nearest = mouth.sample(image, evenly)
        lit = smoothstep(np.clip((depth - low) / np.maximum(high - low, 1e-3), 0, 1), 0.35, 1.0)
        dark = _darkness(mouth, float(gap_before.max()), lit, nearest, red)
        colours += (dark - colours) * (smear * gap)
        near = np.maximum(tongue, beside * (1 - new))
        dark = dark + near * (nearest - dark)
        colours += (dark - colours) * (shown * np.maximum(gap, near))
    # edges that meet cross each other from pixel to pixel: so narrow a gap is left to the skin, or it would be jagged
    mouth.paste(result, colours, smoothstep(mouth.gap, *SLIT))


def _darkness(mouth: Opening, gap_before: float, lit: np.ndarray, shown: np.ndarray, red: np.ndarray) -> np.ndarray:
    """The inside of the mouth where the frame does not show it.

    Args:
        mouth: where.
        gap_before: how far the lips were apart at most, pixels.
        lit: [K], 0 to 1, where the tongue lies.
        shown: [3, K], colours between the lips of the frame.
        red: [3], colour of the lips.

    Returns:
        float32 [3, K].
    """
    count = max(1, int(DARKEST * shown.shape[1]))
    darkest = np.argpartition(shown.mean(0), count - 1)[:count]
    as_shown = np.minimum(shown[:, darkest].mean(1), red / 2)[:, None]
    made_up = red[:, None] * (DARKNESS + (TONGUE - DARKNESS) * lit)
    known = smoothstep(gap_before / mouth.width, *DEEP)
    deep = (1 - known) * smoothstep(mouth.gap / mouth.width, *DEEP)
    return np.asarray(as_shown + deep * (made_up - as_shown), np.float32)


def _as_wide(mouth: Opening) -> tuple[np.ndarray, np.ndarray]:
    """How the upper and the lower edge move for the teeth next to them, which are no narrower in a narrower mouth: [K] each."""
    narrowed = smoothstep(-mouth.widened() / mouth.width, *NARROWED)
    return mouth.upper_shift - narrowed * mouth.upper_shift.real, mouth.lower_shift - narrowed * mouth.lower_shift.real


def _row_shifts(mouth: Opening, jaw: complex) -> tuple[complex, complex]:
    """How far the upper and the lower row of teeth move, pixels."""
    middle = np.abs(mouth.u / mouth.width - 0.5) < 0.25
    if not middle.any():
        return 0j, jaw
    upper, lower = (complex(shift[middle].mean()) for shift in (mouth.upper_shift, mouth.lower_shift))
    if upper.imag * lower.imag > 0:
        # both lips go the same way, the whole mouth moves: else a raised one would show gums above and lose its teeth below
        common = min(upper.imag, lower.imag, key=abs)
        return 1j * common, 1j * max(lower.imag, common)
    if (lower - jaw).imag > 0:
        jaw = lower  # the lip moves further down than the chin: the lower teeth that it shows move along
    return 0j, jaw
