import numpy as np
import pytest
import torch

from cmet_engine.errors import CmetError

TINY = {
    "embed_dim": 32,
    "num_heads": 4,
    "depth": 2,
    "prenet_depth": 1,
    "conv_layers": ((16, 10, 5), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 2, 2), (16, 2, 2)),
}


@pytest.fixture(scope="module")
def emotion2vec():
    from cmet_engine.emotion import emotion2vec  # brings transformers, which takes seconds

    return emotion2vec


@pytest.fixture
def tiny(emotion2vec):
    torch.manual_seed(0)
    model = emotion2vec.Emotion2vec(TINY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def waves(batch: int, samples: int = 8000) -> torch.Tensor:
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(1))


def test_the_small_network_meets_the_golden_values(reference, error_of, emotion2vec):
    golden = reference.golden("emotion2vec_small")
    model = emotion2vec.Emotion2vec(
        emotion2vec.Emotion2vecConfig(embed_dim=128, num_heads=4, depth=3, prenet_depth=2)
    ).eval()
    state = model.state_dict()
    unit = tuple(name for name, value in state.items() if name.endswith("weight") and value.ndim == 1)
    model.load_state_dict(reference.fill(state, 0.08, unit), strict=True)
    for samples in (16000, 23456):
        wave = torch.from_numpy(golden[f"wave_{samples}"])[None]
        with torch.no_grad():
            frames, utterance, logits = model.frames(wave)[0], model.utterance(wave)[0], model(wave)[0]
        assert error_of(frames.numpy(), golden[f"frames_{samples}"]) < 1e-4
        assert error_of(utterance.numpy(), golden[f"utterance_{samples}"]) < 1e-4
        assert error_of(logits.numpy(), golden[f"logits_{samples}"]) < 1e-4


def test_the_default_sizes_are_those_of_plus_large(emotion2vec):
    with torch.device("meta"):
        model = emotion2vec.Emotion2vec()
    parameters = sum(p.numel() for p in model.parameters())
    assert round(parameters / 1e6, 1) == 313.3
    assert len(model.blocks) == 16 and len(model.modality_encoders["AUDIO"].context_encoder.blocks) == 8


def test_a_saved_model_comes_back_the_same(tiny, tmp_path, emotion2vec):
    tiny.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file() and (tmp_path / "config.json").is_file()
    again = emotion2vec.Emotion2vec.from_pretrained(tmp_path).eval()
    wave = waves(1)
    with torch.no_grad():
        assert torch.equal(tiny.frames(wave), again.frames(wave))
        assert torch.equal(tiny.frames(wave), emotion2vec.AutoModel.from_pretrained(tmp_path).eval().frames(wave))
    assert again.config.embed_dim == again.config.hidden_size == 32


def test_sizes_may_carry_the_names_that_transformers_uses(emotion2vec):
    config = emotion2vec.Emotion2vecConfig(hidden_size=64, num_attention_heads=8, num_hidden_layers=5)
    assert (config.embed_dim, config.num_heads, config.depth) == (64, 8, 5)


def test_batch_and_loudness_do_not_matter(tiny):
    wave = waves(3)
    with torch.no_grad():
        together = tiny.frames(wave)
        alone = torch.cat([tiny.frames(row[None]) for row in wave])
        louder = tiny.frames(7.0 * wave + 0.3)
    assert together.shape == (3, 24, 32)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together, louder, atol=1e-3, rtol=1e-3)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_attention_in_blocks_equals_attention_at_once(tiny, emotion2vec, monkeypatch):
    wave = waves(1, 32000)
    with torch.no_grad():
        whole = tiny.frames(wave)
        monkeypatch.setattr(emotion2vec, "_QUERY_BLOCK", 7)
        blocks = tiny.frames(wave)
    torch.testing.assert_close(whole, blocks, atol=1e-5, rtol=1e-4)


def test_gradients_reach_every_parameter(tiny):
    tiny.train()
    tiny(waves(2)).square().sum().backward()
    for name, parameter in tiny.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("wave", [torch.zeros(1, 100), torch.zeros(8000)])
def test_a_wave_that_cannot_be_read_is_refused(tiny, wave):
    with pytest.raises(CmetError, match="16000 Hz"):
        tiny.frames(wave)


def test_the_slopes_for_a_number_of_heads_that_is_no_power_of_two(emotion2vec):
    with torch.device("cpu"):
        model = emotion2vec.Emotion2vec({**TINY, "embed_dim": 48, "num_heads": 12})
    slopes = model._slopes(torch.zeros(1)).numpy()
    np.testing.assert_allclose(slopes[:8], 0.5 ** np.arange(1, 9))
    np.testing.assert_allclose(slopes[8:], 0.5 ** np.array([0.5, 1.5, 2.5, 3.5]), rtol=1e-6)


def test_the_encoder_takes_any_rate(tiny, emotion2vec):
    encoder = emotion2vec.PublishedEncoder(tiny)
    time = np.arange(48000) / 48000
    tone = np.sin(2 * np.pi * (200 + 100 * time) * time).astype(np.float32)
    at_16 = np.sin(2 * np.pi * (200 + 100 * time[::3]) * time[::3]).astype(np.float32)
    times, features = encoder.frames(at_16, 16000)
    assert features.shape == (49, 32) and times[1] == 0.02
    np.testing.assert_allclose(encoder.utterance(at_16, 16000), features.mean(axis=0), rtol=1e-5)
    near = encoder.utterance(tone, 48000)
    assert np.abs(near - features.mean(axis=0)).max() < 0.05 * np.abs(near).max()


def test_without_weights_the_encoder_says_how_to_get_them(tmp_path, monkeypatch, emotion2vec):
    monkeypatch.setenv("CMET_MODELS", str(tmp_path))
    with pytest.raises(CmetError, match="cmet models pull emotion2vec"):
        emotion2vec.PublishedEncoder()


@pytest.mark.gpu
def test_a_gpu_gives_the_same(tiny, emotion2vec):
    wave = waves(1)[0].numpy()
    one = emotion2vec.PublishedEncoder(tiny).utterance(wave, 16000)
    np.testing.assert_allclose(
        emotion2vec.PublishedEncoder(tiny, device="cuda").utterance(wave, 16000), one, atol=0.01 * np.abs(one).max()
    )
