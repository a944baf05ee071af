"""The backbone computes what the published networks do, whatever the gain and the length."""

import numpy as np
import pytest
import torch
from voices import speak

from cmet_engine.emotion import backbone as backbones
from cmet_engine.emotion import mel
from cmet_engine.emotion.acoustics import hann
from cmet_engine.emotion.mel import mel_filters
from cmet_engine.emotion.speech import statistics
from cmet_engine.errors import CmetError
from cmet_engine.models import layers
from cmet_engine.models.quantisation import pack, rounded, unpack


@pytest.fixture(scope="module")
def backbone():
    return backbones.load_backbone()


def extract(backbone, wave):
    return next(backbone([wave]))


@pytest.mark.soak  # the values of these networks are held by test_speech.py, too
@pytest.mark.parametrize("bands", [backbones.WHISPER_BANDS, backbones.SPEAKER_BANDS])
def test_filters_are_those_the_networks_were_trained_with(bands):
    from transformers.audio_utils import mel_filter_bank

    published = mel_filter_bank(201, bands, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney").T
    np.testing.assert_allclose(mel_filters(bands, 400), published, atol=1e-7)


@pytest.mark.parametrize("bank", mel.STORED_BANKS)
def test_the_stored_filters_are_librosas(bank):
    np.testing.assert_array_equal(mel_filters(**bank), mel.computed(**bank))


def test_filters_that_are_not_stored_are_computed():
    assert mel_filters(24, 400).shape == (24, 201)


@pytest.mark.soak  # imports transformers, five seconds
def test_layers_compute_what_whisper_does(backbone):
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(
        d_model=backbones.WIDTH, encoder_layers=2, encoder_attention_heads=backbones.HEADS, encoder_ffn_dim=1536,
        num_mel_bins=backbones.WHISPER_BANDS, max_source_positions=backbones.STEPS,
    )  # fmt: skip
    published = WhisperEncoder(config).eval()
    ours = {
        name.removeprefix("encoder."): torch.from_numpy(value)
        for name, value in backbone.weights.items()
        if name.startswith("encoder.")
    }
    missing = published.load_state_dict(ours, strict=False)
    assert not missing.unexpected_keys  # the names are the published ones
    seen = {}
    published.layers[1].self_attn.register_forward_hook(lambda m, given, out: seen.update(attention=out[0]))
    published.layers[1].register_forward_pre_hook(lambda m, given: seen.update(first=given[0]))
    mel = torch.randn(1, backbones.WHISPER_BANDS, 2 * backbones.STEPS, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        published(mel)
    expected = (seen["first"] + seen["attention"])[0].numpy()
    np.testing.assert_allclose(backbone.whisper(mel[0].T.numpy()), expected, atol=1e-4, rtol=1e-4)


def test_layers_compute_what_torch_does(backbone):
    bands = 10 * np.random.default_rng(0).random((2, 90, backbones.SPEAKER_BANDS), np.float32)
    published = torch.nn.LSTM(backbones.SPEAKER_BANDS, backbones.SPEAKER_WIDTH, 2, batch_first=True)
    own = {n.removeprefix("lstm."): torch.from_numpy(v) for n, v in backbone.weights.items() if n.startswith("lstm.")}
    published.load_state_dict(own, strict=True)
    with torch.inference_mode():
        expected = published(torch.from_numpy(bands))[0].numpy()
    np.testing.assert_allclose(layers.lstm(backbone.weights, "lstm", 2, bands), expected, atol=1e-5)


def test_loud_frames_come_to_the_level_of_training(backbone):
    power, _ = backbone.levelled(0.3 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32))
    # a tone of mean square s has the power 400 * sum(window^2) * s / 2 below half the rate, nearly all in a bin or three
    most = backbones.LOUD**2 * 400 * float(np.square(hann(400)).sum()) / 2
    assert 0.2 * most < float(np.median(power.sum(1))) < 1.2 * most


def test_gain_does_not_matter(backbone):
    wave = speak(2.0)
    one, other = (extract(backbone, w).summary() for w in (wave, 0.01 * wave + 0.2))
    assert one.shape == (backbones.STATISTICS,)
    np.testing.assert_allclose(other, one, atol=2e-2)


@pytest.mark.parametrize("samples", [1, 160, 799, 4000, 48001, 128000])
def test_any_length_up_to_eight_seconds_is_taken(backbone, samples):
    features = extract(backbone, speak(8.0)[:samples])
    assert np.isfinite(features.summary()).all()
    assert abs(2 * len(features.whisper) - len(features.speaker)) <= 1
    np.testing.assert_allclose(
        features.summaries(np.array([0]), np.array([len(features.spoken)]))[0], features.summary(), atol=1e-4
    )


def test_longer_waves_are_taken_in_segments(backbone):
    with pytest.raises(ValueError, match="more than"):
        extract(backbone, speak(8.2))
    wave = speak(21.0)
    row = statistics(wave, backbone)
    parts = np.stack([extract(backbone, part).summary() for part in wave.reshape(4, -1)])
    assert row.shape == (backbones.STATISTICS,)
    assert parts.min() - 1e-4 <= row.min() and np.abs(row - parts.mean(0)).max() < 0.1 * np.ptp(parts)
    one = speak(3.0)
    np.testing.assert_allclose(statistics(one, backbone), extract(backbone, one).summary(), atol=1e-4)


def test_windows_see_what_is_in_them(backbone):
    wave = np.concatenate([speak(2.0, pitch=100), speak(2.0, pitch=260, seed=3)])
    features = extract(backbone, wave)
    rows = features.summaries(np.array([0, 0, 210]), np.array([100, 190, 400]))
    part = features.speaker[:100][features.spoken[:100]]
    np.testing.assert_allclose(rows[0, 768:1024], part.mean(0), atol=1e-4)
    assert np.linalg.norm(rows[0] - rows[1]) < 0.7 * np.linalg.norm(rows[0] - rows[2])
    silence = features.summaries(np.array([399]), np.array([400]))  # hardly a frame
    assert np.isfinite(silence).all()


def test_int8_loses_half_a_step(tmp_path):
    value = np.random.default_rng(0).standard_normal((7, 5, 3)).astype(np.float32)
    value *= np.logspace(-3, 3, 7, dtype=np.float32)[:, None, None]
    step = np.abs(value).reshape(7, -1).max(1) / 127
    back = unpack(pack("x", value))
    assert set(back) == {"x"} and (np.abs(back["x"] - value).reshape(7, -1) <= 0.501 * step[:, None]).all()
    np.testing.assert_allclose(rounded(rounded(value)), rounded(value), rtol=1e-6)
    whole = np.arange(3)
    np.testing.assert_array_equal(unpack({"n": whole})["n"], whole)


def test_a_damaged_file_is_named(tmp_path, backbone):
    path = tmp_path / "backbone.safetensors"
    with pytest.raises(CmetError, match="missing or damaged"):
        backbones.read_backbone(path)
    path.write_bytes(b"cut")
    with pytest.raises(CmetError, match="missing or damaged"):
        backbones.read_backbone(path)
    backbones.save_backbone(backbone.weights, path, {"whisper": "here"})
    wave = speak(1.0)
    np.testing.assert_allclose(
        extract(backbones.read_backbone(path), wave).summary(), extract(backbone, wave).summary(), atol=1e-3
    )
