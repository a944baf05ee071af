"""How well signatures tell the people of some clips apart. `cmet eval identity`."""

import contextlib
import csv
from pathlib import Path

import numpy as np

from cmet_engine.errors import InvalidInput
from cmet_engine.face.identity import GEOMETRY_SHARE, load_identity, look_features, rest_shape
from cmet_engine.face.mesh import Detector, Mesh, box_of
from cmet_engine.face.person import seen_clearly
from cmet_engine.media.formats import VIDEO
from cmet_engine.media.reader import VideoReader
from cmet_engine.progress import Progress, Stage

FRAMES = 16
"""Frames of each clip, evenly spread."""
LONGEST = 900
"""Frames of a clip that they are taken from."""
LEAST_GAP = 20
"""Frames between two views of one person that are compared."""


def evaluate_identity(
    clips: Path, *, people: Path | None = None, progress: Progress | None = None
) -> dict[str, float | int]:
    """Equal error rates of geometry, look and both: single views of one person against views of others.

    Args:
        clips: folder of videos that show one person each.
        people: a table with the columns `path` and `person`: views from two clips are compared only where these differ.
        progress: called with ("measure", clips done, in all).

    Returns:
        `geometry`, `look` and `both` (equal error rates, 0 to 1), and the numbers of `clips`, `same` and `other` pairs.

    Raises:
        CmetError: a clip cannot be read, or there are fewer than two.
    """
    paths = sorted(p for p in clips.iterdir() if p.suffix.lower() in VIDEO)
    if len(paths) < 2:
        raise InvalidInput(f"{clips} holds fewer than two videos.")
    person_of = _people(people)
    views: list[tuple[int, str, int, np.ndarray, np.ndarray]] = []
    with contextlib.closing(Detector()) as detector, contextlib.closing(Mesh()) as mesh:
        for number, path in enumerate(paths):
            for frame, picture, landmarks in _views(path, detector, mesh):
                views.append((number, person_of.get(path.name, path.name), frame, picture, landmarks))
            if progress:
                progress(Stage.MEASURE, number + 1, len(paths))
    clip, index = np.array([v[0] for v in views]), np.array([v[2] for v in views])
    person = np.array([v[1] for v in views])
    model = load_identity()
    geometry = model.geometry(rest_shape(np.stack([v[4] for v in views])))
    look = model.look(np.concatenate([look_features(v[3][None]) for v in views]))
    first, second = np.triu_indices(len(views), 1)
    same = (clip[first] == clip[second]) & (np.abs(index[first] - index[second]) > LEAST_GAP)
    other = person[first] != person[second]
    unlike = {"geometry": 1 - geometry @ geometry.T, "look": 1 - look @ look.T}
    unlike["both"] = GEOMETRY_SHARE * unlike["geometry"] + (1 - GEOMETRY_SHARE) * unlike["look"]
    rates = {
        name: round(equal_error_rate(d[first, second][same], d[first, second][other]), 4) for name, d in unlike.items()
    }
    return {**rates, "clips": len(paths), "same": int(same.sum()), "other": int(other.sum())}


def equal_error_rate(same: np.ndarray, other: np.ndarray) -> float:
    """Share of errors at the distance where as many of the same are beyond as of the others within.

    Args:
        same: distances of pairs of one person.
        other: distances of pairs of two people.
    """
    steps = np.sort(np.concatenate([same, other]))
    missed = 1 - np.searchsorted(np.sort(same), steps, side="right") / len(same)
    mistaken = np.searchsorted(np.sort(other), steps, side="right") / len(other)
    at = int(np.argmin(np.abs(missed - mistaken)))
    return float((missed[at] + mistaken[at]) / 2)


def _people(table: Path | None) -> dict[str, str]:
    if table is None:
        return {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            return {row["path"]: row["person"] for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{table} cannot be read as a table with the columns path and person.") from error


def _views(path: Path, detector: Detector, mesh: Mesh) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Frame number, texture and landmarks of the largest face in some frames of a clip, where it is seen well."""
    reader = VideoReader(path)
    step = max(1, min(reader.info.frames or LONGEST, LONGEST) // FRAMES)
    found = []
    for frame in reader:
        if frame.index >= LONGEST:
            break
        if frame.index % step:
            continue
        for box in detector.find(frame.image)[:1]:
            mesh.forget()
            landmarks = mesh.find(frame.image, box)
            if landmarks is not None:
                again = mesh.find(frame.image, box_of(landmarks))
                landmarks = landmarks if again is None else again
                if (picture := seen_clearly(frame.image, landmarks)) is not None:
                    found.append((frame.index, picture, landmarks))
    return found
