"""Labelled pictures of faces: read, and scored once (`cmet train pictures`).

The expression classifier and the unpaired connector are trained on them.
"""

import csv
import logging
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmet_engine import arkit
from cmet_engine.emotion.expression_classifier import EMOTIONS
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import check_writable, read_json, whole_file
from cmet_engine.media import formats
from cmet_engine.media.reader import VideoReader
from cmet_engine.models.assets import asset
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.corpora.layouts import CREMA_VIDEO, MEAD_VIDEO
from cmet_engine.training.corpora.videos import find_videos
from cmet_engine.training.face_estimator import FaceEstimator

log = logging.getLogger(__name__)

LABELS_FILE = "expression_labels.json"
"""Embedded review of the labels of the pictures that the embedded classifier is trained on."""

INDEX, SCORES = "index.csv", "mediapipe_blendshapes.npz"
"""Files of a folder of labelled pictures."""

HELD_OUT_EVERY = 5
"""Every fifth person is held out."""


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures: MediaPipe's scores [N, 52] in canonical order, emotion [N], person [N] and path [N] (text)."""

    coefficients: np.ndarray
    emotion: np.ndarray
    person: np.ndarray
    path: np.ndarray

    def chosen(self, keep: np.ndarray) -> "Pictures":
        """Only the pictures where `keep` is True."""
        return Pictures(self.coefficients[keep], self.emotion[keep], self.person[keep], self.path[keep])

    @property
    def fold(self) -> np.ndarray:
        """[N] group 0 to 4 of each person; group 0 is held out."""
        return np.array([group_of(p) for p in self.person])

    def reviewed(self) -> "Pictures":
        """The pictures with the labels of the embedded review: labels that the picture does not show are left out."""
        review = read_json(asset(LABELS_FILE))
        moved = {path: emotion for emotion, paths in review["only_these"].items() for path in paths}
        unsure = set(review["only_these"])
        left_out = set(review["left_out"])
        if np.isin([*moved, *left_out], self.path).mean() < 0.5:
            return self  # other pictures than the reviewed ones
        labels = np.array(
            [
                moved.get(p, "" if e in unsure or p in left_out else e)
                for p, e in zip(self.path, self.emotion, strict=True)
            ]
        )
        keep = labels != ""
        return Pictures(self.coefficients, labels, self.person, self.path).chosen(keep)


def group_of(person: str) -> int:
    """Group of a person: the number in the name (`p81c922a1`, hexadecimal) modulo 5, or of the name's checksum."""
    try:
        return int(person[1:], 16) % HELD_OUT_EVERY
    except ValueError:
        return zlib.crc32(person.encode()) % HELD_OUT_EVERY


