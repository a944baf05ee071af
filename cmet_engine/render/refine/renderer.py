"""The `warp` renderer with the refiner behind it: the draft, and what other frames of the clip show better.

Every frame is drafted (`render.warp`), laid into the face's square with two pictures borrowed from other frames, and the
network says how to blend them. What it says is enlarged and applied to the frame's own pixels and the borrowed frames'
own pixels, so texture and grain stay the camera's. Outside the face nothing changes.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from cmet_engine.render.refine import occlusion, reference_frames
from cmet_engine.render.refine.canonical_crop import apply, inverse, rasterise, to_square
from cmet_engine.render.refine.sources import Borrowed, Inputs, Slot, inputs_for, into_square
from cmet_engine.render.refine.training_pairs import clip_looks, usable_frames
from cmet_engine.render.warp import CHUNK, WarpRenderer
from cmet_engine.track import CoefficientTrack

MOST_WORKERS = 8
"""Frames that are drawn at the same time, at most."""

DECIDED = 1.5
"""Power of the weights: above 1 one picture is preferred to a mixture, which costs 0.1 dB and saves edges from being doubled."""

LEAST_WEIGHT = 0.004
"""Borrowed pictures that count less than this everywhere are not drawn."""

DETAIL = 0.006
"""Width of what counts as fine detail, as a share of the square's side in the frame; at least `DETAIL_LEAST` pixels."""

DETAIL_LEAST = 0.8
MOST_DETAIL = 1.8
"""Fine detail that pictures lose by being mixed is given back, amplified by at most this factor."""

SAME_AGAIN = 1.0
"""Cost of borrowing twice from one frame at a time."""


def open_bank(
    frames: Any, geometry: Any, largest: int = reference_frames.LARGEST, among: np.ndarray | None = None
) -> reference_frames.Crops:
    """Choose the frames of a clip that others borrow from, and read them.

    Args:
        frames: the clip, see `reference_frames.gather`.
        geometry: a `FaceGeometry`.
        largest: longest side of a kept crop, pixels.
        among: frame numbers that may be chosen; None for all that show the face.
    """
    looks = clip_looks(geometry)
    usable = usable_frames(geometry) if among is None else among
    return reference_frames.gather(
        frames, geometry, reference_frames.choose_bank(looks, usable).tolist(), looks, largest
    )


