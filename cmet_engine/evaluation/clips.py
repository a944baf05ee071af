"""Which clips are measured: files, and the videos of folders and corpora."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cmet_engine.emotion.expression_classifier import EMOTIONS
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.media import formats
from cmet_engine.media.reader import VideoReader
from cmet_engine.training.corpora.layouts import CREMA_VIDEO, MEAD_VIDEO
from cmet_engine.training.corpora.videos import find_videos

log = logging.getLogger(__name__)

T = TypeVar("T")


def clips_of(paths: Sequence[Path], most: int) -> list[Path]:
    """The clips that `paths` mean.

    Files and folders of numbered pictures are taken as they are. Of a MEAD or CREMA-D folder the neutral videos are taken,
    since an edit begins from a neutral face; of another folder the videos in it.

    Args:
        paths: files and folders.
        most: clips of each folder, spread over it (and so over its speakers).

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
        raise InvalidInput(f"{paths[0]} holds no video that can be edited; of a corpus the neutral ones are.")
    return found


def is_corpus(folder: Path) -> bool:
    """Whether a folder is laid out as MEAD or CREMA-D."""
    return any(next(folder.glob(pattern), None) is not None for pattern in (MEAD_VIDEO, CREMA_VIDEO))


def acted_videos(folder: Path, most: int) -> list[tuple[Path, str]]:
    """Videos of a MEAD or CREMA-D folder with their labels: at most `most` of each emotion, spread over the folder.

    Raises:
        CmetError: the folder has no known layout.
    """
    labelled = find_videos(folder)
    return [pair for e in EMOTIONS for pair in _spread([(path, e) for path, _, own in labelled if own == e], most)]


def _opens(clip: Path) -> bool:
    """Whether a clip of a folder can be opened; one that cannot is left out with a warning that names it."""
    try:
        VideoReader(clip)
    except CmetError as error:
        log.warning("left out: %s", error)
        return False
    return True


def _spread(items: list[T], most: int) -> list[T]:
    """At most `most` of the items, evenly spread."""
    if len(items) <= most:
        return items
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, most)]
