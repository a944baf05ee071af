"""What an edit is worth, in figures: the one definition of each that report, evaluations and model card quote.

Arrays in, figures out: nothing here reads a file or runs a model. A figure that the data cannot give is None.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cmet_engine import arkit
from cmet_engine.face.blendshapes import READABLE
from cmet_engine.face.lips import LIPS_CLOSED, LIPS_OPEN, held_opening, said_opening, spoken
from cmet_engine.track import CoefficientTrack

CHANGED = 0.2
"""A coefficient is asked for from this change on, in some frame: a fifth of its range, set by eye as plainly visible."""

MOVING = 1e-3
"""Standard deviation of a lip opening, in outer-eye distances (0.1 mm on an adult), below which the lips stand still."""

BLINK = 0.6
"""An eye is shut below this share of its median opening."""
BLINK_MARGIN = 0.01
"""Outer-eye distances (1 mm) by which an edited lid may stay higher and still count as shut."""

PEAK = 255.0
"""Largest value of an 8-bit picture."""

Pair = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Two pictures uint8 [H, W, C] to compare, and bool [H, W], where."""


@dataclass(frozen=True)
class Realised:
    """How much of an edit is in the picture.

    Attributes:
        share: 1 when the measured change equals the asked one, 0 when there is none of it, below 0 when it goes the other way;
            above 1 when it is stronger than asked.
        right_way: share of the coefficients, 0 to 1, that moved the way they were asked to.
        coefficients: name -> its own share.
    """

    share: float
    right_way: float
    coefficients: dict[str, float]


def realised(asked: np.ndarray, measured: np.ndarray, readable: np.ndarray = READABLE) -> Realised | None:
    """How much of the asked change of expression is measured in the edited pictures.

        share = Σ asked · measured / Σ asked²

    over all frames and over the coefficients that are asked for by `CHANGED` or more in some frame. That is the factor by which
    the asked change has to be multiplied to come nearest to the measured one (least squares through the origin).
    `right_way` counts the coefficients whose own share is above 0.

    Why this one: every frame is compared with what was asked for at that frame, so emotions that follow one another are not
    mixed. Large changes, which are what one sees, weigh more than small ones, which are mostly noise of the reading; the
    median of the coefficients' own shares depends on how many faint coefficients take part. An edit that does nothing
    gives 0. Coefficients that no reading can show (see `face.blendshapes.READABLE`) are left out: they would count as
    not realised whatever the picture shows.

    Args:
        asked: [N, 52], edited minus source coefficients.
        measured: [N, 52], coefficients read from the edited pictures minus those read from the source's; frames with NaN are left out.
        readable: bool [52], the coefficients that the reading can show.

    Returns:
        None where no readable coefficient was asked for, or no frame could be read.
    """
    known = np.isfinite(measured).all(1)
    asked, measured = np.asarray(asked, np.float64)[known], np.asarray(measured, np.float64)[known]
    if not len(asked):
        return None
    columns = np.flatnonzero((np.abs(asked).max(0) >= CHANGED) & readable)
    if not len(columns):
        return None
    together, size = (asked * measured).sum(0)[columns], (asked**2).sum(0)[columns]
    shares = together / size
    names = [arkit.NAMES[c] for c in columns]
    return Realised(
        float(together.sum() / size.sum()), float((shares > 0).mean()), dict(zip(names, shares.tolist(), strict=True))
    )


@dataclass(frozen=True)
class Speech:
    """What the lips of the source say, against what they express, frame by frame of a clip.

    Speech is what opens and closes at syllable rate; see `face.lips.held_opening`.

    Attributes:
        held: float64 [N], the part of the opening that is held, in outer-eye distances.
        near: bool [N], whether the lips open and close nearby; in pauses and on still faces they do not.
    """

    held: np.ndarray
    near: np.ndarray

    @classmethod
    def of(cls, source: CoefficientTrack) -> "Speech":
        """Of the source's track, which has every frame of the clip."""
        opening = np.maximum(said_opening(source.coefficients), 0)
        fps = float(source.fps)
        return cls(held_opening(opening, fps), spoken(opening, fps))

    def at(self, frames: np.ndarray | Sequence[int]) -> "Speech":
        """The same of some frames."""
        return Speech(self.held[frames], self.near[frames])


def lip_correlation(before: np.ndarray, after: np.ndarray, speech: Speech | None = None) -> float | None:
    """Correlation of the opening between the lips before and after an edit, -1 to 1; 1: they say what they said.

    Pearson's partial correlation given the held part of the opening (least squares on it taken off both): an edit may close a smile
    over the teeth, or open every mouth a little more; what must stay is when and how far speech opens the lips against the others.

    Args:
        before, after: [N] openings in the same frames, in outer-eye distances (`face.lips.lip_opening`).
        speech: of these frames; None where nothing is held.

    Returns:
        None with fewer than three frames, or where the lips stand still.
    """
    if len(before) < 3 or min(before.std(), after.std()) <= MOVING:
        return None
    if speech is not None and len(before) > 3 and speech.held.std() > MOVING:
        known = np.column_stack([np.ones(len(before)), speech.held])
        before, after = (v - known @ np.linalg.lstsq(known, v, rcond=None)[0] for v in (before, after))
        if min(before.std(), after.std()) <= MOVING:
            return None
    return float(np.corrcoef(before, after)[0, 1])


