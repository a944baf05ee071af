"""LivePortrait's and PerformRecast's networks, formulas and crops beside the reference values of the published code."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cmet_engine.models.derived import Derived
from cmet_engine.render.liveportrait import convolution, crop, keypoints
from cmet_engine.render.liveportrait.blocks import ConvNorm
from cmet_engine.render.liveportrait.decoder import Block
from cmet_engine.render.liveportrait.networks import (
    AppearanceExtractor,
    Decoder,
    MotionExtractor,
    Stitching,
    TokenAppearanceExtractor,
    WarpingNetwork,
)

TOLERANCE = 1e-4  # of the standard deviation


class Published:
    """Stand-in weights by the published names, and what the published code made with them."""

    def __init__(self, folder, monkeypatch_path):
        self.keys = json.loads((folder / "liveportrait_keys.json").read_text())
        self.golden = {name: np.load(folder / f"golden_{name}.npz") for name in ("liveportrait", "performrecast")}
        monkeypatch_path.syspath_prepend(str(folder))
        spec = importlib.util.spec_from_file_location("seeded_liveportrait", folder / "seeded_liveportrait.py")
        self._stand_in = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._stand_in)
        self.tensor_for = sys.modules["seeded_weights"].tensor_for

    def filled(self, network: nn.Module, name: str) -> nn.Module:
        state = network.state_dict()
        assert {key: list(value.shape) for key, value in state.items()} == self.keys[name]
        network.load_state_dict(self._stand_in.stand_in(state), strict=True)
        return network.eval()


@pytest.fixture(scope="module")
def published(reference):
    with pytest.MonkeyPatch.context() as patch:
        yield Published(reference.folder, patch)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def pictures(*levels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(levels)).permute(0, 3, 1, 2).float() / 255


def motion_of(golden) -> dict[str, torch.Tensor]:
    names = ("kp", "exp", "pitch", "yaw", "roll", "t", "scale")
    return {name: torch.from_numpy(golden[f"motion_{name}"]) for name in names}


def drawn(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(shape).standard_normal(shape, np.float32))


def test_a_cpus_forms_of_convolutions_give_the_plain_numbers(error_of, monkeypatch):
    """Two pictures in several strips: Winograd's form, spectra, products for every tap."""
    monkeypatch.setattr(convolution, "STRIP", 30_000)
    x, weight, bias = drawn(2, 129, 16, 12), drawn(128, 129, 3, 3), drawn(128)
    plain = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    assert error_of(convolution.convolved(Derived(), x, weight, bias).numpy(), plain.numpy()) < TOLERANCE
    seen = []

    def finish(part: torch.Tensor, pictures: slice, rows: slice) -> torch.Tensor:
        seen.append((pictures.start, rows.start))
        return part[:, :5] * x[pictures, :5, rows]

    finished = convolution.convolved(Derived(), x, weight, bias, finish=finish)
    assert len(seen) > 2 and error_of(finished.numpy(), (plain[:, :5] * x[:, :5]).numpy()) < TOLERANCE
    x, weight, bias = drawn(2, 90, 3, 8, 4), drawn(90, 90, 3, 3, 3), drawn(90)
    plain = F.conv3d(x.double(), weight.double(), bias.double(), padding=1)
    assert error_of(convolution.convolved(Derived(), x, weight, bias).numpy(), plain.numpy()) < TOLERANCE
    x, weight, bias = drawn(2, 4, 5, 16, 32), drawn(3, 4, 7, 7, 7), drawn(3)
    plain = F.conv3d(x.double(), weight.double(), bias.double(), padding=3)
    assert error_of(convolution.convolved(Derived(), x, weight, bias).numpy(), plain.numpy()) < TOLERANCE
    conv = convolution.Conv(20, 1, 7)
    conv.weight.copy_(drawn(1, 20, 7, 7))
    conv.bias.fill_(0.5)
    plain = F.conv2d(x.flatten(1, 2).double(), conv.weight.double(), conv.bias.double(), padding=3)
    assert error_of(convolution.to_one_plane(Derived(), x, conv).numpy(), plain.numpy()) < TOLERANCE


def test_what_is_enlarged_is_computed_at_its_own_size(error_of):
    layer, block = ConvNorm(4, 3, 3).eval(), Block(16, 8, 6, 4)
    for number, value in enumerate([*layer.parameters(), *block.parameters()]):
        value.copy_(drawn(*value.shape, number + 1)[..., number])
    for name in ("conv_0", "conv_1", "conv_s"):
        conv = getattr(block, name)
        conv.weight_u[0] = conv.weight_v[0] = 1
    x = drawn(2, 4, 3, 8, 16)
    plain = layer(F.interpolate(x, scale_factor=(1, 2, 2)))
    assert error_of(layer(x, 2).numpy(), plain.numpy()) < TOLERANCE
    x, features = drawn(2, 16, 8, 8), drawn(2, 6, 4, 4)
    assert (
        error_of(block(x, features, 2).numpy(), block(F.interpolate(x, scale_factor=2), features).numpy()) < TOLERANCE
    )


