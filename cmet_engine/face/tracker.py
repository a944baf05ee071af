"""Footage to face geometry: 478 landmarks in every frame of one person, head pose, gaze, cuts.

The face is followed in a square window cut from the frame at full resolution and shrunk to one size before
MediaPipe's face mesh sees it, so a small face in a large picture keeps its precision and a large one costs no more.
"""

import contextlib
import itertools
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from cmet_engine.errors import CmetError
from cmet_engine.face.landmarks import LANDMARKS, LEFT_EYE_CORNERS, LEFT_IRIS, RIGHT_EYE_CORNERS, RIGHT_IRIS
from cmet_engine.face.mesh import Box, Detector, Mesh, box_of, cut_window
from cmet_engine.face.pose import normalise, rotation_degrees, template
from cmet_engine.face.smooth import smooth_shot
from cmet_engine.face.teeth import teeth_meet
from cmet_engine.media.video import VideoReader
from cmet_engine.progress import Progress, Stage
from cmet_engine.resume import load_arrays, save_arrays
from cmet_engine.smoothstep import smoothstep

FIRST_SECONDS = 1.0  # faces are counted and ordered over this much of the clip, from the first frame that shows one
TILED_EVERY = 5  # frames between searches for very small faces while nobody is found
FIRST_EVERY = 3  # of these frames, every third is looked at
SAME_PLACE = 0.2  # overlap of two boxes in neighbouring frames that are one face
SIZE_STEP = 8  # pixels of box size that count as equal when faces are ordered
FURTHEST_STEP = 2.5  # way in face sizes plus log of the change of size, from one frame to the next
LOOK_EVERY = 10  # frames between two looks at what the person looks like
LEAST_INSIDE = 0.5  # share of the landmarks that lie in the picture
CUT_LEAST = 22.0  # mean change of the picture, of 255, below which nothing is a cut
CUT_TIMES = 5.0  # and how many times the usual change it must be
FADE_SECONDS = 0.2  # the edit fades out and in over this long where the face is lost
TEETH_SECONDS = 0.03  # Gaussian width of how long teeth are seen to meet
CHUNK = 512  # frames worked on at a time once tracking is done: 3 MB
SEGMENT = (
    512  # frames after which nothing is carried on but what can be written down, so that tracking can go on from there
)


