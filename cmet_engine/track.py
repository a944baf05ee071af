"""The coefficient track: 52 ARKit coefficients, head and eye rotation, for every frame of a clip; and its files.

Formats written, by suffix: `.npz` (native, lossless), `.csv` (Live Link Face, 63 columns), `.json` (Audio2Face).
What other applications record as text is read by `takes`.
Coefficients are always matched by name, never by column: Live Link Face puts JawRight before JawLeft.
"""

import io
import json
import math
import zipfile
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import arkit, takes
from cmet_engine.errors import CmetError, InvalidInput, NotFound
from cmet_engine.files import whole_file
from cmet_engine.npz import load_arrays
from cmet_engine.takes import FRAME_TIMES, NOTES, START_SECONDS
from cmet_engine.timecode import nominal

FORMAT = "cmet-track/1"
TIMECODE = "timecode"  # meta key: timecode of the footage's first frame
FACE_PLACE = "face_place"  # meta key: where eyes and mouth are as a rule, [[x, y], [x, y]] from the top left in parts of the picture

_LIVE_LINK_HEADER = (
    "Timecode,BlendShapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,"
    "EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,EyeWideRight,"
    "JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,MouthRight,MouthLeft,MouthSmileLeft,"
    "MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,MouthStretchLeft,MouthStretchRight,"
    "MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,MouthLowerDownLeft,"
    "MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,BrowOuterUpLeft,"
    "BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,TongueOut,"
    "HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
).split(",")
_LIVE_LINK_COUNT = 61  # 52 coefficients and 9 angles


