"""Training pairs for the refiner, made from a clip alone: a draft with a draft's typical faults, and the frame it should be.

There are two kinds. A *pair* warps one frame to the geometry of another, 1 to 50 frames away. A *cycle* gives a frame another
emotion and warps it back, so that what an edit destroys (a lid, a row of teeth) must be restored. Both may use references from
other frames of the clip, never from those next to the target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmet_engine.face.crop import crop_transform, cut_crop
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.render.motion import landmark_motion
from cmet_engine.render.refine import reference_frames
from cmet_engine.render.refine.canonical_crop import rasterise
from cmet_engine.render.refine.reference_frames import ReferenceFrames, clip_appearance, matching_costs
from cmet_engine.render.refine.sources import (
    FIRST,
    OPENING_BONUS,
    OWN,
    PARTS,
    SECOND,
    SLOTS,
    Inputs,
    Reference,
    Slot,
    inputs_for,
)
from cmet_engine.render.warp import facing_weights, warp

if TYPE_CHECKING:
    from torch import Tensor

FRAMES = 150
"""Frames of a clip that training pairs are made from."""

GAP = 50
"""Frames between the two of a pair, at most."""

NEAR = 6
"""Frames around the target that cannot be references."""

OFFERED = 40
"""Frames that the references of a training pair are chosen from."""

CYCLES = 0.25
"""Share of cycles among the training pairs."""

WORSE_SHARE, WORSE = 0.25, 8
"""Share of training pairs whose references are not the best ones, and how many of the best are skipped at most."""

CHANNELS = 26
"""Of a stored training pair: pictures 9, target 3, geometry 12, closeness to eyes and mouth, mask."""

Deltas = Callable[[list[int]], np.ndarray]
"""How E emotions would change the coefficients of n frames of the clip: frame numbers [n] to float32 [E, n, 52]."""


@dataclass(frozen=True)
class ClipFrames:
    """Frames of one clip to make training pairs from.

    Attributes:
        crops: the frames, ascending in time.
        deltas: float32 [E, N, 52], how E emotions would change the coefficients of these frames.
    """

    crops: ReferenceFrames
    deltas: np.ndarray


def read_frames(
    clip: Path | Source, geometry: FaceGeometry, deltas: Deltas, among: np.ndarray, largest: int
) -> ClipFrames:
    """Read frames of a clip to make training pairs from.

    Args:
        clip: the footage.
        geometry: where the face is in every frame of it.
        deltas: emotions for the cycles.
        among: int [M], frames that may be taken; at most `FRAMES` of them are, evenly spaced.
        largest: longest side of a crop, pixels.
    """
    wanted = among
    if len(among):
        wanted = among[np.linspace(0, len(among) - 1, min(FRAMES, len(among))).round().astype(int)]
    appearance = clip_appearance(geometry)
    crops = reference_frames.read_frames(VideoReader(clip), geometry, [int(i) for i in wanted], appearance, largest)
    return ClipFrames(crops, deltas(crops.index))


def make_pair(frames: ClipFrames, size: int, random: np.random.Generator) -> np.ndarray:
    """One training pair as uint8 [CHANNELS, R, R], R = `size`; see `unpack`."""
    crops = frames.crops
    j = int(random.integers(len(crops)))
    index = np.array(crops.index)
    target, image = crops.landmarks[j], crops.images[j]
    own_shot = crops.appearance.shot == crops.appearance.shot[j]
    others = np.flatnonzero((np.abs(index - index[j]) <= GAP) & (index != index[j]) & own_shot)
    if len(others) and random.random() > CYCLES:
        i = int(random.choice(others))
        own = crops.landmarks[i]
        moves = _similarity(target, own) - own
        picture = crops.images[i]
    else:
        delta = frames.deltas[random.integers(len(frames.deltas)), j] * random.uniform(0.3, 1.3)
        away = landmark_motion(target[None], delta[None])[0] * facing_weights(target[None])[0][:, None]
        own = target + away
        picture = warp(image, target, away)
        moves = -away
    inputs = _inputs(picture, own, moves, _references(crops, j, random), size)
    true = cut_crop(image, crop_transform(target, size), size).astype(np.float32)
    packed = _packed(inputs, true)
    if random.random() < 0.5:
        packed = packed[:, ::-1].copy()
        packed[..., 12] = 256 - packed[..., 12]  # right on the mean face becomes left
    return np.ascontiguousarray(np.clip(packed + 0.5, 0, 255).astype(np.uint8).transpose(2, 0, 1))


def _inputs(picture: np.ndarray, own: np.ndarray, moves: np.ndarray, slots: Sequence[Slot], size: int) -> Inputs:
    """Warp a picture with landmarks `own` [478, 3] by `moves`, and lay out what the network takes."""
    target = own + moves
    transform = crop_transform(target, size)
    draft = cut_crop(warp(picture, own, moves), transform, size)
    return inputs_for(draft, rasterise(target, transform, size), own, slots)


def _packed(inputs: Inputs, true: np.ndarray) -> np.ndarray:
    """A training pair as float32 [R, R, CHANNELS] in 0..255; the target is brought to the brightness of the draft."""
    weight = inputs.mask[..., None]
    gain = ((inputs.pictures[..., :3] * weight).sum((0, 1)) + 1) / ((true * weight).sum((0, 1)) + 1)
    true = np.clip(true * np.clip(gain, 0.8, 1.25), 0, 255)
    return np.concatenate(
        [
            inputs.pictures,
            true,
            np.clip(inputs.geometry, -1, 1) * 127 + 128,
            (inputs.prior[..., 1:2] - inputs.prior[..., 1].min()) * (255 / OPENING_BONUS),
            inputs.mask[..., None] * 255,
        ],
        -1,
    )


def _similarity(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Landmarks [478, 3] brought to where others lie by a similarity in the picture's plane."""
    a, b = points[:, :2].mean(0), to[:, :2].mean(0)
    p, q = points[:, :2] - a, to[:, :2] - b
    scale = (p**2).sum()
    c, s = (p * q).sum() / scale, (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum() / scale
    turn = np.array([[c, -s], [s, c]])
    return np.column_stack([p @ turn.T + b, points[:, 2] * float(np.hypot(c, s))])


def _references(crops: ReferenceFrames, j: int, random: np.random.Generator) -> list[Slot]:
    """The references of a training pair: mostly the best of a random choice of frames, sometimes worse ones."""
    index = np.array(crops.index)
    allowed = np.flatnonzero(np.abs(index - index[j]) >= NEAR)
    if not len(allowed):
        allowed = np.flatnonzero(index != index[j])
    if not len(allowed):
        allowed = np.array([j])
    offered = random.permutation(allowed)[:OFFERED]
    wanted = crops.appearance[[j]]
    slots: list[dict[str, Sequence[Reference]]] = [{} for _ in range(SLOTS)]
    for part in PARTS:
        order = offered[np.argsort(matching_costs(wanted, wanted, crops.appearance[offered], part)[0])]
        skip = int(random.integers(min(WORSE, len(order)))) if random.random() < WORSE_SHARE else 0
        for k, slot in enumerate(slots):
            entry = int(order[min(skip + k, len(order) - 1)])
            slot[part] = [Reference(crops.images[entry], crops.landmarks[entry])]
    return [*slots]


def unpack(packed: "Tensor") -> "tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]":
    """A batch of training pairs, torch uint8 [B, CHANNELS, R, R], as float tensors.

    Returns:
        Pictures [B, 9] and target [B, 3] in 0..1, geometry [B, 12], prior [B, 3], closeness to eyes and mouth [B, 1], and
        mask [B, 1]; each further [R, R].
    """
    import torch

    values = packed.float()
    near, mask = values[:, 24:25] / 255, values[:, 25:26] / 255
    bonus = OPENING_BONUS * near
    prior_logits = torch.cat([torch.full_like(bonus, OWN), FIRST + bonus, SECOND + bonus], 1)
    return values[:, :9] / 255, values[:, 9:12] / 255, (values[:, 12:24] - 128) / 127, prior_logits, near, mask
