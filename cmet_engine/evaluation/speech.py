"""How well the speech encoder recognises emotions, on held-out speakers.

`evaluate` runs a trained encoder over the clips that its configuration holds out and gives the figures of the model card:
emotions recognised from single clips and from pools, and speed.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.emotion.acoustics import RATE
from cmet_engine.emotion.heads import EMOTIONS
from cmet_engine.emotion.speech import Encoder
from cmet_engine.emotions import LIBRARY
from cmet_engine.errors import InvalidInput
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.corpora.speech import read_corpora
from cmet_engine.training.speech.clips import Clips, prepare
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.kernels import fit_heads
from cmet_engine.training.speech.targets import held_out, to_train_on

EIGHT = EMOTIONS[:8]
POOL = 10  # clips, as C-MET takes them
POOLS = 3  # random pools of every speaker and emotion that are to be recognised


def beside_neutral(encoder: Encoder, clips: Clips, chosen: np.ndarray) -> np.ndarray:
    """Scores [M, classes] of the `chosen` [M] clips, compared with the other neutral ones of the speaker among them.

    Where a speaker has no other neutral clip, each clip is taken alone.
    """
    measured = clips.statistics[0, chosen]
    scores = []
    neutral = clips.emotion[chosen] == "neutral"
    for number in range(len(chosen)):
        pool = np.flatnonzero(neutral & (clips.speaker[chosen] == clips.speaker[chosen[number]]))
        pool = pool[pool != number]
        rest = measured[pool].mean(0) if len(pool) else None
        scores.append(encoder.predict(measured[number], rest).scores)
    return np.stack(scores)


def recognised(clips: Clips, chosen: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """How many of the `chosen` [M] clips get their own label among the eight emotions, by their `scores` [M, classes].

    Returns:
        `right` (share of clips), `balanced` (mean over emotions), `clips`, `confusion` (counts, truth by row), and, where
        raters were asked, `heard`: share of clips that get the label that most raters heard.
    """
    figures = _shares(_confusion(clips.labels(EIGHT)[chosen], scores))
    asked = clips.heard[chosen] != ""
    if asked.any():
        places = np.array([EMOTIONS.index(name) for name in clips.heard[chosen][asked]])
        table = _confusion(np.where(places < len(EIGHT), places, -1), scores[asked])
        figures["heard"] = round(float(table.trace() / max(table.sum(), 1)), 3)
    return figures


def _confusion(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How often which of the eight emotions [8, 8], by row, is taken for which; rows labelled -1 do not count."""
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
    encoder: Encoder, clips: Clips, chosen: np.ndarray, *, beside: bool, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """How many pools of up to ten clips of one speaker and emotion are recognised.

    Args:
        encoder: to measure.
        clips, chosen: clips [M] of any speakers.
        beside: compare each pool with a pool of neutral clips; off, it is taken alone.
        seed: of the random pools, `POOLS` for every speaker and emotion.

    Returns:
        By dataset and emotion, int [2]: pools of which the right emotion of the library is the likeliest, and all pools.
    """
    random = np.random.default_rng(seed)
    result: dict[str, dict[str, np.ndarray]] = {}
    measured = clips.statistics[0]
    for speaker in np.unique(clips.speaker[chosen]):
        own = chosen[clips.speaker[chosen] == speaker]
        neutral = own[clips.emotion[own] == "neutral"]
        if beside and len(neutral) < 2:
            continue
        counts = result.setdefault(str(clips.dataset[own[0]]), {})
        for name in LIBRARY:
            pool = own[clips.emotion[own] == name]
            for _ in range(POOLS if len(pool) > 1 else 0):
                some, rest = (
                    random.choice(g, min(POOL, len(g)), replace=False) for g in (pool, neutral if beside else pool)
                )
                shares = encoder.predict_pools(list(measured[some]), list(measured[rest]) if beside else []).shares
                counts.setdefault(name, np.zeros(2, int))
                counts[name] += (LIBRARY[int(shares.argmax())] == name, 1)
    return {dataset: counts for dataset, counts in result.items() if counts}


