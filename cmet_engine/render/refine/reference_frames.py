"""Frames of a clip that others borrow from: chosen by geometry, kept as crops, picked anew for every frame without flicker.

A frame borrows its mouth and its eyes from two frames each, those whose lips or lids stand most as they shall, seen from
about the same side. Only the crops of the chosen frames stay in memory.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from cmet_engine.face.lips import INNER_LIPS, eye_opening
from cmet_engine.face.pose import normalise
from cmet_engine.render import mesh

BANK = 40
"""Frames that others may borrow from."""

LARGEST = 640
"""Longest side of a kept crop, pixels; larger ones are shrunk."""

MARGIN = 0.08
"""Room around the landmarks in a crop, as a share of the face's size."""

TURN = 0.004
"""Cost of one degree of difference between two heads' turns, in the unit of the lips' distance (outer-eye distances)."""

HASTE = 0.5
"""Cost of motion within a frame, which blurs it, per outer-eye distance a frame."""

OTHER_SHOT = 10.0
"""Cost of borrowing across a cut: only where the own shot has nothing."""

SHUT = 3.0
"""An eye that is less open than wanted costs so much more than one that is more open: it hides the iris."""

BLINKS = 3.0
"""Cost, per unit of opening, of borrowing an eye that is shut further than three quarters of the frame's own."""

EYES_TRUSTED = (0.6, 0.8, 1.25, 1.7)
"""Opening of a borrowed eye over the wanted one: of no use below the first and above the last, of full use in the middle."""

MOUTH_TRUSTED = (0.8, 1.4)
"""How far a borrowed mouth lies from the wanted one over how far the frame's own does: of full use below the first…"""

MOUTH_LEAST = 0.1
"""… and of so much use above the second."""

TEETH = 0.15
"""Distance between a mouth whose teeth meet and one whose teeth do not, in the unit of the lips' distance."""

ALIKE = 0.02
"""Mouths that lie no further apart than this are alike."""

SWITCH = 0.02
"""Cost of borrowing from another frame than the one before did."""

CROSS_FADE = 2
"""Frames before and after a switch over which both are mixed."""

_LIPS = tuple(
    dict.fromkeys((*mesh.UPPER_LIP_INNER, *mesh.LOWER_LIP_INNER, *mesh.UPPER_LIP_OUTER, *mesh.LOWER_LIP_OUTER))
)


@dataclass(frozen=True)
class Looks:
    """What decides who borrows from whom, for N faces.

    Attributes:
        lips: float32 [N, 2 * 40 + 5], lips about their middle and the gaps between them, pose-free.
        eyes: float32 [N, 4], openings of both eyes, and where the irises stand in them.
        turn: float32 [N, 3] degrees.
        haste: float32 [N], motion against the neighbours in time, outer-eye distances a frame.
        shot: int32 [N].
        teeth: float32 [N], whether the rows of teeth meet (`face.teeth`).
    """

    lips: np.ndarray
    eyes: np.ndarray
    turn: np.ndarray
    haste: np.ndarray
    shot: np.ndarray
    teeth: np.ndarray

    def __len__(self) -> int:
        return len(self.lips)

    def __getitem__(self, rows: Any) -> "Looks":
        return Looks(
            self.lips[rows], self.eyes[rows], self.turn[rows], self.haste[rows], self.shot[rows], self.teeth[rows]
        )


def looks_of(
    landmarks: np.ndarray,
    shot: np.ndarray | int = 0,
    haste: np.ndarray | float = 0.0,
    teeth: np.ndarray | float = 0.0,
) -> Looks:
    """The looks of faces [N, 478, 3], in pixels."""
    points, pose = normalise(landmarks)
    lips = points[:, list(_LIPS), :2]
    lips = lips - lips.mean(1, keepdims=True)
    upper, lower = np.array(INNER_LIPS).T
    gaps = points[:, upper, 1] - points[:, lower, 1]
    irises = []
    for iris, corners in ((mesh.RIGHT_IRIS, (33, 133)), (mesh.LEFT_IRIS, (362, 263))):
        middle = points[:, list(corners), :2].mean(1)
        irises.append((points[:, iris, :2] - middle)[:, 0])
    eyes = np.column_stack([eye_opening(landmarks), *irises])
    count = len(points)
    weights = np.sqrt(1 / len(_LIPS))
    return Looks(
        np.column_stack([lips.reshape(count, -1) * weights, gaps * np.sqrt(1 / len(INNER_LIPS))]).astype(np.float32),
        eyes.astype(np.float32),
        pose.degrees(),
        np.broadcast_to(np.asarray(haste, np.float32), (count,)),
        np.broadcast_to(np.asarray(shot, np.int32), (count,)),
        np.broadcast_to(np.asarray(teeth, np.float32), (count,)),
    )


