"""What lies before a face in every frame of a clip: glasses, hair, hands, things, writing.

A network looks at the canonical crop of the face (`occlusion_network`). Its mattes are averaged over neighbouring frames along
the motion of the head. Frames between two that show nothing are not looked at.
"""

import contextlib
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cmet_engine import arkit, cache, fingerprint
from cmet_engine.face.crop import apply, crop_transform, cut_crop
from cmet_engine.face.geometry import FaceGeometry, fade_of
from cmet_engine.face.glimpses import STRIDE
from cmet_engine.face.landmarks import (
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LOWER_LIP_OUTER,
    OVAL,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    SKIN,
    UPPER_LIP_OUTER,
)
from cmet_engine.face.occlusion_network import SIDE, WEIGHTS_FILE, load_network
from cmet_engine.face.pose import template
from cmet_engine.media.info import Frame
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.models import assets
from cmet_engine.progress import Progress, Stage
from cmet_engine.smoothstep import smoothstep

LIKELY, SURE, LEAST_SURE = 0.4, 0.65, 14
"""Hysteresis: pixels as probable as the first that are connected to at least so many as probable as the second may count."""

CERTAIN, LEAST_CERTAIN = 0.95, 250
"""What is no pair of glasses counts from so many pixels on that are as probable: stubble and folds are seldom taken for that."""

HELD, LEAST_HELD = 12, 150
"""Within so many frames of one in which a thing counts, and does in most frames around, so many `SURE` pixels are enough: it comes,
turns or goes."""

BAND, MIDDLE, LEAST_SIDE = slice(28, 72), slice(54, 75), 8
"""Rows of the crop where glasses sit, and columns between their lenses; a pair has so many sure pixels on both sides of those."""

WORN, WORN_LIKELY, WORN_SURE = 0.2, 0.3, 0.5
"""Glasses that are seen in this share of a shot's frames that were looked at are worn in all of it: there the other two take the
places of `LIKELY` and `SURE`, and rims may be in pieces."""

THICK, BRIDGE, REACH = 15, 168, (16, 12)
"""What is thicker, pixels of the crop, is no rim but hair that a pair of glasses was joined with, unless it lies so near, across and
down, to this landmark between the eyes."""

MOSTLY = 0.5
"""What is as thick in this share of it is no pair of glasses, however far it reaches."""

LASTS = 0.6
"""What is `LIKELY` in this share of a shot's frames, at the same place of the face, and `CERTAIN` in fewer, is of the face."""

SOLID = 11
"""Pixels of the crop: holes and gaps in a thing that are narrower belong to it."""

PATIENCE = 25
"""Frames without anything after which the rest is looked at seldom again."""

LEAST_FRAMES = 6
"""What is seen before the face in fewer frames in a row is forgotten."""

WEIGHTS = (0.15, 0.2, 0.3, 0.2, 0.15)
"""Of a frame and its neighbours in the average over time."""

HIDDEN = 0.35
"""A part of the face counts as covered from this share of it on."""

WHOLE = 0.8
"""Where less than this share of an eye is marked, lid and lens of glasses were taken for one another: the eye moves on."""

