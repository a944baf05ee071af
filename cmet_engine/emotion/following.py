"""A recording that an edit follows moment by moment: brought to the clip's time, its emotions become keys."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy

from cmet_engine.emotion.hearing import Hearing
from cmet_engine.emotion.speech import load_encoder
from cmet_engine.errors import InvalidInput
from cmet_engine.media import audio
from cmet_engine.media.probe import measure
from cmet_engine.media.source import Source
from cmet_engine.spec import CURVES
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.track import CoefficientTrack

SAME_LENGTH = 0.04  # share by which lengths may differ where time alone aligns them
MOST = 1500  # frames of either side that are compared: memory does not grow with the clip
PIECE = 5.0  # seconds that the network hears at once
OTHER_WORDS = 0.64  # see `align`; a quarter of different sentences is above, one of 24 that are the same
OFF_DIAGONAL = 0.1  # share of the mean distance that a step costs in which one side stands still
GRID, SMOOTH = (
    0.1,
    0.15,
)  # seconds between the moments of the clip that keys are made of, and a Gaussian width that no jump is sharper than
ERROR = 0.04  # strength by which the keys may miss the course of the recording


@dataclass(frozen=True)
class Followed:
    """Keys in the clip's time, and what to say of how they were brought there."""

    timeline: EmotionTimeline
    messages: list[str]


def follow(performance: Path, clip: Path, hearing: Hearing) -> Followed:
    """The keys by which an edit follows a recording.

    Args:
        performance: the recording.
        clip: footage, or a take, which has no sound.
        hearing: what is heard in the recording.

    Raises:
        CmetError: a file cannot be read, or the recording sounds neutral.
    """
    course = hearing.course(hearing.timeline())
    if not course:
        raise InvalidInput(f"{performance.name} sounds neutral; there is nothing to follow. Name an emotion instead.")
    sound, doubts = None, []
    if clip.suffix.lower() in CURVES:
        seconds = CoefficientTrack.load(clip).duration
    elif audio.has_sound(clip):
        sound = audio.load(clip)
        seconds = len(sound) / audio.RATE
    else:
        seconds = float(measure(Source.of(clip)).duration)
    longer = hearing.seconds / seconds - 1
    if abs(longer) <= SAME_LENGTH:
        moved, how = hearing.times, "by time"
    elif sound is None:
        moved, how = (
            hearing.times / (1 + longer),
            "by time, stretched to the clip's length, which has no sound to match",
        )
    else:
        at, there, apart = align(audio.load(performance), sound)
        if apart > OTHER_WORDS:
            doubts.append(
                f"{performance.name} and {clip.name} do not seem to say the same; the moments may be mixed up."
            )
        moved, how = np.interp(hearing.times, at, there), "by the words, for their lengths differ"
    times = np.arange(0, seconds, GRID)
    source = np.interp(
        times, moved + 1e-6 * np.arange(len(moved)), hearing.times
    )  # where two sounds halt, the last counts
    keys = []
    for name, values in course.items():
        level = scipy.ndimage.gaussian_filter1d(np.interp(source, hearing.times, values), SMOOTH / GRID, mode="nearest")
        keys += _hats(name, times, level)
    said = f"{performance.name} ({hearing.seconds:.1f} s) is followed {how}: {', '.join(course)}."
    return Followed(EmotionTimeline(keys), [said, *doubts])


def align(performance: np.ndarray, sound: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Which moments of two recordings of the same words belong together, by dynamic time warping of the speech features.

    Args:
        performance, sound: float32 [S] at 16 kHz.

    Returns:
        Seconds in the first, rising evenly, and in the second, never falling: float64 [M] each; and how far apart they are
        where they are matched, over how far they are elsewhere: mostly 0.42 to 0.6 where different people say one sentence.
    """
    (one, step), (other, pace) = _features(performance), _features(sound)
    distance = scipy.spatial.distance.cdist(one, other, "cosine").astype(np.float32)
    path = _warping_path(distance)
    count = np.bincount(path[:, 0], minlength=len(one))
    there = np.bincount(path[:, 0], path[:, 1], minlength=len(one)) / count
    there = scipy.ndimage.gaussian_filter1d(there * pace, max(0.1 / step, 1e-3), mode="nearest")
    apart = float(distance[path[:, 0], path[:, 1]].mean() / max(distance.mean(), 1e-6))
    return np.arange(len(one)) * step, np.maximum.accumulate(there), apart


def _features(wave: np.ndarray) -> tuple[np.ndarray, float]:
    """What a recognition network sees in a recording [F, 384], each column normalised, and seconds from one row to the next."""
    pieces = np.array_split(wave, max(1, round(len(wave) / (PIECE * audio.RATE))))
    rows = np.concatenate([found.whisper for found in load_encoder().backbone(pieces)])
    pooled = max(2, -(-len(rows) // MOST))
    rows = np.stack([part.mean(0) for part in np.array_split(rows, max(1, len(rows) // pooled))])
    return (rows - rows.mean(0)) / (rows.std(0) + 1e-6), len(wave) / audio.RATE / len(rows)


def _warping_path(distance: np.ndarray) -> np.ndarray:
    """The cheapest way through `distance` [N, M] from its first corner to its last: int [P, 2].

    Computed along diagonals, whose cells do not depend on each other.
    """
    rows, columns = distance.shape
    extra = OFF_DIAGONAL * float(distance.mean())
    total = np.full((rows + 1, columns + 1), np.inf, np.float32)
    total[0, 0] = 0
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        best = np.minimum(np.minimum(total[i - 1, j], total[i, j - 1]) + extra, total[i - 1, j - 1])
        total[i, j] = best + distance[i - 1, j - 1]
    path = [(rows, columns)]
    while path[-1] != (1, 1):
        row, column = path[-1]
        steps = ((row - 1, column - 1, 0.0), (row - 1, column, extra), (row, column - 1, extra))
        path.append(min(steps, key=lambda step: total[step[0], step[1]] + step[2])[:2])
    return np.array(path[::-1]) - 1


def _hats(name: str, times: np.ndarray, values: np.ndarray) -> list[EmotionKey]:
    """Keys whose sum runs straight between the corners of `values` [F] at `times` [F]."""
    times, values = np.round(times, 3), np.round(values.astype(np.float64), 3)
    corners = _corners(times, values)
    keys = []
    for n, corner in enumerate(corners):
        here = times[corner]
        before = times[corners[n - 1]] if n else here
        after = times[corners[n + 1]] if n + 1 < len(corners) else here + GRID
        if values[corner] > 0:
            keys.append(
                EmotionKey(
                    name, float(values[corner]), max(float(before), 1e-6 if n else 0.0), float(after), float(here - before),
                    float(after - here), "linear",
                )
            )  # fmt: skip
    return keys


def _corners(times: np.ndarray, values: np.ndarray) -> list[int]:
    """Positions of the corners of a curve [F] that straight lines between them keep within `ERROR` (Douglas and Peucker 1973)."""
    corners, open_ends = {0, len(times) - 1}, [(0, len(times) - 1)]
    while open_ends:
        a, b = open_ends.pop()
        if b - a < 2:
            continue
        miss = np.abs(np.interp(times[a : b + 1], times[[a, b]], values[[a, b]]) - values[a : b + 1])
        worst = a + int(miss.argmax())
        if miss.max() > ERROR:
            corners.add(worst)
            open_ends += [(a, worst), (worst, b)]
    return sorted(corners)
