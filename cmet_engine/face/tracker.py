"""Footage to face geometry: 478 landmarks in every frame of one person, head pose, gaze, cuts.

The face is followed in a square window cut from the frame at full resolution and shrunk to one size before
MediaPipe's face mesh sees it, so a small face in a large picture keeps its precision and a large one costs no more.
"""

import contextlib
import itertools
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from cmet_engine.errors import InvalidInput
from cmet_engine.face.cuts import CutFinder
from cmet_engine.face.follower import Follower, first_faces
from cmet_engine.face.gaze import gaze_degrees
from cmet_engine.face.geometry import FaceGeometry, Landmarks
from cmet_engine.face.landmarks import LANDMARKS
from cmet_engine.face.pose import normalise, rotation_degrees
from cmet_engine.face.smooth import smooth_shot
from cmet_engine.face.teeth import teeth_meet
from cmet_engine.media.info import Frame, VideoInfo
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.progress import Progress, Stage
from cmet_engine.resume import load_arrays, save_arrays

TEETH_SECONDS = 0.03
"""Standard deviation of the Gaussian that smooths, over time, whether the rows of teeth meet."""

SEGMENT = 512
"""Frames after which tracking depends on nothing but what can be written down, so that it can go on from there."""


@dataclass
class _Observations:
    """What was found in the frames so far."""

    landmarks: Landmarks = field(default_factory=Landmarks)
    times: list[float] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    valid: list[bool] = field(default_factory=list)
    teeth: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.valid)

    def add(self, frame: Frame, landmarks: np.ndarray | None) -> None:
        """Add a frame with its landmarks [478, 3], or None where the face was not found."""
        self.landmarks.append(np.full((LANDMARKS, 3), np.nan) if landmarks is None else landmarks)
        self.valid.append(landmarks is not None)
        self.teeth.append(0.0 if landmarks is None else teeth_meet(frame.image, landmarks))
        self.times.append(float(frame.time))

    def segment(self, first: int) -> dict[str, np.ndarray]:
        """The frames from `first` on as arrays, for `take_over`."""
        return {
            "landmarks": self.landmarks[first:],
            "times": np.array(self.times[first:]),
            "cuts": np.array([c for c in self.cuts if c >= first], np.int64),
            "valid": np.array(self.valid[first:]),
            "teeth": np.array(self.teeth[first:]),
        }

    def take_over(self, segment: dict[str, np.ndarray]) -> None:
        """Add the frames of a `segment`."""
        self.landmarks.append(segment["landmarks"])
        self.times += segment["times"].tolist()
        self.cuts += segment["cuts"].tolist()
        self.valid += segment["valid"].tolist()
        self.teeth += segment["teeth"].tolist()


def track(
    clip: str | Path | Source, *, face: int = 0, progress: Progress | None = None, pieces: Path | None = None
) -> FaceGeometry:
    """Find one person's face in every frame of a clip.

    Args:
        clip: a video that `media.reader` reads; of a `Source` the part that it stands for.
        face: which person, where there are several: 0 is the largest face over the first second that shows any, 1 the
            next smaller, and so on; of equal faces the one further left comes first.
        progress: called with ("tracking", frames done, frames in all or None); what it raises ends the work.
        pieces: folder in which finished segments are kept; those that are there already are taken over. The result is the
            same. The caller makes sure that they are of the same clip and face.

    Raises:
        InvalidInput: not a readable video, or no face in any frame.
        NotFound: fewer faces than `face` asks for.
    """
    if face < 0:
        raise InvalidInput(f"Face number {face} does not exist; faces are counted from 0, the largest.")
    reader = VideoReader(clip)
    info, path = reader.info, reader.info.path
    seen, cuts = _Observations(), CutFinder()
    with contextlib.closing(Follower()) as follower:
        _take_over(pieces, seen, follower, cuts)
        if not seen:
            follower.choose(first_faces(reader, follower.detector), face, path.name)
        for frame in reader.frames(len(seen)):
            cut = cuts.is_cut(frame.image)
            if cut:
                seen.cuts.append(len(seen))
            seen.add(frame, follower.step(frame.image, cut))
            if len(seen) % SEGMENT == 0:
                follower.forget_graph()
                _keep_segment(pieces, seen, follower, cuts)
            if progress:
                progress(Stage.TRACKING, len(seen), info.frames)
    if not seen:
        raise InvalidInput(f"{path.name} holds no pictures; use a video that shows a face.")
    if not any(seen.valid):
        raise InvalidInput(
            f"{path.name}: no face was found in any of its {len(seen)} frames; use a clip that shows one."
        )
    return _finish(seen, info)


def _take_over(pieces: Path | None, seen: _Observations, follower: Follower, cuts: CutFinder) -> None:
    """Take over the finished segments; one in another format is tracked again."""
    while pieces and "appearance" in (segment := load_arrays(_segment_file(pieces, len(seen)))):
        seen.take_over(segment)
        follower.restore(segment)
        cuts.restore(segment)


def _keep_segment(pieces: Path | None, seen: _Observations, follower: Follower, cuts: CutFinder) -> None:
    """Write the segment that has just ended."""
    if pieces:
        first = len(seen) - SEGMENT
        save_arrays(_segment_file(pieces, first), **seen.segment(first), **follower.state(), **cuts.state())


def _segment_file(folder: Path, first: int) -> Path:
    """File of the segment that begins with a frame."""
    return folder / f"{first:08d}.npz"


def _finish(seen: _Observations, info: VideoInfo) -> FaceGeometry:
    """Fill the gaps, smooth every shot, measure pose and gaze."""
    valid, teeth = np.array(seen.valid), np.array(seen.teeth)
    smoothed = Landmarks()
    rate = float(info.fps)
    for first, last in itertools.pairwise([0, *seen.cuts, len(valid)]):
        teeth[first:last] = gaussian_filter1d(teeth[first:last], TEETH_SECONDS * rate)
        if not valid[first:last].any():
            nearest = np.flatnonzero(valid)[np.abs(np.flatnonzero(valid) - first).argmin()]
            for _ in range(first, last):
                smoothed.append(seen.landmarks[int(nearest)])
            continue
        for part in smooth_shot(seen.landmarks, valid, first, last, rate):
            smoothed.append(part)
    head, eyes = np.empty((len(valid), 3), np.float32), np.empty((len(valid), 4), np.float32)
    geometry = FaceGeometry(
        smoothed, valid, (info.width, info.height), Fraction(info.fps), np.array(seen.times), head, eyes, seen.cuts,
        variable=info.variable, teeth=teeth.astype(np.float32),
    )  # fmt: skip
    for frames, landmarks in geometry.chunks():
        pose_free, pose = normalise(landmarks)
        head[frames] = rotation_degrees(pose.rotation)
        eyes[frames] = gaze_degrees(pose_free)
    return geometry
