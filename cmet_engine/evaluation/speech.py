"""How well the speech encoder recognises emotions, on held-out speakers.

`evaluate` runs a trained encoder over the clips that its configuration holds out and gives the figures of the model card:
emotions recognised, agreement of its emotion vectors with the teacher's, where extended emotions land, and speed.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.emotion.acoustics import RATE
from cmet_engine.emotion.speech import VECTOR_SIZE, ClipFeatures, Encoder, Prediction
from cmet_engine.emotion.student import EMOTIONS
from cmet_engine.emotions import BASIC, EXTENDED
from cmet_engine.errors import InvalidInput
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.corpora.speech import read_corpus
from cmet_engine.training.speech.clips import Clips, prepare
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.kernels import fit_kernels
from cmet_engine.training.speech.targets import held_out, make_targets, new_student, to_train_on

EIGHT = EMOTIONS[:8]
SYNTHETIC = "gemini"  # the dataset of the extended emotions, all of one synthetic voice
POOL = 10  # clips, as C-MET takes them
DRAWS = 20  # random pools that a vector's figure is averaged over
POOLS = 3  # random pools of every speaker and emotion that are to be recognised


def encode_all(
    encoder: Encoder, clips: Clips, chosen: np.ndarray, progress: Progress | None = None
) -> list[ClipFeatures]:
    """What the encoder extracts from the `chosen` [M] clips, before they are compared with neutral speech."""
    encoded = []
    for number, clip in enumerate(chosen):
        if progress:
            progress(Stage.SPEECH, number, len(chosen))
        sequenced = encoder.encode_sequence(clips.acoustics[0][clip].astype(np.float32))
        encoded.append(ClipFeatures(clips.statistics[0, clip], *sequenced))
    return encoded


def predict_all(encoder: Encoder, clips: Clips, chosen: np.ndarray) -> Prediction:
    """What the encoder predicts for the `chosen` [M] clips alone: features [M, 1024], scores [M, classes]."""
    return _predicted(encoder, encode_all(encoder, clips, chosen))


def _predicted(encoder: Encoder, encoded: Sequence[ClipFeatures]) -> Prediction:
    return _stacked([encoder.predict(recording) for recording in encoded])


def _stacked(predictions: Sequence[Prediction]) -> Prediction:
    return Prediction(np.stack([p.features for p in predictions]), np.stack([p.scores for p in predictions]))


def beside_neutral(encoder: Encoder, clips: Clips, chosen: np.ndarray, encoded: Sequence[ClipFeatures]) -> Prediction:
    """What the encoder predicts for the `chosen` [M] clips, compared with the other neutral ones of the speaker among them.

    Where a speaker has no other neutral clip, each clip is taken alone.
    """
    predictions: list[Prediction] = []
    rests = np.stack([recording.statistics for recording in encoded])  # [M, 1280]
    neutral = clips.emotion[chosen] == "neutral"
    for number, recording in enumerate(encoded):
        pool = np.flatnonzero(neutral & (clips.speaker[chosen] == clips.speaker[chosen[number]]))
        pool = pool[pool != number]
        predictions.append(encoder.predict(recording, rests[pool].mean(0) if len(pool) else None))
    return _stacked(predictions)


def recognised(clips: Clips, chosen: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """How many of the `chosen` [M] clips get their own label among the eight emotions, by their `scores` [M, classes].

    Returns:
        `right` (share of clips), `balanced` (mean over emotions), `clips`, `confusion` (counts, truth by row).
    """
    return _shares(_confusion(clips, chosen, scores))


def _confusion(clips: Clips, chosen: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How often which of the eight emotions [8, 8], by row, is taken for which."""
    labels = clips.labels(EIGHT)[chosen]
    use = labels >= 0
    predicted = scores[:, : len(EIGHT)].argmax(1)
    confusion = np.zeros((len(EIGHT), len(EIGHT)), int)
    np.add.at(confusion, (labels[use], predicted[use]), 1)
    return confusion


def _pool_share(count: np.ndarray) -> dict[str, Any]:
    return {"right": round(float(count[0] / count[1]), 3), "pools": int(count[1])}


def _shares(confusion: np.ndarray) -> dict[str, Any]:
    present = confusion.sum(1) > 0
    recall = confusion.diagonal()[present] / confusion.sum(1)[present]
    return {
        "right": round(float(confusion.trace() / confusion.sum()), 3),
        "balanced": round(float(recall.mean()), 3),
        "clips": int(confusion.sum()),
        "confusion": confusion.tolist(),
    }


