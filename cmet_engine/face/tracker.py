"""Footage to face geometry: 478 landmarks in every frame of one person, head pose, gaze, cuts.

The face is followed in a square window cut from the frame at full resolution and shrunk to one size before
MediaPipe's face mesh sees it, so a small face in a large picture keeps its precision and a large one costs no more.
"""

import contextlib
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from cmet_engine.errors import CmetError
from cmet_engine.face.cuts import CutFinder
from cmet_engine.face.follower import Follower, first_faces
from cmet_engine.face.gaze import gaze_degrees
from cmet_engine.face.geometry import FaceGeometry, Landmarks
from cmet_engine.face.landmarks import LANDMARKS
from cmet_engine.face.pose import normalise, rotation_degrees
from cmet_engine.face.smooth import smooth_shot
from cmet_engine.face.teeth import teeth_meet
from cmet_engine.media.video import VideoReader
from cmet_engine.progress import Progress, Stage
from cmet_engine.resume import load_arrays, save_arrays

TEETH_SECONDS = 0.03  # Gaussian width of how long teeth are seen to meet
SEGMENT = (
    512  # frames after which nothing is carried on but what can be written down, so that tracking can go on from there
)


def track(
    path: str | Path, *, face: int = 0, progress: Progress | None = None, pieces: Path | None = None
) -> FaceGeometry:
    """Find one person's face in every frame of a clip.

    Args:
        path: a video that `media.video` reads.
        face: which person, where there are several: 0 is the largest face over the first second that shows any, 1 the
            next smaller, and so on; of equal faces the one further left comes first.
        progress: called with ("tracking", frames done, frames in all or None); what it raises ends the work.
        pieces: folder in which finished segments are kept; those that are there already are taken over. The result is the
            same. The caller makes sure that they are of the same clip and face.

    Raises:
        CmetError: not a readable video, no face in any frame, or fewer faces than `face` asks for.
    """
    path = Path(path)
    if face < 0:
        raise CmetError(f"Face number {face} does not exist; faces are counted from 0, the largest.")
    reader = VideoReader(path)
    info = reader.info
    raw = Landmarks()
    times: list[float] = []
    cuts: list[int] = []
    valid: list[bool] = []
    teeth: list[float] = []
    cut_finder = CutFinder()
    with contextlib.closing(Follower()) as follower:
        # what an earlier version kept knows nothing of teeth: it is tracked again
        while pieces and "teeth" in (segment := load_arrays(_piece(pieces, len(valid)))):
            raw.append(segment["landmarks"])
            times += segment["times"].tolist()
            cuts += segment["cuts"].tolist()
            valid += segment["valid"].tolist()
            teeth += segment["teeth"].tolist()
            follower.go_on(segment)
            cut_finder.go_on(segment)
        if not valid:
            follower.choose(first_faces(reader, follower.detector), face, path.name)
        for frame in reader.frames(len(valid)):
            cut = cut_finder.is_cut(frame.image)
            if cut:
                cuts.append(len(valid))
            points = follower.step(frame.image, cut)
            raw.append(np.full((LANDMARKS, 3), np.nan) if points is None else points)
            valid.append(points is not None)
            teeth.append(0.0 if points is None else teeth_meet(frame.image, points))
            times.append(float(frame.time))
            if len(valid) % SEGMENT == 0:
                follower.renew()
                if pieces:
                    first = len(valid) - SEGMENT
                    save_arrays(
                        _piece(pieces, first), landmarks=raw[first:], times=np.array(times[first:]),
                        cuts=np.array([c for c in cuts if c >= first], np.int64), valid=np.array(valid[first:]),
                        teeth=np.array(teeth[first:]), **follower.state(), **cut_finder.state(),
                    )  # fmt: skip
            if progress:
                progress(Stage.TRACKING, len(valid), info.frames)
    if not valid:
        raise CmetError(f"{path.name} holds no pictures.")
    found = np.array(valid)
    if not found.any():
        raise CmetError(f"{path.name}: no face was found in any of its {len(found)} frames; use a clip that shows one.")
    return _finish(raw, found, cuts, info, np.array(times), np.array(teeth))


def _piece(folder: Path, first: int) -> Path:
    """File of the segment that begins with a frame."""
    return folder / f"{first:08d}.npz"


def _finish(
    raw: Landmarks, valid: np.ndarray, cuts: list[int], info: Any, times: np.ndarray, teeth: np.ndarray
) -> FaceGeometry:
    """Fill the gaps, smooth every shot, measure pose and gaze."""
    edges = [0, *cuts, len(valid)]
    smoothed = Landmarks()
    rate = float(info.fps)
    for first, last in itertools.pairwise(edges):
        teeth[first:last] = gaussian_filter1d(teeth[first:last], TEETH_SECONDS * rate)
        if not valid[first:last].any():
            nearest = np.flatnonzero(valid)[np.abs(np.flatnonzero(valid) - first).argmin()]
            for _ in range(first, last):
                smoothed.append(raw[int(nearest)])
            continue
        for part in smooth_shot(raw, valid, first, last, rate):
            smoothed.append(part)
    head, eyes = np.empty((len(valid), 3), np.float32), np.empty((len(valid), 4), np.float32)
    geometry = FaceGeometry(
        smoothed, valid, (info.width, info.height), Fraction(info.fps), times, head, eyes, cuts, variable=info.variable,
        teeth=teeth.astype(np.float32),
    )  # fmt: skip
    for frames, landmarks in geometry.chunks():
        points, pose = normalise(landmarks)
        head[frames] = rotation_degrees(pose.rotation)
        eyes[frames] = gaze_degrees(points)
    return geometry
