"""The network's inputs for one target: the draft and two references in the canonical face crop, and the geometry around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cmet_engine.face.landmarks import LOWER_LIP_OUTER, SKIN, UPPER_LIP_OUTER
from cmet_engine.render.refine.canonical_crop import MOST_STRETCH, Raster

SLOTS = 2
"""References of a target, each made of one part for the mouth and one for the eyes."""

PARTS = ("mouth", "eyes")
BETWEEN = (-0.22, 0.02)
"""Between these heights on the mean face, the reference for the mouth is blended into the one for the eyes."""

BEND = 0.12
"""Landmarks that lie so many face sizes off count as bent fully."""

GAIN_MOST = 1.45
"""References are brightened or darkened by at most this factor to match the draft."""

GAIN_WIDTH = 0.1
"""Gaussian width over which their brightness is compared, as a share of the crop's side."""

OWN, FIRST, SECOND = 0.0, -2.0, -2.7
"""Rule of thumb for the weights of the draft and of both references, as logits: away from eyes and mouth…"""

LEAST_TRUST = 0.003
"""A reference that cannot be trusted at all still counts this much."""

OPENING_BONUS = 4.0
"""… and how much more a reference counts at eyes and mouth."""


@dataclass(frozen=True)
class Reference:
    """One reference picture.

    Attributes:
        image: uint8 [h, w, 3].
        landmarks: [478, 3] pixels of it.
        share: of its slot and part; shares sum to 1.
        trust: how far it can replace the frame's own face, 0 to 1.
    """

    image: np.ndarray
    landmarks: np.ndarray
    share: float = 1.0
    trust: float = 1.0


Slot = Mapping[str, Sequence[Reference]]
"""The references for the `mouth` and for the `eyes`."""


@dataclass(frozen=True)
class PlacedReference:
    """A reference picture brought to a target's geometry.

    Attributes:
        reference: the picture.
        sources: float32 [R, R, 2], where in it every pixel of the crop comes from.
        gain: float32 [R, R, 3], how much brighter it must become.
        share: float32 [R, R], its part of its slot; those of a slot sum to 1.
    """

    reference: Reference
    sources: np.ndarray
    gain: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class Inputs:
    """What the network takes for one target, R pixels a side.

    Attributes:
        pictures: float32 [R, R, 9], draft and references, 0 to 255.
        geometry: float32 [R, R, 12], each about -1 to 1.
        prior: float32 [R, R, 3], logits of the weights by rule of thumb.
        mask: float32 [R, R], 0 where the draft must stay.
        references: of each slot, for rendering at full resolution.
    """

    pictures: np.ndarray
    geometry: np.ndarray
    prior: np.ndarray
    mask: np.ndarray
    references: list[list[PlacedReference]]


@dataclass(frozen=True)
class _Blend:
    """The references of one slot, blended: picture [R, R, 3], and stretch, bend and log of trust [R, R]."""

    picture: np.ndarray
    stretch: np.ndarray
    bend: np.ndarray
    log_trust: np.ndarray
    references: list[PlacedReference]


