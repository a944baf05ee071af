"""Lessons for the refiner, made from a clip alone: a draft that went wrong where drafts do, and the frame it should be.

Two kinds. A *pair* warps one frame to the geometry of another, 1 to 50 frames away. A *cycle* gives a frame another emotion
and warps it back, so that what an edit destroys (a lid, a row of teeth) must be found again. Both may borrow from other
frames of the clip, never from those next to the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.emotions import BASIC
from cmet_engine.face.pose import template
from cmet_engine.render.motion import landmark_motion
from cmet_engine.render.refine import reference_frames
from cmet_engine.render.refine.canonical_crop import rasterise, to_square
from cmet_engine.render.refine.sources import OPENING_BONUS, Borrowed, Inputs, Slot, inputs_for, into_square
from cmet_engine.render.warp import facing_weights, warp
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

FRAMES = 150
"""Frames of a clip that lessons are made from."""

GAP = 50
"""Frames between the two of a pair, at most."""

NEAR = 6
"""Frames around the answer that cannot be borrowed from."""

OFFERED = 40
"""Frames that a lesson chooses its loans from."""

CYCLES = 0.25
"""Share of lessons that are cycles."""

CHANNELS = 26
"""Of a stored lesson: pictures 9, answer 3, geometry 12, closeness to eyes and mouth, mask."""


@dataclass(frozen=True)
class Lessons:
    """Frames of one clip to make lessons from.

    Attributes:
        crops: frames, ascending in time.
        deltas: float32 [E, N, 52], how E emotions would change the coefficients of these frames.
    """

    crops: reference_frames.Crops
    deltas: np.ndarray

    def __len__(self) -> int:
        return len(self.crops)


def emotion_deltas(source: CoefficientTrack, frames: Sequence[int]) -> np.ndarray:
    """Changes of coefficients float32 [E, N, 52] by the basic emotions, for some frames."""
    library = load_library()
    rows = np.asarray(frames, int)
    return np.stack(
        [
            (edit_track(source, EmotionTimeline.parse([name]), library).coefficients - source.coefficients)[rows]
            for name in BASIC
        ]
    )


def usable_frames(geometry: Any) -> np.ndarray:
    """Frames that show the face well enough to learn and borrow from: int [M]."""
    return np.flatnonzero(geometry.valid & (geometry.fade >= 1))


def clip_looks(geometry: Any) -> reference_frames.Looks:
    """The looks of all frames of a clip; those without a face hold nonsense."""
    parts, hastes = [], []
    shot = np.zeros(len(geometry), np.int32)
    shot[[c for c in geometry.cuts if c < len(geometry)]] = 1
    shot = np.cumsum(shot).astype(np.int32)
    previous = None
    for part, landmarks in geometry.chunks():
        known = np.where(np.isfinite(landmarks), landmarks, 0)
        known[~np.isfinite(landmarks).all((1, 2))] = _mean_face()
        parts.append(reference_frames.looks_of(known, shot[part], teeth=geometry.teeth[part]))
        size = np.ptp(known[:, :, 0], axis=1) + 1e-6
        before = np.concatenate([known[:1] if previous is None else previous, known[:-1]])
        hastes.append(np.abs(known - before)[..., :2].mean((1, 2)) / size * 2)
        previous = known[-1:]
    haste = np.concatenate(hastes)
    haste[[0, *(c for c in geometry.cuts if c < len(haste))]] = 0
    haste = np.maximum(haste, np.append(haste[1:], 0))
    return reference_frames.Looks(
        np.concatenate([p.lips for p in parts]), np.concatenate([p.eyes for p in parts]),
        np.concatenate([p.turn for p in parts]), haste.astype(np.float32), shot, geometry.teeth,
    )  # fmt: skip


def _mean_face() -> np.ndarray:
    """A mean face in pixels, [478, 3], where a frame has none."""
    return (template().points * [100.0, -100.0, -100.0] + [200, 200, 0]).astype(np.float32)


def make_input(picture: np.ndarray, own: np.ndarray, moves: np.ndarray, slots: Sequence[Slot], size: int) -> Inputs:
    """Warp a picture (landmarks `own` [478, 3]) by `moves` and lay out what the network takes."""
    target = own + moves
    square = to_square(target, size)
    draft = into_square(warp(picture, own, moves), square, size)
    return inputs_for(draft, rasterise(target, square, size), own, slots)


def lesson(lessons: Lessons, size: int, random: np.random.Generator) -> np.ndarray:
    """One lesson as uint8 [CHANNELS, R, R]; see `unpack`."""
    crops = lessons.crops
    j = int(random.integers(len(crops)))
    index = np.array(crops.index)
    target, answer = crops.landmarks[j], crops.images[j]
    own_shot = crops.looks.shot == crops.looks.shot[j]
    others = np.flatnonzero((np.abs(index - index[j]) <= GAP) & (index != index[j]) & own_shot)
    if len(others) and random.random() > CYCLES:
        i = int(random.choice(others))
        own = crops.landmarks[i]
        moves = _fitted(target, own) - own
        picture = crops.images[i]
    else:
        delta = lessons.deltas[random.integers(len(lessons.deltas)), j] * random.uniform(0.3, 1.3)
        away = landmark_motion(target[None], delta[None])[0] * facing_weights(target[None])[0][:, None]
        own = target + away
        picture = warp(answer, target, away)
        moves = -away
    slots = _loans(crops, j, random)
    inputs = make_input(picture, own, moves, slots, size)
    true = into_square(answer, to_square(target, size), size).astype(np.float32)
    weight = inputs.mask[..., None]
    gain = ((inputs.pictures[..., :3] * weight).sum((0, 1)) + 1) / ((true * weight).sum((0, 1)) + 1)
    true = np.clip(true * np.clip(gain, 0.8, 1.25), 0, 255)
    packed = np.concatenate(
        [
            inputs.pictures,
            true,
            np.clip(inputs.geometry, -1, 1) * 127 + 128,
            (inputs.prior[..., 1:2] - inputs.prior[..., 1].min()) * (255 / OPENING_BONUS),
            inputs.mask[..., None] * 255,
        ],
        -1,
    )
    if random.random() < 0.5:
        packed = packed[:, ::-1].copy()
        packed[..., 12] = 256 - packed[..., 12]  # right on the mean face becomes left
    return np.ascontiguousarray(np.clip(packed + 0.5, 0, 255).astype(np.uint8).transpose(2, 0, 1))


def _fitted(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Landmarks [478, 3] brought to where others lie, without bending them: a similarity in the picture's plane."""
    a, b = points[:, :2].mean(0), to[:, :2].mean(0)
    p, q = points[:, :2] - a, to[:, :2] - b
    scale = (p**2).sum()
    c, s = (p * q).sum() / scale, (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum() / scale
    turn = np.array([[c, -s], [s, c]])
    return np.column_stack([p @ turn.T + b, points[:, 2] * float(np.hypot(c, s))])


def _loans(crops: reference_frames.Crops, j: int, random: np.random.Generator) -> list[Slot]:
    """What a lesson borrows: mostly the best of a random choice of frames, sometimes worse."""
    index = np.array(crops.index)
    allowed = np.flatnonzero(np.abs(index - index[j]) >= NEAR)
    if not len(allowed):
        allowed = np.flatnonzero(index != index[j])
    if not len(allowed):
        allowed = np.array([j])
    offered = random.permutation(allowed)[:OFFERED]
    slots: list[dict[str, Sequence[Borrowed]]] = [{}, {}]
    for part in ("mouth", "eyes"):
        order = offered[
            np.argsort(reference_frames.costs(crops.looks[[j]], crops.looks[[j]], crops.looks[offered], part)[0])
        ]
        skip = int(random.integers(min(8, len(order)))) if random.random() < 0.25 else 0
        for k, slot in enumerate(slots):
            entry = int(order[min(skip + k, len(order) - 1)])
            slot[part] = [Borrowed(crops.images[entry], crops.landmarks[entry])]
    return slots  # type: ignore[return-value]


def unpack(packed: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """A batch of lessons, torch uint8 [B, CHANNELS, R, R], as float tensors.

    Returns:
        Pictures [B, 9], answer [B, 3] in 0..1, geometry [B, 12], prior [B, 3], closeness to eyes and mouth [B, 1] and
        mask [B, 1].
    """
    import torch

    from cmet_engine.render.refine.sources import FIRST, OWN, SECOND

    values = packed.float()
    near, mask = values[:, 24:25] / 255, values[:, 25:26] / 255
    bonus = OPENING_BONUS * near
    prior_logits = torch.cat([torch.full_like(bonus, OWN), FIRST + bonus, SECOND + bonus], 1)
    return values[:, :9] / 255, values[:, 9:12] / 255, (values[:, 12:24] - 128) / 127, prior_logits, near, mask


def read_lessons(clip: Any, geometry: Any, source: CoefficientTrack, frames: np.ndarray, largest: int) -> Lessons:
    """Frames of a clip to learn from, at most `FRAMES` of the given ones, evenly spaced."""
    from cmet_engine.media.reader import VideoReader

    looks = clip_looks(geometry)
    wanted = (
        frames[np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)] if len(frames) else frames
    )
    crops = reference_frames.gather(VideoReader(clip), geometry, [int(i) for i in wanted], looks, largest)
    return Lessons(crops, emotion_deltas(source, crops.index))


def shown(packed: np.ndarray) -> np.ndarray:
    """A lesson for the eye: draft, two loans, answer, and the geometry, side by side."""
    planes = [packed[k : k + 3].transpose(1, 2, 0) for k in (0, 3, 6, 9)]
    planes += [cv2.merge([packed[k]] * 3) for k in (15, 16, 18, 19, 21, 22, 24)]
    return np.hstack(planes)
