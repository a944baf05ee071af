"""How well the speech encoder hears: measured on speakers that it was never trained with.

`evaluate` runs a trained encoder over the clips that its configuration holds out and gives the figures of the model card:
emotions told apart, agreement of its emotion vectors with the teacher's, where extended emotions land, and speed.
`write_library` makes the embedded library from the clips that were trained on.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from cmet_engine.emotion.acoustics import RATE
from cmet_engine.emotion.backbone import SPEAKER_MEAN
from cmet_engine.emotion.embedded_library import EMBEDDED as EMBEDDED_LIBRARY
from cmet_engine.emotion.speech import ClipFeatures, Encoder, Prediction
from cmet_engine.emotion.student import EMOTIONS
from cmet_engine.emotion.student_weights import EMBEDDED, load_student, save_student
from cmet_engine.emotion.user_library import FORMAT as LIBRARY_FORMAT
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.emotions import BASIC, EXTENDED
from cmet_engine.errors import CmetError
from cmet_engine.files import whole_file
from cmet_engine.models import assets
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.speech import (
    Clips,
    TrainingConfig,
    fit_kernels,
    held_out,
    make_targets,
    new_student,
    prepare,
    read_corpus,
    to_train_on,
)

EIGHT = EMOTIONS[:8]
POOL = 10  # clips, as C-MET takes them
SAME_VOICE = 1.19  # 95th percentile of the distance between all emotional and all neutral clips of speakers left out, in four folds
DRAWS = 20  # random pools that a vector's figure is averaged over
POOLS = 3  # random pools of every speaker and emotion that are to be named


def listen_all(
    encoder: Encoder, clips: Clips, chosen: np.ndarray, progress: Progress | None = None
) -> list[ClipFeatures]:
    """The `chosen` [M] clips as the encoder hears them."""
    heard = []
    for number, clip in enumerate(chosen):
        if progress:
            progress(Stage.SPEECH, number, len(chosen))
        sequenced = encoder.encode_sequence(clips.acoustics[0][clip].astype(np.float32))
        heard.append(ClipFeatures(clips.statistics[0, clip], *sequenced))
    return heard


def hear_all(encoder: Encoder, clips: Clips, chosen: np.ndarray) -> Prediction:
    """What the encoder says of the `chosen` [M] clips alone: features [M, 1024], scores [M, classes]."""
    return _told(encoder, listen_all(encoder, clips, chosen))


def _told(encoder: Encoder, listened: Sequence[ClipFeatures]) -> Prediction:
    return _stacked([encoder.predict(recording) for recording in listened])


def _stacked(heard: Sequence[Prediction]) -> Prediction:
    return Prediction(np.stack([h.features for h in heard]), np.stack([h.scores for h in heard]))


def beside_neutral(encoder: Encoder, clips: Clips, chosen: np.ndarray, listened: Sequence[ClipFeatures]) -> Prediction:
    """What the encoder says of the `chosen` [M] clips beside the neutral ones of the same speaker among them, but for the clip itself.

    A speaker with fewer than two neutral clips is heard from each clip alone.
    """
    heard: list[Prediction] = []
    rests = np.stack([recording.statistics for recording in listened])  # [M, 1280]
    calm = clips.emotion[chosen] == "neutral"
    for number, recording in enumerate(listened):
        pool = np.flatnonzero(calm & (clips.speaker[chosen] == clips.speaker[chosen[number]]))
        pool = pool[pool != number]
        heard.append(encoder.predict(recording, rests[pool].mean(0) if len(pool) else None))
    return _stacked(heard)


def told_apart(clips: Clips, chosen: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """How many of the `chosen` [M] clips get their own label among the eight emotions, by their `scores` [M, classes].

    Returns:
        `right` (share of clips), `balanced` (mean over emotions), `clips`, `confusion` (counts, truth by row).
    """
    return _shares(_confusion(clips, chosen, scores))


def _confusion(clips: Clips, chosen: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How often which of the eight emotions [8, 8], by row, is taken for which."""
    labels = clips.labels(EIGHT)[chosen]
    use = labels >= 0
    said = scores[:, : len(EIGHT)].argmax(1)
    confusion = np.zeros((len(EIGHT), len(EIGHT)), int)
    np.add.at(confusion, (labels[use], said[use]), 1)
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


