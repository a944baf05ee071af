"""The `warp` renderer with the refiner behind it: the draft, and what other frames of the clip show better.

Every frame is warped to a draft (`render.warp`), cut to the canonical face crop with two references from other frames, and
the network predicts how to blend them. Its prediction is enlarged and applied to the draft's and the references' own pixels
at full resolution, so texture and grain stay the camera's. Outside the face nothing changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cmet_engine.face.crop import apply, crop_transform, cut_crop, inverse
from cmet_engine.face.occlusion import Occlusion
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.planes import Box
from cmet_engine.render.openings import quantised
from cmet_engine.render.refine import occlusion as unusual
from cmet_engine.render.refine import reference_frames
from cmet_engine.render.refine.canonical_crop import rasterise
from cmet_engine.render.refine.fitting import Prepared
from cmet_engine.render.refine.reference_frames import Appearance, ReferenceFrames, clip_appearance
from cmet_engine.render.refine.sources import (
    PARTS,
    SLOTS,
    Inputs,
    PlacedReference,
    Reference,
    Slot,
    inputs_for,
)
from cmet_engine.render.warp import CHUNK, REGION_MARGIN, WarpRenderer, box_around
from cmet_engine.track import CoefficientTrack

if TYPE_CHECKING:
    from cmet_engine.render.refine.network import Refiner

DECIDED = 1.5
"""Power of the weights: above 1 one picture is preferred to a mixture, which costs 0.1 dB and saves edges from being doubled."""

LEAST_WEIGHT = 0.004
"""References that count less than this everywhere are left out."""

DETAIL = 0.006
"""Width of what counts as fine detail, as a share of the crop's side in the frame; at least `DETAIL_LEAST` pixels."""

DETAIL_LEAST = 0.8
MOST_DETAIL = 1.8
"""Fine detail that blending has averaged away is amplified again by at most this factor."""

SAME_AGAIN = 1.0
"""Cost of the same reference frame in both slots."""

Mixture = list[tuple[int, float]]
"""(reference, share) of what a frame takes a part from."""


class RefinedRenderer(WarpRenderer):
    """Renders the frames of a clip with the expression of an edited track, refined.

    Args:
        geometry, source_track, edited_track, occlusion: as for `WarpRenderer`.
        prepared: reference frames and network of the clip.

    Attributes:
        covered: frames in which something covers part of the face, of those rendered so far.
    """

    def __init__(
        self,
        geometry: FaceGeometry,
        source_track: CoefficientTrack,
        edited_track: CoefficientTrack,
        prepared: Prepared,
        occlusion: Occlusion | None = None,
    ) -> None:
        super().__init__(geometry, source_track, edited_track, prepared.messages, occlusion)
        self._network, self._size = prepared.network, prepared.size
        references = self._taken_off(prepared.references)
        self._usual = unusual.learn(references)
        self._references = self._uncovered(references)
        self._mixtures = self._choose() if len(self._references) else []
        self.covered: set[int] = set()

    @property
    def state(self) -> Iterator[object]:
        """See `Renderer.state`."""
        yield from super().state
        yield self._size
        yield tuple(self._references.index)
        for value in self._network.state_dict().values():
            yield value.cpu().numpy()

    @property
    def messages(self) -> list[str]:
        """See `Renderer.messages`."""
        if not self.covered:
            return self._messages
        frames = "frame" if len(self.covered) == 1 else "frames"
        return [
            *self._messages,
            f"Something seems to cover part of the face in {len(self.covered)} {frames}; there only the draft was drawn. What has "
            "the skin's own colour, or covers the face all the time, is not noticed.",
        ]

    def notes(self) -> dict[str, np.ndarray]:
        """See `Renderer.notes`."""
        return {"covered": np.array(sorted(self.covered), np.int64)}

    def recall(self, notes: Mapping[str, np.ndarray], frames: int) -> None:
        """See `Renderer.recall`."""
        self.covered.update(notes["covered"][notes["covered"] < frames].tolist())

    def _drawn(self, part: np.ndarray, landmarks: np.ndarray, moves: np.ndarray, index: int) -> np.ndarray:
        draft = super()._drawn(part, landmarks, moves, index)
        if draft is part or not len(self._references):
            return draft
        covered = self._usual.unusual(part, landmarks)
        if unusual.covered_share(covered) >= unusual.COVERED:
            self.covered.add(index)
        return refine(draft, landmarks, landmarks + moves, self.slots(index), self._network, self._size, covered)

    def region(self, index: int) -> Box | None:
        """See `PartRenderer.region`."""
        box = super().region(index)
        if box is None or not len(self._references):
            return box
        corners = crop_corners(crop_transform(self.target(index), self._size), self._size)
        return box_around(np.concatenate([corners, np.reshape(box, (2, 2))]), REGION_MARGIN, self.geometry.size)

    def slots(self, index: int) -> list[Slot]:
        """The references of frame `index`."""
        return [
            {part: [self._reference(index, part, *entry) for entry in frames[index]] for part, frames in slot.items()}
            for slot in self._mixtures
        ]

    def _reference(self, index: int, part: str, entry: int, share: float) -> Reference:
        crops = self._references
        trust = reference_frames.trust(self._wanted[index], self._own[index], crops.appearance[entry], part)
        return Reference(crops.images[entry], crops.landmarks[entry], share, trust)

    def _taken_off(self, crops: ReferenceFrames) -> ReferenceFrames:
        """The reference frames without what lies before the face."""
        images = []
        for index, image, points in zip(crops.index, crops.images, crops.landmarks, strict=True):
            before = self._before(image, points, index)
            images.append(image if before is None else before.taken_off(image))
        return replace(crops, images=images)

    def _uncovered(self, crops: ReferenceFrames) -> ReferenceFrames:
        """The reference frames without those in which something covers the face, unless that leaves next to nothing."""
        good = [
            k
            for k, (image, points) in enumerate(zip(crops.images, crops.landmarks, strict=True))
            if unusual.covered_share(self._usual.unusual(image, points)) < unusual.COVERED
        ]
        if len(good) == len(crops) or len(good) < len(crops) // 2:
            return crops
        return ReferenceFrames(
            [crops.index[k] for k in good],
            [crops.images[k] for k in good],
            crops.landmarks[good],
            crops.appearance[good],
        )

    def _choose(self) -> list[dict[str, list[Mixture]]]:
        """For every slot and part: the references of every frame."""
        self._own = clip_appearance(self.geometry)
        self._wanted = self._edited_appearance()
        cut = np.zeros(len(self._wanted), bool)
        cut[[c for c in self.geometry.cuts if c < len(cut)]] = True
        slots: list[dict[str, list[Mixture]]] = [{} for _ in range(SLOTS)]
        for part in PARTS:
            cost = reference_frames.matching_costs(self._wanted, self._own, self._references.appearance, part)
            for slot in slots:
                path = reference_frames.cheapest_path(cost, cut)
                slot[part] = reference_frames.cross_fades(path, cut)
                if len(self._references) > 1:
                    cost = cost.copy()
                    cost[np.arange(len(cost)), path] += SAME_AGAIN
        return slots

    def _edited_appearance(self) -> Appearance:
        """Appearance descriptors of all frames once they are edited."""
        own, parts = self._own, []
        for start in range(0, len(self.geometry), CHUNK):
            landmarks, moves = self._chunk(start)
            target = np.where(np.isfinite(landmarks), landmarks + moves, 0)
            bad = ~np.isfinite(target).all((1, 2)) | (np.ptp(target[..., 0], axis=1) < 1)
            target[bad] = np.nan_to_num(self.geometry.landmarks[start : start + len(target)])[bad]
            parts.append(reference_frames.appearance_of(target, own.shot[start : start + CHUNK]))
        return Appearance(
            np.concatenate([p.lips for p in parts]), np.concatenate([p.eyes for p in parts]),
            np.concatenate([p.turn for p in parts]), own.motion, own.shot, own.teeth,
        )  # fmt: skip


