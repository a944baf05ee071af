"""How far edited expressions lie from those that people show.

    python tests/benchmarks/plausibility.py PICTURES/index.csv CLIP [CLIP …] [--emotions happy …]

The index has the columns `path` and `person`, as that of `cmet train pictures`. Coefficients of pictures and frames come from the
solver's network on single frames; an edited frame's landmarks are moved by the basis first. Printed for the upper face and the mouth:
the distance of a frame's coefficients from those of the nearest picture, mirrored ones included (median and 90th percentile), and
which coefficients are on average beyond 99 of 100 pictures, and by how much. `people` is the same for every fifth person of the
pictures against the others, `source` for the clips as they are: speech is not among the pictures.
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmet_engine import arkit
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.emotions import BASIC
from cmet_engine.face.blendshapes import load_basis, load_solver
from cmet_engine.face.clip import track_clip
from cmet_engine.face.mesh import Detector, Mesh
from cmet_engine.media.reader import VideoReader
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.training.labelled_pictures import group_of, read_people

EVERY = 5  # frames
REGIONS = {"upper": ("brow", "eyeBlink", "eyeWide", "eyeSquint", "cheekSquint", "nose"), "mouth": ("mouth", "jawOpen")}
SHOWN = 0.02  # a mean excess below this is not named


def pictured(index: Path) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients [N, 52] of the faces of the pictures, and the group 0 to 4 of each person [N]."""
    landmarks, groups = [], []
    with contextlib.closing(Detector()) as detector, contextlib.closing(Mesh()) as mesh:
        for path, person in read_people(index):
            image = next(iter(VideoReader(index.parent / path))).image
            for box in detector.find(image):
                mesh.forget()
                if (points := mesh.find(image, box)) is not None:
                    landmarks.append(points)
                    groups.append(group_of(person))
                    break
    return load_solver().coefficients(np.array(landmarks)), np.array(groups)


def expressions(clip: Path, emotions: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Coefficients [M, 52] of frames of a clip, as they are (`source`) and with each emotion at strength 1."""
    geometry, track = track_clip(clip)
    chosen = np.flatnonzero(geometry.valid)[::EVERY]
    landmarks = geometry.landmarks[:][chosen]
    yield "source", load_solver().coefficients(landmarks)
    for emotion in emotions:
        edited = edit_track(track, EmotionTimeline([EmotionKey(emotion)]), load_library())
        change = (edited.coefficients - track.coefficients)[chosen]
        yield emotion, load_solver().coefficients(landmarks + load_basis().motion(landmarks, change))


def report(name: str, shown: np.ndarray, people: np.ndarray) -> None:
    """Print a line for each region of expressions [M, 52] against those of pictures [N, 52]."""
    everyone = np.concatenate([people, people[:, arkit.MIRROR]])
    for region, beginnings in REGIONS.items():
        columns = [i for i, n in enumerate(arkit.NAMES) if n.startswith(beginnings)]
        nearest = [np.linalg.norm(everyone[:, columns] - one, axis=1).min() for one in shown[:, columns]]
        beyond = np.maximum(shown - np.quantile(everyone, 0.99, axis=0), 0).mean(0)
        named = [f"{arkit.NAMES[i]} {beyond[i]:.2f}" for i in columns if beyond[i] > SHOWN]
        middle, far = np.quantile(nearest, (0.5, 0.9))
        print(f"{name:<12}{region:<8}{middle:.2f}  {far:.2f}  {', '.join(named)}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--emotions", nargs="+", default=list(BASIC))
    options = parser.parse_args()
    people, groups = pictured(options.index)
    report("people", people[groups == 0], people[groups != 0])
    shown: dict[str, list[np.ndarray]] = {}
    for clip in options.clips:
        for name, values in expressions(clip, options.emotions):
            shown.setdefault(name, []).append(values)
    for name, values in shown.items():
        report(name, np.concatenate(values), people)


if __name__ == "__main__":
    main()
