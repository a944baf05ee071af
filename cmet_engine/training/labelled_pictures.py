"""Labelled pictures, scored once: what the judge and the unpaired connector learn faces from (`cmet train pictures`)."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmet_engine import arkit
from cmet_engine.emotion.expression_classifier import EMOTIONS, FrameReader
from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, whole_file
from cmet_engine.media import formats
from cmet_engine.media.reader import VideoReader
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.connector import CREMA_VIDEO, MEAD_VIDEO, find_videos

log = logging.getLogger(__name__)

INDEX, SCORES = "index.csv", "mediapipe_blendshapes.npz"  # as `judge.load_pictures` reads them


def score_pictures(
    data: str | Path,
    output: str | Path,
    *,
    landmarker: Path | None = None,
    frames: int = 3,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Score labelled pictures, or frames of labelled videos, and write them as `judge.load_pictures` reads them.

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
        raise CmetError(f"Cannot make the folder {output}: {error.strerror}.") from error
    check_writable(output / SCORES, force=force)
    in_place = output.resolve() == data.resolve() and (data / INDEX).is_file()
    if not in_place:
        check_writable(output / INDEX, force=force)
    labelled = list(_labelled(data))
    reader = FrameReader(landmarker)
    rows, scores, left_out = [], [], 0
    for number, (path, name, person, emotion) in enumerate(labelled, 1):
        seen = 0
        try:
            pictures = _pictures(path, frames)
            found = reader([image for _, image in pictures])[1]
            for (place, _), score in zip(pictures, found, strict=True):
                if np.isfinite(score).all():
                    rows.append((f"{name}#{place}" if path.suffix.lower() in formats.VIDEO else name, person, emotion))
                    scores.append(score)
                    seen += 1
            if not seen:
                log.warning("left out: no face was found in %s", path)
        except CmetError as error:
            log.warning("left out: %s", error)
        if not seen:
            left_out += 1
            if in_place:  # the index stays as it is, so every row of it has its scores
                rows.append((name, person, emotion))
                scores.append(np.full(arkit.COUNT, np.nan, np.float32))
        if progress:
            progress(Stage.SCORE, number, len(labelled))
    if left_out == len(labelled):
        raise CmetError(f"No face was found in any of the {len(labelled)} pictures of {data}.")
    with whole_file(output / SCORES, force=True) as temporary:
        np.savez(temporary, names=np.array(arkit.NAMES), scores=np.stack(scores).astype(np.float16))
    if in_place:
        return {"pictures": len(rows) - left_out, "left_out": left_out}
    with whole_file(output / INDEX, force=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "person", "emotion"))
        writer.writerows(rows)
    return {"pictures": len(rows), "left_out": left_out}


def _labelled(data: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Path, name, person and emotion of everything in a folder that can be scored."""
    if not (data / INDEX).is_file():
        if not any(next(data.glob(pattern), None) for pattern in (MEAD_VIDEO, CREMA_VIDEO)):
            raise CmetError(
                f"{data} holds no labelled pictures: it needs an index.csv (path, person, emotion), or the videos of MEAD "
                f"(SPEAKER/{MEAD_VIDEO[2:].replace('*', '…')}) or CREMA-D ({CREMA_VIDEO.replace('*', '1001_DFA_ANG_XX')})."
            )
        for path, person, emotion in find_videos(data):
            yield path, path.relative_to(data).as_posix(), person, emotion
        return
    with (data / INDEX).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := {"path", "person", "emotion"} - set(reader.fieldnames or ()):
            raise CmetError(f"{data / INDEX} has no column '{min(missing)}'.")
        for line, row in enumerate(reader, 2):
            if row["emotion"] not in EMOTIONS:
                raise CmetError(
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
