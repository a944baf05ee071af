"""The qualities of the `warp` renderer: what each means, which one `auto` is, and how long it takes."""

import time
from dataclasses import dataclass

import numpy as np

from cmet_engine.models.device import resolve


@dataclass(frozen=True)
class Level:
    """What a quality means.

    Attributes:
        size: side of the canonical face crop that the network works in, pixels.
        steps: of the fit to the clip; 0 for the network as it was trained on others.
        largest: longest side of a reference frame's crop, pixels.
    """

    size: int
    steps: int
    largest: int


# a fit of 160 steps at `standard` added 0.0 to 0.2 dB and took a minute: nobody needs to wait for that
LEVELS = {"standard": Level(192, 0, 640), "best": Level(320, 500, 1024)}

STEP_GFLOP, FRAME_GFLOP = 34.0, 2.9
"""Work of one step of a fit and of the network on one frame, at the size of `standard`."""

FRAME_SECONDS = 0.05
"""What else a refined frame of a 512-pixel clip costs on one core (`python tests/benchmarks/pipeline.py CLIP --quality standard`)."""

SHARE_OF_PEAK = 0.5
"""Of the speed of a large matrix product, what the network reaches."""


def resolve_quality(quality: str, device: str) -> str:
    """`auto` becomes `standard` on a CUDA GPU and `draft` without one.

    Raises:
        MissingWeights: the device is not on this machine.
    """
    if quality != "auto":
        return quality
    return "standard" if resolve(device).startswith("cuda") else "draft"


def estimate(frames: int, quality: str = "standard") -> float:
    """Seconds that fit and rendering would about take on this machine's processor."""
    level = LEVELS[quality]
    one = np.ones((768, 768), np.float32)
    one @ one
    begun = time.perf_counter()
    for _ in range(4):
        one @ one
    speed = 4 * 2 * 768**3 / 1e9 / max(time.perf_counter() - begun, 1e-6)  # GFLOP a second, all cores
    scale = (level.size / LEVELS["standard"].size) ** 2
    work = scale * (level.steps * STEP_GFLOP + frames * FRAME_GFLOP)
    return float(work / (SHARE_OF_PEAK * speed) + frames * FRAME_SECONDS * scale)


def advice(frames: int | None) -> str:
    """One sentence for those who got a draft because there is no GPU; with an estimate for a clip of `frames`."""
    takes = "that takes longer" if frames is None else f"here that takes {duration(estimate(frames))}"
    return (
        "This is a draft: the picture's own pixels were moved. --quality standard takes teeth, lids and folds from other "
        f"frames of the clip; {takes}."
    )


def duration(seconds: float) -> str:
    """`about 40 seconds`, `about 3 minutes`, `about 2 hours`."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours"
