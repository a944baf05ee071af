"""LivePortrait and PerformRecast as generators (`render.base.Generator`): only the expression is taken from the draft.

Both motions are read from crops of one matrix, so that errors of reading cancel. Pose, scale and translation stay the source's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from cmet_engine import cache
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.models import registry, store
from cmet_engine.render.base import Generator
from cmet_engine.render.batches import BatchRunner
from cmet_engine.render.crops import CropPath
from cmet_engine.render.liveportrait import keypoints
from cmet_engine.render.liveportrait.crop import RECAST_SCALE, SCALE, SIZE, follow
from cmet_engine.render.liveportrait.networks import (
    AppearanceExtractor,
    Decoder,
    MotionExtractor,
    Stitching,
    TokenAppearanceExtractor,
    WarpingNetwork,
)

BATCH = {"cpu": 1, "mps": 1, "cuda": 8}
"""Frames at a time, by kind of device; each divides a segment, so that resumed work has the same batches."""
DARK, BRIGHT = 0.02, 0.98
"""A drawn picture whose mean is beyond has failed in half precision."""

Name = Literal["liveportrait", "performrecast"]


@dataclass
class PortraitNetworks:
    """The networks of LivePortrait, or of PerformRecast, which has no stitching.

    Attributes:
        identity: checksum of their weights; None for weights that come from no file.
    """

    name: Name
    appearance: nn.Module
    motion: nn.Module
    warping: nn.Module
    decoder: nn.Module
    stitching: nn.Module | None = None
    identity: str | None = None

    @classmethod
    def load(cls, name: Name) -> "PortraitNetworks":
        """The published weights of this machine.

        Raises:
            CmetError: weights are missing or damaged; the sentence says what to do.
        """
        makers: dict[str, Callable[[], nn.Module]] = {
            "appearance": AppearanceExtractor, "motion": MotionExtractor, "warping": WarpingNetwork,
            "decoder": lambda: Decoder(plain=True), "stitching": Stitching,
        }  # fmt: skip
        if name == "performrecast":
            makers |= {
                "appearance": TokenAppearanceExtractor, "motion": lambda: MotionExtractor(49, 3), "warping": lambda: WarpingNetwork(49),
            }  # fmt: skip
            del makers["stitching"]
        parts = {part: store.load(f"{name}_{part}", make) for part, make in makers.items()}
        identity = " ".join(cache.content(registry.path_of(f"{name}_{part}")) for part in makers)
        return cls(name, **parts, identity=identity)

    def to(self, device: str) -> "PortraitNetworks":
        """Move the networks to a device, in half precision on a CUDA GPU where they draw; returns itself."""
        with torch.inference_mode(False):
            for network in (self.appearance, self.motion, self.warping, self.decoder, self.stitching):
                if network is not None:
                    drawing = network not in (self.motion, self.stitching)
                    network.to(device, torch.float16 if drawing and device.startswith("cuda") else torch.float32)
        return self

    def exact(self) -> None:
        """Draw in single precision from now on."""
        with torch.inference_mode(False):
            for network in (self.appearance, self.warping, self.decoder):
                network.float()


class PortraitGenerator(BatchRunner, Generator):
    """See the module.

    Args:
        networks: to draw with; None loads the published weights.
        name: which, where they are loaded.
        device: see `models.device.resolve`.
        batch: crops at a time; None for the device's usual number.
        warn: called with a sentence for the user.
        replace: the draft's expression takes the place of the source's (PerformRecast's mode 1), else it is added.
        size: pixels of the crop; the published networks were trained with 512.

    Raises:
        CmetError: weights are missing, or the device is.
    """

    def __init__(
        self,
        networks: PortraitNetworks | None = None,
        name: Name = "liveportrait",
        *,
        device: str = "auto",
        batch: int | None = None,
        warn: Callable[[str], None] = lambda sentence: None,
        replace: bool = False,
        size: int = SIZE,
    ):
        self.networks = networks or PortraitNetworks.load(name)
        self.name, self.identity = self.networks.name, self.networks.identity
        self._recast, self._replace, self._size = self.networks.name == "performrecast", replace, size
        super().__init__(self.networks, device, batch, BATCH, warn)

    def crops(self, geometry: FaceGeometry) -> CropPath:
        """See `Generator.crops`."""
        return follow(geometry, RECAST_SCALE if self._recast else SCALE, self._size)

    def read(self, sources: Sequence[np.ndarray], drafts: Sequence[np.ndarray]) -> np.ndarray:
        """See `Generator.read`: keypoints of the source and their displacement, float32 [B, 2, K, 3]."""

        def work(part: slice) -> tuple[np.ndarray]:
            both = [self._seen([*sources[part], *drafts[part]], self._size // 2)]
            motion = self.networks.motion(both[0])
            count = len(sources[part])
            own, drafted = (
                {name: value[cut] for name, value in motion.items()} for cut in (slice(count), slice(count, None))
            )
            if self._recast:
                points, moved = (
                    keypoints.transform_recast(own),
                    keypoints.change_recast(own, drafted, replace=self._replace),
                )
            else:
                points, moved = keypoints.transform(own), keypoints.change(own, drafted)
            return (torch.stack([points, moved], 1).cpu().numpy(),)

        return self.in_batches(len(sources), work)[0]

    def settled(self, readings: np.ndarray) -> np.ndarray:
        """See `Generator.settled`: the displacements are smoothed, the source's own motion stays exact."""
        return np.stack([readings[:, 0], keypoints.smooth(readings[:, 1])], 1)

    def draw(self, sources: Sequence[np.ndarray], readings: np.ndarray) -> np.ndarray:
        """See `Generator.draw`."""

        def work(part: slice) -> tuple[np.ndarray]:
            pictures = self._drawn(sources[part], readings[part])
            half = next(self.networks.decoder.parameters()).dtype == torch.float16
            means = pictures.mean((1, 2, 3))
            if half and not ((means > DARK) & (means < BRIGHT)).all():  # not a number compares as failed, too
                self.networks.exact()
                self.warn_once("The GPU draws black pictures in half precision; the work goes on in single precision.")
                pictures = self._drawn(sources[part], readings[part])
            return ((pictures.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy(),)

        return self.in_batches(len(sources), work)[0]

    def _drawn(self, sources: Sequence[np.ndarray], readings: np.ndarray) -> Tensor:
        """Pictures float32 [B, 3, S, S]."""
        precision = next(self.networks.appearance.parameters()).dtype
        seen = self._seen(sources, self._size if self._recast else self._size // 2).to(precision)
        moves = torch.from_numpy(np.ascontiguousarray(readings)).to(self.device)
        return self.replayed(self._draw_batch, (self.networks,), seen, moves)

    def _draw_batch(self, seen: Tensor, readings: Tensor) -> Tensor:
        """Pictures float32 [B, 3, S, S] from sources as the appearance network takes them and readings [B, 2, K, 3]."""
        volume = self.networks.appearance(seen)
        source, moved = readings.unbind(1)
        driving = source + moved
        if self.networks.stitching is not None:
            driving = driving + self._stitch(source, driving) - self._stitch(source, source)
        feature = self.networks.warping(volume, kp_source=source, kp_driving=driving)["out"]
        return self.networks.decoder(feature.to(seen.dtype)).float()

    def _stitch(self, source: Tensor, driving: Tensor) -> Tensor:
        """How the stitching network moves driving points: [B, K, 3]."""
        assert self.networks.stitching is not None
        out = self.networks.stitching(torch.cat([source.flatten(1), driving.flatten(1)], 1))
        points, shift = out[:, :-2].unflatten(1, (-1, 3)), out[:, None, -2:]
        return points + torch.nn.functional.pad(shift, (0, 1))

    def _seen(self, crops: Sequence[np.ndarray], side: int) -> Tensor:
        """Crops uint8 [S, S, 3] as the networks take them: float32 [B, 3, side, side] in 0..1."""
        small = [
            crop if len(crop) == side else cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
            for crop in crops
        ]
        return torch.from_numpy(np.stack(small)).to(self.device).permute(0, 3, 1, 2).float() / 255