class Landmarks:
    """Landmarks of a whole clip on disk: `store[i]` and `store[a:b]` read just those frames.

    The file has no name and is gone when the object or the process ends. Safe to read from several threads.
    """

    def __init__(self) -> None:
        self._file: Any = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the object
        self._lock = threading.Lock()
        self._count = 0

    @classmethod
    def open(cls, path: Path) -> "Landmarks":
        """Landmarks that `save` wrote, to be read."""
        store = cls()
        store._file = path.open("rb")
        store._count = path.stat().st_size // (LANDMARKS * 12)
        return store

    def save(self, path: Path) -> None:
        """Write all frames as raw little-endian float32."""
        with path.open("wb") as file:
            for start in range(0, self._count, CHUNK):
                file.write(self._read(start, min(start + CHUNK, self._count)).astype("<f4").tobytes())

    def __len__(self) -> int:
        return self._count

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, 478, 3)."""
        return self._count, LANDMARKS, 3

    dtype = np.dtype(np.float32)

    def append(self, landmarks: np.ndarray) -> None:
        """Add one frame [478, 3] or several [N, 478, 3] at the end."""
        data = np.ascontiguousarray(landmarks, np.float32).reshape(-1, LANDMARKS, 3)
        with self._lock:
            self._file.seek(self._count * LANDMARKS * 12)
            try:
                self._file.write(data.tobytes())
            except OSError as error:
                raise CmetError(f"The disk for temporary files ({tempfile.gettempdir()}) is full.") from error
            self._count += len(data)

    def _read(self, start: int, stop: int) -> np.ndarray:
        with self._lock:
            self._file.seek(start * LANDMARKS * 12)
            data = self._file.read(max(0, stop - start) * LANDMARKS * 12)
        return np.frombuffer(data, np.float32).reshape(-1, LANDMARKS, 3).copy()

    def __getitem__(self, frames: Any) -> np.ndarray:
        if isinstance(frames, slice):
            start, stop, step = frames.indices(self._count)
            if step > 0:
                return self._read(start, stop)[::step]
            return self._read(min(stop + 1, start), start + 1)[::-1][::-step]
        if isinstance(frames, (list, np.ndarray)):
            index = np.asarray(frames)
            if index.dtype == bool:
                index = np.flatnonzero(index)
            return np.stack([self[int(i)] for i in index]) if len(index) else np.empty((0, LANDMARKS, 3), np.float32)
        i = int(frames)
        if not -self._count <= i < self._count:
            raise IndexError(f"frame {i} of {self._count}")
        i %= self._count
        return self._read(i, i + 1)[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, self._count, CHUNK):
            yield from self._read(start, min(start + CHUNK, self._count))

    def __array__(self, dtype: Any = None) -> np.ndarray:
        array = self._read(0, self._count)
        return array if dtype is None else array.astype(dtype)


@dataclass
class FaceGeometry:
    """Where one person's face is in every frame of a clip.

    Attributes:
        landmarks: float32 [N, 478, 3] pixels of the displayed frame (y down; z in pixels too, away from the viewer),
            smoothed; on disk, read by index or slice. Where `valid` is False: between the neighbours in time.
        valid: bool [N], a face was found.
        size: (width, height) of the displayed frame in pixels.
        fps: frames a second, exact; the mean rate where frames are not evenly spaced.
        times: float64 [N] seconds from the first frame.
        head_rotation: float32 [N, 3] degrees, yaw, pitch, roll; signs in `pose.rotation_degrees`.
        eye_rotation: float32 [N, 4] degrees relative to the head: left yaw, left pitch, right yaw, right pitch; above 0:
            to the person's own right, down.
        cuts: frames where a new shot begins (0 is not listed).
        fade: float32 [N] in 0..1: how far an edit may be applied; ramps to 0 around frames without the face.
        variable: the frames are not evenly spaced in time.
        teeth: float32 [N] in 0..1: the frame shows teeth from lip to lip, see `teeth.teeth_meet`.
    """

    landmarks: Landmarks | np.ndarray
    valid: np.ndarray
    size: tuple[int, int]
    fps: Fraction
    times: np.ndarray
    head_rotation: np.ndarray
    eye_rotation: np.ndarray
    cuts: list[int] = field(default_factory=list)
    fade: np.ndarray = None  # type: ignore[assignment]
    variable: bool = False
    teeth: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.teeth is None:
            self.teeth = np.zeros(len(self.valid), np.float32)
        if self.fade is None:
            self.fade = fade_of(self.valid, self.cuts, float(self.fps))

    def __len__(self) -> int:
        return len(self.valid)

    def save(self, folder: Path) -> None:
        """Write the geometry into a folder, for `load`."""
        assert isinstance(self.landmarks, Landmarks)
        self.landmarks.save(folder / "landmarks.f32")
        np.savez(
            folder / "geometry.npz", valid=self.valid, size=self.size, fps=self.fps.as_integer_ratio(), times=self.times,
            head_rotation=self.head_rotation, eye_rotation=self.eye_rotation, cuts=np.array(self.cuts, np.int64),
            fade=self.fade, variable=self.variable, teeth=self.teeth,
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> "FaceGeometry":
        """Read what `save` wrote.

        Raises:
            OSError, ValueError, KeyError: the files are missing or damaged.
        """
        with np.load(folder / "geometry.npz", allow_pickle=False) as stored:
            geometry = cls(
                Landmarks.open(folder / "landmarks.f32"), stored["valid"], (int(stored["size"][0]), int(stored["size"][1])),
                Fraction(int(stored["fps"][0]), int(stored["fps"][1])), stored["times"], stored["head_rotation"],
                stored["eye_rotation"], [int(c) for c in stored["cuts"]], stored["fade"], bool(stored["variable"]),
                stored["teeth"],
            )  # fmt: skip
        if len(geometry.landmarks) != len(geometry):
            raise ValueError("the landmarks are cut off")
        return geometry

    def shots(self) -> list[tuple[int, int]]:
        """(first frame, frame after the last) of every shot."""
        edges = [0, *self.cuts, len(self)]
        return list(itertools.pairwise(edges))

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[slice, np.ndarray]]:
        """Runs of frames with their landmarks, in order; nothing else stays in memory."""
        for start in range(0, len(self), size):
            part = slice(start, min(start + size, len(self)))
            yield part, self.landmarks[part]


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
    cut_finder = _CutFinder()
    with contextlib.closing(_Follower()) as follower:
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
            follower.choose(_first_faces(reader, follower.detector), face, path.name)
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


def _first_faces(reader: Any, detector: Detector) -> list[Box]:
    """Faces over the first second that shows any, largest first; each with its box where it was first seen."""
    seen: list[list[Box]] = []
    end = None
    for frame in reader:
        if end is None:
            boxes = detector.find(frame.image, tiles=frame.index % TILED_EVERY == 0)
            if not boxes:
                continue
            end = float(frame.time) + FIRST_SECONDS
        elif float(frame.time) > end:
            break
        elif frame.index % FIRST_EVERY:
            continue
        else:
            boxes = detector.find(frame.image)
        for box in boxes:
            same = [track for track in seen if track[-1].overlap(box) > SAME_PLACE]
            if same:
                same[0].append(box)
            else:
                seen.append([box])
    # a detection that comes once in a second is a flicker, not a person
    most = max((len(track) for track in seen), default=0)
    people = [track for track in seen if len(track) * 3 >= most]
    people.sort(key=lambda track: (-round(float(np.median([b.side for b in track])) / SIZE_STEP), track[0].x))
    return [track[0] for track in people]


class _Follower:
    """Keeps to one person from frame to frame.

    Within a shot the face that is nearest to where the person was is the person. After a cut, places say nothing: the
    face that looks most like the person is followed.
    """

    def __init__(self) -> None:
        self.detector = Detector()
        self._mesh = Mesh()
        self._box: Box | None = None  # where the face was last, or where to begin
        self._look: np.ndarray | None = None  # how it looked, over the last second or so
        self._lost = 0
        self._frames = 0
        self._renewed = False

    def renew(self) -> None:
        """Let go of what only MediaPipe knows: what comes depends on nothing but `state` and the frames."""
        self._mesh.forget()
        self._renewed = True

    def state(self) -> dict[str, np.ndarray]:
        """What there is to know after `renew`, for `go_on`."""
        box = [] if self._box is None else [self._box.x, self._box.y, self._box.side, self._box.score]
        look = np.empty(0, np.float32) if self._look is None else self._look
        return {"box": np.array(box, np.float64), "look": look, "lost": np.array([self._lost, self._frames])}

    def go_on(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        self._box = Box(*state["box"].tolist()) if len(state["box"]) else None
        self._look = state["look"] if len(state["look"]) else None
        self._lost, self._frames = state["lost"].tolist()
        self._renewed = True

    def close(self) -> None:
        """Let go of MediaPipe's graphs."""
        self._mesh.close()
        self.detector.close()

    def choose(self, people: list[Box], face: int, name: str) -> None:
        """Begin with one of the faces found first.

        Raises:
            CmetError: there are fewer.
        """
        if people and face >= len(people):
            several = "face" if len(people) == 1 else "faces"
            choice = "leave the choice out" if len(people) == 1 else f"choose 0 to {len(people) - 1}"
            raise CmetError(
                f"{name} shows {len(people)} {several} where it begins; face {face} does not exist, {choice}."
            )
        self._box = people[face] if people else None

    def step(self, image: np.ndarray, cut: bool) -> np.ndarray | None:
        """Landmarks [478, 3] in this frame, or None."""
        if cut:
            self._mesh.forget()
        points = None
        if not cut and not self._lost and self._box:
            # a second look searches the whole window anew when the place it followed is lost
            points = self._find(image, self._box)
            if points is None or self._renewed:
                again = self._find(image, self._box)
                points = points if again is None else again
        self._renewed = False
        if points is None:
            points = self._search(image, cut)
        self._frames += 1
        if points is None:
            self._lost += 1
            return None
        self._lost = 0
        self._box = box_of(points)
        if self._look is None or self._frames % LOOK_EVERY == 0:
            look = look_of(image, self._box)
            self._look = look if self._look is None else 0.8 * self._look + 0.2 * look
        return points

    def _find(self, image: np.ndarray, box: Box) -> np.ndarray | None:
        points = self._mesh.find(image, box)
        if points is None:
            return None
        height, width = image.shape[:2]
        inside = (points[:, 0] > 0) & (points[:, 0] < width) & (points[:, 1] > 0) & (points[:, 1] < height)
        return points if inside.mean() > LEAST_INSIDE else None

    def _search(self, image: np.ndarray, cut: bool) -> np.ndarray | None:
        """Look for the person in the whole frame."""
        found = []
        for box in self.detector.find(image, tiles=cut or self._lost % TILED_EVERY == TILED_EVERY - 1):
            near = self._away(box)
            if not cut and near > FURTHEST_STEP * (1 + self._lost / 25):
                continue
            self._mesh.forget()
            points = self._find(image, box)
            if points is not None:
                strange = 0.0
                if self._look is not None:
                    strange = float(np.linalg.norm(look_of(image, box_of(points)) - self._look))
                found.append((strange if cut else near + strange, points))
        if not found:
            self._mesh.forget()
            return None
        best = min(found, key=lambda f: f[0])[1]
        if len(found) > 1:  # the mesh follows the last face it saw: bring it back to the chosen one
            self._mesh.forget()
            best = best if (again := self._find(image, box_of(best))) is None else again
        return best

    def _away(self, box: Box) -> float:
        """Way from where the person was last seen, in faces, plus the change of size; 0 when nobody was seen yet."""
        if self._box is None:
            return 0.0
        way = np.hypot(box.x - self._box.x, box.y - self._box.y) / max(box.side, self._box.side)
        return float(way + abs(np.log(box.side / self._box.side)))


