"""Sound of every kind, made on the spot."""

import math
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import tone

from cmet_engine.emotion.sound_files import sound_files
from cmet_engine.errors import CmetError
from cmet_engine.media import audio

MakeClip = Callable[..., Path]


def write_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    """int16 [S] or [S, C] as a .wav file."""
    samples = samples if samples.ndim == 2 else samples[:, None]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def test_a_wav_at_its_own_rate_comes_back_exactly(tmp_path: Path) -> None:
    samples = tone(1.0, 16000)[:, 0]
    np.testing.assert_array_equal(
        audio.load(write_wav(tmp_path / "a.wav", samples, 16000)), samples / np.float32(32768)
    )


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_pitch_and_length(tmp_path: Path, rate: int) -> None:
    t = np.arange(2 * rate) / rate
    path = write_wav(tmp_path / "a.wav", (12000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16), rate)
    found = audio.load(path, 16000)
    assert found.dtype == np.float32
    assert len(found) == pytest.approx(32000, abs=2)
    expected = 12000 / 32768 * np.sin(2 * np.pi * 440 * np.arange(len(found)) / 16000)
    assert np.abs(found[200:-200] - expected[200:-200]).max() < 0.005


def test_stereo_is_mixed_to_the_mean(tmp_path: Path) -> None:
    samples = tone(0.5, 16000, 2)
    found = audio.load(write_wav(tmp_path / "a.wav", samples, 16000))
    np.testing.assert_allclose(found, samples.mean(1) / 32768, atol=1e-4)


