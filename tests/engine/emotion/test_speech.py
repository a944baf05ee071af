from pathlib import Path

import numpy as np
import pytest
from soak_cases import soak
from voices import RATE, speak

from cmet_engine.emotion import acoustics as front
from cmet_engine.emotion import heads_weights, speech
from cmet_engine.emotion.intensity import intensity
from cmet_engine.emotion.vector import LENGTH
from cmet_engine.errors import CmetError


@pytest.fixture(scope="module")
def encoder():
    return speech.load_encoder()


@pytest.mark.parametrize("hertz", [75, 120, 210, 330, 480])
def test_pitch_is_measured_within_two_percent(hertz):
    bands = front.acoustics(speak(2.0, pitch=hertz, lively=0.0))
    voiced = bands[:, 82] > front.VOICED
    measured = 150 * 2 ** np.median(bands[voiced, 80])
    assert measured == pytest.approx(hertz, rel=0.02)


def test_acoustics_do_not_depend_on_gain():
    wave = speak(1.5)
    np.testing.assert_allclose(front.acoustics(wave), front.acoustics(0.1 * wave), atol=0.02)


def test_blocks_of_a_long_recording_join_without_a_seam(monkeypatch):
    wave = speak(3.0)
    whole = front.acoustics(wave)
    monkeypatch.setattr(front, "BLOCK", 37)
    np.testing.assert_allclose(front.acoustics(wave), whole, atol=1e-4)


def test_utterance_is_a_point_and_repeats(encoder):
    wave = speak()
    first = encoder.utterance(wave, RATE)
    assert first.shape == (13,) and first.dtype == np.float32
    np.testing.assert_array_equal(first, encoder.utterance(wave, RATE))


@pytest.mark.parametrize(("name", "voice"), [("short", (3.0, 130, 0.1, 0)), ("long", (21.0, 95, 0.3, 2))])
def test_the_numbers_are_those_of_the_networks_in_torch(encoder, name, voice):
    """`speech_values.npz` holds what the published layers and the heads gave when torch computed them."""
    seconds, pitch, lively, seed = voice
    wave = speak(seconds, pitch=pitch, lively=lively, seed=seed)
    with np.load(Path(__file__).with_name("speech_values.npz")) as file:
        neutral = file["neutral"]
        statistics, scores, beside, moments = (
            file[f"{name}.{what}"] for what in ("statistics", "scores", "scores_beside", "moments")
        )
    measured = encoder.encode(wave)
    np.testing.assert_allclose(measured, statistics, atol=2e-5)
    largest = np.abs(scores).max()
    np.testing.assert_allclose(encoder.predict(measured).scores, scores, atol=1e-4 * largest)
    np.testing.assert_allclose(encoder.predict(measured, neutral).scores, beside, atol=1e-4 * largest)
    np.testing.assert_allclose(encoder.frame_features(wave, RATE).features, moments, atol=1e-4 * LENGTH)


@pytest.mark.parametrize("rate", [44100, *soak(22050, 48000)])
def test_the_sample_rate_hardly_matters(encoder, rate):
    high = speak(2.0, rate=48000)
    from scipy.signal import resample_poly

    common = np.gcd(rate, 48000)
    given = resample_poly(high, rate // common, 48000 // common)
    at_16k = resample_poly(high, 1, 3)
    a, b = encoder.utterance(given, rate), encoder.utterance(at_16k, RATE)
    assert np.linalg.norm(a - b) < 0.15 * np.linalg.norm(a)


def test_frames_cover_the_clip_four_times_a_second(encoder):
    wave = speak(12.0)  # longer than one part
    times, features, _, _ = encoder.frame_features(wave, RATE)
    np.testing.assert_allclose(np.diff(times), 0.25)
    assert times[0] == 0 and 11.5 <= times[-1] <= 12
    assert features.shape == (len(times), 13) and np.isfinite(features).all()
    steps = np.linalg.norm(np.diff(features, axis=0), axis=1)
    seam = np.argmin(np.abs(times - 12 / 3))
    assert steps[seam - 1 : seam + 1].max() < 6 * np.median(steps) + 1e-3, "a jump where two parts meet"


def test_intensity_stays_around_one_without_jumps(encoder):
    wave = speak(6.0, lively=0.4)
    times, strength = intensity(encoder.frame_features(wave, RATE), np.random.default_rng(0).standard_normal(13))
    assert strength.shape == times.shape and strength.dtype == np.float32
    assert strength.min() >= 0.5 and strength.max() <= 1.5
    assert strength.mean() == pytest.approx(1.0, abs=0.1)
    assert np.abs(np.diff(strength)).max() < 0.3


def test_what_is_not_speech_is_refused_by_name(encoder):
    noise = 0.2 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(2 * RATE) / RATE).astype(np.float32)
    for wave, word in (
        (noise, "no voice"),
        (tone, "steady tone"),
        (np.zeros(RATE, np.float32), "silent"),
        (speak(0.2), "0.20 s"),
        (np.stack([speak(), speak()], 1), "channel"),
        (np.full(RATE, np.nan, np.float32), "not numbers"),
    ):
        with pytest.raises(CmetError, match=word):
            encoder.utterance(wave, RATE)
    with pytest.raises(CmetError, match="sample rate"):
        encoder.utterance(speak(), 100)


def test_a_vector_of_another_space_is_refused(encoder):
    with pytest.raises(CmetError, match="13 numbers"):
        intensity(encoder.frame_features(speak(), RATE), np.ones(10))


def test_an_encoder_is_stored_and_read_back(tmp_path, encoder):
    path = tmp_path / "encoder.safetensors"
    heads_weights.save_heads(encoder.heads, path, {"right": 0.5})
    again = speech.load_encoder(str(path))
    assert again.figures == {"right": 0.5}
    wave = speak()
    np.testing.assert_allclose(again.utterance(wave, RATE), encoder.utterance(wave, RATE), atol=1e-4)


def test_a_damaged_encoder_is_named(tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not weights")
    with pytest.raises(CmetError, match=r"broken\.safetensors"):
        speech.load_encoder(str(path))
    with pytest.raises(CmetError, match="missing"):
        speech.load_encoder(str(tmp_path / "absent.safetensors"))


def test_the_network_is_small_enough(encoder):
    numbers = [*heads_weights.arrays(encoder.heads).values(), *encoder.backbone.weights.values()]
    assert sum(n.size for n in numbers) < 8_000_000, "what it knows of clips included"


def test_intensity_rises_where_the_voice_turns_angry(encoder, shared):
    from cmet_engine.emotion.library import load_library
    from cmet_engine.media import audio

    vector, rises = load_library()["angry"].vector, []
    for actor in ("17", "18", "19", "20"):  # held out
        calm = audio.load(shared / f"data/speech/ravdess/03-01-01-01-01-01-{actor}.flac")
        angry = audio.load(shared / f"data/speech/ravdess/03-01-05-02-01-01-{actor}.flac")
        angry *= np.abs(calm).max() / np.abs(angry).max()
        times, strength = intensity(encoder.frame_features(np.concatenate([calm, angry]), RATE), vector)
        turn = len(calm) / RATE
        rises.append(strength[times > turn + 0.3].mean() - strength[times < turn - 0.3].mean())
    assert np.mean(rises) > 0.05 and min(rises) > -0.1, rises