def costs(wanted: Looks, own: Looks, offered: Looks, part: str) -> np.ndarray:
    """How badly each of the B offered faces serves each of the N wanted ones for `mouth` or `eyes`: float32 [N, B].

    `own` are the faces that the wanted ones are made from: lids that an edit lowers are not those of a blink.
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
    return distance + TURN * turn + HASTE * offered.haste[None] + OTHER_SHOT * shot


def trust(wanted: Looks, own: Looks, offered: Looks, part: str) -> float:
    """How far one offered face can stand for a wanted one, where the frame's own face is there too: 0 to 1."""
    if part == "eyes":
        ratio = (np.maximum(offered.eyes[:2], 0) + 0.02) / (np.maximum(wanted.eyes[:2], 0) + 0.02)
        return float(np.interp(ratio, EYES_TRUSTED, (0.0, 1.0, 1.0, 0.0)).min())
    away, own_away = (float(np.linalg.norm(wanted.lips - looks.lips)) for looks in (offered, own))
    like = float(np.interp(away / max(own_away, ALIKE), MOUTH_TRUSTED, (1.0, MOUTH_LEAST)))
    return max(like * (1 - abs(float(wanted.teeth) - float(offered.teeth))), MOUTH_LEAST)


def choose_bank(looks: Looks, usable: np.ndarray, count: int = BANK) -> np.ndarray:
    """Which frames go into the bank: different mouths, eyes and turns, still rather than moving.

    Args:
        looks: of all frames.
        usable: int [M], frames that may be taken.
        count: at most so many.

    Returns:
        int [B], ascending.
    """
    if len(usable) <= count:
        return np.sort(usable)
    if len(usable) > 2000:
        usable = usable[np.linspace(0, len(usable) - 1, 2000).round().astype(int)]
    some = looks[usable]
    space = np.column_stack([some.lips, some.eyes, TURN * some.turn, OTHER_SHOT * some.shot[:, None]])
    penalty = 1 / (1 + 20 * some.haste)
    middle = np.median(space, axis=0)
    chosen = [int(np.argmin(np.linalg.norm(space - middle, axis=1) / penalty))]
    nearest = np.linalg.norm(space - space[chosen[0]], axis=1)
    while len(chosen) < count:
        best = int(np.argmax(nearest * penalty))
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(space - space[best], axis=1))
    return np.sort(usable[chosen])


@dataclass
class Crops:
    """Pictures of faces cut out of their frames, with the landmarks in pixels of the crop.

    Attributes:
        index: frame numbers, ascending.
        images: uint8 [h, w, 3] each.
        landmarks: float64 [B, 478, 3].
        looks: of them all.
    """

    index: list[int] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    landmarks: Any = field(default_factory=lambda: np.empty((0, 478, 3)))
    looks: Any = None

    def __len__(self) -> int:
        return len(self.index)


def cut(
    image: np.ndarray, landmarks: np.ndarray, largest: int = LARGEST, margin: float = MARGIN
) -> tuple[np.ndarray, np.ndarray]:
    """The part of a frame around a face, and the landmarks in it."""
    points = landmarks[:, :2]
    room = margin * float(np.ptp(points, axis=0).max()) + 2
    height, width = image.shape[:2]
    x0, y0 = (int(v) for v in np.clip(np.floor(points.min(0) - room), 0, [width - 2, height - 2]))
    x1, y1 = (int(v) for v in np.clip(np.ceil(points.max(0) + room), [x0 + 2, y0 + 2], [width, height]))
    part = image[y0:y1, x0:x1]
    moved = np.asarray(landmarks, np.float64) - [x0, y0, 0]
    scale = largest / max(part.shape[:2])
    if scale < 1:
        w, h = max(2, round(part.shape[1] * scale)), max(2, round(part.shape[0] * scale))
        sx, sy = w / part.shape[1], h / part.shape[0]
        part = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA)
        half = np.array([0.5, 0.5, 0.0])  # the middle of a pixel
        moved = (moved + half) * np.array([sx, sy, (sx + sy) / 2]) - half
        return part, moved
    return part.copy(), moved


def gather(frames: Iterable[Any], geometry: Any, wanted: Sequence[int], looks: Looks, largest: int = LARGEST) -> Crops:
    """Crops of the wanted frames of a clip, read once from beginning to end.

    Args:
        frames: with `.index` and `.image`, as `media.video.VideoReader` gives them.
        geometry: a `FaceGeometry`.
        wanted: frame numbers.
        looks: of all frames of the clip.
        largest: longest side of a crop.
    """
    left = {int(i) for i in wanted}
    crops, points = Crops(), []
    if not left:
        return crops
    last = max(left)
    for frame in frames:
        if frame.index in left:
            image, landmarks = cut(frame.image, np.asarray(geometry.landmarks[frame.index], np.float64), largest)
            crops.index.append(frame.index)
            crops.images.append(image)
            points.append(landmarks)
        if frame.index >= last:
            break
    crops.landmarks = np.stack(points) if points else crops.landmarks
    crops.looks = looks[np.array(crops.index, int)]
    return crops


def paths(cost: np.ndarray, free: np.ndarray | None = None) -> np.ndarray:
    """The cheapest choice for every frame where each change costs `SWITCH`: int [N] for costs [N, B].

    Args:
        cost: [N, B].
        free: bool [N], frames that may change for nothing (a cut).
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


def mixtures(path: np.ndarray, free: np.ndarray | None = None) -> list[list[tuple[int, float]]]:
    """For every frame (entry, share) of the one or two bank entries it borrows from; shares sum to 1."""
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
