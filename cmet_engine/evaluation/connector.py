"""How far a connector predicts changes of expression of people and speakers that it was not trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cmet_engine import arkit
from cmet_engine.emotion.connector import Connector, code_deltas
from cmet_engine.emotion.embedded_connector import CONNECTOR_FILE, EXPRESSION_SCALE, VECTOR_NORM, unit_vector
from cmet_engine.emotion.speech import load_encoder
from cmet_engine.emotions import LIBRARY
from cmet_engine.errors import InvalidInput
from cmet_engine.models import assets
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.connector.batches import Batch, Batches, UnpairedBatches
from cmet_engine.training.connector.config import ConnectorConfig
from cmet_engine.training.connector.faces import Faces, read_tracks
from cmet_engine.training.connector.folders import check_one_kind, read_pairs, read_trained
from cmet_engine.training.connector.recipe import train_connector
from cmet_engine.training.connector.speech import Speech, pooled_vectors, read_speech
from cmet_engine.training.connector.split import split_pairs, split_unpaired
from cmet_engine.training.labelled_pictures import load_pictures
from cmet_engine.training.loop import TOTAL, LearningRate, Loop

HELD_OUT_FIRST = 10_000
"""Number of the first batch that is measured with: none that ridge and MLP are fitted to has it."""

RIDGE_PENALTY = 30.0
"""Of the linear baseline."""

MLP_STEPS, MLP_ROWS, MLP_WIDTH = 600, 256, 128
"""A baseline of its own, fitted to the same batches for the same time at every call."""


def mean_directions(
    network: Connector, vectors: dict[str, np.ndarray], faces: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """What a connector adds on average to talking faces, for each emotion vector: name -> [52]."""
    names = list(vectors)
    stacked = unit_vector(np.stack([vectors[n] for n in names]))
    deltas = [code_deltas(network, stacked, t.astype(np.float32) * EXPRESSION_SCALE) / EXPRESSION_SCALE for t in faces]
    return dict(zip(names, np.concatenate(deltas, 1).mean(1), strict=True))


def zero_shot(
    speech: Speech,
    faces: Faces,
    config: ConnectorConfig,
    full: Connector,
    emotions: Sequence[str] = LIBRARY,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Leave each emotion out of training: cosine of the direction then predicted with the one that `full` learned.

    Returns:
        Name -> cosine, and `mean`.
    """
    vectors = pooled_vectors(speech, emotions)
    tracks = [t[:100] for t in faces.tracks[:8]]
    learned = mean_directions(full, vectors, tracks)
    result: dict[str, float] = {}
    for number, left_out in enumerate(vectors):
        rest = [e for e in vectors if e != left_out]
        network, _ = train_connector(UnpairedBatches(speech, faces, config, rest), config)
        guess = mean_directions(network, {left_out: vectors[left_out]}, tracks)[left_out]
        result[left_out] = float(
            guess @ learned[left_out] / max(np.linalg.norm(guess) * np.linalg.norm(learned[left_out]), 1e-9)
        )
        if progress:
            progress(Stage.HOLD_OUT, number + 1, len(vectors))
    result["mean"] = float(np.mean(list(result.values())))
    return result


def compare_models(
    network: Connector, train: Batches, held_out: Batches, steps: int = 40
) -> dict[str, dict[str, float]]:
    """The connector against ridge regression and a small MLP, on people and speakers that none of them was trained on.

    Ridge and MLP are given the emotion vector and the mean expression of the window, and predict the mean change. The
    connector gets no reference, as in the first window of a clip, so that it is given no more than they are.

    Returns:
        For `connector`, `ridge`, `mlp`: `explained` (share of the variance of the change) and `cosine` with it.
    """
    x, y, _ = _collected(train, 0, steps)
    x_new, y_new, drawn = _collected(held_out, HELD_OUT_FIRST, steps)
    mean_x, mean_y = x.mean(0), y.mean(0)
    gram = (x - mean_x).T @ (x - mean_x)
    weights = np.linalg.solve(gram + RIDGE_PENALTY * np.eye(len(gram)), (x - mean_x).T @ (y - mean_y))
    guesses = {"ridge": (x_new - mean_x) @ weights + mean_y}
    mlp = _fit_mlp(x, y, train.config.seed)
    with torch.no_grad():
        guesses["mlp"] = mlp(torch.as_tensor(x_new)).numpy()
        guesses["connector"] = torch.cat(
            [network(torch.zeros_like(b.reference), b.speech, b.neutral).mean(1) for b in drawn]
        ).numpy()
    result = {}
    for name, guess in guesses.items():
        explained = 1 - ((guess - y_new) ** 2).sum() / ((y_new - mean_y) ** 2).sum()
        lengths = np.linalg.norm(guess, axis=1) * np.linalg.norm(y_new, axis=1)
        cosine = ((guess * y_new).sum(1) / np.maximum(lengths, 1e-9)).mean()
        result[name] = {"explained": round(float(explained), 4), "cosine": round(float(cosine), 4)}
    return result