def refine(
    draft: np.ndarray,
    own: np.ndarray,
    target: np.ndarray,
    slots: Sequence[Slot],
    network: "Refiner",
    size: int,
    covered: np.ndarray | None = None,
) -> np.ndarray:
    """A draft with what the network blends into it.

    Args:
        draft: uint8 or float32 [H, W, 3], warped from a picture with landmarks `own` [478, 3] to `target` [478, 3], pixels.
        own, target: see there.
        slots: the references, `SLOTS` of them.
        network: on its device.
        size: side of the canonical crop.
        covered: float32 on the mean face, where something covers the face (see `refine.occlusion`): there the draft stays.

    Returns:
        A new picture of the draft's type and shape.
    """
    transform = crop_transform(target, size)
    raster = rasterise(target, transform, size)
    inputs = inputs_for(cut_crop(draft, transform, size), raster, own, slots)
    if covered is not None and covered.any():
        inputs.mask[...] *= 1 - unusual.onto(covered, raster)
    weights, flow, shade = predict(network, inputs)
    return blend(draft, transform, inputs, weights, flow, shade)


def predict(network: "Refiner", inputs: Inputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The network's output: weights [R, R, 3], flow [R, R, 4] in pixels of the crop, shade [R, R, 3] in 0..255."""
    import torch

    device = next(network.parameters()).device

    def tensor(values: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None].to(device)

    with torch.inference_mode():
        output = network(tensor(inputs.pictures / 255), tensor(inputs.geometry), tensor(inputs.prior))
    weights, flow, shade = (np.ascontiguousarray(v[0].permute(1, 2, 0).float().cpu().numpy()) for v in output)
    weights **= DECIDED
    weights /= weights.sum(2, keepdims=True)
    return weights, flow * len(inputs.mask), shade * 255


def crop_corners(transform: np.ndarray, size: int) -> np.ndarray:
    """Where the corners of the canonical crop lie in the frame: [4, 2] pixels."""
    return apply(inverse(transform), np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float64))


