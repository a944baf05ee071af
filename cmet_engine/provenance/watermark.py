"""An invisible mark on edited faces that says "edited" and carries a 64-bit id.

Spread spectrum: the chips of the id (`mark_code`), and of a pilot that is the same in every mark, are the coefficients of a complex
pattern in a band of spatial frequencies on the surface of the face (`mark_surface`). The pattern turns in the complex plane at `HERTZ` (`SLOW` on a still head), and its real part is added to the luma of
what was edited. A face's own texture stands still on its surface and disappears when a reader (`mark_reader`) turns the frames
back; so do crop, scale and head movement, because the surface is where the head is, and a change of rate, because time counts in
seconds. Nobody needs a secret to read it: it is a label, and no protection against somebody who wants it gone.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.pose import Pose, normalise
from cmet_engine.provenance.mark_code import CHIPS, encode
from cmet_engine.provenance.mark_surface import COLUMNS, DENSITY, ROWS, places

HERTZ, SLOW = 1.5, 0.4
"""Turns a second: of the pattern, and where a head stands still: nothing hides a mark that turns fast in pictures that hardly change."""
STILL = 0.15
"""Units a second that the landmarks of a still head move by at the most, half of the time."""

LOWEST, HIGHEST = 4.0, 7.2
"""The band, in cycles a unit of the surface: what H.264 keeps of a small face."""

PILOT = 3 / 8
"""Share of the coefficients' parts that are known: by them a reader knows that there is a mark, and where."""

AMPLITUDE = 1.79
"""Root mean square of the mark, of 255, on a small face."""
LARGE, FALL, STILL_FALL, LEAST = 110, 1.2, 2.5, 0.25
"""Pixels a unit beyond which the mark is weaker, the power with which it falls (on heads that move, and that stand still), and its
least share: the same evidence lies on more pixels."""
FINENESS = 6
"""Samples at the least of a cycle of the highest frequency that are computed; those between are interpolated."""
SMALLEST = 12
"""Pixels a unit of the smallest face that is marked."""
FLAT, RISE = 0.5, 0.02
"""By how much flat places of a very large face hide less than busy ones; how that is made up for by a standard deviation of 1."""

_KEY = 0x434D4554  # of the spreading; part of the format
_TOGETHER = 64  # frames whose poses are found together
_SPOT = 50  # spots smaller than a square unit over this are not marked


