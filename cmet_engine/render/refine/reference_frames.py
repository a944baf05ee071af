"""Reference frames of a clip: chosen by geometry, kept as crops, and assigned to every frame without flicker.

A frame takes its mouth and its eyes from two reference frames each: those whose lips or lids come nearest to the wanted
position, seen from about the same side. Only the crops of the reference frames stay in memory.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cmet_engine.face.landmarks import (
    LEFT_EYE_CORNERS,
    LEFT_IRIS,
    LOWER_LIP_INNER,
    LOWER_LIP_OUTER,
    RIGHT_EYE_CORNERS,
    RIGHT_IRIS,
    UPPER_LIP_INNER,
    UPPER_LIP_OUTER,
)
from cmet_engine.face.lips import INNER_LIPS, eye_opening
from cmet_engine.face.pose import normalise, template
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.info import Frame
from cmet_engine.media.planes import Box
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.render.own_format import ShownPlanes

FRAMES_KEPT = 40
"""Reference frames of a clip."""

LARGEST = 640
"""Longest side of a kept crop, pixels; larger ones are shrunk."""

MARGIN = 0.08
"""Room around the landmarks in a crop, as a share of the face's size."""

TURN = 0.004
"""Cost of one degree of difference between two head rotations, in the unit of the lips' distance (outer-eye distances)."""

MOTION = 0.5
"""Cost of motion within a reference frame, which blurs it, per outer-eye distance a frame."""

OTHER_SHOT = 10.0
"""Cost of a reference from another shot: it is taken only where the frame's own shot has none."""

SHUT = 3.0
"""An eye that is less open than wanted costs this many times more than one that is more open: it hides the iris."""

BLINKS = 3.0
"""Cost, per unit of opening, of an eye that is open less than three quarters of the frame's own."""

EYES_TRUSTED = (0.6, 0.8, 1.25, 1.7)
"""Opening of a reference eye over the wanted one: trust is 0 below the first and above the last, 1 between the middle two."""

MOUTH_TRUSTED = (0.8, 1.4)
"""Distance of a reference mouth to the wanted one over that of the frame's own mouth: trust is 1 below the first, …"""

MOUTH_LEAST = 0.1
"""… and this much above the second."""

OPENING_TRUSTED = (0.5, 0.75, 1.25, 1.75)
"""The same as `EYES_TRUSTED` of the mouth: lips that hardly part show nothing that lies behind, and teeth do not fit into a seam."""

IRIS_TRUSTED = (0.02, 0.05)
"""How far an iris lies beside the wanted place, outer-eye distances: trust is 1 below the first and 0 from the second on, where two
irises would be seen."""

TEETH = 0.15
"""Distance between a mouth whose teeth meet and one whose teeth do not, in the unit of the lips' distance."""

ALIKE = 0.02
"""Mouths that lie no further apart than this count as alike."""

SWITCH = 0.02
"""Cost of another reference frame than the previous frame's."""

CROSS_FADE = 2
"""Frames before and after a switch over which the two references are cross-faded."""

_LIPS = tuple(dict.fromkeys((*UPPER_LIP_INNER, *LOWER_LIP_INNER, *UPPER_LIP_OUTER, *LOWER_LIP_OUTER)))


@dataclass(frozen=True)
class Appearance:
    """Appearance descriptors of N faces, by which reference frames are matched.

    Attributes:
        lips: float32 [N, 2 * 40 + 5], pose-free lip landmarks about their mean, and the gaps between the inner lips.
        eyes: float32 [N, 4], openings of both eyes, and the horizontal position of the irises in them.
        turn: float32 [N, 3], head rotation in degrees.
        motion: float32 [N], motion against the neighbouring frames, outer-eye distances a frame.
        shot: int32 [N], number of the shot.
        teeth: float32 [N], whether the rows of teeth meet (`face.teeth`).
    """

    lips: np.ndarray
    eyes: np.ndarray
    turn: np.ndarray
    motion: np.ndarray
    shot: np.ndarray
    teeth: np.ndarray

    def __len__(self) -> int:
        return len(self.lips)

    def __getitem__(self, rows: Any) -> "Appearance":
        return Appearance(
            self.lips[rows], self.eyes[rows], self.turn[rows], self.motion[rows], self.shot[rows], self.teeth[rows]
        )


