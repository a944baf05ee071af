"""EDTalk called the way its published scripts call it, as the yardstick for speed and for numbers.

Written from what those scripts do, with the weights of our `Generator`: every frame alone; the source, the frame that
gives the pose and the frame that gives the lips encoded again for every frame; the directions orthogonalised twice a
frame; a set of convolution weights made for every frame; blurs channel by channel; the unused half of the expression
layers computed.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cmet_engine.render.edtalk import Generator


def _activate(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias, 0.2) * math.sqrt(2)


def _resample(x: Tensor, kernel: Tensor, up: int, before: int, after: int) -> Tensor:
    """Zeros between the pixels (`up`), zeros around, then the kernel over every channel as a picture of its own."""
    batch, channels, height, width = x.shape
    wide = x.new_zeros(batch, channels, height, up, width, up)
    wide[:, :, :, 0, :, 0] = x
    wide = F.pad(wide.view(batch, channels, height * up, width * up), (before, after, before, after))
    flat = F.conv2d(wide.reshape(batch * channels, 1, *wide.shape[2:]), kernel.flip(0, 1)[None, None])
    return flat.view(batch, channels, *flat.shape[2:])


def _conv(x: Tensor, weight: Tensor, **options) -> Tensor:
    return F.conv2d(x, weight * (1 / math.sqrt(weight[0].numel())), **options)


def _layer(layer, x: Tensor) -> Tensor:
    parts = list(layer)
    if layer.down:
        pad = layer.kernel + 1
        x = _resample(x, parts[0].kernel, 1, (pad + 1) // 2, pad // 2)
        x = _conv(x, parts[1].weight, stride=2)
    else:
        x = _conv(x, parts[0].weight, padding=layer.kernel // 2)
    return _activate(x, parts[-1].bias) if layer.activate else x


def encode(generator: Generator, image: Tensor) -> tuple[Tensor, list[Tensor]]:
    layers = generator.enc.net_app.convs
    maps = [_layer(layers[0], image)]
    for block in layers[1:-1]:
        x = maps[-1]
        maps.append((_layer(block.conv2, _layer(block.conv1, x)) + _layer(block.skip, x)) / math.sqrt(2))
    return _conv(maps[-1], layers[-1].weight).flatten(1), maps[-2::-1]


def _linear(layer, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight * (1 / math.sqrt(layer.weight.shape[1])), layer.bias)


def _chain(layers, x: Tensor) -> Tensor:
    for layer in layers:
        x = _linear(layer, x)
    return x


def codes(generator: Generator, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    latent, _ = encode(generator, image)
    shared = _chain(generator.fc, latent)
    return _chain(generator.exp_fc, shared), _chain(generator.pose_fc, shared), _chain(generator.lip_fc, shared)


def _modulated(conv, x: Tensor, style: Tensor, demodulate: bool = True) -> Tensor:
    batch, channels, height, width = x.shape
    scale = _linear(conv.modulation, style).view(batch, 1, channels, 1, 1)
    weight = conv.weight * (1 / math.sqrt(conv.weight[0, 0].numel())) * scale
    if demodulate:
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, batch * channels, height, width)
    if conv.up:
        x = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
        return _resample(x.view(batch, -1, *x.shape[2:]), conv.blur.kernel, 1, 1, 1)
    x = F.conv2d(x, weight.flatten(0, 1), padding=conv.kernel // 2, groups=batch)
    return x.view(batch, -1, *x.shape[2:])


def _adaptive(norm, x: Tensor, expression: Tensor) -> Tensor:
    hidden = norm.mlp_shared(expression)
    gamma, beta = norm.mlp_gamma(hidden), norm.mlp_beta(hidden)
    return F.instance_norm(x) * (1 + gamma)[:, :, None, None] + beta[:, :, None, None]


def decode(generator: Generator, style: Tensor, features: list[Tensor], expression: Tensor) -> Tensor:
    dec = generator.dec
    x = dec.input.input.repeat(len(style), 1, 1, 1)
    x = _activate(_modulated(dec.conv1.conv, x, style), dec.conv1.activate.bias)
    picture = flow = None
    for level, feature in enumerate(features):
        for conv in dec.convs[2 * level : 2 * level + 2]:
            x = _activate(_modulated(conv.conv, x, style), conv.activate.bias)
        layer = dec.fineadainresblock[level]
        F.leaky_relu(_adaptive(layer.norm1, layer.conv1(feature), expression))  # computed and dropped, as published
        feature = _adaptive(layer.norm2, layer.conv2(feature), expression) + feature
        to_flow, to_rgb = dec.to_flows[level], dec.to_rgbs[level]
        out = _modulated(to_flow.conv, x, style, demodulate=False) + to_flow.bias
        if flow is not None:
            out = out + _resample(flow, to_flow.upsample.kernel, 2, 2, 1)
        flow = out
        line = torch.linspace(-1, 1, x.shape[-1], dtype=torch.float64)
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).to(x.dtype)
        mask = torch.sigmoid(out[:, 2:])
        warped = F.grid_sample(feature, torch.tanh(out[:, :2]).permute(0, 2, 3, 1) + grid, align_corners=False) * mask
        x = warped + x * (1 - mask)
        rgb = _layer(to_rgb.conv, warped) + to_rgb.bias
        picture = rgb if picture is None else rgb + _resample(picture, to_rgb.upsample.kernel, 2, 2, 1)
    assert picture is not None
    return picture


def _directions(generator: Generator) -> Tensor:
    weight = torch.cat((generator.direction_lipnonlip.weight, generator.direction_exp.weight), dim=1) + 1e-8
    return torch.linalg.qr(weight).Q


def render(
    generator: Generator, source: Tensor, lip: Tensor, pose_image: Tensor, expression: Tensor, lip_image: Tensor | None
) -> Tensor:
    """One frame from one source picture, one picture for the pose and one for the lips (or lip codes from sound)."""
    latent, features = encode(generator, source)
    if lip_image is not None:
        lip = _chain(generator.lip_fc, _chain(generator.fc, encode(generator, lip_image)[0]))
    pose = _chain(generator.pose_fc, _chain(generator.fc, encode(generator, pose_image)[0]))
    codes = torch.diag_embed(torch.cat((lip, pose, expression), dim=1))
    of_expression = (codes @ _directions(generator).T)[:, generator.lip_dim + generator.pose_dim :].sum(1)
    motion = (codes @ _directions(generator).T).sum(1)
    return decode(generator, latent + motion, features, of_expression)
