"""Time per frame of LivePortrait: our order of steps beside the published one, in one run, with stand-in weights and the same numbers.

    OMP_NUM_THREADS=1 python tests/benchmarks/portraits.py [--frames 2] [--device cpu|cuda]

The published way is written from what the published code does: one frame at a time; the source's features and both motions computed
for every frame; convolutions in the plain layout; enlarged features convolved at their full size; gain and offset of a norm apart;
batch norms as layers of their own; spectral norm divided at every call; heat maps on the whole grid.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from portrait_networks import published_size

from cmet_engine.render.liveportrait import keypoints
from cmet_engine.render.liveportrait.generator import PortraitGenerator, PortraitNetworks
from cmet_engine.render.liveportrait.networks import (
    AppearanceExtractor,
    Decoder,
    WarpingNetwork,
)


def conv(layer: nn.Module, x: Tensor) -> Tensor:
    """A convolution as it is written."""
    if hasattr(layer, "weight_u"):
        weight = layer.weight_orig / (layer.weight_u @ (layer.weight_orig.flatten(1) @ layer.weight_v))
    else:
        weight = layer.weight
    return (F.conv2d if weight.ndim == 4 else F.conv3d)(
        x.contiguous(), weight, layer.bias, padding=weight.shape[-1] // 2
    )


def norm(layer: nn.Module, x: Tensor) -> Tensor:
    """Batch norm with stored statistics."""
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)


def appearance(network: AppearanceExtractor, picture: Tensor) -> Tensor:
    x = F.relu(norm(network.first.norm, conv(network.first.conv, picture)))
    for block in network.down_blocks:
        x = F.avg_pool2d(F.relu(norm(block.norm, conv(block.conv, x))), 2)
    x = conv(network.second, x).view(len(x), 32, 16, *x.shape[2:])
    for block in network.resblocks_3d:
        x = x + conv(block.conv2, F.relu(norm(block.norm2, conv(block.conv1, F.relu(norm(block.norm1, x))))))
    return x


def warp(network: WarpingNetwork, volume: Tensor, source: Tensor, driving: Tensor) -> Tensor:
    dense = network.dense_motion_network
    batch, _, depth, height, width = volume.shape
    points = source.shape[1]
    axes = [torch.linspace(-1, 1, n, device=volume.device) for n in (width, height, depth)]
    z, y, x = torch.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    grid = torch.stack([x, y, z], -1)
    small = F.relu(norm(dense.norm, conv(dense.compress, volume)))
    moved = grid - driving[:, :, None, None, None] + source[:, :, None, None, None]
    candidates = torch.cat([grid.expand(batch, 1, *grid.shape), moved], 1)
    repeated = small[:, None].repeat(1, points + 1, 1, 1, 1, 1).flatten(0, 1)
    sampled = F.grid_sample(repeated, candidates.flatten(0, 1), align_corners=False)
    sampled = sampled.view(batch, points + 1, *sampled.shape[1:])
    heat = [torch.exp(-((grid - p[:, :, None, None, None]) ** 2).sum(-1) / 0.02) for p in (driving, source)]
    heat = torch.cat([torch.zeros_like(heat[0][:, :1]), heat[0] - heat[1]], 1)
    maps = [torch.cat([heat[:, :, None], sampled], 2).flatten(1, 2)]
    for block in dense.hourglass.encoder.down_blocks:
        maps.append(F.avg_pool3d(F.relu(norm(block.norm, conv(block.conv, maps[-1]))), (1, 2, 2)))
    out = maps.pop()
    decoder = dense.hourglass.decoder
    for block in decoder.up_blocks:
        out = F.relu(norm(block.norm, conv(block.conv, F.interpolate(out, scale_factor=(1, 2, 2)))))
        out = torch.cat([out, maps.pop()], 1)
    out = F.relu(norm(decoder.norm, conv(decoder.conv, out)))
    mask = F.softmax(conv(dense.mask, out), 1)
    deformation = (candidates * mask[..., None]).sum(1)
    occlusion = torch.sigmoid(conv(dense.occlusion, out.flatten(1, 2)))
    planes = F.grid_sample(volume, deformation, align_corners=False).flatten(1, 2)
    planes = F.leaky_relu(norm(network.third.norm, conv(network.third.conv, planes)), 0.01)
    return conv(network.fourth, planes) * occlusion


def spade(layer: nn.Module, x: Tensor, features: Tensor) -> Tensor:
    seen = F.interpolate(features, x.shape[2:])
    hidden = F.relu(conv(layer.mlp_shared[0], seen))
    return F.instance_norm(x) * (1 + conv(layer.mlp_gamma, hidden)) + conv(layer.mlp_beta, hidden)


def decode(network: Decoder, features: Tensor) -> Tensor:
    x = conv(network.fc, features)
    for number, block in enumerate([*network._middle, network.up_0, network.up_1]):
        if number >= 6:
            x = F.interpolate(x, scale_factor=2)
        y = conv(block.conv_0, F.leaky_relu(spade(block.norm_0, x, features), 0.2))
        y = conv(block.conv_1, F.leaky_relu(spade(block.norm_1, y, features), 0.2))
        x = y + (conv(block.conv_s, spade(block.norm_s, x, features)) if hasattr(block, "conv_s") else x)
    return torch.sigmoid(F.pixel_shuffle(conv(network.conv_img[0], F.leaky_relu(x, 0.2)), 2))


def published(networks: PortraitNetworks, source: Tensor, draft: Tensor) -> Tensor:
    """One frame [1, 3, 256, 256] twice -> [1, 3, 512, 512]: encoded, read, stitched, warped and decoded from the beginning."""
    volume = appearance(networks.appearance, source)
    own, drafted = networks.motion(source), networks.motion(draft)
    points = keypoints.transform(own)
    driving = points + keypoints.change(own, drafted)
    for other, sign in ((driving, 1), (points, -1)):
        out = networks.stitching(torch.cat([points.flatten(1), other.flatten(1)], 1))
        driving = driving + sign * (out[:, :63].view(1, 21, 3) + F.pad(out[:, None, 63:], (0, 1)))
    return decode(networks.decoder, warp(networks.warping, volume, points, driving))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    networks = published_size()
    generator = PortraitGenerator(networks, device=options.device)
    rng = np.random.default_rng(0)
    sources = rng.integers(0, 256, (options.frames, 32, 32, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    drafts = np.roll(sources, 3, 2)
    clock = time.process_time if options.device == "cpu" else time.perf_counter

    def ours() -> np.ndarray:
        return generator.draw(list(sources), generator.read(list(sources), list(drafts)))

    def theirs() -> np.ndarray:
        drawn = []
        with torch.inference_mode():
            for source, draft in zip(sources, drafts, strict=True):
                seen = [generator._seen([picture], 256) for picture in (source, draft)]
                picture = published(networks, *seen)[0]
                drawn.append((picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())
        return np.stack(drawn)

    generator.draw(list(sources[:1]), generator.read(list(sources[:1]), list(drafts[:1])))  # what is derived once
    times, pictures, counter = {}, {}, FlopCounterMode(display=False)
    # the published way in single precision is the yardstick on a GPU, too
    for name, way in (("ours", ours), ("published", theirs)):
        if name == "published":
            networks.exact()
        begin = clock()
        with (
            counter if name == "published" else contextlib.nullcontext()
        ):  # few large calls, so that counting costs nothing
            pictures[name] = way()
        times[name] = (clock() - begin) / options.frames
        print(f"{name}: {times[name]:.2f} s a frame", flush=True)
    off = np.abs(pictures["ours"].astype(int) - pictures["published"])
    arithmetic = counter.get_total_flops() / 2e9 / options.frames
    print(f"one frame in the published order: {arithmetic:.0f} billion multiplications")
    print(f"ours is {times['published'] / times['ours']:.2f} times faster")
    print(f"difference of the pictures: mean {off.mean():.4f}, largest {off.max()} of 255")


if __name__ == "__main__":
    main()
