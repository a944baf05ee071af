"""The edit of EDTalk's expression codes: emotion vectors and presets to a change of the codes, frame by frame."""

from typing import Any

import numpy as np

from cmet_engine import models
from cmet_engine.emotion.clip_emotions import PRESET
from cmet_engine.emotion.connector import Connector, code_deltas
from cmet_engine.errors import NotFound
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
    spoken = [name for name in wanted if name not in changes]
    if spoken and len(times):
        steps = max(1, round((times[-1] - times[0]) * EDIT_RATE) + 1)
        grid = times[0] + np.arange(steps) / EDIT_RATE
        deltas = code_deltas(connector, np.stack([wanted[name] for name in spoken]), _sampled(expression, times, grid))
        for name, delta in zip(spoken, deltas, strict=True):
            changes[name] = _sampled(delta, grid, times)
    return changes


def _emotions(timeline: EmotionTimeline, vectors: "dict[str, Any]") -> dict[str, np.ndarray]:
    """What the connector or a preset needs for every name of the timeline."""
    wanted: dict[str, np.ndarray] = {}
    presets = models.load_presets()
    for name in timeline.names():
        if name.startswith(PRESET):
            preset = name.removeprefix(PRESET)
            if preset not in presets:
                known = f"there are {', '.join(sorted(presets))}" if presets else "there are none on this machine"
                raise CmetError(
                    f"EDTalk's preset '{preset}' is unknown, {known}; run `cmet models convert FOLDER` on EDTalk's presets."
                )
            wanted[name] = presets[preset]
        elif name in vectors:
            wanted[name] = np.asarray(getattr(vectors[name], "vector", vectors[name]), np.float32).reshape(-1)
        else:
            raise CmetError(f"The emotion '{name}' has no vector; add it to the library with `cmet vector`.")
    return wanted


def _sampled(values: np.ndarray, at: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Columns [n, D] known at `at` [n], read at `times`, between neighbours in proportion; ends are held."""
    if len(at) == len(times) and np.allclose(at, times):
        return values
    return np.column_stack([np.interp(times, at, column) for column in values.T]).astype(np.float32)


