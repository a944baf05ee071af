"""The edit of EDTalk's expression codes: emotion vectors and presets to a change of the codes, frame by frame."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cmet_engine.emotion.clip_emotions import PRESET
from cmet_engine.emotion.connector import Connector, code_deltas
from cmet_engine.emotion.published_library import published_vector
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.errors import NotFound
from cmet_engine.models import registry
from cmet_engine.timeline import EmotionTimeline

EDIT_RATE = 25
"""Frames a second on which the connector was trained."""


def expression_changes(
    connector: Connector, wanted: dict[str, np.ndarray], expression: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    """The change of the expression codes that each emotion makes in one shot, at full strength.

    The codes are brought to 25 frames a second, on which the connector was trained, go through its window loop, and the
    change is brought back to the shot's own times.

    Args:
        connector: C-MET's.
        wanted: by name, an emotion vector [1024] or, for EDTalk's presets, expression codes [10] to reach.
        expression: float32 [n, 10].
        times: float64 [n] seconds.

    Returns:
        By name, float32 [n, 10].
    """
    changes = {name: codes[None] - expression for name, codes in wanted.items() if len(codes) == expression.shape[1]}
    by_connector = [name for name in wanted if name not in changes]
    if by_connector and len(times):
        steps = max(1, round((times[-1] - times[0]) * EDIT_RATE) + 1)
        grid = times[0] + np.arange(steps) / EDIT_RATE
        deltas = code_deltas(
            connector, np.stack([wanted[name] for name in by_connector]), resampled(expression, times, grid)
        )
        for name, delta in zip(by_connector, deltas, strict=True):
            changes[name] = resampled(delta, grid, times)
    return changes


def emotion_inputs(timeline: EmotionTimeline, vectors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """By name of the timeline, an emotion vector [1024] for the connector or the expression codes [10] of a preset.

    Args:
        timeline: whose names count.
        vectors: by name an object with `.vector`, or the vector itself: [13] in the embedded encoder's space or [1024] in
            the emotion2vec+ space.

    Raises:
        NotFound: a preset is not on this machine, or an emotion has no vector.
    """
    wanted: dict[str, np.ndarray] = {}
    presets = registry.load_presets()
    for name in timeline.names():
        if name.startswith(PRESET):
            preset = name.removeprefix(PRESET)
            if preset not in presets:
                known = f"there are {', '.join(sorted(presets))}" if presets else "there are none on this machine"
                raise NotFound(
                    f"EDTalk's preset '{preset}' is unknown, {known}; run `cmet models convert FOLDER` on EDTalk's presets."
                )
            wanted[name] = presets[preset]
        elif name in vectors:
            vector = np.asarray(getattr(vectors[name], "vector", vectors[name]), np.float32).reshape(-1)
            wanted[name] = published_vector(vector) if len(vector) == VECTOR_SIZE else vector
        else:
            raise NotFound(f"The emotion '{name}' has no vector; add it to the library with `cmet vector`.")
    return wanted


def resampled(values: np.ndarray, at: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Columns [n, D] given at times `at` [n], linearly interpolated at `times`: float32 [N, D]; ends are held."""
    if len(at) == len(times) and np.allclose(at, times):
        return values
    return np.column_stack([np.interp(times, at, column) for column in values.T]).astype(np.float32)
