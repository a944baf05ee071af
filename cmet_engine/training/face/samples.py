"""What was observed in pictures and clips, read for training or measuring, and how trained assets are written.

Mean face and basis are trained first, then the solver, which needs both. All learn from what `observe` wrote, and never
from the held-out people.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from cmet_engine import arkit
from cmet_engine.errors import NotFound
from cmet_engine.files import whole_file
from cmet_engine.models import assets, licences
from cmet_engine.training.labelled_pictures import group_of

STILLS = "stills.npz"
CLIPS = "clips"


@dataclass
class Sample:
    """Pictures, or frames of one clip, with what was observed in them.

    Attributes:
        name: "stills", or the clip's name.
        landmarks: float32 [N, 478, 3] pixels, the tracker's.
        teacher_landmarks: float32 [N, 478, 3] pixels, the landmarker's, which the teacher's scores follow from.
        scores: float32 [N, 52] the teacher's scores in canonical order.
        varied: bool [N], a bent picture; the others of a clip are its frames in order.
    """

    name: str
    landmarks: np.ndarray
    teacher_landmarks: np.ndarray
    scores: np.ndarray
    varied: np.ndarray

    @property
    def clip(self) -> bool:
        """Frames of a clip, not pictures of many people."""
        return self.name != "stills"

    def only(self, rows: np.ndarray) -> "Sample":
        """Some of the rows."""
        return Sample(
            self.name, self.landmarks[rows], self.teacher_landmarks[rows], self.scores[rows], self.varied[rows]
        )


def canonical(scores: np.ndarray, names: list[str]) -> np.ndarray:
    """The teacher's scores [N, K] in canonical order [N, 52]."""
    result = np.zeros((len(scores), arkit.COUNT), np.float32)
    for column, name in enumerate(names):
        if name in arkit.INDEX:
            result[:, arkit.INDEX[name]] = scores[:, column]
    return result


def load_observations(folder: Path, test_clips: set[str], *, test: bool) -> list[Sample]:
    """What `observe` wrote: of the people to train on, or of the held-out ones.

    Args:
        folder: holds `stills.npz` and `clips/*.npz`.
        test_clips: names of the held-out clips.
        test: which of the two.

    Raises:
        CmetError: nothing is there.
    """
    samples = []
    for path in [folder / STILLS, *sorted((folder / CLIPS).glob("*.npz"))]:
        if not path.exists():
            continue
        with np.load(path) as data:
            sample = Sample(
                path.stem,
                data["landmarks"],
                data["teacher_landmarks"],
                canonical(data["teacher_scores"], [str(n) for n in data["names"]]),
                data["variant"] > 0,
            )
            if sample.clip:
                if (path.stem in test_clips) == test:
                    samples.append(sample)
            else:
                held_out = np.array([group_of(str(p)) == 0 for p in data["person"]])
                samples.append(sample.only(held_out == test))
    if not samples:
        raise NotFound(f"{folder} holds no observations; run the observation of pictures and clips first.")
    return samples


def observed_pictures(folder: Path) -> tuple[list[str], np.ndarray]:
    """The pictures that `observe` saw, without their bent copies, which are not on the disk, and without the held-out people.

    Returns:
        Their paths, relative to the folder that was observed; and float32 [N, 478, 3] pixels, the tracker's landmarks.

    Raises:
        NotFound: no pictures were observed.
    """
    if not (folder / STILLS).exists():
        raise NotFound(f"{folder} holds no observations of pictures; observe some first.")
    with np.load(folder / STILLS) as data:
        landmarks, scores = data["landmarks"], data["teacher_scores"]
        plain = data["variant"] == 0 if "variant" in data else np.ones(len(landmarks), bool)
        rows = plain & np.array([group_of(str(p)) > 0 for p in data["person"]])
        rows &= np.isfinite(landmarks).all((1, 2)) & np.isfinite(scores).all(1)
        return [str(p) for p in data["paths"][rows]], landmarks[rows]


def read_names(path: Path | None) -> set[str]:
    """Names of clips, one a line."""
    return set(path.read_text("utf-8").split()) if path else set()


def write_asset(name: str, arrays: dict[str, np.ndarray]) -> Path:
    """Make arrays the embedded file `name` of this copy (see `licences.place`), with its checksum; returns the file."""
    path = assets.ASSETS / licences.place(name)
    path.parent.mkdir(exist_ok=True)
    with whole_file(path, force=True) as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary)
    assets.record(name)
    return path