def appearance_of(
    landmarks: np.ndarray,
    shot: np.ndarray | int = 0,
    motion: np.ndarray | float = 0.0,
    teeth: np.ndarray | float = 0.0,
) -> Appearance:
    """Appearance descriptors of faces with landmarks [N, 478, 3], in pixels."""
    points, pose = normalise(landmarks)
    lips = points[:, list(_LIPS), :2]
    lips = lips - lips.mean(1, keepdims=True)
    upper, lower = np.array(INNER_LIPS).T
    gaps = points[:, upper, 1] - points[:, lower, 1]
    irises = []
    for iris, corners in ((RIGHT_IRIS, RIGHT_EYE_CORNERS), (LEFT_IRIS, LEFT_EYE_CORNERS)):
        middle = points[:, list(corners), :2].mean(1)
        irises.append((points[:, iris, :2] - middle)[:, 0])
    eyes = np.column_stack([eye_opening(landmarks), *irises])
    count = len(points)
    weights = np.sqrt(1 / len(_LIPS))
    return Appearance(
        np.column_stack([lips.reshape(count, -1) * weights, gaps * np.sqrt(1 / len(INNER_LIPS))]).astype(np.float32),
        eyes.astype(np.float32),
        pose.degrees(),
        np.broadcast_to(np.asarray(motion, np.float32), (count,)),
        np.broadcast_to(np.asarray(shot, np.int32), (count,)),
        np.broadcast_to(np.asarray(teeth, np.float32), (count,)),
    )


def usable_frames(geometry: FaceGeometry) -> np.ndarray:
    """Frames that show the face well enough for reference frames and training pairs: int [M]."""
    return np.flatnonzero(geometry.valid & (geometry.fade >= 1))


def clip_appearance(geometry: FaceGeometry) -> Appearance:
    """Appearance descriptors of all frames of a clip; those of frames without a face mean nothing."""
    parts, motions = [], []
    shot = np.zeros(len(geometry), np.int32)
    shot[[c for c in geometry.cuts if c < len(geometry)]] = 1
    shot = np.cumsum(shot).astype(np.int32)
    previous = None
    for part, landmarks in geometry.chunks():
        known = np.where(np.isfinite(landmarks), landmarks, 0)
        known[~np.isfinite(landmarks).all((1, 2))] = _mean_face()
        parts.append(appearance_of(known, shot[part], teeth=geometry.teeth[part]))
        size = np.ptp(known[:, :, 0], axis=1) + 1e-6
        before = np.concatenate([known[:1] if previous is None else previous, known[:-1]])
        motions.append(np.abs(known - before)[..., :2].mean((1, 2)) / size * 2)
        previous = known[-1:]
    motion = np.concatenate(motions)
    motion[[0, *(c for c in geometry.cuts if c < len(motion))]] = 0
    motion = np.maximum(motion, np.append(motion[1:], 0))
    return Appearance(
        np.concatenate([p.lips for p in parts]), np.concatenate([p.eyes for p in parts]),
        np.concatenate([p.turn for p in parts]), motion.astype(np.float32), shot, geometry.teeth,
    )  # fmt: skip


def _mean_face() -> np.ndarray:
    """A mean face in pixels, [478, 3], where a frame has none."""
    return (template().points * [100.0, -100.0, -100.0] + [200, 200, 0]).astype(np.float32)


def matching_costs(wanted: Appearance, own: Appearance, offered: Appearance, part: str) -> np.ndarray:
    """Cost of each of the B offered faces as a reference for each of the N wanted ones.

    Args:
        wanted: the edited faces.
        own: the N faces that they are made from: lids that an edit lowers are not those of a blink.
        offered: the reference frames.
        part: `mouth` or `eyes`.

    Returns:
        float32 [N, B].
    """
    if part == "mouth":
        away = wanted.lips[:, None] - offered.lips[None]
        away = np.concatenate([away, TEETH * (wanted.teeth[:, None] - offered.teeth[None])[..., None]], 2)
    else:
        away = wanted.eyes[:, None] - offered.eyes[None]
        away[..., :2] *= np.where(away[..., :2] > 0, SHUT, 1.0)
    distance = np.sqrt((away**2).sum(-1))
    if part == "eyes":
        least = 0.75 * own.eyes[:, None, :2]
        distance = distance + BLINKS * np.maximum(least - offered.eyes[None, :, :2], 0).max(-1)
    turn = np.sqrt(((wanted.turn[:, None] - offered.turn[None]) ** 2).sum(-1))
    shot = wanted.shot[:, None] != offered.shot[None]
    return distance + TURN * turn + MOTION * offered.motion[None] + OTHER_SHOT * shot


