"""EmoBox's public folds (Ma et al. 2024, arXiv 2406.07162): figures of the backbone that stand beside the published table.

As there, the feature extractor stays frozen and a classifier is fitted to the training part of every fold; here it is the kernel
on a recording alone. Nothing of the embedded encoder's heads is used, so what those were fitted to does not matter.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.files import read_json
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.corpora.speech import Recording, read_corpora
from cmet_engine.training.speech.clips import Clips, prepare
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.kernels import fit_heads

SETS = {"emodb": "emodb", "ravdess": "ravdess", "cremad": "crema", "mead": "mead"}
"""What EmoBox calls a corpus, and what `Recording.dataset` does."""

PUBLISHED = {"cremad": {"WavLM large (317 M)": 74.5, "HuBERT base (95 M)": 71.1, "wav2vec 2.0 base (95 M)": 62.0}}
"""Unweighted accuracies of the published table, percent."""

_MEAD = re.compile(r"\b([MW]\d{3})\b.*?level_(\d).*?(\d{3})(?!\d)")


@dataclass(frozen=True)
class Fold:
    """One fold: EmoBox's label of each recording, by `mark`; without a list to train on it is all that is not tested."""

    train: dict[object, str]
    test: dict[object, str]


def mark(name: str) -> object:
    """What a file of a corpus is known by, however its folders are laid out: its name without suffix, in MEAD speaker, emotion and take."""
    words = name.replace("\\", "/").replace("_M0", "/M0").replace("_W0", "/W0").replace("_level", "/level")
    found = _MEAD.search(words)
    if found is None:
        return Path(name).stem
    emotion = next(
        (w for w in ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised") if w in name), ""
    )
    return (*found.groups(), emotion)


def read_folds(folder: Path, corpus: str) -> list[Fold]:
    """The folds of a corpus from EmoBox's files, its `data` or the folder above.

    Raises:
        CmetError: there are none, or a file is not what EmoBox writes.
    """
    data = next((place for place in (folder / "data" / corpus, folder / corpus) if place.is_dir()), None)
    tests = [] if data is None else sorted(data.glob(f"fold_*/{corpus}_test_fold_*.jsonl"))
    if data is None or not tests:
        raise NotFound(
            f"{folder} holds no folds of {corpus} ({corpus}/fold_1/{corpus}_test_fold_1.jsonl); give EmoBox's folder data."
        )
    names = read_json(data / "label_map.json")
    return [
        Fold(_rows(test.with_name(test.name.replace("_test_", "_train_")), names), _rows(test, names)) for test in tests
    ]


def _rows(path: Path, names: dict[str, str]) -> dict[object, str]:
    """Labels by `mark`; empty where the file is not there."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    try:
        rows = [json.loads(line) for line in lines]
        return {mark(row["wav"]): str(names.get(row["emo"], row["emo"])).lower() for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path}: no list of EmoBox's; each line needs 'wav' and 'emo'.") from error


def evaluate_emobox(
    corpora: Sequence[str | Path],
    folder: Path,
    config: TrainingConfig | None = None,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit and test on every fold of the corpora that are there (`cmet eval speech --protocol emobox`).

    Args:
        corpora: see `read_corpus`.
        folder: EmoBox's `data`, or the folder above.
        config: of the kernels; who is held out and how datasets are weighted does not count here.
        cache: folder for the prepared statistics.

    Returns:
        By EmoBox's name of a corpus: `unweighted` and `weighted` accuracy, percent, mean over `folds`; `tested` clips of the
        `listed` ones that are there; `shared`: share of the tested clips whose speaker is in the training part, too.

    Raises:
        CmetError: no corpus of EmoBox is among them, or see `read_folds` and `prepare`.
    """
    recordings = read_corpora(corpora)
    figures = {}
    for corpus, dataset in SETS.items():
        own = [recording for recording in recordings if recording.dataset == dataset]
        if own:
            figures[corpus] = _measure(corpus, own, folder, config or TrainingConfig(), cache, progress)
    if not figures:
        raise InvalidInput(f"None of {', '.join(SETS)} is among the recordings; give the folder of one with --data.")
    return figures


def _measure(
    corpus: str,
    recordings: list[Recording],
    folder: Path,
    config: TrainingConfig,
    cache: Path | None,
    progress: Progress | None,
) -> dict[str, Any]:
    folds = read_folds(folder, corpus)
    clips = prepare(recordings, cache, to_train=False, progress=progress)
    marks = [mark(name) for name in clips.names]
    accuracies, counts = [], np.zeros(3, int)
    for number, fold in enumerate(folds):
        if progress:
            progress(Stage.FOLD, number, len(folds))
        tested = np.array([n for n, one in enumerate(marks) if one in fold.test], int)
        known = fold.train or _rest(folds, marks, clips, fold)
        trained = np.array([n for n, one in enumerate(marks) if one in known and one not in fold.test], int)
        if not len(tested) or not len(trained):
            continue
        labels = np.array([fold.test.get(one) or known.get(one) or "" for one in marks])
        accuracies.append(_accuracies(clips, labels, trained, tested, config))
        shared = np.isin(clips.speaker[tested], clips.speaker[trained]).sum()
        counts += (len(tested), len(fold.test), shared)
    if not accuracies:
        raise InvalidInput(f"None of the recordings is in EmoBox's folds of {corpus}; check their names.")
    unweighted, weighted = 100 * np.mean(accuracies, 0)
    return {
        "unweighted": round(float(unweighted), 1), "weighted": round(float(weighted), 1), "folds": len(accuracies),
        "tested": int(counts[0]), "listed": int(counts[1]), "shared": round(float(counts[2] / counts[0]), 3),
    }  # fmt: skip


def _rest(folds: list[Fold], marks: list[object], clips: Clips, fold: Fold) -> dict[object, str]:
    """Labels of what is not tested in a fold whose list to train on is missing: as in the tests of other folds, else our own."""
    own = {"disgusted": "disgust", "surprised": "surprise", "bored": "boredom"}
    said = {one: own.get(str(emotion), str(emotion)) for one, emotion in zip(marks, clips.emotion, strict=True)}
    for other in folds:
        said |= other.test
    return {one: label for one, label in said.items() if one not in fold.test}


def _accuracies(
    clips: Clips, labels: np.ndarray, trained: np.ndarray, tested: np.ndarray, config: TrainingConfig
) -> tuple[float, float]:
    """Unweighted and weighted accuracy of the clips `tested` by a kernel that is fitted to those `trained`."""
    emotions = tuple(sorted(set(labels[trained])))
    own = replace(clips, emotion=labels, heard=np.full(len(clips), ""))
    # every emotion counts the same, as it does in the unweighted accuracy
    settings = replace(config, datasets={}, balance=1.0, heads=replace(config.heads, emotions=emotions))
    heads = fit_heads(own, trained, settings, beside=False)
    scores = heads(clips.statistics[0, tested])
    right = np.array(emotions)[scores.argmax(1)] == labels[tested]
    return float(np.mean([right[labels[tested] == name].mean() for name in set(labels[tested])])), float(right.mean())


def emobox_text(figures: dict[str, Any]) -> str:
    """The figures of `evaluate_emobox` as lines of text, the published ones below them."""
    lines = []
    for corpus, entry in figures.items():
        lines.append(
            f"{corpus:<8} unweighted {entry['unweighted']:5.1f} %, weighted {entry['weighted']:5.1f} %, {entry['folds']} folds, {entry['tested']} of "
            f"{entry['listed']} test clips are here; of {entry['shared']:.0%} the speaker is in the training part, too"
        )
        lines += [f"{'':<8} published: {name} {value:.1f} %" for name, value in PUBLISHED.get(corpus, {}).items()]
    return "\n".join(lines)
