"""Lips and lids that close: what was seen between them is left behind, and the lips meet in a dark line."""

from dataclasses import dataclass

import cv2
import numpy as np

from cmet_engine.face.landmarks import LOWER_LIP_OUTER, LOWER_LIP_RED, OPENINGS, UPPER_LIP_OUTER, UPPER_LIP_RED
from cmet_engine.render.openings import quantised
from cmet_engine.smoothstep import smoothstep

CLOSES_FROM = (0.03, 0.08)
"""Opening as a share of its width: from the second on, edges that close leave what was between them behind."""

CLEAR_LIPS, CLEAR_RED = 0.03, 0.35
"""The edges of closing lips are taken from so far inside the lips, where no teeth are: share of the mouth's width, and most of the
red's height."""

CLEAR_LIDS, LIDS_SHUT = 0.05, (0.6, 0.95)
"""The same of lids, as a share of the eye's width, once they have closed by the second share; their lashes stay below the first."""

SEAM, SEAM_UNTIL = 0.013, (0.02, 0.1)
"""The line between lips that have closed: Gaussian width and openings between which it fades, as shares of the mouth's width."""

SEAM_DARKNESS, SEAM_COVERS = 0.5, 0.95
"""Its brightness as a share of the lips', and how far it covers what is there, which may be teeth, in its middle."""


LASHES, LASHES_UNTIL, LASHES_COVER = 0.022, (0.03, 0.1), 0.75
"""The same of lids, as shares of the eye's width: the line of the lashes of the upper one."""

MENDED = 0.06
"""Up to so far from the line, as a share of the eye's width, lids that have closed are made up from their skin further away: edges that
cross each other from pixel to pixel would leave specks of the eyeball."""


@dataclass(frozen=True)
class Seam:
    """The line in which lips or lids meet, along the n landmarks of their edges.

    Attributes:
        line: float64 [n, 2] pixels.
        shut: float64 [n] in 0..1, how far it shows.
        reach: float64 [n] pixels, its Gaussian width.
    """

    line: np.ndarray
    shut: np.ndarray
    reach: np.ndarray


def clear_edges(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, dict[int, Seam]]:
    """Take the edges of lips and lids that close from where nothing lies that was seen between them.

    Args:
        source, target: corners of the mesh before and after, [K, 2] pixels.

    Returns:
        The corners before, the very same array where nothing closes; and the lines in which edges meet, by their place in `OPENINGS`.
    """
    result, seams = source, {}
    for k, (upper, lower) in enumerate((list(a), list(b)) for a, b in OPENINGS):
        before, wide, across = _gaps(source, upper, lower)
        after, width, _ = _gaps(target, upper, lower)
        share = np.clip(1 - after / np.maximum(before, 1e-6), 0, 1) * smoothstep(before / wide, *CLOSES_FROM)
        if k < 2:
            share = smoothstep(share, *LIDS_SHUT)
        if share.max() <= 0.02 or width < 4:
            continue
        result = source.copy() if result is source else result
        if k < 2:
            seams[k] = _seam(target, upper, lower, after / width, share, LASHES_UNTIL, LASHES * width)
            result[upper] -= (CLEAR_LIDS * wide * share)[:, None] * across
            result[lower] += (CLEAR_LIDS * wide * share)[:, None] * across
        else:
            for edge, between, outer, way in (
                (upper, UPPER_LIP_RED, UPPER_LIP_OUTER, -across), (lower, LOWER_LIP_RED, LOWER_LIP_OUTER, across),
            ):  # fmt: skip
                height = np.maximum((source[list(outer)] - source[edge]) @ way, 1e-6)
                away = np.minimum(CLEAR_LIPS * wide, CLEAR_RED * height) * share
                for line in (edge, *map(list, between)):  # the red is pushed together outwards
                    part = np.clip((source[list(outer)] - source[line]) @ way / height, 0, 1)
                    result[line] = source[line] + (away * part)[:, None] * way
            seams[k] = _seam(target, upper, lower, after / width, share, SEAM_UNTIL, SEAM * width)
    return result, seams