def trust(wanted: Appearance, own: Appearance, offered: Appearance, part: str) -> float:
    """How far one reference can replace the frame's own face (`own`) for a wanted one, by `mouth` or `eyes`: 0 to 1."""
    if part == "eyes":
        ratio = (np.maximum(offered.eyes[:2], 0) + 0.02) / (np.maximum(wanted.eyes[:2], 0) + 0.02)
        aside = np.abs(offered.eyes[2:] - wanted.eyes[2:]).max()
        like = float(np.interp(aside, IRIS_TRUSTED, (1.0, 0.0)))
        return like * float(np.interp(ratio, EYES_TRUSTED, (0.0, 1.0, 1.0, 0.0)).min())
    gaps = [
        max(float(face.lips[-len(INNER_LIPS) :].mean()) * len(INNER_LIPS) ** 0.5, 0.0) + 0.02
        for face in (offered, wanted)
    ]
    opening = float(np.interp(gaps[0] / gaps[1], OPENING_TRUSTED, (0.0, 1.0, 1.0, 0.0)))
    away, own_away = (float(np.linalg.norm(wanted.lips - face.lips)) for face in (offered, own))
    like = float(np.interp(away / max(own_away, ALIKE), MOUTH_TRUSTED, (1.0, MOUTH_LEAST)))
    return opening * max(like * (1 - abs(float(wanted.teeth) - float(offered.teeth))), MOUTH_LEAST)


def choose_frames(appearance: Appearance, usable: np.ndarray, count: int = FRAMES_KEPT) -> np.ndarray:
    """Choose reference frames by farthest-point sampling: different mouths, eyes and rotations, little motion.

    Args:
        appearance: of all frames.
        usable: int [M], frames that may be taken.
        count: at most so many.

    Returns:
        int [B], ascending.
    """
    if len(usable) <= count:
        return np.sort(usable)
    if len(usable) > 2000:
        usable = usable[np.linspace(0, len(usable) - 1, 2000).round().astype(int)]
    some = appearance[usable]
    points = np.column_stack([some.lips, some.eyes, TURN * some.turn, OTHER_SHOT * some.shot[:, None]])
    penalty = 1 / (1 + 20 * some.motion)
    middle = np.median(points, axis=0)
    chosen = [int(np.argmin(np.linalg.norm(points - middle, axis=1) / penalty))]
    nearest = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < count:
        best = int(np.argmax(nearest * penalty))
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(points - points[best], axis=1))
    return np.sort(usable[chosen])


@dataclass
class ReferenceFrames:
    """Crops of faces with their landmarks.

    Attributes:
        index: frame numbers, ascending.
        images: uint8 [h, w, 3] each, or float32 of a clip with more than 8 bits.
        landmarks: float64 [B, 478, 3], pixels of the crop.
        appearance: descriptors of them all.
    """

    index: list[int] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    landmarks: Any = field(default_factory=lambda: np.empty((0, 478, 3)))
    appearance: Any = None

    def __len__(self) -> int:
        return len(self.index)


def _box_of(landmarks: np.ndarray, shape: tuple[int, ...]) -> Box:
    """The part of a frame of a shape that lies around a face."""
    points = landmarks[:, :2]
    room = MARGIN * float(np.ptp(points, axis=0).max()) + 2
    height, width = shape[:2]
    x0, y0 = (int(v) for v in np.clip(np.floor(points.min(0) - room), 0, [width - 2, height - 2]))
    x1, y1 = (int(v) for v in np.clip(np.ceil(points.max(0) + room), [x0 + 2, y0 + 2], [width, height]))
    return x0, y0, x1, y1


def _scaled(part: np.ndarray, moved: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """A copy of a picture, and landmarks in it, with at most `largest` pixels on the longer side."""
    scale = largest / max(part.shape[:2])
    if scale < 1:
        w, h = max(2, round(part.shape[1] * scale)), max(2, round(part.shape[0] * scale))
        sx, sy = w / part.shape[1], h / part.shape[0]
        part = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA)
        half = np.array([0.5, 0.5, 0.0])  # the middle of a pixel
        moved = (moved + half) * np.array([sx, sy, (sx + sy) / 2]) - half
        return part, moved
    return part.copy(), moved


