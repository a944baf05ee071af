"""Reading the watermark: from the frames of a clip to the id, or to nothing."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cmet_engine.errors import NotFound
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.pose import normalise
from cmet_engine.face.tracker import track
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.progress import Progress
from cmet_engine.provenance.mark_code import CHIPS, decode, encode, id_of, message_of
from cmet_engine.provenance.mark_surface import COLUMNS, DENSITY, ROWS, unrolled
from cmet_engine.provenance.watermark import HERTZ, SLOW, band

SURE = 10.9
"""Score from which on an id counts as found."""

SURE_OF_KNOWN = 6.5
"""Score from which on one of the ids that are asked for counts as found; by chance, one of ten thousand has it in one of a hundred thousand clips."""

PEOPLE = 3
"""Faces of a clip that are looked at, the largest first."""

TURNS = (HERTZ, HERTZ * 25 / 24, HERTZ * 24 / 25, SLOW)
"""Turns a second that are searched for: of clips that are played as they are, faster or slower; and of still heads."""

_SECONDS = 4.0  # of frames that are turned back together
_TOGETHER = 3  # windows that are read by themselves in a long clip
_LEAST = 0.7  # seconds of a window
_PER_SECOND = 15  # of the means of frames that are turned back: a frame shown twice is one
_LOADING = 3  # times the median eigenvalue, which is added to a covariance in time
_CONSTANT = 10  # times the mean variance, that a face's own texture is taken to have
_PHASES = np.array(
    [-0.15, 0.15, np.pi - 0.15, np.pi + 0.15]
)  # radians from the phase that agrees best, of which half a turn is not known
_STEPS, _STEP = 4, 0.0125  # displacements that are tried in each direction, in units of the surface
_LOUDEST = 1.2  # times the median, at which a coefficient is clipped
_FLOOR = 0.3  # of the mean noise: a place is not trusted more than that says


@dataclass(frozen=True)
class Found:
    """A mark: its `number` (the id), and its `score` in standard deviations of noise."""

    number: int
    score: float


@dataclass(frozen=True)
class Evidence:
    """What some frames say.

    Attributes:
        sum: complex64 [ROWS, COLUMNS], their surfaces turned back.
        noise: float32 [ROWS, COLUMNS], the variance that it has without a mark.
    """

    sum: np.ndarray
    noise: np.ndarray

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(self.sum + other.sum, self.noise + other.noise)


def find(clip: str | Path | Source, known: Sequence[int] = (), progress: Progress | None = None) -> Found | None:
    """The watermark of a clip, or of numbered pictures; None where there is none to be read.

    Args:
        clip: what `media.reader` reads.
        known: ids to ask for, such as those of a ledger: of them a third of the evidence is enough.
        progress: called as (stage, done, total) while faces are tracked.

    Raises:
        CmetError: the clip cannot be read, or shows no face.
    """
    for face in range(PEOPLE):
        try:
            geometry = track(clip, face=face, progress=progress)
        except NotFound:
            break
        if found := find_on(clip, geometry, known):
            return found
    return None


def find_on(clip: str | Path | Source, geometry: FaceGeometry, known: Sequence[int] = ()) -> Found | None:
    """The watermark on one face of a clip; see `find`."""
    return find_in([evidence(*window) for window in windows(clip, geometry)], known)


def find_in(readings: Sequence[Sequence[Evidence]], known: Sequence[int] = ()) -> Found | None:
    """The watermark in the evidence of each of some windows; see `find`."""
    if not readings:
        return None
    spans = [(0, len(readings))]
    if len(readings) > _TOGETHER:  # the edit may be a short part of the clip
        spans += [(first, first + _TOGETHER) for first in range(0, len(readings), _TOGETHER - 1)]
    for first, last in spans:
        found = [read(sum(windows[1:], windows[0]), known) for windows in zip(*readings[first:last], strict=True)]
        if any(found):
            return max((one for one in found if one), key=lambda one: one.score)
    return None


def windows(clip: str | Path | Source, geometry: FaceGeometry) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The face's surface and the seconds of every frame that shows it, some seconds at a time."""
    seen = (
        frame for frame in VideoReader(clip).frames() if frame.index < len(geometry) and geometry.valid[frame.index]
    )
    for _, frames in itertools.groupby(seen, key=lambda frame: int(float(frame.time) / _SECONDS)):
        surfaces, times = [], []
        for frame in frames:
            pose = normalise(geometry.landmarks[frame.index][None])[1]
            surfaces.append(unrolled(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), pose, 0))
            times.append(float(frame.time))
        if times[-1] - times[0] > _LEAST:
            yield np.stack(surfaces), np.array(times)


def evidence(surfaces: np.ndarray, times: np.ndarray) -> list[Evidence]:
    """Turn frames back at each of `TURNS`, in the way that keeps least of whatever else changes in them (Capon's beamformer).

    The covariance of the frames says how a face's own texture, its movement, blurs, cuts and encoding change in time; the weights
    of the frames are the ones that let the mark through and as little as possible of that.

    Args:
        surfaces: float32 [N, ROWS, COLUMNS], from `mark_surface.unrolled`.
        times: float64 [N], seconds.
    """
    flat, times = _resampled(surfaces, times)
    covariance = (flat @ flat.T / flat.shape[1]).astype(float)
    level = _LOADING * np.median(np.linalg.eigvalsh(covariance)) + 1e-9
    covariance += level * np.eye(len(times)) + _CONSTANT * np.trace(covariance) / len(times)
    inverse = np.linalg.inv(covariance)
    noise = np.einsum("np,np->p", flat, (inverse @ flat).astype(np.float32)) / len(times)
    found = []
    for hertz in TURNS:
        turn = np.exp(2j * np.pi * hertz * times)
        weights = inverse @ turn.conj()
        total, gain = weights.astype(np.complex64) @ flat, np.float32((turn @ weights).real)
        found.append(Evidence(total.reshape(ROWS, COLUMNS), (gain * noise).reshape(ROWS, COLUMNS)))
    return found


