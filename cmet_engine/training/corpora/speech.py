"""Labelled recordings in a folder, and the teacher's features that may lie beside them."""

import csv
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmet_engine.emotion.heads import EMOTIONS
from cmet_engine.errors import InvalidInput
from cmet_engine.media import formats
from cmet_engine.training.corpora.layouts import CREMA_EMOTIONS, MEAD_EMOTIONS, layout_hint, warn_unknown_labels

SAME = {"calm": "neutral", "disgust": "disgusted", "fearful": "fear", "surprise": "surprised", "boredom": "bored"}
"""Labels of corpora that are classes here under another name."""

TEACHER = "emotion2vec_plus_large.npz"
TEACHER_SIZE = 1024  # dimensions of the emotion2vec+ large space (arXiv 2312.15185)


@dataclass(frozen=True)
class Recording:
    """One labelled clip of a corpus."""

    path: Path
    name: str  # as the index and the teacher's file call it
    dataset: str
    speaker: str
    emotion: str  # one of `EMOTIONS`
    heard: str = ""  # what most raters heard in it, one of `EMOTIONS`; empty where nobody was asked
    agreement: float = 0.0  # share of the raters who heard that


@dataclass(frozen=True)
class Corpus:
    """Labelled recordings and, for some of them, the teacher's features (name -> float32 [1024])."""

    recordings: list[Recording]
    teacher: dict[str, np.ndarray]


def read_corpus(folder: str | Path) -> Corpus:
    """Find labelled recordings in a folder, in one of three layouts.

    - `index.csv` with the columns path, dataset, speaker, emotion, and, where raters were asked, heard and agreement;
    - MEAD as distributed: `SPEAKER/audio/EMOTION/level_N/NNN.m4a` (any sound file);
    - CREMA-D as distributed: `AudioWAV/1001_DFA_ANG_XX.wav`.

    In each, `emotion2vec_plus_large.npz` may lie in the folder: `paths` (as the index has them, or from the folder on) and
    `features` [N, 1024] of emotion2vec+ large (`cmet train teacher` writes it), for the published connector.

    Raises:
        CmetError: the layout is none of these, a label is unknown, a file is missing, or a teacher's feature is not made
            of numbers; the message names the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; give the folder of a speech corpus.")
    teacher: dict[str, np.ndarray] = {}
    indexed = (folder / "index.csv").is_file()
    recordings = _read_index(folder) if indexed else _read_mead(folder) or _read_crema(folder)
    if (folder / TEACHER).is_file():
        teacher = _read_teacher(folder / TEACHER)
    if not recordings:
        raise InvalidInput(
            f"{folder} is not a speech corpus: it needs an index.csv, or MEAD's SPEAKER/audio/EMOTION/level_N/NNN.m4a, or "
            f"CREMA-D's AudioWAV/1001_DFA_ANG_XX.wav{layout_hint(folder)}."
        )
    return Corpus(recordings, teacher)


def read_corpora(folders: Sequence[str | Path]) -> list[Recording]:
    """The recordings of several folders, see `read_corpus`."""
    return [recording for folder in folders for recording in read_corpus(folder).recordings]


def _read_index(folder: Path) -> list[Recording]:
    recordings = []
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"path", "dataset", "speaker", "emotion"} - set(reader.fieldnames or ())
        if missing:
            raise InvalidInput(f"{folder / 'index.csv'} has no column '{sorted(missing)[0]}'.")
        for line, row in enumerate(reader, 2):
            emotion = SAME.get(row["emotion"], row["emotion"])
            if emotion not in EMOTIONS:
                raise InvalidInput(f"{folder / 'index.csv'} line {line}: the emotion '{row['emotion']}' is unknown.")
            if not (folder / row["path"]).is_file():
                raise InvalidInput(f"{folder / 'index.csv'} line {line}: {row['path']} is missing.")
            heard = SAME.get(row.get("heard") or "", row.get("heard") or "")
            agreement = _share(row.get("agreement") or "0", f"{folder / 'index.csv'} line {line}")
            recordings.append(
                Recording(
                    folder / row["path"], row["path"], row["dataset"], row["speaker"], emotion,
                    heard if heard in EMOTIONS else "", agreement,
                )
            )  # fmt: skip
    return recordings


def _share(text: str, where: str) -> float:
    """A share between 0 and 1.

    Raises:
        InvalidInput: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InvalidInput(f"{where}: the agreement '{text}' is no share between 0 and 1.")
    return value


def _read_teacher(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            names, features = [str(name) for name in file["paths"]], np.asarray(file["features"], np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path}: no teacher's features; it needs the arrays 'paths' and 'features'.") from error
    if features.shape != (len(names), TEACHER_SIZE):
        raise InvalidInput(
            f"{path}: 'features' has shape {list(features.shape)}; [{len(names)}, {TEACHER_SIZE}] is needed."
        )
    broken = np.flatnonzero(~np.isfinite(features).all(1))
    if len(broken):
        raise InvalidInput(
            f"{path}: the feature of {names[broken[0]]} holds values that are not numbers; make it again."
        )
    return dict(zip(names, features, strict=True))


def _read_mead(folder: Path) -> list[Recording]:
    recordings = []
    unknown: Counter[str] = Counter()
    for path in sorted(folder.glob("*/audio/*/level_*/*")):
        speaker, _, emotion = path.relative_to(folder).parts[:3]
        if path.suffix.lower() not in formats.SOUND or path.name.startswith(".") or not path.is_file():
            continue
        if emotion not in MEAD_EMOTIONS:
            unknown[emotion] += 1
        else:
            name = path.relative_to(folder).as_posix()
            recordings.append(Recording(path, name, "mead", f"mead_{speaker}", MEAD_EMOTIONS[emotion]))
    warn_unknown_labels(folder, unknown, list(MEAD_EMOTIONS))
    return recordings


def _read_crema(folder: Path) -> list[Recording]:
    recordings = []
    unknown: Counter[str] = Counter()
    for path in sorted((folder / "AudioWAV").glob("*.wav")):
        match = re.fullmatch(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_[A-Z]{2}", path.stem)
        if match and match[2] in CREMA_EMOTIONS:
            name = path.relative_to(folder).as_posix()
            recordings.append(Recording(path, name, "crema", f"crema_{match[1]}", CREMA_EMOTIONS[match[2]]))
        else:
            unknown[match[2] if match else path.stem] += 1
    warn_unknown_labels(folder, unknown, list(CREMA_EMOTIONS))
    return recordings
