"""Footage to face geometry: 478 landmarks in every frame of one person, head pose, gaze, cuts.

The face is followed in a square window cut from the frame at full resolution and shrunk to one size before
MediaPipe's face mesh sees it, so a small face in a large picture keeps its precision and a large one costs no more.
"""

import contextlib
import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import scipy

from cmet_engine.errors import InvalidInput
from cmet_engine.face.cuts import CutFinder, thumbnail_of
from cmet_engine.face.follower import SURE_SCORE, Follower, first_faces, upright_turns
from cmet_engine.face.gaze import gaze_degrees
from cmet_engine.face.geometry import FaceGeometry, Landmarks
from cmet_engine.face.glimpses import Glimpses
from cmet_engine.face.identity import on_face
from cmet_engine.face.landmarks import LANDMARKS, LOWER_LIP_OUTER, UPPER_LIP_OUTER
from cmet_engine.face.person import Person
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

MOUTH_MARGIN = 4
"""Pixels around the lips that are looked at for teeth."""

SEGMENT = 512
"""Frames after which tracking depends on nothing but what can be written down, so that it can go on from there."""


@dataclass
class _Observations:
    """What was found in the frames so far.

    Attributes:
        beside: looks for teeth in one frame while the face is searched in the next.
    """

    beside: ThreadPoolExecutor
    landmarks: Landmarks = field(default_factory=Landmarks)
    times: list[float] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    valid: list[bool] = field(default_factory=list)
    teeth: list[float] = field(default_factory=list)
    strangers: list[bool] = field(default_factory=list)
    _waiting: Future[float] | None = None  # for the teeth of the last frame

    def __len__(self) -> int:
        return len(self.valid)

    def add(self, frame: Frame, landmarks: np.ndarray | None, stranger: bool) -> None:
        """Add a frame with its landmarks [478, 3], or None where the person was not found, and whether others were seen."""
        self.settle()
        self.landmarks.append(np.full((LANDMARKS, 3), np.nan) if landmarks is None else landmarks)
        self.valid.append(landmarks is not None)
        self.teeth.append(0.0)
        self._waiting = None if landmarks is None else self.beside.submit(_teeth, frame, landmarks)
        self.times.append(float(frame.time))
        self.strangers.append(stranger and landmarks is None)

    def settle(self) -> None:
        """Wait for what is still being looked for."""
        if self._waiting:
            self.teeth[-1], self._waiting = self._waiting.result(), None

    def reject(self, count: int) -> None:
        """The landmarks of the last `count` frames are somebody else's."""
        self.settle()
        for i in range(len(self) - count, len(self)):
            self.valid[i], self.teeth[i], self.strangers[i] = False, 0.0, True

    def segment(self, first: int) -> dict[str, np.ndarray]:
        """The frames from `first` on as arrays, for `take_over`."""
        self.settle()
        return {
            "landmarks": self.landmarks[first:],
            "times": np.array(self.times[first:]),
            "cuts": np.array([c for c in self.cuts if c >= first], np.int64),
            "valid": np.array(self.valid[first:]),
            "teeth": np.array(self.teeth[first:]),
            "strangers": np.array(self.strangers[first:]),
        }

    def take_over(self, segment: dict[str, np.ndarray]) -> None:
        """Add the frames of a `segment`."""
        self.landmarks.append(segment["landmarks"])
        self.times += segment["times"].tolist()
        self.cuts += segment["cuts"].tolist()
        self.valid += segment["valid"].tolist()
        self.teeth += segment["teeth"].tolist()
        self.strangers += segment["strangers"].tolist()