def _collected(batches: Batches, first: int, steps: int) -> tuple[np.ndarray, np.ndarray, list[Batch]]:
    """Inputs [R, S + D] and changes [R, D] of `steps` batches from number `first` on, and the batches."""
    drawn = [batches(first + k) for k in range(steps)]
    inputs = [torch.cat((b.speech.squeeze(1) / VECTOR_NORM, b.neutral.mean(1)), 1) for b in drawn]
    changes = [(b.emotional - b.neutral).mean(1) for b in drawn]
    return torch.cat(inputs).numpy(), torch.cat(changes).numpy(), drawn


def _fit_mlp(x: np.ndarray, y: np.ndarray, seed: int) -> nn.Module:
    """A small MLP from inputs [R, K] to changes [R, D]."""
    torch.manual_seed(seed)
    mlp = nn.Sequential(nn.Linear(x.shape[1], MLP_WIDTH), nn.GELU(), nn.Linear(MLP_WIDTH, y.shape[1]))
    optimiser = torch.optim.AdamW(mlp.parameters(), 1e-3, weight_decay=1e-2)
    inputs, wanted = torch.as_tensor(x), torch.as_tensor(y)

    def rows(step: int) -> torch.Tensor:
        return torch.as_tensor(np.random.default_rng(step).integers(len(x), size=MLP_ROWS))

    def objective(_: int, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {TOTAL: (mlp(inputs[rows]) - wanted[rows]).square().mean()}

    constant = LearningRate(optimiser, lambda _: 1e-3)
    Loop(mlp, optimiser, constant, rows, objective, (), MLP_STEPS).run()
    return mlp


def evaluate_connector(
    *,
    speech: Sequence[str | Path],
    pictures: str | Path | None = None,
    tracks: Sequence[str | Path] = (),
    videos: str | Path | None = None,
    codes: str | Path | None = None,
    cache: Path | None = None,
    file: str | Path | None = None,
    leave_out: bool = False,
    steps: int = 400,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What `cmet eval connector` does: a trained connector against ridge and MLP on held-out people and speakers.

    Args:
        speech, pictures, tracks, videos, codes: see `train_from_folders`.
        cache: folder in which tracks of `videos` are kept.
        file: the connector; None takes the embedded one.
        leave_out: also train once without each emotion, `steps` long, and compare what is then predicted for it.
        steps: of these trainings.
        progress: called as `progress(stage, done, total)`.

    Returns:
        `held_out` from `compare_models`; with `leave_out` also `zero_shot`.

    Raises:
        CmetError: data is missing, nobody in it was held out, or the connector is of another space.
    """
    check_one_kind(pictures, videos, codes)
    network, config, _ = read_trained(file or assets.asset(CONNECTOR_FILE))
    wanted = arkit.COUNT if codes is None else ConnectorConfig.published().expression_dim
    if network.expression_dim != wanted:
        raise InvalidInput(
            f"The connector works on {network.expression_dim} numbers a frame, these faces have {wanted}; "
            "give one that was trained on such faces with --weights."
        )
    if pictures is None:
        voices, paired = read_pairs(speech, videos, codes, cache=cache, progress=progress)
        known, held_out, held = split_pairs(voices, paired, config)
        if held_out is None:
            raise InvalidInput(
                "Nobody in this data was held out of training; name speakers in 'held_speakers' and train again."
            )
        return {"held_speakers": held, "held_out": compare_models(network, known, held_out)}
    labelled, faces = load_pictures(pictures).reviewed(), read_tracks(tracks)
    voices = read_speech(speech, load_encoder(), progress)
    result: dict[str, Any] = {"held_out": compare_models(network, *split_unpaired(voices, faces, labelled, config))}
    if leave_out:
        short = ConnectorConfig(steps=steps, warmup=50)
        emotions = [e for e in LIBRARY if (voices.emotion == e).any()]
        seen = labelled.chosen(labelled.fold != 0)
        shown = Faces(faces, seen.coefficients, seen.emotion)
        result["zero_shot"] = zero_shot(voices, shown, short, network, emotions, progress)
    return result
