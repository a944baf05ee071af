"""LivePortrait's and PerformRecast's networks with few channels and stand-in weights: quick, and right in everything but the picture."""

import math
import zlib

import numpy as np
import torch
from torch import nn

from cmet_engine.render.liveportrait import generator
from cmet_engine.render.liveportrait.networks import (
    AppearanceExtractor,
    Decoder,
    MotionExtractor,
    Stitching,
    WarpingNetwork,
)

SIZE = 128  # of the crop: a quarter of the published
WIDTHS = (8, 8, 8, 8)


def filled(network: nn.Module) -> nn.Module:
    """Every weight drawn from its name, so that no layer grows what passes it."""
    state = network.state_dict()
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(value.shape), np.float32)
        leaf = name.rpartition(".")[2]
        if leaf == "running_var":
            draw = 1 + 0.5 * np.tanh(draw)
        elif value.ndim > 1:
            draw *= (0.4 if "conv2" in name else 1.4) / math.sqrt(value[0].numel())
            draw *= 0.2 if name.endswith(("fc_exp.weight", "fc_kp.weight", "fc_t.weight", "mlp.6.weight")) else 1
        else:
            draw *= 0.05
            draw += leaf == "weight" or name.endswith("fc_scale.bias")
        state[name] = torch.from_numpy(draw).to(value.dtype)
    for name in [name for name in state if name.endswith("weight_orig")]:  # vectors that a trained network would have
        base, kernel = name.removesuffix("orig"), state[name].flatten(1)
        right = kernel.T @ state[base + "u"]
        state[base + "v"] = right / right.norm()
        left = kernel @ state[base + "v"]
        state[base + "u"] = left / left.norm()
    network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def small(name: str = "liveportrait", points: int = 21) -> generator.PortraitNetworks:
    """All networks of a generator, with few channels; the appearance network is LivePortrait's in both."""
    scales = 3 if name == "performrecast" else 1
    appearance = filled(AppearanceExtractor())
    return generator.PortraitNetworks(
        name,
        nn.Sequential(nn.AvgPool2d(2), appearance) if name == "performrecast" else appearance,
        filled(MotionExtractor(points, scales, (8, 8, 16, 16), (1, 1, 1, 1))),
        filled(WarpingNetwork(points, WIDTHS)),
        filled(Decoder(plain=True, width=32, hidden=8)),
        filled(Stitching()) if name == "liveportrait" else None,
    )


def published_size() -> generator.PortraitNetworks:
    """LivePortrait's networks as large as they are published."""
    parts = (AppearanceExtractor(), MotionExtractor(), WarpingNetwork(), Decoder(), Stitching())
    return generator.PortraitNetworks("liveportrait", *map(filled, parts))
