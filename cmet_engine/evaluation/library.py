"""The embedded emotion library, made from the clips that the speech encoder is trained on (`cmet train encoder --embed`)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from cmet_engine.emotion.backbone import SPEAKER_MEAN
from cmet_engine.emotion.embedded_library import EMBEDDED as EMBEDDED_LIBRARY
from cmet_engine.emotion.predictions import ENCODER_FILES
from cmet_engine.emotion.speech import Encoder, load_student
from cmet_engine.emotion.student_weights import save_student
from cmet_engine.emotion.user_library import FORMAT as LIBRARY_FORMAT
from cmet_engine.emotions import BASIC, EXTENDED
from cmet_engine.evaluation.speech import SYNTHETIC, basic_vectors, cosine, evaluate, predict_all
from cmet_engine.files import whole_file
from cmet_engine.models import assets, licences
from cmet_engine.training.corpora.speech import read_corpus
from cmet_engine.training.speech.clips import Clips, prepare
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.recipe import CONFIG, WEIGHTS
from cmet_engine.training.speech.targets import held_out

SAME_VOICE = 1.19
"""95th percentile of the distance between all emotional and all neutral clips of held-out speakers, in four folds."""

NEUTRAL_CLIPS = 60  # of each dataset, whose mean is the place of neutral speech


def embed(run: str | Path, corpus: str | Path, *, cache: str | Path | None = None) -> dict[str, Any]:
    """Make a finished training run the embedded encoder: measure it, write both assets with their checksums; returns the figures.

    Args:
        run: folder that `train_encoder` wrote.
        cache: folder of the prepared acoustics; None: `cache` in the run's folder.
        corpus: what it was trained on.
    """
    run = Path(run)
    student, _ = load_student(run / WEIGHTS)
    config = TrainingConfig.from_json((run / CONFIG).read_text("utf-8"), str(run / CONFIG))
    clips = prepare(read_corpus(corpus), run / "cache" if cache is None else cache, to_train=False)
    licences.check_recipe(ENCODER_FILES[0], np.unique(clips.dataset[~held_out(clips, config)]))
    encoder = Encoder(student)
    figures = evaluate(encoder, clips, config)
    save_student(student, assets.ASSETS / ENCODER_FILES[0], figures, force=True)
    write_library(encoder, clips, config, figures, assets.ASSETS / EMBEDDED_LIBRARY)
    for name in (ENCODER_FILES[0], EMBEDDED_LIBRARY):
        assets.record(name)
    return figures


def write_library(
    encoder: Encoder, clips: Clips, config: TrainingConfig, figures: dict[str, Any], path: str | Path
) -> None:
    """Make the embedded library from the clips that were trained on: the teacher's own mean differences.

    Basic emotions: mean over speakers of (emotion - neutral). Extended ones: mean of the synthetic
    voice minus neutral MEAD speech. The reliability of a basic emotion is the cosine between student and teacher on the
    held-out speakers, that of an extended one the same on its held-out clips; both from `figures`, negative ones as 0.
    """
    training = ~held_out(clips, config)
    known = training & clips.taught & (clips.dataset == "mead")
    vectors = basic_vectors(clips, known)
    neutral = clips.teacher[known & (clips.emotion == "neutral")].mean(0)
    for name in EXTENDED:
        own = training & clips.taught & (clips.emotion == name) & (clips.dataset == SYNTHETIC)
        if own.any():
            vectors[name] = clips.teacher[own].mean(0) - neutral
    about = _about(vectors, figures)
    rows = np.flatnonzero(training & (clips.emotion == "neutral"))
    by_dataset = [
        predict_all(encoder, clips, rows[clips.dataset[rows] == dataset][:NEUTRAL_CLIPS]).features.mean(0)
        for dataset in np.unique(clips.dataset[rows])
    ]
    tensors = {name: vector.astype(np.float32) for name, vector in vectors.items()}
    tensors["voice_directions"] = voice_directions(clips, training).astype(np.float32)
    tensors["neutral_place"] = np.mean(by_dataset, 0).astype(np.float32)
    with whole_file(path, force=True) as temporary:
        save_file(tensors, temporary, {"format": LIBRARY_FORMAT, "emotions": json.dumps(dict(sorted(about.items())))})


def _about(vectors: dict[str, np.ndarray], figures: dict[str, Any]) -> dict[str, Any]:
    """Of every emotion its reliability, the length of its vector, and the cosine with the basic ones."""
    agreement: dict[str, list[float]] = {}
    for cosines in figures.get("vectors", {}).values():
        for name, value in cosines.items():
            agreement.setdefault(name, []).append(value)
    for name, entry in figures.get("extended", {}).items():
        agreement[name] = [entry["cosine"]]
    about: dict[str, Any] = {}
    for name, vector in vectors.items():
        near = {k: round(cosine(vector, vectors[k]), 3) for k in BASIC if k != name and k in vectors}
        reliability = max(0.0, float(np.mean(agreement[name]))) if name in agreement else None
        about[name] = {
            "reliability": None if reliability is None else round(reliability, 3),
            "meta": {"length": round(float(np.linalg.norm(vector)), 2), "near": near},
        }
    about["neutral"] = {"reliability": 1.0, "meta": {"length": 0.0, "near": {}}}
    return about


def voice_directions(clips: Clips, chosen: np.ndarray, count: int = 16) -> np.ndarray:
    """Linear discriminants that separate the speakers of the `chosen` [N] clips, whatever their emotion: [256, `count`].

    Scaled so that a distance of 1 is the 95th percentile between a speaker's emotional and neutral speech.
    """
    real = np.flatnonzero(chosen & ~np.isin(clips.dataset, (SYNTHETIC, "meld")))
    measures = clips.statistics[0, real, SPEAKER_MEAN].astype(np.float64)  # [M, 256]
    for dataset in np.unique(clips.dataset[real]):  # recording conditions are not voices
        measures[clips.dataset[real] == dataset] -= measures[clips.dataset[real] == dataset].mean(0)
    speakers, of = np.unique(clips.speaker[real], return_inverse=True)
    means = np.stack([measures[of == k].mean(0) for k in range(len(speakers))])
    within = (measures - means[of]).T @ (measures - means[of]) / len(real)
    within += 0.01 * np.trace(within) / len(within) * np.eye(len(within))
    whiten = np.linalg.cholesky(np.linalg.inv(within))
    _, turn = np.linalg.eigh(whiten.T @ np.cov(means.T) @ whiten)
    return whiten @ turn[:, ::-1][:, :count] / SAME_VOICE