def voice(seconds: float, rate: int = 16000) -> np.ndarray:
    """Something like a voice, float [S]."""
    t = np.arange(round(seconds * rate)) / rate
    return 6000 * np.sin(2 * np.pi * 140 * t + 3 * np.sin(9 * t)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize(
    ("channels", "loudest"),
    [
        (lambda v, n: [v, -v], 0),
        (lambda v, n: [-0.7 * v + n, v + n], 1),
        (lambda v, n: [v, np.where(np.arange(len(v)) < len(v) // 2, v, -v) * 0.9], 0),
        (lambda v, n: [0 * v, v, -v, 0 * v, n, n], 1),
    ],
)
def test_a_voice_wired_in_antiphase_is_heard(tmp_path: Path, rate: int, channels: Callable, loudest: int) -> None:
    spoken, noise = voice(4, rate), np.random.default_rng(1).normal(0, 60, 4 * rate)
    samples = np.stack(channels(spoken, noise), 1).astype(np.int16)
    found = audio.load(write_wav(tmp_path / "a.wav", samples, rate), rate)
    np.testing.assert_array_equal(found, samples[:, loudest] / np.float32(32768))


@pytest.mark.parametrize(
    "channels",
    [
        lambda v, n: [v, v],
        lambda v, n: [v, 0.3 * v + n],
        lambda v, n: [v, 0 * v],
        lambda v, n: [n, n[::-1]],
        lambda v, n: [v + n, v - n],
        lambda v, n: [v, -0.3 * v],
        lambda v, n: [n, n[::-1], v, 0 * v, 0.4 * n[::2].repeat(2), -0.4 * n[::2].repeat(2)],
    ],
)
def test_ordinary_channels_are_mixed_to_their_mean_bit_for_bit(tmp_path: Path, channels: Callable) -> None:
    spoken, noise = voice(3), np.random.default_rng(1).normal(0, 1500, 3 * 16000)
    samples = np.stack(channels(spoken, noise), 1).astype(np.int16)
    found = audio.load(write_wav(tmp_path / "a.wav", samples, 16000))
    np.testing.assert_array_equal(found, (samples.T / np.float32(32768)).mean(0))


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.flac", "flac", 44100),
        ("a.mp3", "mp3", 44100),
        ("a.m4a", "aac", 48000),
        ("a.ogg", "libopus", 48000),
        ("a.mkv", "ac3", 48000),
    ],
)
def test_any_codec(make_clip: MakeClip, name: str, codec: str, rate: int) -> None:
    path = make_clip(name, video=False, sound=codec, rate=rate)
    found = audio.load(path)
    expected = audio.load(write_wav(path.with_suffix(".wav"), tone(1.0, rate), rate))
    length = min(len(found), len(expected))
    assert length == pytest.approx(16000, abs=1600)
    # lossy codecs may start a little late; the best alignment within 70 ms must match
    lags = [np.corrcoef(found[lag:length], expected[: length - lag])[0, 1] for lag in range(0, 1120, 2)]
    assert max(lags) > 0.98


def test_sample_0_belongs_to_the_first_picture(make_clip: MakeClip) -> None:
    early = make_clip("early.mp4", sound="aac", rate=48000, frames=50)
    late = make_clip(
        "late.mp4", sound="aac", rate=48000, frames=50, ticks=[i + 5 for i in range(50)], time_base=Fraction(1, 25)
    )
    full, cut = audio.load(early), audio.load(late)  # the pictures of the second begin 0.2 s after its sound
    np.testing.assert_allclose(cut[:8000], full[3200:11200], atol=2e-3)


def test_has_sound(make_clip: MakeClip) -> None:
    assert audio.has_sound(make_clip("a.mp4", sound="aac"))
    assert not audio.has_sound(make_clip("b.mp4"))
    assert not audio.has_sound(make_clip("c.mp4").parent)  # a folder of frames
    assert not audio.has_sound(make_clip("d.mp4").parent / "frame_%06d.png")


def test_cut_off_sound_gives_what_is_there(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(2.0, 16000)[:, 0], 16000)
    path.write_bytes(path.read_bytes()[:20_000])
    assert 0.5 < len(audio.load(path)) / 16000 < 0.7


def _nan_wav(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16000)
        stream.layout = "mono"  # type: ignore[union-attr]
        samples = np.zeros((1, 16000), np.float32)
        samples[0, 500] = np.nan
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(stream.encode(frame))  # type: ignore
        container.mux(stream.encode(None))  # type: ignore
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: d / "absent.wav", "does not exist"),
        (lambda d: d, "is a folder"),
        (lambda d: write_wav(d / "none.wav", np.zeros(0, np.int16), 16000), "without a single sample|not a clip"),
        (lambda d: _nan_wav(d / "nan.wav"), "not numbers"),
    ],
)
def test_unusable_sound_gets_one_sentence(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(CmetError, match=says) as caught:
        audio.load(make(tmp_path))
    assert str(caught.value).endswith(".")


def test_a_silent_clip_has_no_sound(make_clip: MakeClip) -> None:
    with pytest.raises(CmetError, match="has no sound"):
        audio.load(make_clip("a.mp4"))


def test_usable_speech_passes() -> None:
    t = np.arange(16000) / 16000
    assert audio.check_speech((0.3 * np.sin(2 * np.pi * 200 * t)).astype(np.float32), 16000, "a.wav") is None


@pytest.mark.parametrize(
    ("wave_", "says"),
    [
        (np.full(4799, 0.1), "at least 0.3 s"),
        (np.zeros(0), "at least 0.3 s"),
        (np.zeros(16000), "is silent.*every sample is 0"),
        (np.full(16000, 1e-4), "is silent.*-80 dB"),
        (np.r_[np.full(8000, 0.1), math.nan, np.full(8000, 0.1)], "not numbers"),
        (np.r_[np.full(8000, 0.1), math.inf], "not numbers"),
        (np.full((2, 16000), 0.1), "one channel"),
    ],
)
def test_unusable_speech_is_named(wave_: np.ndarray, says: str) -> None:
    with pytest.raises(CmetError, match=says) as caught:
        audio.check_speech(wave_, 16000, "take.wav")
    assert "take.wav" in str(caught.value)


def test_clipping_is_reported() -> None:
    t = np.arange(16000) / 16000
    warning = audio.check_speech(np.clip(3 * np.sin(2 * np.pi * 200 * t), -1, 1), 16000, "take.wav")
    assert warning is not None and "take.wav is clipped in" in warning


def test_real_speech(shared: Path) -> None:
    path = sorted((shared / "data" / "speech").rglob("*.flac"))[0]
    found = audio.load(path)
    assert audio.check_speech(found, audio.RATE, path.name) is None
    assert 0.05 < np.abs(found).max() <= 1


@pytest.mark.parametrize("seconds", [0.03, 0.35, 0.7, 3.0])
def test_long_pauses_are_cut_from_recordings_of_any_length(seconds: float) -> None:
    sound = tone(seconds, audio.RATE)[:, 0].astype(np.float32) / 32768
    np.testing.assert_array_equal(audio.without_pauses(sound), sound)
    silence = np.zeros(2 * audio.RATE, np.float32)
    kept = audio.without_pauses(np.concatenate([silence, sound, silence]))
    assert len(sound) + 0.9 * audio.RATE < len(kept) < len(sound) + 1.1 * audio.RATE


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.caf", "pcm_s16be"), ("a.AC3", "ac3"), ("a.eac3", "eac3"), ("a.au", "pcm_s16be"), ("a.mp2", "mp2"), ("a.w64", "pcm_s16le"),
        ("a.mka", "ac3"), ("a.aifc", "pcm_s16be"), ("a.wv", "wavpack"), ("a.tta", "tta"), ("a.spx", "opus"), ("a.m4b", "aac"),
    ],
)  # fmt: skip
def test_a_folder_of_recordings_of_any_kind_is_heard(tmp_path: Path, name: str, codec: str) -> None:
    container = {"aifc": "aiff", "m4b": "mp4", "spx": "ogg", "mka": "matroska"}.get(name.split(".")[1].lower())
    with av.open(str(tmp_path / name), "w", format=container) as target:
        stream = target.add_stream(codec, rate=48000, layout="mono")
        samples = (voice(0.5, 48000) / 32768).astype(np.float32)[None]
        graph = av.AudioResampler(stream.format, "mono", 48000, frame_size=stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 48000
        for piece in [*graph.resample(frame), *graph.resample(None)]:
            target.mux(stream.encode(piece))
        target.mux(stream.encode(None))
    (tmp_path / f"._{name}").write_bytes(b"\0\5\x16\7 Mac OS X")
    (found,) = sound_files([tmp_path])
    assert found.name == name and np.abs(audio.load(found)).max() > 0.05