def pools_named(
    encoder: Encoder, clips: Clips, chosen: np.ndarray, listened: Sequence[ClipFeatures], *, seed: int = 0
) -> dict[str, np.ndarray]:
    """How many pools of up to ten clips of one speaker and emotion are named right, beside as many neutral ones, all clips together.

    Args:
        encoder: what heard the clips.
        clips, chosen: clips [M] of any speakers.
        listened: what `listen_all` gives of them.
        seed: of the random pools, `POOLS` for every speaker and emotion.

    Returns:
        By dataset, int [2]: pools of which the right one of seven emotions is the likeliest, and all pools.
    """
    random = np.random.default_rng(seed)
    result: dict[str, np.ndarray] = {}
    for speaker in np.unique(clips.speaker[chosen]):
        own = np.flatnonzero(clips.speaker[chosen] == speaker)
        calm = own[clips.emotion[chosen[own]] == "neutral"]
        for name in BASIC if len(calm) > 1 else ():
            pool = own[clips.emotion[chosen[own]] == name]
            for _ in range(POOLS if len(pool) > 1 else 0):
                some, zero = (random.choice(group, min(POOL, len(group)), replace=False) for group in (pool, calm))
                rest = np.mean([listened[n].statistics for n in zero], 0)
                scores = np.mean([encoder.predict(listened[n], rest).scores for n in some], 0)
                said = EIGHT[1 + int(encoder.pool_probabilities(scores)[: len(BASIC)].argmax())]
                count = result.setdefault(str(clips.dataset[chosen[own[0]]]), np.zeros(2, int))
                count += (said == name, 1)
    return result


def vector_agreement(
    encoder: Encoder, clips: Clips, chosen: np.ndarray, listened: Sequence[ClipFeatures], *, seed: int = 0
) -> dict[str, float]:
    """Cosine between the student's and the teacher's emotion vectors of one speaker, over pools of ten clips.

    Args:
        encoder: what heard the clips.
        clips, chosen: clips [M] of one speaker, all heard by the teacher.
        listened: what `listen_all` gives of them.
        seed: of the random pools.

    Returns:
        Mean cosine over `DRAWS` pairs of pools for every emotion that the speaker has; fewer clips make a smaller pool.
    """
    random = np.random.default_rng(seed)
    emotion, teacher = clips.emotion[chosen], clips.teacher[chosen]
    calm = np.flatnonzero(emotion == "neutral")
    result = {}
    for name in BASIC:
        own = np.flatnonzero(emotion == name)
        if len(own) < 2 or not len(calm):
            continue
        cosines = []
        for _ in range(DRAWS):
            pool = random.choice(own, min(POOL, len(own)), replace=False)
            zero = random.choice(calm, min(POOL, len(calm)), replace=False)
            wanted, rest, _ = encoder.predict_pools([listened[n] for n in pool], [listened[n] for n in zero])
            cosines.append(_cosine(wanted.mean(0) - rest.mean(0), teacher[pool].mean(0) - teacher[zero].mean(0)))
        result[name] = round(float(np.mean(cosines)), 3)
    return result