def test_appearance_motion_and_stitching_meet_the_golden_values(published, error_of):
    golden = published.golden["liveportrait"]
    shown = pictures(golden["crops"][0], golden["driving"][1], golden["noise"])
    volume = published.filled(AppearanceExtractor(), "appearance")(shown[:1]).numpy()
    assert error_of(volume[:, ::2, ::3, ::5, 3::5], golden["appearance_part"][:1]) < TOLERANCE
    motion = published.filled(MotionExtractor(), "motion")(shown)
    for name, value in motion.items():
        assert error_of(value.numpy(), golden[f"motion_{name}"]) < 2e-5, name
    for kind in ("stitching", "lip", "eye"):
        out = published.filled(Stitching(kind), kind)(torch.from_numpy(golden[f"{kind}_in"]))
        assert error_of(out.numpy(), golden[f"{kind}_out"]) < TOLERANCE, kind


@pytest.mark.soak
@pytest.mark.parametrize(("name", "points"), [("liveportrait", 21), ("performrecast", 49)])
def test_the_warp_meets_the_golden_values(published, error_of, name, points):
    golden = published.golden[name]
    network = published.filled(WarpingNetwork(points), "warping" if points == 21 else "performrecast_warping")
    source, driving = (torch.from_numpy(golden[f"warp_{which}"]) for which in ("source", "driving"))
    volume = torch.from_numpy(published.tensor_for("volume", (len(source), 32, 16, 64, 64), 1.0))
    found = {key: value.numpy() for key, value in network(volume, source, driving).items()}
    assert error_of(found["out"][:, ::4, ::5, 3::5], golden["warp_out_part"]) < 1e-3  # read between cells of noise
    assert error_of(found["out"].mean((2, 3)), golden["warp_out_mean"]) < TOLERANCE
    assert error_of(found["deformation"][:, ::3, ::5, 3::5], golden["warp_deformation_part"]) < TOLERANCE
    assert error_of(found["occlusion_map"][:, 0, ::2, 1::2], golden["warp_occlusion"]) < 3 * TOLERANCE


@pytest.mark.soak
def test_the_decoder_meets_the_golden_values(published, error_of):
    golden = published.golden["liveportrait"]
    feature = torch.from_numpy(published.tensor_for("feature", (1, 256, 64, 64), 0.5))
    picture = published.filled(Decoder(), "decoder")(feature)[0].numpy()
    assert error_of(picture[:, ::5, 3::5], golden["decoder_part"]) < TOLERANCE


@pytest.mark.soak
def test_performrecast_meets_the_golden_values(published, error_of):
    golden = published.golden["performrecast"]
    # the second picture is the first, mirrored and inverted
    shown = pictures(golden["crop_512"][0], 255 - golden["crop_512"][0][:, ::-1])
    volume = published.filled(TokenAppearanceExtractor(), "performrecast_appearance")(shown).numpy()
    assert error_of(volume[:, ::2, ::3, ::5, 3::5], golden["appearance_part"]) < TOLERANCE
    motion = published.filled(MotionExtractor(49, 3), "performrecast_motion")(
        pictures(golden["crops"][0], golden["driving"][1])
    )
    for name, value in motion.items():
        assert error_of(value.numpy(), golden[f"motion_{name}"]) < 2e-5, name


def test_keypoints_smoothing_crop_and_paste_are_the_published_ones(published, error_of):
    golden, recast = published.golden["liveportrait"], published.golden["performrecast"]
    motion = motion_of(golden)
    assert error_of(keypoints.transform(motion).numpy(), golden["points"]) < 1e-5
    assert error_of(keypoints.degrees(motion["yaw"]).numpy(), golden["degrees_yaw"][:, 0]) < 1e-5
    assert error_of(keypoints.transform_recast(motion_of(recast)).numpy(), recast["points"]) < 1e-5
    for variance, name in ((3e-7, "smooth_3e7"), (3e-5, "smooth_3e5")):
        assert error_of(keypoints.smooth(golden["smooth_in"], variance), golden[name]) < 1e-5
    for points, matrix in zip(golden["landmarks"], golden["to_crop"], strict=True):
        assert np.abs(crop.crop_matrix(points) - matrix).max() < 1e-3  # pixels
    assert np.array_equal(crop.mask_template(), golden["mask"])
    pasted = crop.paste(golden["video_crop"], golden["to_frame"][1], golden["frames"][1], golden["mask"])
    assert np.abs(pasted.astype(int) - golden["video_pasted"]).max() <= 1