def _resampled(surfaces: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of the flattened surfaces over equal intervals, float32 [M, P], and their times [M]; intervals without frames have none."""
    _, place, counts = np.unique(np.floor(times * _PER_SECOND), return_inverse=True, return_counts=True)
    flat, means = np.zeros((len(counts), ROWS * COLUMNS), np.float32), np.zeros(len(counts))
    for index, surface, time in zip(place, surfaces, times, strict=True):
        flat[index] += _flattened(surface).ravel()
        means[index] += time
    return flat / counts[:, None].astype(np.float32), means / counts


def _flattened(surface: np.ndarray) -> np.ndarray:
    """A surface without its large shapes, and with the same contrast everywhere."""
    fine = surface - cv2.GaussianBlur(surface, (0, 0), DENSITY / 3)
    return fine / (np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), DENSITY / 6)) + 2)


def read(heard: Evidence, known: Sequence[int] = ()) -> Found | None:
    """The mark in some evidence; None where there is none, or it is too weak.

    Args:
        heard: the evidence.
        known: see `find`.
    """
    parts = spread_parts(heard)
    asked = [(_scores(parts, message_of(number)).max(), number) for number in known]
    if asked and max(asked)[0] >= SURE_OF_KNOWN:
        return Found(max(asked)[1], float(max(asked)[0]))
    sure = [
        (score, number)
        for message, score in candidates(parts)
        if score >= SURE and (number := id_of(message)) is not None
    ]
    return Found(max(sure)[1], max(sure)[0]) if sure else None


def candidates(parts: np.ndarray) -> list[tuple[int, float]]:
    """The most likely message at every phase of the mark, and its score.

    The score is the correlation with the mark of that message. In noise it has a standard deviation of 1 for any one message, and
    is about 9.5 for the most likely one.

    Args:
        parts: see `spread_parts`.
    """
    _, chips, _ = band()
    soft = np.stack([np.bincount(chips, row, CHIPS) for row in parts]).astype(np.float32)
    return [(message, float(_scores(parts[k], message))) for k, message in enumerate(decode(soft))]


def _scores(parts: np.ndarray, message: int) -> np.ndarray:
    chips = band()[1]
    return np.asarray(parts @ encode(message)[chips] / np.sqrt(len(chips)))


def spread_parts(heard: Evidence) -> np.ndarray:
    """The real and imaginary parts of the coefficients that carry chips, float32 [PHASES, 2 K], mean square 1, at every phase that may be."""
    used, _, signs = band()
    noise = cv2.GaussianBlur(heard.noise, (0, 0), DENSITY / 40)
    values = np.fft.fft2(heard.sum / (noise + _FLOOR * noise.mean() + 1e-12)).ravel()[used]
    size = np.abs(values)
    values /= np.maximum(size, _LOUDEST * np.median(size)) + 1e-12
    turned = _aligned(values) * np.exp(-1j * _PHASES)[:, None]
    parts = np.concatenate([turned.real, turned.imag], 1).astype(np.float32)
    parts *= signs / (np.sqrt((parts[0] ** 2).mean()) + 1e-12)
    return parts


def _aligned(values: np.ndarray) -> np.ndarray:
    """The coefficients, complex [K], moved and turned to where the chips that stand twice in them agree best.

    An edit changes the expression, and with it, by a pixel or two, where the head is found; and nobody knows at which phase a clip
    begins. Neither needs knowledge of the message, up to half a turn.
    """
    phases, first, second, squared, product = _twice()
    moved = values * phases
    one, other = moved[:, first], moved[:, second]
    double = one * other @ squared
    best = (np.abs(double) + (one * other.conj() @ product).real).argmax()
    return np.asarray(moved[best] * np.exp(-0.5j * np.angle(double[best])))


@functools.cache
def _twice() -> tuple[np.ndarray, ...]:
    """What `_aligned` needs of the format.

    Returns:
        The phases of the coefficients at every displacement, complex64 [D, K]; which two of them hold one chip, [P] and [P]; and the
        factors, complex64 [P], with which their product, and that of the one with the other's conjugate, tells whether they agree
        at some phase, of which it has twice the angle, and at any.
    """
    used, chips, signs = band()
    rows, columns = np.unravel_index(used, (ROWS, COLUMNS))
    reach = np.arange(-_STEPS, _STEPS + 1) * _STEP
    down, across = np.fft.fftfreq(ROWS)[rows] * DENSITY, np.fft.fftfreq(COLUMNS)[columns] * DENSITY
    turns = np.outer(reach, down)[:, None] + np.outer(reach, across)
    phases = np.exp(2j * np.pi * turns.reshape(-1, len(used))).astype(np.complex64)
    order = np.argsort(chips, kind="stable")
    same = np.flatnonzero(np.diff(chips[order]) == 0)
    parts = np.stack([order[same], order[same + 1]])
    sign, (a, b) = signs[parts].prod(0), parts >= len(used)  # whether each is an imaginary part
    kinds = 2 * a + b  # Re Re, Re Im, Im Re, Im Im
    squared = np.array([1, -1j, -1j, -1])[kinds] * sign
    product = np.array([1, 1j, -1j, 1])[kinds] * sign
    return phases, *(parts % len(used)), squared.astype(np.complex64), product.astype(np.complex64)
