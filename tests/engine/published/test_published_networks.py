"""The networks that load published weights, held to values that are committed: key names, shapes, one input each.

The weights are stand-ins, made from the name of each tensor, so that no download is needed. The committed values were
computed by these networks when they met the reference values of the published code to 1e-4 of their deviation.
`PYTHONPATH=tests python tests/engine/published/test_published_networks.py [NETWORK...]` writes them anew; do that only for a network that still meets the
reference values (`tests/engine/emotion/test_connector.py` and its neighbours, where those are at hand).
"""

import hashlib
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from portrait_networks import filled
from torch import nn

from cmet_engine.emotion.connector import Connector, edit_codes
from cmet_engine.media.audio import lip_mel
from cmet_engine.render.edtalk import Audio2Lip, Generator
from cmet_engine.render.liveportrait.networks import (
    AppearanceExtractor,
    Decoder,
    MotionExtractor,
    Stitching,
    WarpingNetwork,
)

VALUES = Path(__file__).with_name("golden_values.npz")
TOLERANCE = 1e-4  # of the values' standard deviation
CONSTANT = ("kernel", "pe", "num_batches_tracked")  # parts of the architecture, not weights
STEEP = ("to_flows", "to_flow")  # with random weights at full size the warps are so steep that rounding moves pixels


def stand_in(network: nn.Module, gain: float) -> nn.Module:
    """Fill every weight from its name: normal around 0 times `gain`, around 1 for gains of normalisations."""
    state = network.state_dict()
    for name, value in state.items():
        leaf = name.rpartition(".")[2]
        if leaf in CONSTANT or not value.is_floating_point():
            continue
        draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(value.shape), np.float32)
        if leaf == "running_var":
            draw = 1 + 0.5 * np.tanh(draw)
        elif leaf == "running_mean":
            draw *= 0.1
        else:
            draw *= gain * (0.02 if any(part in name for part in STEEP) else 1)
            draw += leaf == "weight" and value.ndim == 1
        state[name] = torch.from_numpy(draw).to(value.dtype)
    network.load_state_dict(state, strict=True)
    return network.eval()


def given(*shape: int, seed: int = 0) -> np.ndarray:
    """An input that is the same on every machine."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def voice(seconds: float = 1.0) -> np.ndarray:
    """A wave at 16 kHz with a pitch that glides and a syllable's rhythm."""
    t = np.arange(int(16000 * seconds)) / 16000
    tone = sum(np.sin(2 * np.pi * k * (140 * t + 15 * t**2)) / k for k in range(1, 12))
    return (0.1 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))).astype(np.float32)


def connector() -> tuple[nn.Module, dict[str, np.ndarray]]:
    network = stand_in(Connector(), 0.05)
    with torch.no_grad():
        one = network(*(torch.from_numpy(given(*s)) for s in ((2, 5, 10), (2, 1, 1024), (2, 5, 10))))
    return network, {"one": one.numpy(), "track": edit_codes(network, given(1024, seed=1), given(17, 10, seed=2))}


def edtalk_generator() -> tuple[nn.Module, dict[str, np.ndarray]]:
    network = stand_in(Generator(), 1.0)
    pictures = torch.from_numpy(np.tanh(given(2, 3, 256, 256)))
    with torch.no_grad():
        expression, pose, lip = network.codes(pictures)
        image = network.render(pictures[:1], lip[1:], pose[1:], expression[1:])
    return network, {
        "expression": expression.numpy(),
        "pose": pose.numpy(),
        "lip": lip.numpy(),
        "image": image[..., ::4, ::4].numpy(),
    }


def audio2lip() -> tuple[nn.Module, dict[str, np.ndarray]]:
    network = stand_in(Audio2Lip(), 0.1)
    mel = lip_mel(voice())
    with torch.no_grad():
        return network, {"mel": mel[::5], "lip": network(torch.from_numpy(mel)).numpy()}


def emotion2vec_small() -> tuple[nn.Module, dict[str, np.ndarray]]:
    from cmet_engine.emotion.emotion2vec import (
        Emotion2vec,
        Emotion2vecConfig,
    )  # brings transformers, which takes seconds

    network = stand_in(Emotion2vec(Emotion2vecConfig(embed_dim=128, num_heads=4, depth=3, prenet_depth=2)), 0.08)
    wave = torch.from_numpy(voice())[None]
    with torch.no_grad():
        return network, {
            "frames": network.frames(wave)[0].numpy(),
            "utterance": network.utterance(wave)[0].numpy(),
            "logits": network(wave)[0].numpy(),
        }