def evaluate(
    encoder: Encoder, clips: Clips, config: TrainingConfig, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Every figure of the model card, on the clips that `config` holds out.

    Returns:
        `held_out`, and by dataset: emotions recognised from the clip alone and beside the speaker's neutral, and of pools.

    Raises:
        CmetError: nothing is held out.
    """
    chosen = np.flatnonzero(held_out(clips, config))
    if not len(chosen):
        raise InvalidInput("The configuration holds no speaker out; name some in 'held_out' to measure with.")
    tables: Tables = {}
    _measure(encoder, clips, chosen, tables, progress)
    return {"held_out": sorted({str(speaker) for speaker in clips.speaker[chosen]}), **_figures(tables)}


Tables = dict[str, dict[str, Any]]
"""By dataset: rows of (clip number, scores) by kind, and counts of pools by kind and emotion."""


def _measure(
    encoder: Encoder, clips: Clips, chosen: np.ndarray, tables: Tables, progress: Progress | None = None
) -> None:
    """Add what is measured on the `chosen` [M] clips to `tables`."""
    scores = {
        "alone": encoder.predict(clips.statistics[0, chosen]).scores,
        "beside_neutral": beside_neutral(encoder, clips, chosen),
    }
    for dataset in np.unique(clips.dataset[chosen]):
        own = (clips.dataset[chosen] == dataset) & (clips.labels(EIGHT)[chosen] >= 0)
        if own.any():
            table = tables.setdefault(str(dataset), {})
            for kind, values in scores.items():
                parts = table.setdefault(kind, [])
                parts.append((recognised(clips, chosen[own], values[own]), int((clips.heard[chosen[own]] != "").sum())))
    for kind, beside in (("pools", True), ("pools_alone", False)):
        for dataset, counts in pools_recognised(encoder, clips, chosen, beside=beside).items():
            sums = tables.setdefault(dataset, {}).setdefault(kind, {})
            for name, count in counts.items():
                sums[name] = sums.get(name, 0) + count
    if progress:
        progress(Stage.SPEECH, len(chosen), len(chosen))


def _figures(tables: Tables) -> dict[str, Any]:
    """The figures of `evaluate` by dataset."""
    figures: dict[str, Any] = {}
    for dataset, table in sorted(tables.items()):
        entry = figures.setdefault(dataset, {})
        for kind in ("alone", "beside_neutral"):
            if parts := table.get(kind):
                entry[kind] = _shares(np.sum([part["confusion"] for part, _ in parts], 0))
                if asked := sum(count for _, count in parts):
                    heard = sum(part.get("heard", 0) * count for part, count in parts) / asked
                    entry[kind]["heard"] = round(heard, 3)
        for kind in ("pools", "pools_alone"):
            if counts := table.get(kind):
                by_emotion = {name: round(float(count[0] / count[1]), 3) for name, count in counts.items()}
                entry[kind] = {**_pool_share(np.sum(list(counts.values()), 0)), "emotions": by_emotion}
    return figures


def cross_validate(
    clips: Clips, config: TrainingConfig, folds: int, *, progress: Progress | None = None
) -> dict[str, Any]:
    """How well other speakers are recognised: each training speaker is held out once, and the heads are fitted to the others.

    Args:
        clips: prepared to train.
        config: every number; the clips that it holds out take no part.
        folds: speakers of every dataset are dealt into so many groups; one group is left out at a time.
        progress: called as `progress(Stage.FOLD, done, folds)`.

    Returns:
        By dataset, as `evaluate` gives them.

    Raises:
        CmetError: fewer than two folds, or more than there are speakers; or see `to_train_on`.
    """
    chosen = to_train_on(clips, config)
    together = [
        np.unique(clips.speaker[chosen][clips.dataset[chosen] == name]) for name in np.unique(clips.dataset[chosen])
    ]
    most = max(map(len, together))
    if not 2 <= folds <= most:
        raise InvalidInput(f"{folds} folds cannot be made of at most {most} speakers of a corpus; 2 to {most} can.")
    groups = {
        str(speaker): number % folds
        for speakers in together
        for number, speaker in enumerate(speakers if len(speakers) > 1 else ())  # one voice says nothing of others
    }
    group = np.array([groups.get(str(speaker), -1) for speaker in clips.speaker[chosen]])
    tables: Tables = {}
    for fold in range(folds):
        if progress:
            progress(Stage.FOLD, fold, folds)
        encoder = Encoder(fit_heads(clips, chosen[group != fold], config))
        _measure(encoder, clips, chosen[group == fold], tables)
    return {"held_out": [f"every training speaker once, in {folds} folds"], **_figures(tables)}


def evaluate_folders(
    corpora: Sequence[str | Path],
    encoder: Encoder,
    config: TrainingConfig | None = None,
    *,
    speakers: Sequence[str] | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure an encoder on folders of labelled speech (`cmet eval speech`): figures as `evaluate` gives them, by dataset how many
    recordings were `refused` of how many (as nobody speaking, or unreadable), and the speed.

    Args:
        corpora: see `read_corpus`.
        encoder: what `load_encoder` gives.
        config: the configuration it was trained with (who was held out); None: that of the embedded encoder.
        speakers: measure on these, or on all where `all` is among them, instead of those that were held out.
        cache: folder for the prepared statistics.

    Raises:
        CmetError: see `read_corpus`, `prepare` and `evaluate`, or a speaker is not there.
    """
    config = config or TrainingConfig()
    recordings = read_corpora(corpora)
    known = {recording.speaker for recording in recordings}
    if speakers is not None:
        if unknown := sorted(set(speakers) - {*known, "all"}):
            raise InvalidInput(f"There is no speaker '{unknown[0]}'; known are {', '.join(sorted(known))}.")
        recordings = [r for r in recordings if "all" in speakers or r.speaker in speakers]
        config = replace(config, datasets={})
    clips = prepare(recordings, cache, to_train=False, progress=progress)
    figures = evaluate(encoder, clips, config, progress=progress)
    usable = Counter(map(str, clips.dataset))
    figures["refused"] = {
        name: [count - usable[name], count] for name, count in sorted(Counter(r.dataset for r in recordings).items())
    }
    figures["speed"] = round(speed(encoder))
    return figures


def figures_text(figures: dict[str, Any]) -> str:
    """The figures of `evaluate` as lines of text."""
    lines = [f"held-out speakers: {', '.join(figures['held_out'])}"]
    for dataset, entry in figures.items():
        if not isinstance(entry, dict) or dataset == "refused":
            continue
        for kind, words in (("alone", "from the clip alone"), ("beside_neutral", "beside the speaker's neutral")):
            if kind in entry:
                part = entry[kind]
                heard = f"; {part['heard']:.1%} as most raters heard" if "heard" in part else ""
                lines.append(
                    f"{dataset:<8} {part['clips']:5d} clips {words}: {part['right']:.1%} right (mean over emotions "
                    f"{part['balanced']:.1%}){heard}"
                )
        for kind, words in (("pools", "beside neutral ones"), ("pools_alone", "without neutral ones")):
            if kind in entry:
                part = entry[kind]
                each = ", ".join(f"{name} {value:.0%}" for name, value in part["emotions"].items())
                lines.append(
                    f"{dataset:<8} {part['pools']:5d} pools of up to {POOL} clips {words}: {part['right']:.1%} right ({each})"
                )
    lines += [
        f"{name:<8} {some:5d} of {count} recordings refused"
        for name, (some, count) in figures.get("refused", {}).items()
    ]
    if "speed" in figures:
        lines.append(f"{figures['speed']} times faster than real time")
    return "\n".join(lines)


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