def pools_recognised(
    encoder: Encoder, clips: Clips, chosen: np.ndarray, encoded: Sequence[ClipFeatures], *, seed: int = 0
) -> dict[str, np.ndarray]:
    """How many pools of up to ten clips of one speaker and emotion are recognised, compared with a pool of neutral ones.

    Args:
        encoder: that encoded the clips.
        clips, chosen: clips [M] of any speakers.
        encoded: what `encode_all` gives of them.
        seed: of the random pools, `POOLS` for every speaker and emotion.

    Returns:
        By dataset, int [2]: pools of which the right one of seven emotions is the likeliest, and all pools.
    """
    random = np.random.default_rng(seed)
    result: dict[str, np.ndarray] = {}
    for speaker in np.unique(clips.speaker[chosen]):
        own = np.flatnonzero(clips.speaker[chosen] == speaker)
        neutral = own[clips.emotion[chosen[own]] == "neutral"]
        for name in BASIC if len(neutral) > 1 else ():
            pool = own[clips.emotion[chosen[own]] == name]
            for _ in range(POOLS if len(pool) > 1 else 0):
                some, zero = (random.choice(group, min(POOL, len(group)), replace=False) for group in (pool, neutral))
                rest = np.mean([encoded[n].statistics for n in zero], 0)
                scores = np.mean([encoder.predict(encoded[n], rest).scores for n in some], 0)
                predicted = EIGHT[1 + int(encoder.pool_probabilities(scores)[: len(BASIC)].argmax())]
                count = result.setdefault(str(clips.dataset[chosen[own[0]]]), np.zeros(2, int))
                count += (predicted == name, 1)
    return result


def vector_agreement(
    encoder: Encoder, clips: Clips, chosen: np.ndarray, encoded: Sequence[ClipFeatures], *, seed: int = 0
) -> dict[str, float]:
    """Cosine between the student's and the teacher's emotion vectors of one speaker, over pools of ten clips.

    Args:
        encoder: that encoded the clips.
        clips, chosen: clips [M] of one speaker, all with a teacher's feature.
        encoded: what `encode_all` gives of them.
        seed: of the random pools.

    Returns:
        Mean cosine over `DRAWS` pairs of pools for every emotion that the speaker has; fewer clips make a smaller pool.
    """
    random = np.random.default_rng(seed)
    emotion, teacher = clips.emotion[chosen], clips.teacher[chosen]
    neutral = np.flatnonzero(emotion == "neutral")
    result = {}
    for name in BASIC:
        own = np.flatnonzero(emotion == name)
        if len(own) < 2 or not len(neutral):
            continue
        cosines = []
        for _ in range(DRAWS):
            pool = random.choice(own, min(POOL, len(own)), replace=False)
            zero = random.choice(neutral, min(POOL, len(neutral)), replace=False)
            wanted, rest, _ = encoder.predict_pools([encoded[n] for n in pool], [encoded[n] for n in zero])
            cosines.append(cosine(wanted.mean(0) - rest.mean(0), teacher[pool].mean(0) - teacher[zero].mean(0)))
        result[name] = round(float(np.mean(cosines)), 3)
    return result