def liveportrait_appearance() -> tuple[nn.Module, dict[str, np.ndarray]]:
    network = filled(AppearanceExtractor())
    with torch.no_grad():
        volume = network(torch.from_numpy(given(1, 3, 64, 64)))
    return network, {"volume": volume[:, ::4, ::3].numpy()}


def liveportrait_motion() -> tuple[nn.Module, dict[str, np.ndarray]]:
    network = filled(MotionExtractor())
    with torch.no_grad():
        return network, {name: value.numpy() for name, value in network(torch.from_numpy(given(2, 3, 64, 64))).items()}


def liveportrait_warping() -> tuple[nn.Module, dict[str, np.ndarray]]:
    """With few channels; those of the published network are in the table of names and shapes."""
    network = filled(WarpingNetwork(widths=(8, 8, 8, 8, 8)))
    # a volume without steps: where it is read, a rounding must not matter
    volume = torch.nn.functional.interpolate(torch.from_numpy(given(1, 32, 4, 4, 4)), (16, 32, 32), mode="trilinear")
    source, driving = (torch.from_numpy(0.3 * given(1, 21, 3, seed=seed)) for seed in (1, 2))
    with torch.no_grad():
        found = network(volume, kp_source=source, kp_driving=driving)
    return network, {
        "out": found["out"][:, ::8, ::4, ::4].numpy(),
        "deformation": found["deformation"][:, ::4, ::4, ::4].numpy(),
        "occlusion": found["occlusion_map"].numpy(),
    }


def liveportrait_decoder() -> tuple[nn.Module, dict[str, np.ndarray]]:
    """With few channels, as the warping network."""
    network = filled(Decoder(width=128, hidden=128))  # wide enough for Winograd's form
    with torch.no_grad():
        picture = network(torch.from_numpy(given(1, 256, 16, 16)))
    return network, {"picture": picture[..., ::3, ::3].numpy()}


def liveportrait_stitching() -> tuple[nn.Module, dict[str, np.ndarray]]:
    network = filled(Stitching())
    with torch.no_grad():
        return network, {"moves": network(torch.from_numpy(given(3, 126))).numpy()}


NETWORKS: dict[str, Callable[[], tuple[nn.Module, dict[str, np.ndarray]]]] = {
    f.__name__: f
    for f in (
        connector,
        edtalk_generator,
        audio2lip,
        emotion2vec_small,
        liveportrait_appearance,
        liveportrait_motion,
        liveportrait_warping,
        liveportrait_decoder,
        liveportrait_stitching,
    )
}


def keys_of(network: nn.Module) -> str:
    """A checksum of the network's key names and shapes."""
    lines = sorted(f"{name} {list(value.shape)}" for name, value in network.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_networks_keep_their_keys_and_values(name):
    network, values = NETWORKS[name]()
    golden = np.load(VALUES)
    assert keys_of(network) == str(golden[f"{name}.keys"]), "a key or a shape differs from the published network"
    assert {key.partition(".")[2] for key in golden.files if key.startswith(f"{name}.")} == {*values, "keys"}
    for part, value in values.items():
        wanted = golden[f"{name}.{part}"]
        assert value.shape == wanted.shape
        off = np.abs(value - wanted) / wanted.std()
        assert off.mean() < TOLERANCE, f"{name}.{part} is off by {off.mean():.1e} of its deviation on average"
        most = 100 * TOLERANCE if part == "image" else TOLERANCE  # drawn through warps, a pixel moves with the rounding
        assert off.max() < most, f"{name}.{part} is off by {off.max():.1e} of its deviation"


if __name__ == "__main__":  # PYTHONPATH=tests python … [NETWORK...]
    arrays: dict[str, np.ndarray] = dict(np.load(VALUES))
    for name, make in NETWORKS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        network, values = make()
        arrays[f"{name}.keys"] = np.array(keys_of(network))
        arrays |= {f"{name}.{part}": value for part, value in values.items()}
    np.savez_compressed(VALUES, **arrays)
    print(VALUES, VALUES.stat().st_size)