class _Region:
    """The part of a frame that the canonical crop covers, and the way from the crop to it.

    Attributes:
        box: (left, top, right, bottom), pixels of the frame.
    """

    def __init__(self, transform: np.ndarray, size: int, shape: tuple[int, ...]) -> None:
        corners = crop_corners(transform, size)
        height, width = shape[:2]
        x0, y0 = (int(v) for v in np.clip(np.floor(corners.min(0)), 0, [width, height]))
        x1, y1 = (int(v) for v in np.clip(np.ceil(corners.max(0)) + 1, 0, [width, height]))
        self.box = (x0, y0, x1, y1)
        self._local = np.column_stack([transform[:, :2], transform[:, :2] @ [x0, y0] + transform[:, 2]])

    @property
    def part(self) -> tuple[slice, slice]:
        """Rows and columns of the frame."""
        left, top, right, bottom = self.box
        return slice(top, bottom), slice(left, right)

    def enlarged(self, values: np.ndarray, box: tuple[int, int, int, int] | None = None) -> Any:
        """Values [R, R, …] of the crop at the frame's resolution, in the region or in a `box` of its pixels."""
        x0, y0, x1, y1 = self.box
        left, top, right, bottom = box or (0, 0, x1 - x0, y1 - y0)
        there = np.column_stack([self._local[:, :2], self._local[:, :2] @ [left, top] + self._local[:, 2]])
        return cv2.warpAffine(
            values, there, (right - left, bottom - top), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip


def blend(
    draft: np.ndarray, transform: np.ndarray, inputs: Inputs, weights: np.ndarray, flow: np.ndarray, shade: np.ndarray
) -> np.ndarray:
    """Apply the network's output at the frame's own resolution.

    Args:
        draft: uint8 or float32 [H, W, 3].
        transform: [2, 3] of `crop_transform`.
        inputs: what the network took.
        weights, flow, shade: what it predicted; see `predict`.

    Returns:
        A new picture of the draft's type and shape.
    """
    size = len(inputs.mask)
    region = _Region(transform, size, draft.shape)
    if min(region.box[2] - region.box[0], region.box[3] - region.box[1]) < 2:
        return draft
    own = draft[region.part].astype(np.float32)
    change = region.enlarged(shade * inputs.mask[..., None])
    fine = max(DETAIL_LEAST, DETAIL * size / float(np.sqrt(abs(np.linalg.det(transform[:, :2])))))
    own_detail = _detail(own, fine)
    detail = own_detail.copy()
    for k, references in enumerate(inputs.references):
        counts = weights[..., k + 1] * inputs.mask
        weight = region.enlarged(counts)
        rows, columns = (np.flatnonzero((weight > LEAST_WEIGHT).any(axis)) for axis in (1, 0))
        if not len(rows):
            continue
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        part = (slice(box[1], box[3]), slice(box[0], box[2]))
        picture = _slot_picture(region, box, references, counts, flow[..., 2 * k : 2 * k + 2])
        change[part] += cv2.merge([weight[part]] * 3) * (picture - own[part])
        detail[part] += weight[part] * (_detail(picture, fine) - own_detail[part])
    mixed = own + change
    # pictures that do not fit to the pixel lose texture and grain by blending: bring it back to their mean
    lost = np.sqrt((np.maximum(detail, 0) + 0.5) / (_detail(mixed, fine) + 0.5))
    lost = np.clip(lost, 1, MOST_DETAIL) - 1
    mixed += cv2.merge([lost] * 3) * (mixed - cv2.GaussianBlur(mixed, (0, 0), fine))
    result = draft.copy()
    result[region.part] = quantised(mixed, draft.dtype)
    return result


def _slot_picture(
    region: _Region,
    box: tuple[int, int, int, int],
    references: Sequence[PlacedReference],
    counts: np.ndarray,
    flow: np.ndarray,
) -> np.ndarray:
    """The references of one slot at the frame's resolution, moved by the flow: float32 [h, w, 3] in a box of the region."""
    step = np.arange(len(counts), dtype=np.float32)
    x, y = step[None, :] + flow[..., 0], step[:, None] + flow[..., 1]
    picture = np.zeros((box[3] - box[1], box[2] - box[0], 3), np.float32)
    for placed in references:
        if float((placed.share * counts).max()) <= LEAST_WEIGHT:
            continue
        share = region.enlarged(placed.share, box)
        left, top, columns, rows = cv2.boundingRect((share > 0).view(np.uint8))
        part = (slice(top, top + rows), slice(left, left + columns))
        if not columns:
            continue
        moved = cv2.remap(placed.sources, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        at, gain = region.enlarged(moved, box)[part], region.enlarged(placed.gain, box)[part]
        colours = cv2.remap(placed.reference.image, at, np.empty(0), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        picture[part] += np.minimum(colours * gain, 255) * cv2.merge([share[part]] * 3)
    return picture


def _detail(picture: np.ndarray, width: float) -> np.ndarray:
    """Local energy of what is finer than `width` pixels: float32 [h, w]."""
    gray = cv2.transform(picture, np.full((1, 3), 1 / 3, np.float32))  # many times as quick as NumPy's mean
    fine = gray - cv2.GaussianBlur(gray, (0, 0), width)
    return cv2.GaussianBlur(fine * fine, (0, 0), 3 * width)