def _taught_vectors(
    encoder: Encoder, clips: Clips, chosen: np.ndarray, listened: Sequence[ClipFeatures], speakers: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`vector_agreement` and its `mean` for those of the `speakers` whom the teacher heard, from `chosen` [M] clips and what they sound like."""
    vectors = {}
    for speaker in speakers:
        own = np.flatnonzero((clips.speaker[chosen] == speaker) & clips.taught[chosen])
        cosines = vector_agreement(encoder, clips, chosen[own], [listened[n] for n in own])
        if cosines:
            vectors[str(speaker)] = {**cosines, "mean": round(float(np.mean(list(cosines.values()))), 3)}
    return vectors


def evaluate(
    encoder: Encoder, clips: Clips, config: TrainingConfig, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Every figure of the model card, on the clips that `config` holds out.

    Returns:
        By dataset: emotions told apart from the clip alone and beside the speaker's neutral, and of pools; by taught speaker: cosines of
        the emotion vectors; `extended`: nearest basic emotion by student and teacher; `speed`: seconds of sound a second.

    Raises:
        CmetError: nothing is held out.
    """
    apart = held_out(clips, config)
    chosen = np.flatnonzero(apart)
    if not len(chosen):
        raise CmetError("The configuration holds no speaker out; name some in 'held_out' to measure with.")
    listened = listen_all(encoder, clips, chosen, progress)
    heard = _told(encoder, listened)
    figures: dict[str, Any] = {"held_out": list(config.held_out)}
    beside = beside_neutral(encoder, clips, chosen, listened)
    for dataset in np.unique(clips.dataset[chosen]):
        own = np.flatnonzero((clips.dataset[chosen] == dataset) & (clips.labels(EIGHT)[chosen] >= 0))
        if len(own):
            figures[str(dataset)] = {
                "alone": told_apart(clips, chosen[own], heard.scores[own]),
                "beside_neutral": told_apart(clips, chosen[own], beside.scores[own]),
            }
    for dataset, count in pools_named(encoder, clips, chosen, listened).items():
        figures[dataset]["pools"] = _pool_share(count)
    figures["vectors"] = _taught_vectors(encoder, clips, chosen, listened, config.held_out)
    figures["extended"] = extended_places(encoder, clips, config, chosen, heard.features)
    return figures


def cross_validate(
    clips: Clips, config: TrainingConfig, folds: int, *, progress: Progress | None = None
) -> dict[str, Any]:
    """How well speakers are heard that were not trained on, each of them once: by the kernels alone, which are fitted at once.

    The sequence part, which takes most of a training, is left out: it adds little to what is measured here.

    Args:
        clips: prepared to train.
        config: every number; whom it holds out does not matter here.
        folds: speakers of every dataset are dealt into so many groups; one group is left out at a time.
        progress: called as ("folds", done, folds).

    Returns:
        By dataset and by taught speaker as `evaluate` gives them.

    Raises:
        CmetError: fewer than two folds, or more than there are speakers; or see `speech_training.make_targets`.
    """
    together = [np.unique(clips.speaker[clips.dataset == dataset]) for dataset in np.unique(clips.dataset)]
    most = max(map(len, together))
    if not 2 <= folds <= most:
        raise CmetError(f"{folds} folds cannot be made of at most {most} speakers of a corpus; 2 to {most} can.")
    groups = np.full(len(clips), -1)
    for speakers in together:
        for number, speaker in enumerate(speakers if len(speakers) > 1 else ()):  # one voice says nothing of others
            groups[clips.speaker == speaker] = number % folds
    kernels = replace(config.student, share=0.0, score_share=0.0)
    counts: dict[tuple[str, str], np.ndarray] = {}
    vectors: dict[str, dict[str, float]] = {}
    pools: dict[str, np.ndarray] = {}
    for fold in tqdm(range(folds), "folds", unit="fold", disable=progress is not None):
        if progress:
            progress(Stage.FOLD, fold, folds)
        left_out = np.flatnonzero(groups == fold)
        own = replace(config, student=kernels, held_out=tuple(np.unique(clips.speaker[left_out])), held_out_every=0)
        chosen = to_train_on(clips, own)
        targets = make_targets(clips, chosen, own)
        student = new_student(clips, chosen, own)
        fit_kernels(student, clips, chosen, targets, own, progress=lambda *_: None)
        student.prototypes.copy_(targets.prototypes)
        encoder = Encoder(student)
        silence = np.zeros(VECTOR_SIZE, np.float32), np.zeros(len(kernels.emotions), np.float32)
        listened = [ClipFeatures(clips.statistics[0, n], *silence) for n in left_out]
        for kind, heard in (
            ("alone", _told(encoder, listened)),
            ("beside_neutral", beside_neutral(encoder, clips, left_out, listened)),
        ):
            for dataset in np.unique(clips.dataset[left_out]):
                of = clips.dataset[left_out] == dataset
                told = _confusion(clips, left_out[of], heard.scores[of])
                counts[str(dataset), kind] = counts.get((str(dataset), kind), 0) + told
        vectors |= _taught_vectors(encoder, clips, left_out, listened, own.held_out)
        for dataset, count in pools_named(encoder, clips, left_out, listened).items():
            pools[dataset] = pools.get(dataset, 0) + count
    figures: dict[str, Any] = {"held_out": [f"everybody once, in {folds} folds, by the kernels alone"]}
    for (dataset, kind), confusion in sorted(counts.items()):
        if confusion.sum():
            figures.setdefault(dataset, {})[kind] = _shares(confusion)
    for dataset, count in pools.items():
        figures[dataset]["pools"] = _pool_share(count)
    return {**figures, "vectors": vectors, "extended": {}}


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
        corpus: see `speech_training.read_corpus`.
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
    lines = [f"speakers never heard: {', '.join(figures['held_out'])}"]
    for dataset, entry in figures.items():
        if isinstance(entry, dict) and "alone" in entry:
            alone, beside = entry["alone"], entry["beside_neutral"]
            lines.append(
                f"{dataset:<9} {alone['clips']:4d} clips: {alone['right']:.1%} right from the clip alone (mean over emotions "
                f"{alone['balanced']:.1%}), {beside['right']:.1%} beside the speaker's neutral ({beside['balanced']:.1%})"
            )
            if "pools" in entry:
                lines.append(
                    f"          {entry['pools']['pools']:4d} pools of up to {POOL} clips of one of seven emotions beside neutral ones: "
                    f"{entry['pools']['right']:.1%} named right"
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


def embed(run: str | Path, corpus: str | Path, *, cache: str | Path | None = None) -> dict[str, Any]:
    """Make a finished training run the embedded encoder: measure it, write both assets with their checksums; returns the figures.

    Args:
        run: folder that `train` wrote; `cache` is looked for in it when not given.
        corpus: what it was trained on.
    """
    run = Path(run)
    student, _ = load_student(run / "encoder.safetensors")
    config = TrainingConfig.from_json((run / "config.json").read_text("utf-8"), str(run / "config.json"))
    clips = prepare(read_corpus(corpus), run / "cache" if cache is None else cache, to_train=False)
    encoder = Encoder(student)
    figures = evaluate(encoder, clips, config)
    save_student(student, assets.ASSETS / EMBEDDED, figures, force=True)
    write_library(encoder, clips, config, figures, assets.ASSETS / EMBEDDED_LIBRARY)
    for name in (EMBEDDED, EMBEDDED_LIBRARY):
        assets.record(name)
    return figures


def extended_places(
    encoder: Encoder, clips: Clips, config: TrainingConfig, chosen: np.ndarray, features: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Which basic emotion each extended one is nearest to: by the student on clips held out, by the teacher on the same.

    The basic vectors are the teacher's means over the training speakers; the extended clips are all of one synthetic voice
    and are measured from the mean of neutral MEAD speech, as the teacher hears it and as the student hears it.
    """
    training = ~held_out(clips, config)
    known = training & clips.taught & (clips.dataset == "mead")
    calm = np.flatnonzero(known & (clips.emotion == "neutral"))
    if not len(calm):
        return {}
    basic = _basic_vectors(clips, known)
    own_calm = hear_all(encoder, clips, calm).features.mean(0)
    teacher_calm = clips.teacher[calm].mean(0)
    result = {}
    for name in EXTENDED:
        pool = np.flatnonzero((clips.emotion[chosen] == name) & (clips.dataset[chosen] == "gemini"))
        if not len(pool):
            continue
        student = features[pool].mean(0) - own_calm
        teacher = clips.teacher[chosen[pool]].mean(0) - teacher_calm
        result[name] = {
            "student": _nearest(student, basic),
            "teacher": _nearest(teacher, basic),
            "cosine": round(_cosine(student, teacher), 3),
        }
    return result


def speed(encoder: Encoder, seconds: float = 20.0, repeats: int = 2) -> float:
    """Seconds of sound that the whole encoder (sound to features) hears in one second."""
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


def write_library(
    encoder: Encoder, clips: Clips, config: TrainingConfig, figures: dict[str, Any], path: str | Path
) -> None:
    """Make the embedded library from the clips that were trained on: the teacher's own mean differences.

    Basic emotions: mean over speakers of (emotion - neutral). Extended ones: mean of the synthetic voice minus neutral MEAD speech.
    The reliability of a basic emotion is the cosine between student and teacher on the speaker held out, that of an
    extended one the same on its clips held out; both from `figures`, negative ones as 0.
    """
    training = ~held_out(clips, config)
    known = training & clips.taught & (clips.dataset == "mead")
    vectors = _basic_vectors(clips, known)
    calm = clips.teacher[known & (clips.emotion == "neutral")].mean(0)
    for name in EXTENDED:
        own = training & clips.taught & (clips.emotion == name) & (clips.dataset == "gemini")
        if own.any():
            vectors[name] = clips.teacher[own].mean(0) - calm
    about: dict[str, Any] = {}
    agreement: dict[str, list[float]] = {}
    for cosines in figures.get("vectors", {}).values():
        for name, value in cosines.items():
            agreement.setdefault(name, []).append(value)
    for name, entry in figures.get("extended", {}).items():
        agreement[name] = [entry["cosine"]]
    for name, vector in vectors.items():
        near = {k: round(_cosine(vector, vectors[k]), 3) for k in BASIC if k != name and k in vectors}
        reliability = max(0.0, float(np.mean(agreement[name]))) if name in agreement else None
        about[name] = {
            "reliability": None if reliability is None else round(reliability, 3),
            "meta": {"length": round(float(np.linalg.norm(vector)), 2), "near": near},
        }
    about["neutral"] = {"reliability": 1.0, "meta": {"length": 0.0, "near": {}}}
    neutral = np.flatnonzero(training & (clips.emotion == "neutral"))
    by_dataset = [
        hear_all(encoder, clips, neutral[clips.dataset[neutral] == dataset][:60]).features.mean(0)
        for dataset in np.unique(clips.dataset[neutral])
    ]
    tensors = {name: vector.astype(np.float32) for name, vector in vectors.items()}
    tensors["voice_directions"] = voice_directions(clips, training).astype(np.float32)
    tensors["neutral_place"] = np.mean(by_dataset, 0).astype(np.float32)
    with whole_file(path, force=True) as temporary:
        save_file(tensors, temporary, {"format": LIBRARY_FORMAT, "emotions": json.dumps(dict(sorted(about.items())))})


def voice_directions(clips: Clips, chosen: np.ndarray, count: int = 16) -> np.ndarray:
    """Linear discriminants that tell the speakers of the `chosen` [N] clips apart, whatever their emotion: [256, `count`].

    Scaled so that a distance of 1 is the 95th percentile between a speaker's emotional and neutral speech.
    """
    real = np.flatnonzero(chosen & ~np.isin(clips.dataset, ("gemini", "meld")))
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


def _basic_vectors(clips: Clips, known: np.ndarray) -> dict[str, np.ndarray]:
    """The teacher's emotion vectors, mean over the speakers of the `known` [N] clips."""
    vectors = {}
    for name in BASIC:
        each = []
        for speaker in np.unique(clips.speaker[known]):
            own = known & (clips.speaker == speaker)
            wanted, calm = own & (clips.emotion == name), own & (clips.emotion == "neutral")
            if wanted.any() and calm.any():
                each.append(clips.teacher[wanted].mean(0) - clips.teacher[calm].mean(0))
        if each:
            vectors[name] = np.mean(each, 0)
    return vectors


def _nearest(vector: np.ndarray, known: dict[str, np.ndarray]) -> str:
    """Name of the `known` vector that points most nearly as `vector` does."""
    return max(known, key=lambda name: _cosine(vector, known[name]))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9))