def _seam(
    target: np.ndarray,
    upper: list[int],
    lower: list[int],
    gaps: np.ndarray,
    share: np.ndarray,
    until: tuple[float, float],
    reach: float,
) -> Seam:
    """The line between two edges with `gaps` [n], shares of their width, of which `share` [n] says how far they have closed."""
    width = float(np.linalg.norm(target[upper[-1]] - target[upper[0]]))
    reaches = np.maximum(reach, 0.7) + np.maximum(gaps, 0) * width / 4
    return Seam((target[upper] + target[lower]) / 2, share * smoothstep(gaps, until[1], until[0]), reaches)


def _gaps(points: np.ndarray, upper: list[int], lower: list[int]) -> tuple[np.ndarray, float, np.ndarray]:
    """Gaps [n] between two edges, the width between their corners, both in pixels, and the direction [2] from the upper to the lower."""
    way = points[upper[-1]] - points[upper[0]]
    width = max(float(np.linalg.norm(way)), 1e-6)
    across = np.array([-way[1], way[0]]) / width
    return (points[lower] - points[upper]) @ across, width, across


def draw_seam(result: np.ndarray, seam: Seam, red: np.ndarray) -> None:
    """Draw the line between lips that have closed, darker than their colour `red` [3], into the picture `result`."""
    _draw(result, seam, SEAM_DARKNESS * red, SEAM_COVERS, 0.0)


def draw_lashes(result: np.ndarray, seam: Seam, image: np.ndarray, edge: np.ndarray) -> None:
    """Draw the lashes of lids that have closed, into the picture `result`.

    Args:
        result: the picture to render into.
        seam: where the lids meet.
        image: the original.
        edge: [n, 2] pixels, the edge of the upper lid in it, whose darker half has the colour of the lashes.
    """
    x, y = np.clip(np.round(edge).astype(int), 0, np.array(image.shape[1::-1]) - 1).T
    colours = image[y, x].astype(np.float32)
    darker = np.argsort(colours.mean(1))[: len(colours) // 2 + 1]
    width = float(np.linalg.norm(seam.line[-1] - seam.line[0]))
    _draw(result, seam, colours[darker].mean(0), LASHES_COVER, max(MENDED * width, 2.0))


def _draw(result: np.ndarray, seam: Seam, colour: np.ndarray, covers: float, mended: float) -> None:
    """Draw a line of a colour [3]; what lies within `mended` pixels of it is made up from beyond first."""
    if seam.shut.max() <= 0.02:
        return
    room = 4 * seam.reach.max() + 2 * mended
    height, width = result.shape[:2]
    x0, y0 = (int(v) for v in np.clip(np.floor(seam.line.min(0) - room), 0, [width, height]))
    x1, y1 = (int(v) for v in np.clip(np.ceil(seam.line.max(0) + room) + 1, 0, [width, height]))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    # across the line, which runs from corner to corner, the shade is a Gaussian
    ends = seam.line[-1] - seam.line[0]
    along = ends / np.linalg.norm(ends)
    across = np.array([-along[1], along[0]])
    offset = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1) - seam.line[0]
    u, v = offset @ along, offset @ across  # [h, w]
    places = np.maximum.accumulate((seam.line - seam.line[0]) @ along)
    heights = (seam.line - seam.line[0]) @ across
    middle, shut, reach = (np.interp(u, places, values) for values in (heights, seam.shut, seam.reach))
    beyond = np.maximum(np.maximum(-u, u - places[-1]), 0)
    region = result[y0:y1, x0:x1]
    drawn = region.astype(np.float32)
    if mended:
        part = np.clip((v - middle) / mended, -1, 1)[..., None]  # of the way from the line outwards
        skin = []
        for side in (-1, 1):
            at = (offset + (seam.line[0] - [x0, y0]) + (middle + side * mended - v)[..., None] * across).astype(
                np.float32
            )
            skin.append(cv2.remap(drawn, at, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        away = np.hypot(v - middle, beyond) / mended
        drawn += (skin[0] + (skin[1] - skin[0]) * (part + 1) / 2 - drawn) * (shut * smoothstep(away, 1.0, 0.7))[
            ..., None
        ]
    shade = covers * shut * np.exp(-((v - middle) ** 2 + beyond**2) / (2 * reach**2))
    drawn += (np.minimum(drawn, colour) - drawn) * shade[..., None]
    region[...] = quantised(drawn, region.dtype)