@functools.cache
def band() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How chips lie in the Fourier transform of the surface [ROWS, COLUMNS].

    Returns:
        The flat indices of the K coefficients used; the chip of each real part and, behind them, each imaginary part [2 K],
        CHIPS where it is the pilot's; the sign that each has it with.
    """
    radius = np.hypot(np.fft.fftfreq(ROWS)[:, None] * DENSITY, np.fft.fftfreq(COLUMNS) * DENSITY)
    used = np.flatnonzero((radius > LOWEST) & (radius < HIGHEST))
    random = np.random.Generator(np.random.Philox(_KEY))
    chips = np.arange(2 * len(used)) % CHIPS
    chips[: round(len(chips) * PILOT)] = CHIPS
    chips = random.permutation(chips)
    return used, chips, (1 - 2 * random.integers(0, 2, 2 * len(used))).astype(np.float32)


@functools.lru_cache(8)
def pattern(number: int) -> np.ndarray:
    """The pattern of an id, complex64 [ROWS, COLUMNS]; the mean square of its real part is 1 whatever it is turned by.

    Args:
        number: 0 to 2^64 - 1.
    """
    used, chips, signs = band()
    parts = np.append(encode(number), 1)[chips] * signs
    spectrum = np.zeros(ROWS * COLUMNS, np.complex64)
    spectrum[used] = parts[: len(used)] + 1j * parts[len(used) :]
    field = np.fft.ifft2(spectrum.reshape(ROWS, COLUMNS))
    return (field / np.sqrt((np.abs(field) ** 2).mean() / 2)).astype(np.complex64)


def mark(
    number: int,
    time: float,
    pose: Pose,
    luma: np.ndarray,
    changed: np.ndarray,
    corner: tuple[int, int],
    still: bool = False,
) -> np.ndarray:
    """What to add to the luma of a region: float32 [h, w] of 255, zero where it must stay.

    Args:
        number: the id.
        time: of the frame in seconds.
        pose: of the head, of this frame alone.
        luma: [h, w] of the region, 0 to 255 and beyond.
        changed: bool or uint8 [h, w], where the mark may lie; holes in it are filled.
        corner: x and y of the region's first pixel.
        still: the head hardly moves in the clip.
    """
    scale = float(pose.scale[0])
    height, width = luma.shape
    shrink = max(int(scale / (HIGHEST * FINENESS)), 1)
    below, beside = -height % shrink, -width % shrink
    x, y = places(pose, 0, (*corner, corner[0] + width + beside, corner[1] + height + below), shrink)
    turned = (pattern(number) * np.exp(2j * np.pi * (SLOW if still else HERTZ) * time)).real.astype(np.float32)
    field: Any = cv2.remap(turned, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    share = float(np.clip((LARGE / scale) ** (STILL_FALL if still else FALL), LEAST, 1))
    whole = cv2.copyMakeBorder(luma, 0, below, 0, beside, cv2.BORDER_REPLICATE) if below or beside else luma
    field *= _tolerance(whole, scale / shrink, 1 - FLAT * (1 - share), field.shape) * np.float32(AMPLITUDE * share)
    if shrink > 1:
        field = cv2.resize(field, whole.shape[::-1], interpolation=cv2.INTER_CUBIC)[:height, :width]
    field *= _inner(changed, scale, max(shrink // 2, 1))
    return field


class Marker:
    """Marks the edited faces of a clip's frames.

    Args:
        number: the id, 0 to 2^64 - 1.
        people: where the edited faces are.
    """

    def __init__(self, number: int, people: Sequence[FaceGeometry]) -> None:
        self.number = number
        self.people = [(geometry, _stands(geometry), functools.lru_cache(2)(_poses(geometry))) for geometry in people]

    def __call__(
        self, index: int, time: float, after: np.ndarray, changed: np.ndarray, corner: tuple[int, int]
    ) -> np.ndarray:
        """What to add to the colours of a region of an edited frame: float32 [h, w] of 255.

        Args:
            index, time: number of the frame, and its seconds from the first.
            after: the edited region, [h, w, 3] RGB of 255.
            changed: uint8 [h, w], not 0 where it was edited.
            corner: x and y of its first pixel.
        """
        lighter: np.ndarray | None = None
        luma: np.ndarray = cv2.extractChannel(after, 1).astype(np.float32)
        for geometry, still, poses in self.people:
            share = np.float32(geometry.fade[index])
            if share > 0 and cv2.countNonZero(changed):
                pose = poses(index // _TOGETHER)[index % _TOGETHER : index % _TOGETHER + 1]
                if pose.scale[0] > SMALLEST:  # neither lost nor a dot
                    shown = luma if lighter is None else luma + lighter
                    added = mark(self.number, time, pose, shown, changed, corner, still)
                    added *= share
                    lighter = added if lighter is None else lighter + added
        return np.zeros(luma.shape, np.float32) if lighter is None else lighter


def _poses(geometry: FaceGeometry) -> Callable[[int], Pose]:
    """Gives the poses of the head in a run of `_TOGETHER` frames, by the number of the run."""
    return lambda run: normalise(geometry.landmarks[run * _TOGETHER : (run + 1) * _TOGETHER])[1]


def _stands(geometry: FaceGeometry) -> bool:
    """Whether a head hardly moves in most of a clip."""
    speeds = [np.zeros(0)]
    for part, landmarks in geometry.chunks():
        moves = np.abs(np.diff(landmarks[..., :2], axis=0)).mean((1, 2))
        size = np.ptp(landmarks[:-1, :, 0], axis=1) / 2 + 1e-6  # about a unit
        known = geometry.valid[part][1:] & geometry.valid[part][:-1]
        speeds.append((moves / size / np.maximum(np.diff(geometry.times[part]), 1e-3))[known])
    found = np.concatenate(speeds)
    return len(found) > 0 and float(np.median(found)) < STILL


def _inner(changed: np.ndarray, scale: float, step: int) -> np.ndarray:
    """A mask that rises softly from the edge of what was changed to its inside: float32 [h, w] in 0 to 1.

    It is found for squares of `step` pixels, and lies so much further inside that it reaches none that was not changed.
    """
    height, width = changed.shape
    reach = max(round(scale / 40 / step), 2)
    kept = (
        reach if step == 1 else reach + 2
    )  # squares at the edge are changed in part, and enlarging goes half of one further
    pad, mask = kept + 1, changed.view(np.uint8)  # type: int, Any
    if step > 1:
        mask = cv2.copyMakeBorder(mask, 0, -height % step, 0, -width % step, cv2.BORDER_CONSTANT)
        mask = cv2.resize(mask, (mask.shape[1] // step, mask.shape[0] // step), interpolation=cv2.INTER_AREA)
    mask = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [outline for outline in outlines if cv2.contourArea(outline) > (scale / step) ** 2 / _SPOT]
    filled = cv2.drawContours(np.zeros_like(mask), large, -1, (1,), cv2.FILLED)
    inside: Any = cv2.erode(filled, np.ones((2 * kept + 1,) * 2, np.uint8)).astype(np.float32)
    inside = cv2.blur(inside, (2 * reach + 1,) * 2)[pad:-pad, pad:-pad]
    if step == 1:
        return inside
    rows, columns = inside.shape
    return cv2.resize(inside, (columns * step, rows * step), interpolation=cv2.INTER_LINEAR)[:height, :width]


def _tolerance(luma: np.ndarray, unit: float, flat: float, shape: tuple[int, int]) -> np.ndarray:
    """How much a place hides: `flat` where the picture is flat, up to 1 where it is busy.

    Args:
        luma: float32 [h, w].
        unit: samples of the result a unit of the surface.
        flat: see above.
        shape: of the result, float32 [h, w] divided by a whole number.
    """
    window = (max(round(unit / 12), 2) * 2 + 1,) * 2
    mean, spread = (
        cv2.blur(cv2.resize(values, shape[::-1], interpolation=cv2.INTER_AREA), window)
        for values in (luma, luma * luma)
    )  # type: Any, Any
    mean *= mean
    spread -= mean
    np.maximum(spread, 0, out=spread)
    cv2.sqrt(spread, spread)
    spread *= np.float32(RISE)
    spread += np.float32(flat)
    result: np.ndarray = np.minimum(spread, 1, out=spread)
    return result