@dataclass
class CoefficientTrack:
    """What a face does, frame by frame.

    Attributes:
        fps: frames a second, exact; the mean rate where frames are not evenly spaced.
        coefficients: float32 [N, 52] in the order of `arkit.NAMES`, 0 at rest to 1 in full; real recordings and
            strong edits may leave that range a little.
        head_rotation: float32 [N, 3] degrees: yaw, pitch, roll.
        eye_rotation: float32 [N, 4] degrees: left yaw, left pitch, right yaw, right pitch.
        valid: bool [N], a face was found in this frame; where it is False the values are filled in.
        meta: what else is known: JSON values only.

    Raises:
        InvalidInput: an array has the wrong shape or holds values that are not finite, or fps is not positive.
    """

    fps: Fraction
    coefficients: np.ndarray
    head_rotation: np.ndarray = field(default=None)  # type: ignore[arg-type]
    eye_rotation: np.ndarray = field(default=None)  # type: ignore[arg-type]
    valid: np.ndarray = field(default=None)  # type: ignore[arg-type]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fps = Fraction(self.fps).limit_denominator(100_000)
        if self.fps <= 0:
            raise InvalidInput(f"The track's fps is {self.fps}; it must be above 0.")
        self.coefficients = _floats("coefficients", self.coefficients)
        if self.coefficients.ndim != 2:
            raise InvalidInput(
                f"The track's coefficients have shape {list(self.coefficients.shape)}; expected [N, 52]."
            )
        n = len(self.coefficients)
        for name, width in (("head_rotation", 3), ("eye_rotation", 4)):
            value = getattr(self, name)
            setattr(self, name, np.zeros((n, width), np.float32) if value is None else _floats(name, value))
        self.valid = np.ones(n, bool) if self.valid is None else _floats("valid", self.valid).astype(bool)
        for name, shape in (
            ("coefficients", (n, arkit.COUNT)),
            ("head_rotation", (n, 3)),
            ("eye_rotation", (n, 4)),
            ("valid", (n,)),
        ):
            array = getattr(self, name)
            if array.shape != shape:
                raise InvalidInput(f"The track's {name} have shape {list(array.shape)}; expected {list(shape)}.")
            if array.dtype != bool and not np.isfinite(array).all():
                frame = int(np.argwhere(~np.isfinite(array))[0][0])
                raise InvalidInput(f"The track's {name} hold a value that is not a number at frame {frame}.")

    def __len__(self) -> int:
        return len(self.coefficients)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return float(self.times[-1] + 1 / self.fps) if len(self) else 0.0

    @property
    def times(self) -> np.ndarray:
        """float64 [N] seconds of every frame from the first; evenly spaced unless the source was not."""
        stored = self.meta.get(FRAME_TIMES)
        if stored is not None and len(stored) == len(self):
            return np.asarray(stored, np.float64)
        return np.arange(len(self)) * float(1 / self.fps)

    def __getitem__(self, name: str) -> np.ndarray:
        """float32 [N], one coefficient by its name."""
        return self.coefficients[:, arkit.INDEX[name]]

    @property
    def notes(self) -> list[str]:
        """Sentences about what the file that this was read from left out or did not say."""
        stored = self.meta.get(NOTES)
        return [str(note) for note in stored] if isinstance(stored, list) else []

    def copy(self) -> "CoefficientTrack":
        """A track whose arrays may be changed without changing this one."""
        return CoefficientTrack(
            self.fps,
            self.coefficients.copy(),
            self.head_rotation.copy(),
            self.eye_rotation.copy(),
            self.valid.copy(),
            json.loads(json.dumps(self.meta)),
        )

    def resampled(self, fps: Fraction) -> "CoefficientTrack":
        """The same motion at another rate, linear between frames, same start and end in time."""
        fps = Fraction(fps)
        if len(self) == 0 or (fps == self.fps and FRAME_TIMES not in self.meta):
            return self.copy()
        n = max(1, round(self.duration * fps))
        new, old = np.arange(n) * float(1 / fps), self.times

        def channels(values: np.ndarray) -> np.ndarray:
            return np.stack([np.interp(new, old, values[:, c]) for c in range(values.shape[1])], 1).astype(np.float32)

        nearest = np.clip(np.round(np.interp(new, old, np.arange(len(self)))).astype(int), 0, len(self) - 1)
        meta = {k: v for k, v in self.meta.items() if k != FRAME_TIMES}
        return CoefficientTrack(
            fps,
            channels(self.coefficients),
            channels(self.head_rotation),
            channels(self.eye_rotation),
            self.valid[nearest],
            meta,
        )

    def resampled_like(self, other: "CoefficientTrack", begins: float = 0.0) -> "CoefficientTrack":
        """The track at the frame times of another one, which begins at `begins` seconds of it; its last value is held.

        Raises:
            InvalidInput: the track has no frames.
        """
        if len(self) == len(other) and np.allclose(self.times, other.times + begins, atol=1e-3):
            return self
        if len(self) == 0:
            raise InvalidInput("The track has no frames.")

        def at(values: np.ndarray) -> np.ndarray:
            return np.stack([np.interp(other.times + begins, self.times, column) for column in values.T], 1)

        return CoefficientTrack(
            other.fps, at(self.coefficients), at(self.head_rotation), at(self.eye_rotation), other.valid, other.meta
        )

    def save(self, path: str | Path, *, force: bool = True) -> Path:
        """Write the track in the format that the suffix names; the file appears whole or not at all.

        Raises:
            CmetError: unknown suffix, or the file cannot be written.
        """
        path = Path(path)
        writers = {".npz": _to_npz, ".csv": _to_live_link, ".json": _to_audio2face}
        writer = writers.get(path.suffix.lower())
        if writer is None:
            raise InvalidInput(f"{path.name}: cannot write a track as '{path.suffix}'; use .npz, .csv or .json.")
        with whole_file(path, force=force) as temporary:
            temporary.write_bytes(writer(self))
        return path

    @classmethod
    def load(cls, path: str | Path) -> "CoefficientTrack":
        """Read a track in the format that the suffix names.

        Raises:
            NotFound: the file is missing.
            InvalidInput: it is of an unknown kind, or damaged; the message names the field.
        """
        path = Path(path)
        readers = {".npz": _from_npz, **dict.fromkeys(takes.SUFFIXES, _from_text)}
        reader = readers.get(path.suffix.lower())
        if reader is None:
            raise InvalidInput(f"{path.name}: cannot read a track from '{path.suffix}'; use .npz, .csv, .txt or .json.")
        try:
            data = path.read_bytes()
        except OSError as error:
            kind = NotFound if isinstance(error, FileNotFoundError) else InvalidInput
            raise kind(f"Cannot read {path}: {error.strerror}.") from error
        try:
            return reader(data)
        except CmetError as error:
            raise InvalidInput(f"{path.name}: {error}") from error