PARTS = (
    (*UPPER_LIP_OUTER, *LOWER_LIP_OUTER[::-1]), (*RIGHT_EYE_UPPER, *RIGHT_EYE_LOWER[::-1]),
    (*LEFT_EYE_UPPER, *LEFT_EYE_LOWER[::-1]), (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)  # fmt: skip
"""Outlines of mouth, right and left eye, right and left brow."""

MOUTH, EYES, BROWS = 0, (1, 2), (3, 4)

BORDER = (-0.05, 0.2)
"""Between these heights on the mean face, in outer-eye distances, the lower face passes into the upper."""

_UPPER = np.array([name.startswith(("eye", "brow")) for name in arkit.NAMES])

THING, GLASSES, UNSURE = 1, 2, 3
"""What a pixel is found to be part of; a frame with something that does not count by itself is unsure."""

Look = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Crops uint8 [128, 128, 3] to probabilities [B, 128, 128]."""


@dataclass(frozen=True)
class Occlusion:
    """What lies before one person's face in a clip.

    Attributes:
        mattes: of every frame, its matte as compressed bytes; empty where nothing lies before the face.
        covered: float32 [N, 5], shares of mouth, eyes and brows (`PARTS`) that are covered.
        lower, upper: float32 [N] in 0..1, how far the edit of the lower and of the upper face is left out.
    """

    mattes: list[bytes]
    covered: np.ndarray
    lower: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    upper: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def matte(self, index: int) -> np.ndarray | None:
        """The matte of a frame on its canonical crop: float32 [128, 128], 0 face to 1 something before it; None for nothing."""
        return _unpacked(self.mattes[index]) if self.mattes[index] else None

    def any(self) -> bool:
        """Whether anything lies before the face in any frame."""
        return any(self.mattes)

    def held_back(self, source: np.ndarray, edited: np.ndarray) -> np.ndarray:
        """Edited coefficients [N, 52] without what is left out of their difference from the source's [N, 52]."""
        left_out = np.where(_UPPER, self.upper[:, None], self.lower[:, None])
        return np.where(left_out > 0, edited + (source - edited) * left_out, edited)

    def kept(self, frames: slice) -> np.ndarray:
        """How far the landmarks of some frames take part in an edit: float64 [n, 478] in 0..1."""
        high = smoothstep(template().points[:, 1], *BORDER)
        return (1 - self.lower[frames, None] * (1 - high)) * (1 - self.upper[frames, None] * high)

    def messages(self, geometry: FaceGeometry) -> list[str]:
        """Sentences for the user about what is left out or not seen of an edit."""
        mouth, eyes = self.covered[:, MOUTH] >= HIDDEN, (self.covered[:, EYES] >= HIDDEN).all(1)
        brows = (self.covered[:, BROWS] >= HIDDEN).all(1)
        one = (self.covered[:, EYES] >= HIDDEN).any(1) & ~eyes
        whole, dark = mouth & eyes & brows, eyes & ~brows & ~mouth
        told = [
            (whole, "The face is covered at {}; nothing is edited there."),
            (mouth & ~whole, "Something covers the mouth at {}; the edit of mouth and cheeks is left out there."),
            (eyes & brows & ~whole, "Something covers eyes and brows at {}; their edit is left out there."),
            (one, "Something covers an eye at {}; the edit of eyes and brows is left out there."),
            (dark, "The eyes are hidden, as by dark glasses, at {}; the edit shows in brows and mouth alone there."),
        ]
        return [sentence.format(geometry.spans(which)) for which, sentence in told if which.any()]


def find_occlusion(
    clip: Path | Source, geometry: FaceGeometry, *, face: int | str = 0, progress: Progress | None = None
) -> Occlusion:
    """What lies before the face in a clip, from the cache where the clip was looked at before.

    Args:
        clip: the footage.
        geometry: where the face is in every frame of it.
        face: which face `geometry` follows, for the cache; see `face.clip.face_key`.
        progress: called with ("occlusion", frames done, in all); what it raises ends the work.

    Raises:
        CmetError: the clip cannot be read, or the embedded weights are missing.
    """
    footage = Source.of(clip)
    stored = cache.arrays(_key(footage, face), lambda: _packed_up(look(footage, geometry, _network(), progress)))
    geometry.glimpses = None
    ends = stored["ends"].tolist()
    data = stored["data"].tobytes()
    mattes = [data[a:b] for a, b in itertools.pairwise([0, *ends])]
    return left_out(Occlusion(mattes, stored["covered"]), geometry)


def was_found(clip: Path | Source, face: int | str = 0) -> bool:
    """Whether `find_occlusion` has its answer in the cache."""
    name = _key(Source.of(clip), face)
    return name is not None and cache.get(name) is not None


def _key(footage: Source, face: int | str) -> str | None:
    if not footage.path.is_file():
        return None
    code = fingerprint.code(__name__, "cmet_engine.face.clip")
    return cache.key("occlusion", footage.path, code, face, assets.checksums(WEIGHTS_FILE), footage.reading)


def _packed_up(found: Occlusion) -> dict[str, np.ndarray]:
    """An occlusion as arrays for the cache."""
    ends = np.cumsum([len(matte) for matte in found.mattes], dtype=np.int64)
    return {"data": np.frombuffer(b"".join(found.mattes), np.uint8), "ends": ends, "covered": found.covered}


def _network() -> Look:
    return load_network().probability


def left_out(found: Occlusion, geometry: FaceGeometry) -> Occlusion:
    """The same with how far the edit is left out: fully where a part is covered, fading before and after."""
    covered = found.covered >= HIDDEN
    eyes, brows = covered[:, EYES], covered[:, BROWS]
    upper = eyes.any(1) & (brows.all(1) | ~eyes.all(1))  # dark glasses hide both eyes, and the brows are edited
    lower, upper = (
        1 - fade_of(~which, geometry.cuts, float(geometry.fps)) if which.any() else np.zeros(len(which), np.float32)
        for which in (covered[:, MOUTH], upper)
    )
    return Occlusion(found.mattes, found.covered, lower, upper)


def look(footage: Source, geometry: FaceGeometry, network: Look, progress: Progress | None = None) -> Occlusion:
    """Look at the frames of a clip; `left_out` is not applied yet."""
    seen: list[tuple[bytes, int]] | None = None
    if geometry.glimpses:
        with contextlib.suppress(LookupError):  # where something is seen, the frames between are looked at, too
            seen = list(_probabilities(geometry.glimpses.frames(len(geometry)), geometry, network, progress))
        geometry.glimpses = None
    if seen is None:
        seen = list(_probabilities(VideoReader(footage).frames(whole=False), geometry, network, progress))
    raw, found = zip(*seen, strict=True)
    mattes: list[bytes] = []
    covered = np.zeros((len(raw), len(PARTS)), np.float32)
    for first, last in geometry.shots():
        least = max(LEAST_FRAMES, WORN * sum(map(bool, raw[first:last])))
        worn = found[first:last].count(GLASSES) >= least
        things = _steady([kind == THING for kind in found[first:last]])
        own = _of_the_face(raw[first:last])
        for index in range(first, last):
            held = bool(things[max(index - HELD - first, 0) : index + HELD + 1 - first].any())
            matte = _settled(raw, geometry, index, range(first, last), worn, held, own)
            mattes.append(b"" if matte is None else _packed(matte))
            if matte is not None:
                covered[index] = _shares(matte, geometry.landmarks[index])
                if worn and (covered[index, EYES] >= HIDDEN).sum() == 1:  # a lens alone hides no eye
                    covered[index, EYES] = 0
    for shown, frames in itertools.groupby(range(len(mattes)), key=lambda k: bool(mattes[k])):
        run = list(frames)
        if shown and len(run) < min(LEAST_FRAMES, len(mattes)):
            covered[run] = 0
            mattes[run[0] : run[-1] + 1] = [b""] * len(run)
    for first, last in geometry.shots():
        covered[first:last] = _without_gaps(covered[first:last])
    return Occlusion(mattes, covered)


def _without_gaps(shares: np.ndarray) -> np.ndarray:
    """Shares [N, K] over time in which nothing goes and comes again within `LEAST_FRAMES`."""
    if len(shares) < 2:
        return shares
    most = np.pad(shares, ((LEAST_FRAMES, LEAST_FRAMES), (0, 0)))
    most = sliding_window_view(most, LEAST_FRAMES, 0).max(-1)  # of each frame and those before it
    return sliding_window_view(most, LEAST_FRAMES, 0).min(-1)[1 : len(shares) + 1]


def _packed(matte: np.ndarray) -> bytes:
    return zlib.compress(np.round(matte * 255).astype(np.uint8).tobytes(), 1)


def _unpacked(data: bytes) -> np.ndarray:
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(SIDE, SIDE).astype(np.float32) / 255


def _probabilities(
    frames: Iterable[Frame], geometry: FaceGeometry, network: Look, progress: Progress | None
) -> Iterator[tuple[bytes, int]]:
    """Of every frame the network's probability, compressed, empty where nothing can be there or nobody looked, and what was found.

    Every `STRIDE`th frame is looked at; those between only where one of their two shows something.
    """
    waiting: list[tuple[Frame, np.ndarray] | None] = []
    quiet = PATIENCE - 1  # nothing is known before the first frame
    done = 0
    for frame in frames:
        if frame.index >= len(geometry):
            break
        points = geometry.landmarks[frame.index]
        known = bool(geometry.valid[frame.index]) and bool(np.isfinite(points).all())
        waiting.append((frame, points) if known else None)
        done += 1
        if len(waiting) < STRIDE and done < len(geometry):
            continue
        last = _looked_at(waiting[-1:], network)
        looked = last[0][1] or quiet < PATIENCE
        yield from _looked_at(waiting[:-1], network) if looked else [(b"", 0)] * (len(waiting) - 1)
        yield from last
        quiet, waiting = 0 if last[0][1] else quiet + len(waiting), []
        if progress:
            progress(Stage.OCCLUSION, done, len(geometry))
    yield from [(b"", 0)] * (len(geometry) - done + len(waiting))


def _looked_at(frames: Sequence[tuple[Frame, np.ndarray] | None], network: Look) -> list[tuple[bytes, int]]:
    """See `_probabilities`, of some frames with their landmarks; None has none."""
    shown = [cut_crop(frame, crop_transform(points, SIDE), SIDE) for frame, points in filter(None, frames)]
    found = iter(network(shown)) if shown else iter(())
    result = []
    for frame in frames:
        matte = np.zeros((SIDE, SIDE), np.float32) if frame is None else next(found)
        if (matte > WORN_SURE).sum() < LEAST_SURE:
            result.append((b"", 0))
            continue
        unsure = UNSURE if (matte > SURE).sum() >= LEAST_HELD else 0
        result.append((_packed(matte), int(_counting(matte).max()) or unsure))
    return result


def _steady(flags: list[bool]) -> np.ndarray:
    """Whether most of the frames around each of a shot are flagged: bool [N]."""
    reach = len(WEIGHTS) // 2
    return sliding_window_view(np.pad(flags, reach), len(WEIGHTS)).mean(1) > 0.5


def _of_the_face(raw: Sequence[bytes]) -> np.ndarray:
    """Where something lasts on the face for a shot without ever being certain, as grey stubble does: bool [128, 128]."""
    likely, certain = np.zeros((2, SIDE, SIDE), np.float32)
    for matte in map(_unpacked, filter(None, raw)):
        likely += matte > LIKELY
        certain += matte > CERTAIN
    lasting = (likely > LASTS * len(raw)) & (certain < LASTS * len(raw))
    return np.asarray(cv2.dilate(lasting.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0)


def _settled(
    raw: Sequence[bytes], geometry: FaceGeometry, index: int, shot: range, worn: bool, held: bool, own: np.ndarray
) -> np.ndarray | None:
    """The matte of a frame: averaged over its neighbours in the shot, cleared of what is improbable or beside the face.

    `worn`: glasses are expected, `held`: a thing is; `own`: see `_of_the_face`.
    """
    reach = len(WEIGHTS) // 2
    near = range(max(shot.start, index - reach), min(shot.stop, index + reach + 1))
    if not any(raw[k] for k in near):
        return None
    here = _in_crop(geometry.landmarks[index])
    total, mean = 0.0, np.zeros((SIDE, SIDE), np.float32)
    for k in near:
        weight = WEIGHTS[k - index + reach]
        total += weight
        if raw[k]:
            moved = _unpacked(raw[k])
            if k != index:
                to = _affine(_in_crop(geometry.landmarks[k]), here)
                moved = cv2.warpAffine(moved, to, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
            mean += weight * moved
    mean /= total
    counts = _counting(mean, _face(here) > 0, worn, held, own)
    eyes = [_part(here, k) for k in EYES]
    clear = [(mean[eye > 0] > 0.5).mean() < WHOLE for eye in eyes]
    if not counts.any():
        return None
    matte = mean * cv2.dilate((counts > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
    matte = np.maximum(matte, cv2.morphologyEx(matte * (counts == THING), cv2.MORPH_CLOSE, _disc(SOLID)))
    if any(clear):
        blobs = _thick((counts == GLASSES).astype(np.float32))
        away = np.abs(np.indices((SIDE, SIDE)) - here[BRIDGE, ::-1, None, None])
        blobs[(away[1] < REACH[0]) & (away[0] < REACH[1])] = 0
        matte *= 1 - cv2.GaussianBlur(cv2.dilate(blobs, np.ones((5, 5))), (0, 0), 2)
    for eye, moves in zip(eyes, clear, strict=True):
        if moves:
            lens = (eye > 0) & (counts != THING)
            matte *= 1 - cv2.GaussianBlur(cv2.dilate(lens.astype(np.float32), np.ones((3, 3))), (0, 0), 1)
    return matte


def _thick(mask: np.ndarray) -> np.ndarray:
    """The parts of a mask that are thicker than rims."""
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(THICK)))


def _disc(side: int) -> Any:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _counting(
    probability: np.ndarray,
    face: np.ndarray | bool = True,
    worn: bool = False,
    held: bool = False,
    own: np.ndarray | bool = False,
) -> np.ndarray:
    """What of a probability counts as lying before the `face` (bool [128, 128]), also where it goes on beside it.

    Returns:
        uint8 [128, 128]: `THING`, `GLASSES` or 0; `worn`, `held`, `own`: see `_settled`.
    """
    sure = (probability > (WORN_SURE if worn else SURE)) & face
    if sure.sum() < LEAST_SURE:
        return np.zeros((SIDE, SIDE), np.uint8)
    likely = (probability > (WORN_LIKELY if worn else LIKELY)).astype(np.uint8)
    count, parts = cv2.connectedComponents(likely, connectivity=8)

    def pixels(among: np.ndarray, columns: slice = slice(None), rows: slice = slice(None)) -> np.ndarray:
        return np.bincount(parts[rows, columns][among[rows, columns]], minlength=count)

    sides = [pixels(sure, columns, BAND) for columns in (slice(MIDDLE.start), slice(MIDDLE.stop, None))]
    pair = np.min(sides, axis=0) >= LEAST_SIDE
    certain = (probability > CERTAIN) & face & np.logical_not(own)
    thing = pixels(certain) >= LEAST_CERTAIN
    if held:
        thing |= pixels(sure & np.logical_not(own)) >= LEAST_HELD
    if worn or pair.any():
        pair |= pixels(sure, rows=BAND) >= LEAST_SURE  # pieces of rims
    if not worn and (thing & pair).any():  # fingers reach over both sides, too, but are no rims
        solid = cv2.morphologyEx(sure.astype(np.uint8), cv2.MORPH_CLOSE, _disc(SOLID))
        pair &= ~thing | (pixels((_thick(solid) > 0) & face) < MOSTLY * pixels((solid > 0) & face))
    result: np.ndarray = np.where(pair, GLASSES, np.where(thing, THING, 0)).astype(np.uint8)[parts]
    return result


def _in_crop(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks [468, 2] in the canonical crop."""
    return apply(crop_transform(landmarks, SIDE), landmarks[:SKIN])


def _affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The affine map [2, 3] between places of the skull in two crops, least squares."""
    weight = np.sqrt(template().weights[:SKIN])[:, None]
    plane = np.column_stack([source, np.ones(len(source))])
    return np.linalg.lstsq(plane * weight, target * weight, rcond=None)[0].T


def _face(points: np.ndarray) -> np.ndarray:
    """The face in the crop: uint8 [128, 128]."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(mask, [np.round(points[list(OVAL)]).astype(np.int32)], (1,))
    return mask


def _shares(matte: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Shares of mouth, eyes and brows that are covered: float32 [5]."""
    points = _in_crop(landmarks)
    return np.array([(matte[_part(points, k) > 0] > 0.5).mean() for k in range(len(PARTS))], np.float32)


def _part(points: np.ndarray, number: int) -> np.ndarray:
    """A part of the face in the crop, its outline at least: uint8 [128, 128]."""
    part = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(part, [np.clip(np.round(points[list(PARTS[number])]), 0, SIDE - 1).astype(np.int32)], (1,))
    return part
