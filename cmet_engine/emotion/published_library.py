"""The library's emotions in the emotion2vec+ large space, which the published connector takes (renderer `edtalk`).

They are mean differences of emotion2vec+ features of MEAD and of a synthetic voice.
"""

import functools

import numpy as np

from cmet_engine.emotion.vector import LENGTH
from cmet_engine.emotions import LIBRARY
from cmet_engine.models import assets
from cmet_engine.models.tensors import read_arrays

EMBEDDED = "published_library.safetensors"


def published_vector(vector: np.ndarray) -> np.ndarray:
    """An emotion vector [13] of the embedded encoder's space in the emotion2vec+ large space: float32 [1024].

    Raises:
        CmetError: the embedded file is missing or damaged, or exceptions are refused (`models.licences`).
    """
    return (np.asarray(vector, np.float32) / LENGTH) @ _vectors()


@functools.cache
def _vectors() -> np.ndarray:
    """The vectors of the library's emotions: float32 [13, 1024]."""
    stored, _ = read_arrays(
        assets.asset(EMBEDDED), f"The embedded file {EMBEDDED} is damaged; install the package again."
    )
    return np.stack([stored[name] for name in LIBRARY]).astype(np.float32)