class RefinedRenderer(WarpRenderer):
    """Draws the frames of a clip with the expression of an edited track, refined.

    Args:
        geometry, source_track, edited_track: as for `WarpRenderer`.
        crops: the frames to borrow from.
        network: a `Refiner`, on its device.
        size: side of the square, a multiple of 16.

    Attributes:
        covered: frames in which something covers part of the face, of those drawn so far.
    """

    def __init__(
        self,
        geometry: Any,
        source_track: CoefficientTrack,
        edited_track: CoefficientTrack,
        crops: reference_frames.Crops,
        network: Any,
        size: int,
    ) -> None:
        super().__init__(geometry, source_track, edited_track)
        self._network, self._size = network, size
        self._lock = threading.Lock()
        self._usual = occlusion.learn(crops)
        self._crops = self._uncovered(crops)
        self._mixtures = self._choose() if len(self._crops) else []
        self.covered: set[int] = set()
        self.workers = min(MOST_WORKERS, os.cpu_count() or 1)

    @property
    def state(self) -> Iterator[Any]:
        """Everything that the pictures depend on beside clip and tracks, for `pieces`."""
        yield self._size
        yield tuple(self._crops.index)
        for value in self._network.state_dict().values():
            yield value.cpu().numpy()

    @property
    def messages(self) -> list[str]:
        """What was met while rendering, in sentences."""
        if not self.covered:
            return []
        frames = "frame" if len(self.covered) == 1 else "frames"
        return [
            f"Something seems to cover part of the face in {len(self.covered)} {frames}; there only the draft was drawn. What has "
            "the skin's own colour, or covers the face all the time, is not noticed."
        ]

    def _uncovered(self, crops: reference_frames.Crops) -> reference_frames.Crops:
        """The bank without faces that something lies in front of, unless that leaves next to nothing."""
        good = [
            k
            for k, (image, points) in enumerate(zip(crops.images, crops.landmarks, strict=True))
            if occlusion.covered_share(self._usual.unusual(image, points)) < occlusion.COVERED
        ]
        if len(good) == len(crops) or len(good) < len(crops) // 2:
            return crops
        return reference_frames.Crops(
            [crops.index[k] for k in good], [crops.images[k] for k in good], crops.landmarks[good], crops.looks[good]
        )

    def _prepared(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            return super()._prepared(index)

    def _choose(self) -> list[dict[str, list[list[tuple[int, float]]]]]:
        """For both slots and both parts: what every frame borrows from which bank entry."""
        looks = clip_looks(self._geometry)
        parts = []
        for start in range(0, len(self._geometry), CHUNK):
            self._prepared(start)
            target = np.where(np.isfinite(self._landmarks), self._landmarks + self._moves, 0)
            bad = ~np.isfinite(target).all((1, 2)) | (np.ptp(target[..., 0], axis=1) < 1)
            target[bad] = np.nan_to_num(self._geometry.landmarks[start : start + len(target)])[bad]
            parts.append(reference_frames.looks_of(target, looks.shot[start : start + CHUNK]))
        wanted = reference_frames.Looks(
            np.concatenate([p.lips for p in parts]), np.concatenate([p.eyes for p in parts]),
            np.concatenate([p.turn for p in parts]), looks.haste, looks.shot, looks.teeth,
        )  # fmt: skip
        self._wanted, self._own = wanted, looks
        cut = np.zeros(len(wanted), bool)
        cut[[c for c in self._geometry.cuts if c < len(cut)]] = True
        slots: list[dict[str, list[list[tuple[int, float]]]]] = [{}, {}]
        for part in ("mouth", "eyes"):
            cost = reference_frames.costs(wanted, looks, self._crops.looks, part)
            for slot in slots:
                path = reference_frames.paths(cost, cut)
                slot[part] = reference_frames.mixtures(path, cut)
                if len(self._crops) > 1:
                    cost = cost.copy()
                    cost[np.arange(len(cost)), path] += SAME_AGAIN
        return slots

    def slots(self, index: int) -> list[Slot]:
        """What frame `index` borrows."""
        return [
            {
                part: [
                    Borrowed(
                        self._crops.images[entry], self._crops.landmarks[entry], share, self._trust(index, entry, part)
                    )
                    for entry, share in frames[index]
                ]
                for part, frames in slot.items()
            }
            for slot in self._mixtures
        ]

    def _trust(self, index: int, entry: int, part: str) -> float:
        return reference_frames.trust(self._wanted[index], self._own[index], self._crops.looks[entry], part)

    def render(self, image: np.ndarray, index: int) -> np.ndarray:
        """Frame `index` with the edited expression; see `WarpRenderer.render`."""
        draft = super().render(image, index)
        if draft is image or not len(self._crops):
            return draft
        landmarks, moves = self._prepared(index)
        covered = self._usual.unusual(image, landmarks)
        if occlusion.covered_share(covered) >= occlusion.COVERED:
            self.covered.add(index)
        return refine(draft, landmarks, landmarks + moves, self.slots(index), self._network, self._size, covered)


def refine(
    draft: np.ndarray,
    own: np.ndarray,
    target: np.ndarray,
    slots: Sequence[Slot],
    network: Any,
    size: int,
    covered: np.ndarray | None = None,
) -> np.ndarray:
    """A draft with what the network blends into it.

    Args:
        draft: uint8 [H, W, 3], warped from a picture with landmarks `own` [478, 3] to `target` [478, 3], pixels.
        own, target: see there.
        slots: two; what is borrowed.
        network: a `Refiner`.
        size: side of the square.
        covered: float32 on the mean face, where something lies in front (see `occlusion`): there the draft stays.

    Returns:
        A new uint8 [H, W, 3].
    """
    square = to_square(target, size)
    raster = rasterise(target, square, size)
    inputs = inputs_for(into_square(draft, square, size), raster, own, slots)
    if covered is not None and covered.any():
        inputs.mask[...] *= 1 - occlusion.onto(covered, raster)
    weights, flow, shade = run(network, inputs)
    return draw(draft, square, inputs, weights, flow, shade)


def run(network: Any, inputs: Inputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the network says: weights [R, R, 3], flow [R, R, 4] in pixels of the square, shade [R, R, 3] in 0..255."""
    import torch

    device = next(network.parameters()).device

    def tensor(values: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None].to(device)

    with torch.inference_mode():
        said = network(tensor(inputs.pictures / 255), tensor(inputs.geometry), tensor(inputs.prior))
    weights, flow, shade = (np.ascontiguousarray(v[0].permute(1, 2, 0).float().cpu().numpy()) for v in said)
    weights **= DECIDED
    weights /= weights.sum(2, keepdims=True)
    return weights, flow * len(inputs.mask), shade * 255


def draw(
    draft: np.ndarray, square: np.ndarray, inputs: Inputs, weights: np.ndarray, flow: np.ndarray, shade: np.ndarray
) -> np.ndarray:
    """Apply what the network said at the frame's own resolution; arguments as in `refine` and `run`."""
    size = len(inputs.mask)
    corners = apply(inverse(square), np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float64))
    height, width = draft.shape[:2]
    x0, y0 = (int(v) for v in np.clip(np.floor(corners.min(0)), 0, [width, height]))
    x1, y1 = (int(v) for v in np.clip(np.ceil(corners.max(0)) + 1, 0, [width, height]))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return draft
    local = np.column_stack([square[:, :2], square[:, :2] @ [x0, y0] + square[:, 2]])

    def enlarged(values: np.ndarray, box: tuple[int, int, int, int] | None = None) -> Any:
        left, top, right, bottom = box or (0, 0, x1 - x0, y1 - y0)
        there = np.column_stack([local[:, :2], local[:, :2] @ [left, top] + local[:, 2]])
        return cv2.warpAffine(
            values, there, (right - left, bottom - top), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip

    region = draft[y0:y1, x0:x1].astype(np.float32)
    change = enlarged(shade * inputs.mask[..., None])
    fine = max(DETAIL_LEAST, DETAIL * size / float(np.sqrt(abs(np.linalg.det(square[:, :2])))))
    own_detail = _detail(region, fine)
    detail = own_detail.copy()
    step = np.arange(size, dtype=np.float32)
    for k, pieces in enumerate(inputs.pieces):
        counts = weights[..., k + 1] * inputs.mask
        weight = enlarged(counts)
        rows, columns = (np.flatnonzero((weight > LEAST_WEIGHT).any(axis)) for axis in (1, 0))
        if not len(rows):
            continue
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        part = (slice(box[1], box[3]), slice(box[0], box[2]))
        x, y = step[None, :] + flow[..., 2 * k], step[:, None] + flow[..., 2 * k + 1]
        picture = np.zeros((*weight[part].shape, 3), np.float32)
        for piece in pieces:
            if float((piece.share * counts).max()) <= LEAST_WEIGHT:
                continue
            slid = cv2.remap(piece.sources, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            at = enlarged(slid, box)
            colours = cv2.remap(
                piece.borrowed.image, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
            )
            picture += np.minimum(colours * enlarged(piece.gain, box), 255) * enlarged(piece.share, box)[..., None]
        change[part] += weight[part][..., None] * (picture - region[part])
        detail[part] += weight[part] * (_detail(picture, fine) - own_detail[part])
    mixed = region + change
    # mixing pictures that do not fit to the pixel averages their texture and grain away: bring it back to their mean
    lost = np.sqrt((np.maximum(detail, 0) + 0.5) / (_detail(mixed, fine) + 0.5))
    lost = np.clip(lost, 1, MOST_DETAIL) - 1
    mixed += lost[..., None] * (mixed - cv2.GaussianBlur(mixed, (0, 0), fine))
    result = draft.copy()
    result[y0:y1, x0:x1] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
    return result


def _detail(picture: np.ndarray, width: float) -> np.ndarray:
    """Local energy of what is finer than `width` pixels: float32 [h, w]."""
    gray = picture.mean(2)
    fine = gray - cv2.GaussianBlur(gray, (0, 0), width)
    return cv2.GaussianBlur(fine * fine, (0, 0), 3 * width)