def track(
    clip: str | Path | Source,
    *,
    face: int = 0,
    person: np.ndarray | None = None,
    progress: Progress | None = None,
    pieces: Path | None = None,
    glimpses: Glimpses | None = None,
) -> FaceGeometry:
    """Find one person's face in every frame of a clip.

    Args:
        clip: a video that `media.reader` reads; of a `Source` the part that it stands for.
        face: which person, where there are several: 0 is the largest face over the first second that shows any, 1 the
            next smaller, and so on; of equal faces the one further left comes first.
        person: signatures [K, D] of the person (`face.identity`), who is then searched from the first frame on; `face` says
            nothing then.
        progress: called with ("tracking", frames done, frames in all or None); what it raises ends the work.
        pieces: folder in which finished segments are kept; those that are there already are taken over. The result is the
            same. The caller makes sure that they are of the same clip and face.
        glimpses: where parts of the frames are kept.

    Raises:
        InvalidInput: not a readable video, or no face in any frame.
        NotFound: fewer faces than `face` asks for.
    """
    if face < 0:
        raise InvalidInput(f"Face number {face} does not exist; faces are counted from 0, the largest.")
    reader = VideoReader(clip)
    info, path = reader.info, reader.info.path
    with ThreadPoolExecutor(1) as beside, contextlib.closing(Follower(Person(person))) as follower:
        seen, cuts = _Observations(beside), CutFinder()
        _take_over(pieces, seen, follower, cuts)
        if not seen:
            beside.submit(on_face)  # what the first look at a face needs is read while the detectors work
            _begin(reader, follower, None if person is not None else face)
        for frame, thumbnail in _with_thumbnails(reader.frames(len(seen), whole=False), beside):
            if cut := cuts.is_cut(thumbnail):
                seen.cuts.append(len(seen))
            landmarks = follower.step(frame, cut)
            seen.reject(follower.rejected)
            seen.add(frame, landmarks, follower.stranger)
            if glimpses:
                glimpses.add(frame, landmarks)
            if len(seen) % SEGMENT == 0:
                seen.reject(follower.settle())
                follower.forget_graph()
                _keep_segment(pieces, seen, follower, cuts)
            if progress:
                progress(Stage.TRACKING, len(seen), info.frames)
        seen.reject(follower.settle())
    if not seen:
        raise InvalidInput(f"{path.name} holds no pictures; use a video that shows a face.")
    if person is not None and not any(seen.valid):
        raise InvalidInput(f"{path.name}: the person was not found in any of its {len(seen)} frames.")
    if not any(seen.valid):
        raise InvalidInput(
            f"{path.name}: no face was found in any of its {len(seen)} frames; use a clip that shows one."
        )
    return replace(_finish(seen, info), glimpses=glimpses)


def _with_thumbnails(frames: Iterator[Frame], beside: ThreadPoolExecutor) -> Iterator[tuple[Frame, np.ndarray]]:
    """Frames, and what `CutFinder` looks at of each, which is made of the next one while a frame is worked on."""
    ahead: tuple[Frame, Future[np.ndarray]] | None = None
    for frame in frames:
        found = beside.submit(thumbnail_of, frame)
        if ahead:
            yield ahead[0], ahead[1].result()
        ahead = frame, found
    if ahead:
        yield ahead[0], ahead[1].result()


def _teeth(frame: Frame, landmarks: np.ndarray) -> float:
    """`teeth_meet` from the mouth's region alone."""
    lips = landmarks[list(UPPER_LIP_OUTER + LOWER_LIP_OUTER), :2]
    size = np.array(frame.shape[1::-1])
    left, top = (int(v) for v in np.clip(np.floor(lips.min(0)) - MOUTH_MARGIN, 0, size - 1))
    right, bottom = (int(v) for v in np.clip(np.ceil(lips.max(0)) + MOUTH_MARGIN, [left + 1, top + 1], size))
    return teeth_meet(frame.part((left, top, right, bottom)), landmarks - np.array([left, top, 0], landmarks.dtype))


def _begin(reader: VideoReader, follower: Follower, face: int | None) -> None:
    """Choose the way up, and the face by its rank; None searches for the person that the follower knows."""
    people = first_faces(reader, follower.detector)
    if max((box.score for box in people), default=0.0) < SURE_SCORE:
        follower.turns = upright_turns(reader, follower.detector)
        if follower.turns:
            people = first_faces(reader, follower.detector, follower.turns)
    if face is not None:
        follower.choose(people, face, reader.info.path.name)


def _take_over(pieces: Path | None, seen: _Observations, follower: Follower, cuts: CutFinder) -> None:
    """Take over the finished segments; one in another format is tracked again."""
    while pieces and {"appearance", "textures"} <= (segment := load_arrays(_segment_file(pieces, len(seen)))).keys():
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
        teeth[first:last] = scipy.ndimage.gaussian_filter1d(teeth[first:last], TEETH_SECONDS * rate)
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
        variable=info.variable, teeth=teeth.astype(np.float32), strangers=np.array(seen.strangers),
    )  # fmt: skip
    for frames, landmarks in geometry.chunks():
        pose_free, pose = normalise(landmarks)
        head[frames] = rotation_degrees(pose.rotation)
        eyes[frames] = gaze_degrees(pose_free)
    return geometry
