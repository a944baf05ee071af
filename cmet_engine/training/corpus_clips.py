"""Clips of MEAD and CREMA-D folders for measuring: which are edited, and what the judge says of those that are acted."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.emotion.expression_classifier import EMOTIONS, Judge, accuracy
from cmet_engine.errors import CmetError
from cmet_engine.media import formats
from cmet_engine.media.reader import VideoReader
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.connector import CREMA_VIDEO, MEAD_VIDEO, find_videos

log = logging.getLogger(__name__)


def clips_of(paths: Sequence[Path], most: int) -> list[Path]:
    """The clips that `paths` mean: files and folders of numbered pictures as they are; of a MEAD or CREMA-D folder the neutral
    videos, since an edit begins from a calm face; of another folder the videos in it. At most `most` of each folder,
    spread over it (and so over its speakers).

    Raises:
        CmetError: a folder holds no clip.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir() or any(p.suffix.lower() in formats.STILL for p in path.iterdir()):
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in formats.VIDEO and not p.name.startswith("."))
        neutral = [video for video, _, emotion in find_videos(path) if emotion == "neutral"] if not inside else []
        found += [clip for clip in _spread(inside or neutral, most) if _opens(clip)]
    if not found:
        raise CmetError(f"{paths[0]} holds no video that can be edited; of a corpus the neutral ones are.")
    return found


def _opens(clip: Path) -> bool:
    """Whether a clip of a folder can be opened; one that cannot is left out with a warning that names it."""
    try:
        VideoReader(clip)
    except CmetError as error:
        log.warning("left out: %s", error)
        return False
    return True


def is_corpus(folder: Path) -> bool:
    """Whether a folder is laid out as MEAD or CREMA-D."""
    return any(next(folder.glob(pattern), None) is not None for pattern in (MEAD_VIDEO, CREMA_VIDEO))


def judge_videos(
    folder: Path, most: int, *, weights: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """What the judge says of the acted videos of a MEAD or CREMA-D folder, each as a whole.

    Args:
        folder: see `find_videos`.
        most: of each emotion, spread over the folder.
        weights: a judge to ask; None asks the embedded one.
        progress: called as `progress(stage, done, total)`.

    Returns:
        `videos` (how many), `confusion` [8, 8] and `accuracy`, see `judge.accuracy`. A video without a face is left out with a
        warning.

    Raises:
        CmetError: the folder has no known layout, or no video shows a face.
    """
    from cmet_engine.face.clip import track_clip

    labelled = find_videos(folder)
    chosen = [pair for e in EMOTIONS for pair in _spread([(path, e) for path, _, own in labelled if own == e], most)]
    judge, table = Judge.load(weights), np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    for number, (path, emotion) in enumerate(chosen, 1):
        try:
            track = track_clip(path)[1]
            said = judge.clip(track.coefficients[track.valid])
            table[EMOTIONS.index(emotion), EMOTIONS.index(max(said, key=lambda name: said[name]))] += 1
        except CmetError as error:
            log.warning("left out: %s", error)
        if progress:
            progress(Stage.CLASSIFY, number, len(chosen))
    if not table.any():
        raise CmetError(f"Not one of the {len(chosen)} videos in {folder} shows a face that can be tracked.")
    return {"videos": int(table.sum()), "confusion": table.tolist(), "accuracy": accuracy(table)}


def _spread(items: list, most: int) -> list:
    """At most `most` of the items, evenly spread."""
    if len(items) <= most:
        return items
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, most)]
