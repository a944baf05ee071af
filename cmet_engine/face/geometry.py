"""Where one person's face is in every frame of a clip: landmarks on disk, pose, gaze, cuts, fades."""

import itertools
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.errors import CmetError
from cmet_engine.face.glimpses import Glimpses
from cmet_engine.face.landmarks import LANDMARKS
from cmet_engine.npz import load_arrays
from cmet_engine.smoothstep import smoothstep

FADE_SECONDS = 0.2
"""The edit fades out and in over this long where the face is lost."""
LISTED = 5
"""Stretches of a clip that a sentence lists before it only counts."""
CHUNK = 512
"""Frames worked on at a time once tracking is done: 3 MB."""


class Landmarks:
    """Landmarks of a whole clip on disk: `landmarks[i]` and `landmarks[a:b]` read just those frames.

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
                raise CmetError(
                    f"The disk for temporary files ({tempfile.gettempdir()}) is full; make room there, or set TMPDIR to a folder on a larger disk."
                ) from error
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
        valid: bool [N], the person's face was found.
        size: (width, height) of the displayed frame in pixels.
        fps: frames a second, exact; the mean rate where frames are not evenly spaced.
        times: float64 [N] seconds from the first frame.
        head_rotation: float32 [N, 3] degrees, yaw, pitch, roll; signs in `pose.rotation_degrees`.
        eye_rotation: float32 [N, 4] degrees relative to the head: left yaw, left pitch, right yaw, right pitch; above 0:
            to the person's own right, down.
        cuts: frames where a new shot begins (0 is not listed).
        fade: float32 [N] in 0..1: how far an edit may be applied; ramps to 0 around frames without the face.
        variable: the frames are not evenly spaced in time.
        teeth: float32 [N] in 0..1: how far the rows of teeth are seen to meet; see `teeth.teeth_meet`.
        strangers: bool [N], the person was not found, but somebody else was.
        glimpses: what is kept of frames for who looks at the face first (`glimpses.Glimpses`), and is not saved.
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
    strangers: np.ndarray = None  # type: ignore[assignment]
    glimpses: Glimpses | None = None

    def __post_init__(self) -> None:
        if self.teeth is None:
            self.teeth = np.zeros(len(self.valid), np.float32)
        if self.strangers is None:
            self.strangers = np.zeros(len(self.valid), bool)
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
            fade=self.fade, variable=self.variable, teeth=self.teeth, strangers=self.strangers,
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> "FaceGeometry":
        """Read what `save` wrote.

        Raises:
            OSError, ValueError, KeyError: the files are missing or damaged.
        """
        stored = load_arrays(folder / "geometry.npz")
        geometry = cls(
            Landmarks.open(folder / "landmarks.f32"), stored["valid"], (int(stored["size"][0]), int(stored["size"][1])),
            Fraction(int(stored["fps"][0]), int(stored["fps"][1])), stored["times"], stored["head_rotation"],
            stored["eye_rotation"], [int(c) for c in stored["cuts"]], stored["fade"], bool(stored["variable"]),
            stored["teeth"], stored["strangers"],
        )  # fmt: skip
        if len(geometry.landmarks) != len(geometry):
            raise ValueError("the landmarks are cut off")
        return geometry

    def scaled(self, width: int, height: int) -> "FaceGeometry":
        """The geometry in frames of another size."""
        if (width, height) == self.size:
            return self
        factors = np.array([width / self.size[0], height / self.size[1], width / self.size[0]], np.float32)
        return replace(self, landmarks=np.asarray(self.landmarks) * factors, size=(width, height), glimpses=None)

    def spans(self, which: np.ndarray) -> str:
        """When the frames are that a bool [N] marks, in words: `1.20 to 2.00 s, 3.00 to 3.52 s`."""
        runs = runs_of(which)
        more = f" and {len(runs) - LISTED} more times" if len(runs) > LISTED else ""
        return ", ".join(f"{self.times[a]:.2f} to {self.times[b - 1]:.2f} s" for a, b in runs[:LISTED]) + more

    def shots(self) -> list[tuple[int, int]]:
        """(first frame, frame after the last) of every shot."""
        edges = [0, *self.cuts, len(self)]
        return list(itertools.pairwise(edges))

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[slice, np.ndarray]]:
        """Runs of frames with their landmarks, in order; nothing else stays in memory."""
        for start in range(0, len(self), size):
            part = slice(start, min(start + size, len(self)))
            yield part, self.landmarks[part]


def runs_of(which: np.ndarray) -> list[tuple[int, int]]:
    """First frame and the frame after the last of every run of True in a bool [N]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], which.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


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
