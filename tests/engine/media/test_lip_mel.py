import numpy as np
import pytest

from cmet_engine.errors import CmetError
from cmet_engine.media.audio import lip_mel


def test_windows_meet_the_golden_values(reference, error_of):
    golden = reference.golden("cmet")
    mel = lip_mel(golden["speech_int16"].astype(np.float32) / 32768)
    assert mel.dtype == np.float32 and mel.shape == (51, 1, 80, 16)
    assert error_of(mel, golden["speech_mel"]) < 1e-4


def test_a_click_is_seen_by_the_windows_around_it_and_no_others():
    wave = np.zeros(16000, np.float32)
    wave[8000] = 1.0  # 0.5 s: windows from 0.08 s before their time to 0.12 s after, spectra 50 ms wide
    loud = lip_mel(wave).max(axis=(1, 2, 3)) > -3.9
    times = np.flatnonzero(loud) / 25
    assert 0.3 <= times.min() <= 0.42 and 0.54 <= times.max() <= 0.62
    assert loud[np.flatnonzero(loud)[0] : np.flatnonzero(loud)[-1] + 1].all()


def test_a_tone_lies_in_its_band_and_loudness_is_in_decibels():
    time = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    loud, soft = lip_mel(0.5 * tone), lip_mel(0.05 * tone)
    band = loud[12, 0].mean(axis=1).argmax()
    # 1000 Hz lies 14.2 mel above 55 Hz, and the 80 bands share 39.4 mel (Slaney: linear below 1 kHz, 15 mel there)
    assert 20 <= band <= 32
    assert loud[12, 0, band, 8] - soft[12, 0, band, 8] == pytest.approx(20 * 8 / 100, abs=0.02)


def test_a_wave_too_short_for_a_frame_gives_none_and_stereo_is_refused():
    assert lip_mel(np.zeros(639)).shape == (0, 1, 80, 16)
    assert lip_mel(np.zeros(640)).shape == (1, 1, 80, 16)
    with pytest.raises(CmetError, match="one channel"):
        lip_mel(np.zeros((2, 16000)))
