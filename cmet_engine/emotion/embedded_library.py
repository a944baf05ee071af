"""The emotions that ship with the project, read from `assets/emotion_library.safetensors`.

Nothing here imports torch: the names and their reliability are listed without it.
"""

import functools
import json

import numpy as np

from cmet_engine.emotion.vector import VECTOR_SIZE, EmotionVector, cosine, library_vector
from cmet_engine.emotions import NEUTRAL
from cmet_engine.files import read_json
from cmet_engine.models import assets
from cmet_engine.models.tensors import read_arrays

EMBEDDED = "emotion_library.safetensors"
RELIABILITY = "reliability.json"  # how edited faces were classified, written by `cmet eval emotion`


@functools.cache
def embedded_emotions() -> dict[str, EmotionVector]:
    """The embedded emotions by name, neutral among them; not to be changed.

    Raises:
        CmetError: the embedded library is missing or damaged.
    """
    _, metadata = _read()
    recognised = read_json(assets.asset(RELIABILITY))["emotions"]
    emotions = {}
    for name, entry in json.loads(metadata["emotions"]).items():
        vector = np.zeros(VECTOR_SIZE, np.float32) if name == NEUTRAL else library_vector(name)
        meta = {"origin": "embedded", **entry["meta"], **recognised.get(name, {})}
        emotions[name] = EmotionVector(name, vector, entry["reliability"], meta)
    return emotions


def neutral_mean() -> np.ndarray:
    """The encoder's mean output for neutral speech of its training speakers: float32 [13]."""
    return _read()[0]["neutral_place"].astype(np.float32)


def speaker_discriminants() -> np.ndarray:
    """Linear discriminants of the training speakers, columns of float32 [256, 16]; see `pool_checks.speaker_distance`."""
    return _read()[0]["voice_directions"].astype(np.float32)


def nearest_emotions(vector: np.ndarray) -> dict[str, float]:
    """Cosine of `vector` [13] with every embedded emotion but neutral, the nearest first."""
    cosines = {name: cosine(vector, known.vector) for name, known in embedded_emotions().items() if name != NEUTRAL}
    return dict(sorted(cosines.items(), key=lambda item: -item[1]))


@functools.cache
def _read() -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of the embedded file, read once."""
    return read_arrays(assets.asset(EMBEDDED), f"The embedded file {EMBEDDED} is damaged; install the package again.")
