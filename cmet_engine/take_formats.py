"""Coefficient tracks written as other applications record and import them; `takes` reads them all back.

What a format does not hold is left out and said: times of its own, angles, `tongueOut`, frames without a face.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from cmet_engine import arkit
from cmet_engine.choices import TakeFormat
from cmet_engine.errors import InvalidInput
from cmet_engine.files import whole_file
from cmet_engine.track import CoefficientTrack

_IFACIALMOCAP_RATE = Fraction(60)  # its files hold no times


@dataclass(frozen=True)
class Format:
    """How one application writes a take.

    Attributes:
        title: name of the application.
        suffix: of its files.
        write: the bytes of a file; None where `CoefficientTrack.save` writes it by its suffix.
        leaves_out: a sentence on what the format does not hold; empty where it holds everything.
    """

    title: str
    suffix: str
    write: Callable[[CoefficientTrack], bytes] | None
    leaves_out: str = ""


def _sided(name: str) -> str:
    """`eyeBlinkLeft` as `eyeBlink_L`; `jawLeft` and `mouthLeft`, which are directions, keep their names."""
    if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        return name
    return name.replace("Left", "_L").replace("Right", "_R")


def _pascal(name: str) -> str:
    return name[0].upper() + name[1:]


def _face_cap(track: CoefficientTrack) -> bytes:
    lines = ["info,Face Cap,1.0,52", ",".join(["bs", *map(_sided, arkit.NAMES)])]
    for second, values, head, eyes in _rows(track):
        angles = [head[1], head[0], head[2], eyes[1], eyes[0], eyes[3], eyes[2]]
        numbers = ",".join(f"{v:.10f}" for v in [*angles, *values])
        lines.append(f"k,{second * 1000:.4f},0,0,0,{numbers}")
    return _text(lines)


def _ifacialmocap(track: CoefficientTrack) -> bytes:
    mark = "&" if (track.coefficients < -0.005).any() else "-"  # its second version knows values below 0
    lines = []
    for _, values, head, eyes in _rows(track.resampled(_IFACIALMOCAP_RATE)):
        shapes = "|".join(f"{_sided(n)}{mark}{round(100 * v) or 0}" for n, v in zip(arkit.NAMES, values, strict=True))
        parts = {"=head": (head[1], head[0], head[2], 0, 0, 0), "rightEye": (eyes[3], eyes[2], 0), "leftEye": (eyes[1], eyes[0], 0)}  # fmt: skip
        angles = "|".join(f"{name}#{','.join(f'{v:.4f}' for v in turns)}" for name, turns in parts.items())
        lines.append(f"{shapes}|{angles}|")
    return _text(lines)


def _audio2face_client(track: CoefficientTrack) -> bytes:
    lines = [",".join(["timeCode", *(f"blendShapes.{_pascal(name)}" for name in arkit.NAMES)])]
    lines += [",".join([f"{second:.6f}", *(f"{v:.10f}" for v in values)]) for second, values, _, _ in _rows(track)]
    return _text(lines)


def _mediapipe(track: CoefficientTrack) -> bytes:
    names = sorted(name for name in arkit.NAMES if name != "tongueOut")
    columns = arkit.columns(names)
    frames = []
    for (second, values, _, _), valid in zip(_rows(track), track.valid, strict=True):
        scores = zip(["_neutral", *names], [0.0, *map(float, values[columns])], strict=True)
        categories = [{"index": k, "score": float(f"{v:.9g}"), "categoryName": n} for k, (n, v) in enumerate(scores)]
        frames.append(
            {
                "timestampMs": round(1000 * second, 4),
                "faceBlendshapes": [{"categories": categories}] if valid else [],
            }
        )
    return json.dumps(frames).encode()


def _rows(track: CoefficientTrack) -> list[tuple[float, np.ndarray, np.ndarray, np.ndarray]]:
    """Seconds, coefficients, head and eyes of every frame."""
    return list(zip(track.times, track.coefficients, track.head_rotation, track.eye_rotation, strict=True))


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


_FACES = "frames without a face hold the face before"

FORMATS: dict[TakeFormat, Format] = {
    "livelink": Format("Live Link Face", ".csv", None),
    "audio2face": Format("Audio2Face", ".json", None, f"Audio2Face holds no angles; {_FACES}."),
    "audio2face-csv": Format("Audio2Face Client", ".csv", _audio2face_client, f"The client's CSV holds no angles; {_FACES}."),
    "facecap": Format("Face Cap", ".txt", _face_cap, f"In Face Cap's files {_FACES}."),
    "ifacialmocap": Format("iFacialMocap", ".txt", _ifacialmocap, f"iFacialMocap's files hold whole percents, 60 frames a second; {_FACES}."),
    "mediapipe": Format("MediaPipe", ".json", _mediapipe, "MediaPipe holds no angles and no tongueOut."),
}  # fmt: skip
"""By the name that `--format` takes."""


def save(track: CoefficientTrack, path: str | Path, form: TakeFormat | None = None, *, force: bool = True) -> Path:
    """Write a track as an application does; without one as the suffix says.

    Raises:
        InvalidInput: the format's files have another suffix, or none of that suffix is known.
        CmetError: the file cannot be written.
    """
    path = Path(path)
    if form is None:
        if path.suffix.lower() == ".txt":
            raise InvalidInput(f"{path.name}: both Face Cap and iFacialMocap write .txt; say which with a format.")
        return track.save(path, force=force)
    chosen = FORMATS[form]
    if path.suffix.lower() != chosen.suffix:
        raise InvalidInput(f"{path.name}: files of {chosen.title} end in {chosen.suffix}.")
    if chosen.write is None:
        return track.save(path, force=force)
    with whole_file(path, force=force) as temporary:
        temporary.write_bytes(chosen.write(track))
    return path
