"""Lips and lids that close: what was seen between them is left behind, and the lips meet in a dark line."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Seam:
    """The line in which lips meet, along the 11 landmarks of their inner edges.

    Attributes:
        line: float64 [11, 2] pixels.
        shut: float64 [11] in 0..1, how dark it is.
        reach: float64 [11] pixels, its Gaussian width.
    """

    line: np.ndarray
    shut: np.ndarray
    reach: np.ndarray


def clear_edges(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, Seam | None]:
    """Take the edges of lips and lids that close from where nothing lies that was seen between them.

    Args:
        source, target: corners of the mesh before and after, [K, 2] pixels.

    Returns:
        The corners before, the very same array where nothing closes; and the line in which the lips meet, None where they do not.
    """
    result, seam = source, None
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
            shut = share * smoothstep(after / width, SEAM_UNTIL[1], SEAM_UNTIL[0])
            reach = np.maximum(SEAM * width, 0.7) + np.maximum(after, 0) / 4
            seam = Seam((target[upper] + target[lower]) / 2, shut, reach)
    return result, seam


def _gaps(points: np.ndarray, upper: list[int], lower: list[int]) -> tuple[np.ndarray, float, np.ndarray]:
    """Gaps [n] between two edges, the width between their corners, both in pixels, and the direction [2] from the upper to the lower."""
    way = points[upper[-1]] - points[upper[0]]
    width = max(float(np.linalg.norm(way)), 1e-6)
    across = np.array([-way[1], way[0]]) / width
    return (points[lower] - points[upper]) @ across, width, across


def draw_seam(result: np.ndarray, seam: Seam, red: np.ndarray) -> None:
    """Draw the line between lips that have closed, darker than their colour `red` [3], into the picture `result`."""
    if seam.shut.max() <= 0.02:
        return
    room = 4 * seam.reach.max()
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
    shade = SEAM_COVERS * shut * np.exp(-((v - middle) ** 2 + beyond**2) / (2 * reach**2))
    region = result[y0:y1, x0:x1]
    drawn = region + (np.minimum(region, SEAM_DARKNESS * red) - region) * shade[..., None]
    region[...] = quantised(drawn, region.dtype)
