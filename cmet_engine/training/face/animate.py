"""Talking faces where there are no clips: faces of pictures, moved by recorded coefficients through the basis.

A recording of a face capture application holds coefficients alone. The basis turns them into motion of the landmarks, which is
added to faces of many people, and the teacher scores the result, which it can because it takes landmarks. People who talk hardly
frown: drawn expressions, published ones of emotions and single shapes, are one more recording.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from cmet_engine import arkit
from cmet_engine.face.blendshapes import BLIND, load_basis
from cmet_engine.face.pose import LANDMARKS, denormalise, normalise
from cmet_engine.progress import Progress, Stage
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.blendshape_teacher import OUTPUTS, Teacher
from cmet_engine.training.face.samples import CLIPS, load_observations
from cmet_engine.training.motion.data import draw_changes

EACH = 3  # faces that every recording moves
RATE = 12  # frames a second of the recordings that are used: the teacher is slow
STRENGTHS = (0.7, 1.2)  # times what was recorded
DRAWN, DRAWN_NAME = 600, "drawn"  # expressions that are drawn, as the frames of one more recording, and its name


def animate(
    observations: Path,
    takes: Sequence[Path],
    task: Path,
    *,
    tracks: Path | None = None,
    each: int = EACH,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Path]:
    """Write observations of faces that move as recordings say, beside those of clips; returns their files.

    Args:
        observations: folder that `observe` wrote, with pictures; held-out people are left out.
        takes: recorded coefficients of any application (`CoefficientTrack.load`).
        task: MediaPipe's `face_landmarker.task`, the teacher.
        tracks: folder that receives the scores as coefficient tracks, for a connector; what the teacher never reports comes from
            the recording.
        each: faces that every recording moves.
        seed: of the faces drawn, and of how strongly each moves.
        progress: called as `progress(Stage.OBSERVE, faces done, faces)`.

    Raises:
        CmetError: there are no observations, or a recording cannot be read.
    """
    stills = next(s for s in load_observations(observations, set(), test=False) if not s.clip)
    faces = stills.only(~stills.varied)
    random, teacher, components = np.random.default_rng(seed), Teacher(task), load_basis().components
    named = [name for name in OUTPUTS if name in arkit.INDEX]
    columns = [OUTPUTS.index(name) for name in named]
    written = []
    recordings = [(take.stem, _recorded(take)) for take in takes]
    recordings.append((DRAWN_NAME, np.clip(draw_changes(np.zeros((DRAWN, arkit.COUNT)), random), 0, 1)))
    for number, (name, coefficients) in enumerate(recordings):
        for person in range(each):
            motion = np.tensordot(coefficients * random.uniform(*STRENGTHS), components, 1)
            face = faces.only(np.full(len(motion), random.integers(len(faces.landmarks))))
            landmarks, theirs = (_moved(points, motion) for points in (face.landmarks, face.teacher_landmarks))
            found = teacher(torch.from_numpy(theirs)).numpy()
            scores = np.zeros((len(found), len(OUTPUTS)), np.float32)
            scores[:, columns] = found[:, arkit.columns(named)]
            path = observations / CLIPS / f"animated_{name}_{person}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(
                path, person=np.full(len(found), path.stem), variant=np.zeros(len(found), np.int16), landmarks=landmarks,
                teacher_landmarks=theirs, teacher_scores=scores, paths=np.full(len(found), ""), names=np.array(OUTPUTS),
            )  # fmt: skip
            if tracks is not None and name != DRAWN_NAME:
                found[:, arkit.columns(BLIND)] = coefficients[:, arkit.columns(BLIND)]
                still = np.zeros((len(found), 3), np.float32), np.zeros((len(found), 4), np.float32)
                seen = np.ones(len(found), bool)
                tracks.mkdir(parents=True, exist_ok=True)
                CoefficientTrack(Fraction(RATE), found, *still, seen, {}).save(tracks / f"{path.stem}.npz", force=True)
            written.append(path)
            if progress:
                progress(Stage.OBSERVE, number * each + person + 1, len(recordings) * each)
    return written


def _recorded(take: Path) -> np.ndarray:
    """Coefficients float64 [n, 52] of a recording, `RATE` frames a second."""
    track = CoefficientTrack.load(take)
    step = max(1, round(float(track.fps) / RATE))
    return np.clip(track.coefficients[track.valid][::step], 0, 1).astype(np.float64)


def _moved(landmarks: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Landmarks [N, 478, 3] pixels, moved by pose-free motion [N, 478, 3]."""
    points, pose = normalise(landmarks)
    return denormalise(points + motion.reshape(-1, LANDMARKS, 3), pose).astype(np.float32)
