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
from cmet_engine.provenance.mark_code import CHIPS, decode, encode
from cmet_engine.provenance.mark_surface import COLUMNS, DENSITY, ROWS, unrolled
from cmet_engine.provenance.watermark import HERTZ, SLOW, band

SURE = 5.8
"""Score of the pilot from which on there is a mark; by chance, in one of a million readings."""

LEGIBLE = 9.6
"""Score from which on an id with a right check sum counts; where the id is lost, a wrong one has both in one of five thousand."""

SURE_OF_KNOWN = 6.2
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
_REGIONS = 6  # across and down, whose change in time is known each by itself
_STEP = 0.0125  # between the displacements that are tried, in units of the surface
_DOWN, _ACROSS = 3, 1  # of them in each direction: an edit moves the chin, and with it where the head is found
_ASIDE = 0.3  # weight of the sides of the surface: they are turned away, or no face
_LOUDEST = 1.2  # times the median, at which a coefficient is clipped
_FLOOR = 0.3  # of the mean noise: a place is not trusted more than that says


@dataclass(frozen=True)
class Found:
    """A mark.

    Attributes:
        number: the id; None where too little is left of it.
        score: of the pilot, in standard deviations of noise.
        match: of the id, in the same; 0 where none was decoded.
    """

    number: int | None
    score: float
    match: float


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
        known: ids to ask for, such as those of a ledger: of them less than half of the evidence is enough.
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
    turns = ([sum(some[1:], some[0]) for some in zip(*readings[first:last], strict=True)] for first, last in spans)
    found = [one for heard in turns if (one := read(heard, known))]
    return max(found, key=lambda one: (one.number is not None, one.match), default=None)


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
    of the frames are the ones that let the mark through and as little as possible of that. It is half that of the region: the mouth
    and a side that turns away change in other ways than the brow.

    Args:
        surfaces: float32 [N, ROWS, COLUMNS], from `mark_surface.unrolled`.
        times: float64 [N], seconds.
    """
    flat, times = _resampled(surfaces, times)
    turns = np.exp(2j * np.pi * np.outer(TURNS, times))
    total = np.zeros((len(TURNS), flat.shape[1]), np.complex64)
    noise = np.zeros(total.shape, np.float32)
    everywhere = flat @ flat.T
    for share in _regions():
        place = np.flatnonzero(share)
        part, share = flat[:, place], share[place]
        here = (part * share) @ part.T / share.sum()
        covariance = (here + everywhere * (np.trace(here) / (np.trace(everywhere) + 1e-9))).astype(float) / 2
        level = _LOADING * np.median(np.linalg.eigvalsh(covariance)) + 1e-9
        covariance += level * np.eye(len(times)) + _CONSTANT * np.trace(here) / len(times)
        inverse = np.linalg.inv(covariance)
        weights = turns.conj() @ inverse
        quiet = np.einsum("np,np->p", part, (inverse @ part).astype(np.float32)) / len(times)
        total[:, place] += share * (weights.astype(np.complex64) @ part)
        noise[:, place] += share * quiet * (turns * weights).sum(1).real[:, None]
    return [Evidence(*(one.reshape(ROWS, COLUMNS) for one in pair)) for pair in zip(total, noise, strict=True)]


@functools.cache
def _regions() -> list[np.ndarray]:
    """How much each place of the surface belongs to each region: float32 [P], in sum 1; linear between the regions' middles."""
    across, down = (
        [np.interp((np.arange(size) + 0.5) / size * _REGIONS - 0.5, np.arange(_REGIONS), one) for one in np.eye(_REGIONS)]
        for size in (COLUMNS, ROWS)
    )  # fmt: skip
    return [np.outer(y, x).astype(np.float32).ravel() for y in down for x in across]


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


def read(turns: Sequence[Evidence], known: Sequence[int] = ()) -> Found | None:
    """The mark in some evidence; None where there is none, or it is too weak.

    Args:
        turns: the evidence at each of `TURNS`.
        known: see `find`.
    """
    scores, parts = map(np.stack, zip(*map(pilot, turns), strict=True))
    best = int(scores.argmax())
    asked = [(float(_match(parts, number).max()), number) for number in known]
    if asked and (first := max(asked))[0] >= SURE_OF_KNOWN:
        return Found(first[1], float(scores[best]), first[0])
    if scores[best] < SURE:
        return None
    number = decode(np.bincount(band()[1], parts[best], CHIPS + 1)[:CHIPS])
    match = 0.0 if number is None else float(_match(parts[best], number))
    return Found(number if match >= LEGIBLE else None, float(scores[best]), match)


def pilot(heard: Evidence) -> tuple[float, np.ndarray]:
    """How surely some evidence holds a mark, and the parts of its coefficients as the mark has them.

    An edit changes the expression, and with it, by a pixel or two, where the head is found; and nobody knows at which phase a clip
    begins. The pilot says both: they are those at which it is heard best.

    Args:
        heard: the evidence.

    Returns:
        The size of the pilot's complex correlation, at the best displacement. In noise a component of it has a standard deviation of 1
        at each. And the real and imaginary parts, with the format's signs: float32 [2 K], mean square 1.
    """
    used, _, signs = band()
    shifts, known = _search()
    noise = cv2.GaussianBlur(heard.noise, (0, 0), DENSITY / 40)
    weight = 1 - (1 - _ASIDE) * np.linspace(-1, 1, COLUMNS, dtype=np.float32) ** 2
    values = np.fft.fft2(weight * heard.sum / (noise + _FLOOR * noise.mean() + 1e-12)).ravel()[used]
    size = np.abs(values)
    values /= np.maximum(size, _LOUDEST * np.median(size)) + 1e-12
    values /= np.sqrt((np.abs(values) ** 2).mean() / 2) + 1e-12
    said = shifts @ (values * known)
    best = np.abs(said).argmax()
    turned = values * np.exp(-1j * np.angle(said[best])) * shifts[best]
    parts = np.concatenate([turned.real, turned.imag]).astype(np.float32) * signs
    return float(np.abs(said[best]) / np.linalg.norm(known)), parts


def _match(parts: np.ndarray, number: int) -> np.ndarray:
    """The correlation of parts, [..., 2 K], with the chips of an id; in noise it has a standard deviation of 1 for any one id."""
    expected = np.append(encode(number), 0)[band()[1]]
    return np.asarray(parts @ expected / np.linalg.norm(expected))


@functools.cache
def _search() -> tuple[np.ndarray, np.ndarray]:
    """The phases of the coefficients at every displacement, complex64 [D, K], and the factors of the pilot's sum [K]."""
    used, chips, signs = band()
    rows, columns = np.unravel_index(used, (ROWS, COLUMNS))
    down, across = np.fft.fftfreq(ROWS)[rows] * DENSITY, np.fft.fftfreq(COLUMNS)[columns] * DENSITY
    reach = [np.arange(-steps, steps + 1) * _STEP for steps in (_DOWN, _ACROSS)]
    turns = np.outer(reach[0], down)[:, None] + np.outer(reach[1], across)
    real, imaginary = np.where(chips == CHIPS, signs, 0).reshape(2, -1)
    shifts = np.exp(2j * np.pi * turns.reshape(-1, len(used)))
    return shifts.astype(np.complex64), (real - 1j * imaginary).astype(np.complex64)