def read_frames(
    frames: Iterable[Frame],
    geometry: FaceGeometry,
    wanted: Sequence[int],
    appearance: Appearance,
    largest: int = LARGEST,
    shown: ShownPlanes | None = None,
) -> ReferenceFrames:
    """Crops of the wanted frames of a clip, read once from beginning to end.

    Args:
        frames: of the clip.
        geometry: of the clip.
        wanted: frame numbers.
        appearance: of all frames of the clip.
        largest: longest side of a crop, pixels.
        shown: of the clip; the crops of frames that come with their planes are read from these.
    """
    left = {int(i) for i in wanted}
    crops, points = ReferenceFrames(), []
    if not left:
        return crops
    last = max(left)
    for frame in frames:
        if frame.index in left:
            landmarks = np.asarray(geometry.landmarks[frame.index], np.float64)
            x0, y0, x1, y1 = box = _box_of(landmarks, frame.image.shape)
            part = frame.image[y0:y1, x0:x1]
            if shown is not None and frame.source is not None:
                part = shown.read(frame.source, box)
            image, landmarks = _scaled(part, landmarks - [x0, y0, 0], largest)
            crops.index.append(frame.index)
            crops.images.append(image)
            points.append(landmarks)
        if frame.index >= last:
            break
    crops.landmarks = np.stack(points) if points else crops.landmarks
    crops.appearance = appearance[np.array(crops.index, int)]
    return crops


def open_references(
    clip: Path | Source, geometry: FaceGeometry, largest: int = LARGEST, among: np.ndarray | None = None
) -> ReferenceFrames:
    """Choose the reference frames of a clip, and read them.

    Args:
        clip: the footage.
        geometry: where the face is in every frame of it.
        largest: longest side of a kept crop, pixels.
        among: frame numbers that may be chosen; None for all that show the face.
    """
    appearance = clip_appearance(geometry)
    usable = usable_frames(geometry) if among is None else among
    reader = VideoReader(clip)
    shown = ShownPlanes(reader.info, reader.info.display)
    wanted = choose_frames(appearance, usable).tolist()
    return read_frames(reader.frames(planes=shown.deep), geometry, wanted, appearance, largest, shown)


def cheapest_path(cost: np.ndarray, free: np.ndarray | None = None) -> np.ndarray:
    """The cheapest sequence of references, where each switch costs `SWITCH` (Viterbi's algorithm).

    Args:
        cost: float [N, B], of each reference for each frame.
        free: bool [N], frames that may switch at no cost (the first of a shot).

    Returns:
        int [N], the reference of every frame.
    """
    count, offers = cost.shape
    came = np.zeros((count, offers), np.int32)
    total = cost[0].copy()
    every = np.arange(offers)
    for i in range(1, count):
        best = int(total.argmin())
        switch = total[best] + (0.0 if free is not None and free[i] else SWITCH)
        came[i] = np.where(total <= switch, every, best)
        total = np.minimum(total, switch) + cost[i]
    result = np.empty(count, np.int32)
    result[-1] = total.argmin()
    for i in range(count - 1, 0, -1):
        result[i - 1] = came[i, result[i]]
    return result


def cross_fades(path: np.ndarray, free: np.ndarray | None = None) -> list[list[tuple[int, float]]]:
    """For every frame the (reference, share) of the one or two references it takes from; shares sum to 1.

    Args:
        path: int [N], of `cheapest_path`.
        free: bool [N], frames before which nothing is cross-faded (the first of a shot).
    """
    count = len(path)
    result: list[list[tuple[int, float]]] = [[(int(p), 1.0)] for p in path]
    for i in range(1, count):
        if path[i] == path[i - 1] or (free is not None and free[i]):
            continue
        old, new = int(path[i - 1]), int(path[i])
        for k in range(-CROSS_FADE, CROSS_FADE):
            at = i + k
            if 0 <= at < count and path[at] == (old if k < 0 else new):
                share = (k + CROSS_FADE + 0.5) / (2 * CROSS_FADE)
                result[at] = [(old, 1 - share), (new, share)]
    return result