def test_an_edited_expression_gives_the_published_keypoints(published, error_of):
    """The published video mode with an unedited first driving picture is our case."""
    golden = published.golden["liveportrait"]
    rows = {key: torch.from_numpy(golden[f"video_{key}"]) for key in ("exp", "scale", "t", "kp", "rotation")}
    stitching = published.filled(Stitching(), "stitching")
    own = {key: rows[key][:3] for key in ("exp", "scale", "t")}
    wanted = keypoints.smooth((rows["exp"][:3] + rows["exp"][3:] - rows["exp"][3]).numpy())
    source = torch.from_numpy(golden["video_x_s"])
    driven = source + keypoints.change(own, {"exp": torch.from_numpy(wanted)})
    assert error_of(driven.numpy(), golden["video_x_before"]) < TOLERANCE
    out = stitching(torch.cat([source.flatten(1), driven.flatten(1)], 1))
    stitched = driven + out[:, :63].view(3, 21, 3)
    stitched[..., :2] += out[:, None, 63:]
    assert error_of(stitched.numpy(), golden["video_x_after"]) < TOLERANCE


def block_means(picture: np.ndarray) -> np.ndarray:
    """[3, 512, 512] -> means over blocks of 32 x 32: [3, 16, 16]."""
    return picture.reshape(3, 16, 32, 16, 32).mean((2, 4))


def same_picture(picture: np.ndarray, golden, name: str, error_of) -> None:
    """A drawn crop [3, 512, 512] and what it looks like in its frame are those of the published program."""
    assert error_of(picture[:, ::5, 3::5], golden[f"{name}_out_part"]) < 1e-3
    assert error_of(block_means(picture), golden[f"{name}_out_mean"]) < 5e-4
    levels = np.floor(255 * picture).astype(np.uint8).transpose(1, 2, 0)
    assert np.abs(levels.astype(int) - golden[f"{name}_crop"]).max() <= 1


@pytest.mark.soak
def test_the_whole_chain_draws_the_published_picture(published, error_of):
    """Crops in, picture out: read, edited, stitched, warped, decoded, pasted, as the published program does it for a video."""
    golden = published.golden["liveportrait"]
    network = published.filled(MotionExtractor(), "motion")
    own, driving = network(pictures(*golden["crops"])), network(pictures(*golden["driving"]))
    change = driving["exp"] - driving["exp"][:1]
    wanted = torch.from_numpy(keypoints.smooth((own["exp"] + change).numpy()))
    source = keypoints.transform(own)
    driven = source + keypoints.change(own, {"exp": wanted})
    out = published.filled(Stitching(), "stitching")(torch.cat([source.flatten(1), driven.flatten(1)], 1))
    driven = driven + out[:, :63].view(3, 21, 3)
    driven[..., :2] += out[:, None, 63:]
    volume = published.filled(AppearanceExtractor(), "appearance")(pictures(golden["crops"][1]))
    feature = published.filled(WarpingNetwork(), "warping")(volume, source[1:2], driven[1:2])["out"]
    picture = published.filled(Decoder(), "decoder")(feature)[0].numpy()
    same_picture(picture, golden, "video", error_of)
    levels = np.floor(255 * picture).astype(np.uint8).transpose(1, 2, 0)
    pasted = crop.paste(levels, golden["to_frame"][1], golden["frames"][1], golden["mask"])
    assert np.abs(pasted.astype(int) - golden["video_pasted"]).max() <= 1


@pytest.mark.soak
def test_performrecasts_whole_chain_draws_the_published_picture(published, error_of):
    golden = published.golden["performrecast"]
    network = published.filled(MotionExtractor(49, 3), "performrecast_motion")
    own, driving = network(pictures(*golden["crops"])), network(pictures(*golden["driving"]))
    source = keypoints.transform_recast(own)
    assert error_of(source.numpy(), golden["replace_x_s"]) < TOLERANCE
    driven = source + keypoints.change_recast(own, driving, replace=True)
    assert error_of(driven.numpy(), golden["replace_x_d"]) < TOLERANCE
    enhanced = {"exp": own["exp"] + driving["exp"] - driving["exp"][:1], "t": driving["t"]}
    assert error_of((source + keypoints.change_recast(own, enhanced)).numpy(), golden["enhance_x_d"]) < TOLERANCE
    volume = published.filled(TokenAppearanceExtractor(), "performrecast_appearance")(pictures(golden["crop_512"][0]))
    feature = published.filled(WarpingNetwork(49), "performrecast_warping")(volume, source[:1], driven[:1])["out"]
    picture = published.filled(Decoder(), "decoder")(feature)[0].numpy()
    same_picture(picture, golden, "replace", error_of)
    levels = np.floor(255 * picture).astype(np.uint8).transpose(1, 2, 0)
    pasted = crop.paste(levels, golden["to_frame"][0], golden["frames"][0], golden["mask"])
    assert np.abs(pasted.astype(int) - golden["replace_pasted"]).max() <= 1