def _taught_vectors(
    encoder: Encoder, clips: Clips, chosen: np.ndarray, encoded: Sequence[ClipFeatures], speakers: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`vector_agreement` and its `mean` for those of the `speakers` with teacher's features, from `chosen` [M] encoded clips."""
    vectors = {}
    for speaker in speakers:
        own = np.flatnonzero((clips.speaker[chosen] == speaker) & clips.taught[chosen])
        cosines = vector_agreement(encoder, clips, chosen[own], [encoded[n] for n in own])
        if cosines:
            vectors[str(speaker)] = {**cosines, "mean": round(float(np.mean(list(cosines.values()))), 3)}
    return vectors


def evaluate(
    encoder: Encoder, clips: Clips, config: TrainingConfig, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Every figure of the model card, on the clips that `config` holds out.

    Returns:
        By dataset: emotions recognised from the clip alone and beside the speaker's neutral, and of pools; `vectors`: by speaker
        with teacher's features, cosines of the emotion vectors; `extended`: nearest basic emotion by student and teacher.

    Raises:
        CmetError: nothing is held out.
    """
    apart = held_out(clips, config)
    chosen = np.flatnonzero(apart)
    if not len(chosen):
        raise InvalidInput("The configuration holds no speaker out; name some in 'held_out' to measure with.")
    encoded = encode_all(encoder, clips, chosen, progress)
    alone = _predicted(encoder, encoded)
    figures: dict[str, Any] = {"held_out": list(config.held_out)}
    beside = beside_neutral(encoder, clips, chosen, encoded)
    for dataset in np.unique(clips.dataset[chosen]):
        own = np.flatnonzero((clips.dataset[chosen] == dataset) & (clips.labels(EIGHT)[chosen] >= 0))
        if len(own):
            figures[str(dataset)] = {
                "alone": recognised(clips, chosen[own], alone.scores[own]),
                "beside_neutral": recognised(clips, chosen[own], beside.scores[own]),
            }
    for dataset, count in pools_recognised(encoder, clips, chosen, encoded).items():
        figures[dataset]["pools"] = _pool_share(count)
    figures["vectors"] = _taught_vectors(encoder, clips, chosen, encoded, config.held_out)
    figures["extended"] = extended_places(encoder, clips, config, chosen, alone.features)
    return figures


def cross_validate(
    clips: Clips, config: TrainingConfig, folds: int, *, progress: Progress | None = None
) -> dict[str, Any]:
    """How well other speakers are recognised: each speaker is held out once, and the kernels alone are fitted to the others.

    The sequence part, which takes most of a training, is left out: it adds little to what is measured here.

    Args:
        clips: prepared to train.
        config: every number; the speakers that it holds out do not matter here.
        folds: speakers of every dataset are dealt into so many groups; one group is left out at a time.
        progress: called as `progress(Stage.FOLD, done, folds)`.

    Returns:
        By dataset, and by speaker with teacher's features, as `evaluate` gives them.

    Raises:
        CmetError: fewer than two folds, or more than there are speakers; or see `make_targets`.
    """
    together = [np.unique(clips.speaker[clips.dataset == dataset]) for dataset in np.unique(clips.dataset)]
    most = max(map(len, together))
    if not 2 <= folds <= most:
        raise InvalidInput(f"{folds} folds cannot be made of at most {most} speakers of a corpus; 2 to {most} can.")
    groups = np.full(len(clips), -1)
    for speakers in together:
        for number, speaker in enumerate(speakers if len(speakers) > 1 else ()):  # one voice says nothing of others
            groups[clips.speaker == speaker] = number % folds
    counts: dict[tuple[str, str], np.ndarray] = {}
    vectors: dict[str, dict[str, float]] = {}
    pools: dict[str, np.ndarray] = {}
    for fold in range(folds):
        if progress:
            progress(Stage.FOLD, fold, folds)
        left_out = np.flatnonzero(groups == fold)
        speakers = tuple(np.unique(clips.speaker[left_out]))
        encoder = _fit_fold(clips, config, speakers)
        unused = np.zeros(VECTOR_SIZE, np.float32), np.zeros(len(config.student.emotions), np.float32)
        encoded = [ClipFeatures(clips.statistics[0, n], *unused) for n in left_out]
        for kind, predictions in (
            ("alone", _predicted(encoder, encoded)),
            ("beside_neutral", beside_neutral(encoder, clips, left_out, encoded)),
        ):
            for dataset in np.unique(clips.dataset[left_out]):
                of = clips.dataset[left_out] == dataset
                table = _confusion(clips, left_out[of], predictions.scores[of])
                counts[str(dataset), kind] = counts.get((str(dataset), kind), 0) + table
        vectors |= _taught_vectors(encoder, clips, left_out, encoded, speakers)
        for dataset, count in pools_recognised(encoder, clips, left_out, encoded).items():
            pools[dataset] = pools.get(dataset, 0) + count
    figures: dict[str, Any] = {"held_out": [f"everybody once, in {folds} folds, by the kernels alone"]}
    for (dataset, kind), confusion in sorted(counts.items()):
        if confusion.sum():
            figures.setdefault(dataset, {})[kind] = _shares(confusion)
    for dataset, count in pools.items():
        figures[dataset]["pools"] = _pool_share(count)
    return {**figures, "vectors": vectors, "extended": {}}


def _fit_fold(clips: Clips, config: TrainingConfig, left_out: tuple[str, ...]) -> Encoder:
    """An encoder of kernels alone, fitted to the clips of all speakers but those that are left out."""
    kernels = replace(config.student, share=0.0, score_share=0.0)
    own = replace(config, student=kernels, held_out=left_out, held_out_every=0)
    chosen = to_train_on(clips, own)
    targets = make_targets(clips, chosen, own)
    student = new_student(clips, chosen, own)
    fit_kernels(student, clips, chosen, targets, own)
    student.prototypes.copy_(targets.prototypes)
    return Encoder(student)


def evaluate_folder(
    corpus: str | Path,
    encoder: Encoder,
    config: TrainingConfig | None = None,
    *,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure an encoder on a folder of labelled speech (`cmet eval speech`): figures as `evaluate` gives them, and the speed.

    Args:
        corpus: see `read_corpus`.
        encoder: what `load_encoder` gives.
        config: the configuration it was trained with (which speakers were held out); None: that of the embedded encoder.
        cache: folder for the prepared acoustics.

    Raises:
        CmetError: see `read_corpus`, `prepare` and `evaluate`.
    """
    clips = prepare(read_corpus(corpus), cache, to_train=False, progress=progress)
    figures = evaluate(encoder, clips, config or TrainingConfig(), progress=progress)
    figures["speed"] = round(speed(encoder))
    return figures


def figures_text(figures: dict[str, Any]) -> str:
    """The figures of `evaluate` as lines of text."""
    lines = [f"held-out speakers: {', '.join(figures['held_out'])}"]
    for dataset, entry in figures.items():
        if isinstance(entry, dict) and "alone" in entry:
            alone, beside = entry["alone"], entry["beside_neutral"]
            lines.append(
                f"{dataset:<9} {alone['clips']:4d} clips: {alone['right']:.1%} right from the clip alone (mean over emotions "
                f"{alone['balanced']:.1%}), {beside['right']:.1%} beside the speaker's neutral ({beside['balanced']:.1%})"
            )
            if "pools" in entry:
                lines.append(
                    f"          {entry['pools']['pools']:4d} pools of up to {POOL} clips of one of seven emotions, compared with neutral ones: "
                    f"{entry['pools']['right']:.1%} recognised"
                )
    for speaker, cosines in figures["vectors"].items():
        each = ", ".join(f"{name} {value:.2f}" for name, value in cosines.items() if name != "mean")
        lines.append(f"emotion vectors of {speaker}, cosine with the teacher's: mean {cosines['mean']:.2f} ({each})")
    for name, entry in figures["extended"].items():
        lines.append(
            f"{name:<12} nearest {entry['student']} (teacher: {entry['teacher']}), cosine {entry['cosine']:.2f}"
        )
    if "speed" in figures:
        lines.append(f"{figures['speed']} times faster than real time")
    return "\n".join(lines)


def extended_places(
    encoder: Encoder, clips: Clips, config: TrainingConfig, chosen: np.ndarray, features: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Which basic emotion each extended one is nearest to: by the student on held-out clips, by the teacher on the same.

    The basic vectors are the teacher's means over the training speakers; the extended clips are all of one synthetic voice
    and are measured from the mean of neutral MEAD speech, in the features of each.
    """
    training = ~held_out(clips, config)
    known = training & clips.taught & (clips.dataset == "mead")
    neutral = np.flatnonzero(known & (clips.emotion == "neutral"))
    if not len(neutral):
        return {}
    basic = basic_vectors(clips, known)
    own_neutral = predict_all(encoder, clips, neutral).features.mean(0)
    teacher_neutral = clips.teacher[neutral].mean(0)
    result = {}
    for name in EXTENDED:
        pool = np.flatnonzero((clips.emotion[chosen] == name) & (clips.dataset[chosen] == SYNTHETIC))
        if not len(pool):
            continue
        student = features[pool].mean(0) - own_neutral
        teacher = clips.teacher[chosen[pool]].mean(0) - teacher_neutral
        result[name] = {
            "student": _nearest(student, basic),
            "teacher": _nearest(teacher, basic),
            "cosine": round(cosine(student, teacher), 3),
        }
    return result


def speed(encoder: Encoder, seconds: float = 20.0, repeats: int = 2) -> float:
    """Seconds of sound that the whole encoder (sound to features) encodes in one second."""
    rng = np.random.default_rng(0)
    at = np.arange(int(seconds * RATE)) / RATE
    hum = sum(np.sin(2 * np.pi * 120 * k * at + 3 * np.sin(2 * np.pi * 2 * at)) / k for k in range(1, 20))
    wave = (0.2 * hum * np.maximum(np.sin(2 * np.pi * 3 * at), 0) + 0.01 * rng.standard_normal(len(at))).astype(
        np.float32
    )
    encoder.utterance(wave[: 3 * RATE], RATE)
    best = np.inf
    for _ in range(repeats):
        began = time.perf_counter()
        encoder.utterance(wave, RATE)
        best = min(best, time.perf_counter() - began)
    return seconds / best


def basic_vectors(clips: Clips, known: np.ndarray) -> dict[str, np.ndarray]:
    """The teacher's emotion vectors, mean over the speakers of the `known` [N] clips."""
    vectors = {}
    for name in BASIC:
        each = []
        for speaker in np.unique(clips.speaker[known]):
            own = known & (clips.speaker == speaker)
            wanted, neutral = own & (clips.emotion == name), own & (clips.emotion == "neutral")
            if wanted.any() and neutral.any():
                each.append(clips.teacher[wanted].mean(0) - clips.teacher[neutral].mean(0))
        if each:
            vectors[name] = np.mean(each, 0)
    return vectors


def _nearest(vector: np.ndarray, known: dict[str, np.ndarray]) -> str:
    """Name of the `known` vector that points most nearly as `vector` does."""
    return max(known, key=lambda name: cosine(vector, known[name]))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the angle between two vectors; 0 where one has no length."""
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9))