def read_people(index: Path) -> list[tuple[str, str]]:
    """Path and person of every picture of a table.

    Raises:
        InvalidInput: it cannot be read, or lacks one of the columns.
    """
    try:
        with index.open(encoding="utf-8-sig", newline="") as file:
            return [(row["path"], row["person"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{index} cannot be read as a table with the columns path and person.") from error


def read_masks(index: Path) -> dict[str, str]:
    """Of the pictures of a table that `read_people` read, those with a mask: its path by theirs; empty without such a column."""
    with index.open(encoding="utf-8-sig", newline="") as file:
        return {row["path"]: row["mask"] for row in csv.DictReader(file) if row.get("mask")}


def load_pictures(folder: str | Path) -> Pictures:
    """Labelled pictures of a folder: `index.csv` (path, person, emotion) and `mediapipe_blendshapes.npz` (names, scores).

    Pictures in which MediaPipe found no face (scores all zero or not numbers) are left out.

    Raises:
        CmetError: a file is missing, or the columns or lengths are wrong.
    """
    index, scores = Path(folder) / INDEX, Path(folder) / SCORES
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        archive = np.load(scores, allow_pickle=False)
        names, values = [str(n) for n in archive["names"]], archive["scores"].astype(np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{index} or {scores.name} beside it cannot be read: {error}.") from error
    if not rows or not {"path", "person", "emotion"} <= rows[0].keys():
        raise InvalidInput(f"{index} must have the columns path, person and emotion.")
    if len(rows) != len(values):
        raise InvalidInput(f"{index} has {len(rows)} rows, but {scores.name} has scores of {len(values)} pictures.")
    result = np.zeros((len(rows), arkit.COUNT), np.float32)
    for column, name in enumerate(names):
        if name in arkit.INDEX:
            result[:, arkit.INDEX[name]] = values[:, column]
    keep = np.isfinite(values).all(1) & (values.sum(1) > 0)
    return Pictures(result, *(np.array([r[k] for r in rows]) for k in ("emotion", "person", "path"))).chosen(keep)


def score_pictures(
    data: str | Path,
    output: str | Path,
    *,
    landmarker: Path | None = None,
    frames: int = 3,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Score labelled pictures, or frames of labelled videos, and write them as `load_pictures` reads them.

    Args:
        data: a folder with an `index.csv` (columns path, person, emotion) beside its pictures, or the videos of MEAD or CREMA-D.
        output: folder for `index.csv` and `mediapipe_blendshapes.npz`; made when absent. It may be `data` itself, whose index then
            stays as it is.
        landmarker: MediaPipe's `face_landmarker.task`, which scores; None scores with the embedded solver.
        frames: taken of each video, spread over its middle half, where the emotion is at its height.
        force: replace earlier scores.
        progress: called as `progress(stage, done, total)`.

    Returns:
        `pictures` that were scored and `left_out` for want of a face (each named in a warning).

    Raises:
        CmetError: the layout or a label is unknown, no face was found at all, or the output cannot be written.
    """
    data, output = Path(data), Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"Cannot make the folder {output}: {error.strerror}.") from error
    check_writable(output / SCORES, force=force)
    in_place = output.resolve() == data.resolve() and (data / INDEX).is_file()
    if not in_place:
        check_writable(output / INDEX, force=force)
    labelled = list(_labelled(data))
    estimator = FaceEstimator(landmarker)
    rows, scores, left_out = [], [], 0
    for number, (path, name, person, emotion) in enumerate(labelled, 1):
        found = _scored(path, name, frames, estimator)
        if not found:
            left_out += 1
            if in_place:  # the index stays as it is, so every row of it has its scores
                found = [(name, np.full(arkit.COUNT, np.nan, np.float32))]
        for picture, score in found:
            rows.append((picture, person, emotion))
            scores.append(score)
        if progress:
            progress(Stage.SCORE, number, len(labelled))
    if left_out == len(labelled):
        raise InvalidInput(f"No face was found in any of the {len(labelled)} pictures of {data}.")
    with whole_file(output / SCORES, force=True) as temporary:
        np.savez(temporary, names=np.array(arkit.NAMES), scores=np.stack(scores).astype(np.float16))
    if in_place:
        return {"pictures": len(rows) - left_out, "left_out": left_out}
    with whole_file(output / INDEX, force=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "person", "emotion"))
        writer.writerows(rows)
    return {"pictures": len(rows), "left_out": left_out}


def _scored(path: Path, name: str, frames: int, estimator: FaceEstimator) -> list[tuple[str, np.ndarray]]:
    """Names and scores [52] of the pictures of a file that show a face; none, and a warning, where there is no face."""
    try:
        pictures = _pictures(path, frames)
        scores = estimator([image for _, image in pictures])[1]
    except CmetError as error:
        log.warning("left out: %s", error)
        return []
    moving = path.suffix.lower() in formats.VIDEO
    found = [
        (f"{name}#{place}" if moving else name, score)
        for (place, _), score in zip(pictures, scores, strict=True)
        if np.isfinite(score).all()
    ]
    if not found:
        log.warning("left out: no face was found in %s", path)
    return found


def _labelled(data: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Path, name, person and emotion of everything in a folder that can be scored."""
    if not (data / INDEX).is_file():
        if not any(next(data.glob(pattern), None) for pattern in (MEAD_VIDEO, CREMA_VIDEO)):
            raise InvalidInput(
                f"{data} holds no labelled pictures: it needs an index.csv (path, person, emotion), or the videos of MEAD "
                f"(SPEAKER/{MEAD_VIDEO[2:].replace('*', '…')}) or CREMA-D ({CREMA_VIDEO.replace('*', '1001_DFA_ANG_XX')})."
            )
        for path, person, emotion in find_videos(data):
            yield path, path.relative_to(data).as_posix(), person, emotion
        return
    with (data / INDEX).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := {"path", "person", "emotion"} - set(reader.fieldnames or ()):
            raise InvalidInput(f"{data / INDEX} has no column '{min(missing)}'.")
        for line, row in enumerate(reader, 2):
            if row["emotion"] not in EMOTIONS:
                raise InvalidInput(
                    f"{data / INDEX} line {line}: the emotion '{row['emotion']}' is not one of {', '.join(EMOTIONS)}."
                )
            yield data / row["path"], row["path"], row["person"], row["emotion"]


def _pictures(path: Path, frames: int) -> list[tuple[int, np.ndarray]]:
    """Some frames of a video, or the one picture of a file: (number, RGB [H, W, 3])."""
    count = sum(1 for _ in VideoReader(path))  # counted first: a clip's pictures do not all fit into memory
    chosen = set(
        np.linspace(count // 4, max(count - 1 - count // 4, 0), frames if count > 1 else 1).round().astype(int)
    )
    return [(frame.index, frame.image) for frame in VideoReader(path) if frame.index in chosen]
