"""The embedded emotion library, made from the clips that the speech encoder is trained on (`cmet train encoder --embed`)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from cmet_engine.emotion.backbone import SPEAKER_MEAN
from cmet_engine.emotion.embedded_library import EMBEDDED as EMBEDDED_LIBRARY
from cmet_engine.emotion.heads_weights import load_heads, save_heads
from cmet_engine.emotion.predictions import ENCODER_FILES
from cmet_engine.emotion.speech import Encoder
from cmet_engine.emotion.user_library import FORMAT as LIBRARY_FORMAT
from cmet_engine.emotion.vector import LENGTH
from cmet_engine.emotions import LIBRARY
from cmet_engine.evaluation.speech import evaluate
from cmet_engine.files import whole_file
from cmet_engine.models import assets, licences
from cmet_engine.training.corpora.speech import read_corpora
from cmet_engine.training.speech.clips import Clips, prepare
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.recipe import CONFIG, WEIGHTS
from cmet_engine.training.speech.targets import held_out

SAME_VOICE = 1.1
"""Distance that `pool_checks` calls 1: strong emotion and neutral speech of one speaker of another corpus, four clips each, lie 1.6 of
them apart in one case of twenty (directions from CREMA-D, distances in EMO-DB)."""

NEUTRAL_CLIPS = 60  # of each dataset, whose mean is the place of neutral speech
FEW_SPEAKERS = 2  # datasets with no more show no differences between speakers


def embed(run: str | Path, corpora: Sequence[str | Path], *, cache: str | Path | None = None) -> dict[str, Any]:
    """Make a finished training run the embedded encoder: measure it, write both assets with their checksums; returns the figures.

    Args:
        run: folder that `train_encoder` wrote.
        cache: folder of the prepared statistics; None: `cache` in the run's folder.
        corpora: what it was trained on.

    Raises:
        CmetError: a dataset that it was trained on is not among its sources in `licences.json`.
    """
    run = Path(run)
    heads, _ = load_heads(run / WEIGHTS)
    config = TrainingConfig.from_json((run / CONFIG).read_text("utf-8"), str(run / CONFIG))
    recordings = [r for r in read_corpora(corpora) if r.dataset in config.datasets]
    for name in (ENCODER_FILES[0], EMBEDDED_LIBRARY):
        licences.check_recipe(name, {r.dataset for r in recordings})
    clips = prepare(recordings, run / "cache" if cache is None else cache, to_train=False)
    encoder = Encoder(heads)
    figures = evaluate(encoder, clips, config)
    save_heads(heads, assets.ASSETS / ENCODER_FILES[0], figures, force=True)
    write_library(encoder, clips, config, figures, assets.ASSETS / EMBEDDED_LIBRARY)
    for name in (ENCODER_FILES[0], EMBEDDED_LIBRARY):
        assets.record(name)
    return figures


def write_library(
    encoder: Encoder, clips: Clips, config: TrainingConfig, figures: dict[str, Any], path: str | Path
) -> None:
    """Make the embedded library from the clips that were trained on.

    The vectors themselves are the ends of the axes (`vector.library_vector`). The reliability of an emotion is the share of the
    held-out speakers' pools that are recognised, from `figures`; None where there are none.
    """
    training = ~held_out(clips, config)
    about: dict[str, Any] = {"neutral": {"reliability": 1.0, "meta": {"length": 0.0, "near": {}}}}
    for name in LIBRARY:
        shares = [
            entry[kind]["emotions"][name]
            for entry in figures.values()
            for kind in ("pools", "pools_alone")
            if isinstance(entry, dict) and name in entry.get(kind, {}).get("emotions", {})
        ]
        reliability = round(float(np.mean(shares)), 3) if shares else None
        about[name] = {"reliability": reliability, "meta": {"length": LENGTH, "near": {}}}
    rows = np.flatnonzero(training & (clips.emotion == "neutral"))
    by_dataset = [
        encoder.predict(clips.statistics[0, rows[clips.dataset[rows] == dataset][:NEUTRAL_CLIPS]]).features.mean(0)
        for dataset in np.unique(clips.dataset[rows])
    ]
    tensors = {
        "voice_directions": voice_directions(clips, training).astype(np.float32),
        "neutral_place": np.mean(by_dataset, 0).astype(np.float32),
    }
    with whole_file(path, force=True) as temporary:
        save_file(tensors, temporary, {"format": LIBRARY_FORMAT, "emotions": json.dumps(dict(sorted(about.items())))})


def voice_directions(clips: Clips, chosen: np.ndarray, count: int = 16) -> np.ndarray:
    """Linear discriminants that separate the speakers of the `chosen` [N] clips, whatever their emotion: [256, `count`].

    Divided by `SAME_VOICE`.
    """
    counts = {dataset: len(np.unique(clips.speaker[clips.dataset == dataset])) for dataset in np.unique(clips.dataset)}
    many = [dataset for dataset, count in counts.items() if count > FEW_SPEAKERS]
    real = np.flatnonzero(chosen & np.isin(clips.dataset, many))
    measures = clips.statistics[0, real, SPEAKER_MEAN].astype(np.float64)  # [M, 256]
    for dataset in np.unique(clips.dataset[real]):  # recording conditions are not voices
        measures[clips.dataset[real] == dataset] -= measures[clips.dataset[real] == dataset].mean(0)
    speakers, of = np.unique(clips.speaker[real], return_inverse=True)
    means = np.stack([measures[of == k].mean(0) for k in range(len(speakers))])
    within = (measures - means[of]).T @ (measures - means[of]) / len(real)
    within += (
        np.trace(within) / len(within) * np.eye(len(within))
    )  # less would take speakers of other corpora for changed
    whiten = np.linalg.cholesky(np.linalg.inv(within))
    _, turn = np.linalg.eigh(whiten.T @ np.cov(means.T) @ whiten)
    return whiten @ turn[:, ::-1][:, :count] / SAME_VOICE