def look_of(image: np.ndarray, box: Box) -> np.ndarray:
    """What tells people apart at a glance: a coarse picture of head, hair and collar, brightness and contrast taken out.

    Returns:
        float32 [771]; distances run from 0 to about 2.
    """
    import cv2

    window = cut_window(image, box.x, box.y, box.side * 1.6, 32)[0]
    small = np.log(cv2.resize(window, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32) + 16)
    pattern = small - small.mean((0, 1))
    tint = (small - small.mean(2, keepdims=True)).mean((0, 1))
    return np.concatenate([pattern.ravel() / max(float(np.linalg.norm(pattern)), 1e-6), 4 * tint]).astype(np.float32)


class _CutFinder:
    """Tells where a new shot begins: the picture changes at once, and far more than it did over the frames before."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._usual = CUT_LEAST / CUT_TIMES

    def state(self) -> dict[str, np.ndarray]:
        """What is known of the frames before, for `go_on`."""
        assert self._last is not None
        return {"last": self._last, "usual": np.array(self._usual)}

    def go_on(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        self._last, self._usual = state["last"], float(state["usual"])

    def is_cut(self, image: np.ndarray) -> bool:
        import cv2

        step = max(1, min(image.shape[:2]) // 64)
        small = cv2.resize(np.ascontiguousarray(image[::step, ::step]), (32, 32), interpolation=cv2.INTER_AREA).astype(
            np.float32
        )
        if self._last is None:
            self._last = small
            return False
        change = float(np.abs(small - self._last).mean())
        self._last = small
        cut = change > CUT_LEAST and change > CUT_TIMES * self._usual
        if not cut:
            self._usual += (change - self._usual) * 0.1
        return cut


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


def fade_of(valid: np.ndarray, cuts: list[int], rate: float) -> np.ndarray:
    """float32 [N] in 0..1: 0 where the face is lost, rising smoothly to 1 over `FADE_SECONDS` on either side.

    Nothing fades across a cut: there the picture changes anyway.
    """
    n = len(valid)
    distance = np.full(n, np.inf)
    edges = [0, *cuts, n]
    for first, last in itertools.pairwise(edges):
        lost = np.flatnonzero(~valid[first:last])
        if len(lost):
            frames = np.arange(last - first)
            after = np.searchsorted(lost, frames)
            distance[first:last] = np.minimum(
                np.abs(lost[np.minimum(after, len(lost) - 1)] - frames), np.abs(frames - lost[np.maximum(after - 1, 0)])
            )
    return smoothstep(distance, 0, max(1.0, FADE_SECONDS * rate)).astype(np.float32)


_EYEBALL = 0.135  # radius of an eyeball in outer-eye distances: 12.1 mm of 89 mm, mean adult anthropometry


def gaze_degrees(points: np.ndarray) -> np.ndarray:
    """Gaze relative to the head from the irises.

    The iris moves on a ball of the eye's radius; it looks straight ahead where the mean face has it, seen from the middle
    between the corners of the eye.

    Args:
        points: pose-free landmarks [N, 478, 3].

    Returns:
        float32 [N, 4] degrees: left yaw, left pitch, right yaw, right pitch; above 0: to the person's own right, down.
    """
    offset = _iris_offsets(points) - _iris_offsets(template().points[None])
    return -np.degrees(np.arcsin(np.clip(offset / _EYEBALL, -0.9, 0.9))).astype(np.float32)


def _iris_offsets(points: np.ndarray) -> np.ndarray:
    """float64 [N, 4]: how far left and right iris lie along and above the line between the corners of their eye."""
    offsets = []
    for (inner, outer), centre in ((LEFT_EYE_CORNERS, LEFT_IRIS), (RIGHT_EYE_CORNERS, RIGHT_IRIS)):
        middle = (points[:, inner] + points[:, outer]) / 2
        iris = points[:, centre : centre + 5].mean(1)
        across = points[:, max(inner, outer)] - points[:, min(inner, outer)]
        across = across * np.sign(across[:, :1])  # from the picture's left to its right
        tilt = np.arctan2(across[:, 1], across[:, 0])
        dx, dy = (iris - middle)[:, 0], (iris - middle)[:, 1]
        offsets += [np.cos(tilt) * dx + np.sin(tilt) * dy, np.cos(tilt) * dy - np.sin(tilt) * dx]
    return np.stack(offsets, 1)