def remap(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Sample an image at places [h, w, 2], its edge beyond it; it is shrunk first where the places are far apart."""
    step = float(np.median(np.abs(np.diff(at[..., 0], axis=1)))) if at.shape[1] > 1 else 1.0
    if step > 1.6:
        scale = 1 / step
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        at = (at + 0.5) * scale - 0.5
    x, y = np.ascontiguousarray(at[..., 0], np.float32), np.ascontiguousarray(at[..., 1], np.float32)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def inputs_for(draft: np.ndarray, raster: Raster, own: np.ndarray, slots: Sequence[Slot]) -> Inputs:
    """Lay out everything for one target.

    Args:
        draft: uint8 [R, R, 3], the draft in the crop.
        raster: the target's mesh.
        own: [478, 3], landmarks that the draft was made from, in any pixels.
        slots: the references, `SLOTS` of them.
    """
    size = raster.size
    place = raster.canonical()
    low, high = BETWEEN
    upper = np.clip((place[..., 1] - low) / (high - low), 0, 1) * raster.inside
    inward = raster.inward()
    eyes = ((raster.opening == 1) | (raster.opening == 2)).astype(np.float32)
    mouth = (raster.opening == 3).astype(np.float32)
    skin = (1 - cv2.dilate(np.maximum(eyes, mouth), np.ones((3, 3), np.uint8))) * inward
    own_picture = draft.astype(np.float32)
    blends = [_blend(slot, raster, own_picture, upper, skin) for slot in slots]
    stretches = [raster.stretch(own), *(blend.stretch for blend in blends)]
    bends = [_bend(raster, own), *(blend.bend for blend in blends)]
    geometry = np.concatenate(
        [place, np.stack([eyes, mouth, inward, *(s / MOST_STRETCH for s in stretches), *bends], -1)], -1
    ).astype(np.float32)
    near = np.maximum(_grown(eyes, 0.025 * size), _grown(mouth + _lips(raster), 0.03 * size))
    bonus = OPENING_BONUS * near
    prior = np.stack(
        [np.full_like(bonus, OWN), FIRST + bonus + blends[0].log_trust, SECOND + bonus + blends[1].log_trust], -1
    )
    mask = np.clip(inward * 2.5, 0, 1)
    pictures = np.concatenate([own_picture, *(blend.picture for blend in blends)], -1)
    return Inputs(pictures, geometry, prior.astype(np.float32), mask, [blend.references for blend in blends])


def _blend(slot: Slot, raster: Raster, draft: np.ndarray, upper: np.ndarray, skin: np.ndarray) -> _Blend:
    """Bring the references of a slot to the target's geometry and the draft's brightness, and blend them.

    Args:
        slot: the references.
        raster: the target's mesh.
        draft: float32 [R, R, 3].
        upper: float [R, R], share of the reference for the eyes.
        skin: float32 [R, R], where brightness is compared.
    """
    size = raster.size
    placed: list[PlacedReference] = []
    picture = np.zeros((size, size, 3), np.float32)
    stretch, bend, log_trust = (np.zeros((size, size), np.float32) for _ in range(3))
    for part, share in zip(PARTS, (1 - upper, upper), strict=True):
        for reference in slot[part]:
            sources = raster.sources(reference.landmarks)
            colours = remap(reference.image, sources).astype(np.float32)
            gain = _gain(draft, colours, skin)
            weight = share * np.float32(reference.share)
            picture += cv2.merge([weight] * 3) * np.minimum(colours * gain, 255)
            stretch += weight * raster.stretch(reference.landmarks)
            bend += weight * _bend(raster, reference.landmarks)
            log_trust += weight * np.float32(np.log(max(reference.trust, LEAST_TRUST)))
            placed.append(PlacedReference(reference, sources, gain, weight))
    return _Blend(picture, stretch, bend, log_trust, placed)


def _grown(mask: np.ndarray, width: float) -> np.ndarray:
    """A mask widened and softened by `width` pixels."""
    reach = 2 * max(1, round(width)) + 1
    return cv2.GaussianBlur(cv2.dilate(mask, np.ones((reach, reach), np.uint8)), (0, 0), width)


def _lips(raster: Raster) -> np.ndarray:
    """The red of the lips: float32 [R, R]."""
    drawn = np.zeros((raster.size, raster.size), np.float32)
    outline = np.concatenate([raster.target[list(UPPER_LIP_OUTER)], raster.target[list(LOWER_LIP_OUTER)][::-1]])
    cv2.fillPoly(drawn, [np.round(outline * 16).astype(np.int32)], (1.0,), shift=4)
    return drawn


def _bend(raster: Raster, landmarks: np.ndarray) -> np.ndarray:
    """How far each place has moved beyond the best affine fit, in `BEND` face sizes: float32 [R, R], at most 1."""
    source = np.asarray(landmarks[:SKIN, :2], np.float64)
    plane = np.column_stack([source, np.ones(len(source))])
    fit = np.linalg.lstsq(plane, raster.target, rcond=None)[0]
    away = np.linalg.norm(plane @ fit - raster.target, axis=1) / (BEND * raster.size)
    result: np.ndarray = np.minimum(raster.values(away[:, None])[..., 0], 1)
    return result


def _gain(draft: np.ndarray, colours: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Factor that gives a reference the draft's brightness, slowly varying: float32 [R, R, 3]."""
    size = len(draft)
    small = (max(8, size // 6),) * 2

    def spread(values: np.ndarray) -> np.ndarray:
        shrunk = cv2.resize(values, small, interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(shrunk, (0, 0), GAIN_WIDTH * small[0])

    there, here = (spread(picture * cv2.merge([weight] * 3)) for picture in (draft, colours))
    floor = 4 * spread(weight)[..., None] + 1e-3
    ratio = np.clip((there + floor) / (here + floor), 1 / GAIN_MOST, GAIN_MOST)
    return cv2.resize(ratio, (size, size), interpolation=cv2.INTER_LINEAR)
