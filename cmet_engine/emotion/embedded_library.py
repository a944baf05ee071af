"""The emotions that ship with the project, read from `assets/emotion_library.safetensors`.

Nothing here imports torch: the names and their reliability are listed without it.
"""

import functools
import json

import numpy as np
from safetensors import SafetensorError, safe_open

from cmet_engine import models
from cmet_engine.emotion.vector import VECTOR_SIZE, EmotionVector, cosine
from cmet_engine.emotions import NEUTRAL
from cmet_engine.errors import MissingWeights

EMBEDDED = "emotion_library.safetensors"
RELIABILITY = "reliability.json"  # how edited faces were classified, written by `cmet eval emotion`


@functools.cache
def embedded_emotions() -> dict[str, EmotionVector]:
    """The embedded emotions by name, neutral among them; not to be changed.

    Raises:
        CmetError: the embedded library is missing or damaged.
    """
    tensors, metadata = _read()
    recognised = json.loads(models.asset(RELIABILITY).read_text("utf-8"))["emotions"]
    emotions = {}
    for name, entry in json.loads(metadata["emotions"]).items():
        vector = np.zeros(VECTOR_SIZE, np.float32) if name == NEUTRAL else tensors[name].astype(np.float32)
        meta = {"origin": "embedded", **entry["meta"], **recognised.get(name, {})}
        emotions[name] = EmotionVector(name, vector, entry["reliability"], meta)
    return emotions


def neutral_mean() -> np.ndarray:
    """The encoder's mean output for neutral speech of its training speakers: float32 [1024]."""
    return _read()[0]["neutral_place"].astype(np.float32)


def speaker_discriminants() -> np.ndarray:
    """Linear discriminants of the training speakers, columns of float32 [256, 16]; see `pool_checks.speaker_distance`."""
    return _read()[0]["voice_directions"].astype(np.float32)


def nearest_emotions(vector: np.ndarray) -> dict[str, float]:
    """Cosine of `vector` [1024] with every embedded emotion but neutral, the nearest first."""
    cosines = {name: cosine(vector, known.vector) for name, known in embedded_emotions().items() if name != NEUTRAL}
    return dict(sorted(cosines.items(), key=lambda item: -item[1]))


@functools.cache
def _read() -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of the embedded file, read once."""
    path = models.asset(EMBEDDED)
    try:
        with safe_open(path, "np") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise MissingWeights(f"The embedded file {EMBEDDED} is damaged; install the package again.") from error