def _floats(name: str, values: Any) -> np.ndarray:
    """`values` as float32; what overflows becomes infinite and is refused by the caller."""
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            array = array.astype(np.float64, casting="same_kind")  # refuses text, complex numbers and dates
        with np.errstate(over="ignore"):
            return array.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"The track's {name} are not numbers.") from error


def _to_npz(track: CoefficientTrack) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        format=np.array(FORMAT),
        fps=np.array([track.fps.numerator, track.fps.denominator], np.int64),
        names=np.array(arkit.NAMES),
        coefficients=track.coefficients,
        head_rotation=track.head_rotation,
        eye_rotation=track.eye_rotation,
        valid=track.valid,
        meta=np.array(json.dumps(track.meta)),
    )
    return buffer.getvalue()


def _from_npz(data: bytes) -> CoefficientTrack:
    try:
        fields = load_arrays(io.BytesIO(data))
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput("not a whole .npz track; it may be cut off or of another kind.") from error
    missing = {
        "format",
        "fps",
        "names",
        "coefficients",
        "head_rotation",
        "eye_rotation",
        "valid",
        "meta",
    } - fields.keys()
    if missing:
        raise InvalidInput(f"the field '{sorted(missing)[0]}' is missing; this is not a C-MET track.")
    written = " ".join(str(fields["format"]).split())[:40]
    if written != FORMAT:
        raise InvalidInput(f"format '{written}' is not '{FORMAT}'; it was written by another version.")
    try:
        numerator, denominator = (int(v) for v in fields["fps"])
        fps = Fraction(numerator, denominator)
        meta = json.loads(str(fields["meta"]))
        times = np.asarray(meta.get(FRAME_TIMES, []), np.float64)
        if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise ValueError
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InvalidInput("the fields 'fps' or 'meta' are damaged.") from error
    names = [str(n) for n in np.atleast_1d(fields["names"])]
    values = _floats("coefficients", fields["coefficients"])
    if values.ndim != 2 or values.shape[1] != len(names):
        raise InvalidInput(f"{len(names)} names for values of shape {list(values.shape)}.")
    coefficients = takes.by_name(names, values)
    return CoefficientTrack(fps, coefficients, fields["head_rotation"], fields["eye_rotation"], fields["valid"], meta)


def _from_text(data: bytes) -> CoefficientTrack:
    return CoefficientTrack(*takes.read(data))


def _timecode(seconds: float, base: int) -> str:
    """`HH:MM:SS:FF.mmm` counting FF in `base` frames a second, as Live Link Face writes it."""
    ticks = round(seconds * base * 1000)
    whole, ticks = divmod(ticks, base * 1000)
    return f"{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{ticks // 1000:02d}.{ticks % 1000:03d}"


def _to_live_link(track: CoefficientTrack) -> bytes:
    stored = track.meta.get(START_SECONDS, 0.0)
    start = float(stored) if isinstance(stored, int | float) and abs(stored) < 1e12 else 0.0
    base = 60 if track.fps <= 60 else math.ceil(track.fps)
    if TIMECODE in track.meta:  # footage with a timecode counts in its own frames
        base = nominal(track.fps)
    text = io.StringIO()
    text.write(",".join(_LIVE_LINK_HEADER) + "\n")
    order = [arkit.INDEX[name[0].lower() + name[1:]] for name in _LIVE_LINK_HEADER[2 : 2 + arkit.COUNT]]
    head, eyes = np.radians(track.head_rotation.astype(np.float64)), np.radians(track.eye_rotation.astype(np.float64))
    for i, second in enumerate(track.times):
        if not track.valid[i]:
            text.write(f"{_timecode(start + second, base)},0\n")
            continue
        angles = [*head[i], eyes[i, 0], eyes[i, 1], 0.0, eyes[i, 2], eyes[i, 3], 0.0]
        values = ",".join(f"{v:.10f}" for v in [*track.coefficients[i, order], *angles])
        text.write(f"{_timecode(start + second, base)},{_LIVE_LINK_COUNT},{values}\n")
    return text.getvalue().encode()


def _to_audio2face(track: CoefficientTrack) -> bytes:
    document = {
        "exportFps": float(track.fps),
        "trackPath": "",
        "numPoses": arkit.COUNT,
        "numFrames": len(track),
        "facsNames": list(arkit.NAMES),
        "weightMat": [[float(f"{v:.9g}") for v in row] for row in track.coefficients],
    }
    return json.dumps(document).encode()
