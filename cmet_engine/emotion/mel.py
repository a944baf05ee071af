"""Mel filter banks. They are librosa's, stored: importing librosa's filters costs a process one to two seconds.

python -m cmet_engine.emotion.mel        computes the stored banks anew
"""

import functools
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from cmet_engine.models import assets
from cmet_engine.models.tensors import read_arrays

RATE = 16000  # Hz; the input of the teacher and of every embedded model
STORED = "mel_filters.safetensors"
STORED_BANKS: tuple[dict[str, Any], ...] = (
    {"bands": 80, "size": 512, "low": 40.0, "high": 7600.0, "htk": True, "norm": None},  # of `acoustics`
    {"bands": 80, "size": 400},  # of Whisper
    {"bands": 40, "size": 400},  # of the speaker encoder
)


@functools.cache
def mel_filters(
    bands: int,
    size: int,
    low: float = 0.0,
    high: float = RATE / 2,
    *,
    htk: bool = False,
    norm: Literal["slaney"] | None = "slaney",
) -> np.ndarray:
    """Triangular mel filters: float32 [bands, size // 2 + 1].

    Args:
        bands: how many.
        size: samples of the transform.
        low, high: limits in Hz.
        htk: the HTK mel scale instead of Slaney's.
        norm: `slaney` for filters of equal area, None for filters of peak 1.
    """
    stored = _stored().get(_name(bands, size, low, high, htk, norm))
    return computed(bands, size, low, high, htk=htk, norm=norm) if stored is None else stored


def computed(
    bands: int, size: int, low: float = 0.0, high: float = RATE / 2, *, htk: bool = False, norm: Any = "slaney"
) -> np.ndarray:
    """`mel_filters` by librosa."""
    import librosa  # slow to import

    # in double precision: the networks were trained on filters rounded once
    filters = librosa.filters.mel(
        sr=RATE, n_fft=size, n_mels=bands, fmin=low, fmax=high, htk=htk, norm=norm, dtype=np.float64
    )
    return np.asarray(filters, np.float32)


@functools.cache
def _stored() -> dict[str, np.ndarray]:
    return read_arrays(assets.asset(STORED))[0]


def _name(
    bands: int, size: int, low: float = 0.0, high: float = RATE / 2, htk: bool = False, norm: Any = "slaney"
) -> str:
    return f"{bands} bands of {size}, {low:g} to {high:g} Hz, {'htk' if htk else 'slaney'}, {norm or 'peak 1'}"


if __name__ == "__main__":
    save_file({_name(**bank): computed(**bank) for bank in STORED_BANKS}, assets.ASSETS / STORED)
    assets.record(STORED)