def lips_closed_kept(before: np.ndarray, after: np.ndarray, speech: Speech | None = None) -> float | None:
    """Share, 0 to 1, of the frames with lips closed in speech (m, b, p) whose lips are still closed.

    Closed is an opening below `LIPS_CLOSED` before; lost is one of `LIPS_OPEN` or more after. Between the two a tracker cannot decide.
    Lips that are closed in a pause or on a silent face say nothing, and do not count.

    Args:
        before, after: [N] openings in the same frames, in outer-eye distances (`face.lips.lip_opening`).
        speech: of these frames; None counts all.

    Returns:
        None where no lips are closed in speech.
    """
    closed = before < LIPS_CLOSED
    if speech is not None:
        closed &= speech.near
    return float((after[closed] < LIPS_OPEN).mean()) if closed.any() else None


def blinks_kept(before: np.ndarray, after: np.ndarray) -> float | None:
    """Share, 0 to 1, of shut eyes that are still shut.

    Shut is an opening below `BLINK` times the median one; after the edit, below `BLINK` times its own median plus `BLINK_MARGIN`.

    Args:
        before, after: [N, 2] openings of both eyes in the same frames, in outer-eye distances (`face.lips.eye_opening`).

    Returns:
        None where no eye is shut.
    """
    if not len(before):
        return None
    shut = before < BLINK * np.median(before, axis=0)
    still = after < BLINK * np.median(after, axis=0) + BLINK_MARGIN
    return float(still[shut].mean()) if shut.any() else None


def flicker(source: Iterable[Pair], edited: Iterable[Pair]) -> float | None:
    """How restless the edited face is compared with the filmed one: 1 alike, 2 twice as much.

        mean |later - earlier| of the edited frames / the same of the source

    over pairs of neighbouring frames brought to one geometry (`quality.alignment.neighbours`), so that motion does not count
    as flicker: what is left is noise, light, and what the renderer does differently from frame to frame.

    Args:
        source, edited: (earlier, later, where) for the same neighbours.

    Returns:
        None where there are no pairs, or nothing changes in the source.
    """
    was, now = (
        [float(np.abs(a.astype(np.float32) - b)[where].mean()) for a, b, where in pairs if where.any()]
        for pairs in (source, edited)
    )
    if not was or not now or not np.mean(was) > 0:
        return None
    return float(np.mean(now) / np.mean(was))


def psnr(pairs: Iterable[Pair]) -> float | None:
    """Peak signal-to-noise ratio in dB of pictures against others.

        10 · log10(255² / mean squared error)

    The squared error is averaged over all channels, places and pictures before the logarithm (as FFmpeg's `psnr` filter gives
    its `average`), so that one equal picture does not make the mean infinite.

    Returns:
        `inf` where every value is equal, None where there is nothing to compare.
    """
    error, count = 0.0, 0
    for before, after, where in pairs:
        added, size = _squared_error(before, after, where)
        error, count = error + added, count + size
    if not count:
        return None
    return float(10 * np.log10(PEAK**2 * count / error)) if error else float("inf")


def _squared_error(before: np.ndarray, after: np.ndarray, where: np.ndarray) -> tuple[float, int]:
    """Sum of the squared differences of two pictures over a mask, and of how many values."""
    if before.dtype == after.dtype == np.uint8 and before.ndim == 3 and where.ndim == 2:
        mask = where.astype(np.uint8)
        return cv2.norm(before, after, cv2.NORM_L2SQR, mask), cv2.countNonZero(mask) * before.shape[2]
    difference = before[where].astype(np.float32) - after[where]
    return float((difference**2).sum(dtype=np.float64)), difference.size


def ssim(before: np.ndarray, after: np.ndarray, where: np.ndarray) -> float | None:
    """Structural similarity of the brightness of two pictures, -1 to 1; 1: equal.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity", 2004,
    equation 13, with their window (11 x 11, Gaussian of 1.5 pixels) and constants (0.01 and 0.03), averaged over a mask.

    Args:
        before, after: uint8 [H, W, 3].
        where: bool [H, W].

    Returns:
        None where the mask is empty.
    """
    if not where.any():
        return None
    x, y = (_brightness(image).astype(np.float64) for image in (before, after))

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    similarity = (2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(similarity[where].mean())


def fine_detail(image: np.ndarray, where: np.ndarray) -> float:
    """Mean size of the Laplacian of a picture's brightness over a mask, in 8-bit steps: high for pores and hair, 0 for a flat area."""
    edges = cv2.Laplacian(_brightness(image).astype(np.float32), cv2.CV_32F)
    return float(np.abs(edges)[where].mean()) if where.any() else 0.0


def detail_kept(pairs: Iterable[Pair]) -> float | None:
    """Fine detail of edited pictures over that of the source: 1 as sharp, below 1 softer. See `fine_detail`.

        Σ fine detail of the edited / Σ fine detail of the source

    Args:
        pairs: (source, edited, where).

    Returns:
        None where there are no pairs, or the source shows no detail.
    """
    was, now = 0.0, 0.0
    for source, edited, where in pairs:
        was, now = was + fine_detail(source, where), now + fine_detail(edited, where)
    return now / was if was > 0 else None


def _brightness(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
