"""Recordings of faces that other applications write as text: tables, Face Cap, iFacialMocap, Audio2Face, lists of frames in JSON.

What a file is, is read from its content, never from its name. Columns are matched by name (`arkit.canonical`), never by place;
what cannot be read of a recording is left out and said, and a name that looks like a misspelt coefficient is refused.
"""

import csv
import difflib
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.take_times import Times, of_timecodes, parse_timecode, times_of, usual_rate

FRAME_TIMES = "frame_times"  # meta key: seconds of every frame, for footage or takes whose frames are not evenly spaced
START_SECONDS = "start_seconds"  # meta key: time of day of the first frame, as its timecode reads
SUFFIXES = (".csv", ".tsv", ".txt", ".json")
"""Of the recordings that `read` takes."""

NOTES = "notes"  # meta key: sentences about what a file did not hold or could not say

ANGLES = ("HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "RightEyeYaw", "RightEyePitch")
"""Names of the angles of a track: those of `head_rotation`, then those of `eye_rotation`."""

_HEAD, _EYES = ANGLES[:3], ANGLES[3:]
_ANGLES = {name.lower(): name for name in (*_HEAD, *_EYES, "LeftEyeRoll", "RightEyeRoll")}
_ANGLES |= {re.sub("(left|right)", lambda m: m[0][0], text): name for text, name in _ANGLES.items() if "eye" in text}
_COUNT = "blendshapecount"
_TIME = ("timecode", "time", "timestamp", "seconds", "sec", "t", "frame", "framenumber", "frameindex", "frameid")
_UNITS = ("", "ms", "s", "us", "ns", "milliseconds", "seconds", "microseconds", "nanoseconds")
_OTHER = {"neutral", "basisshape", "subject", "name", "character", "confidence", "valid", "index", "id"}
_PERCENT_FROM = 2.5  # a value that no coefficient of 0 to 1 reaches; above it a recording is in percent
_LARGEST_PERCENT = 250
_TURN = 2 * math.pi
_BAD_SHARE = 0.5  # a file with more bad rows than this is of another kind
_LIVE_LINK_RATE = Fraction(60)  # of Live Link Face and iFacialMocap, in frames a second
_UNTIMED_RATE = Fraction(30)


class Recording(NamedTuple):
    """The fields of a `CoefficientTrack`, in its order."""

    fps: Fraction
    coefficients: np.ndarray
    head_rotation: np.ndarray
    eye_rotation: np.ndarray
    valid: np.ndarray
    meta: dict[str, Any]


def read(data: bytes) -> Recording:
    """A recording from the bytes of a text file.

    Raises:
        InvalidInput: it is of no known kind, or damaged; the message names line and column.
    """
    text = re.sub(r"\r\n?", "\n", _decoded(data)).strip("\ufeff\x00\n\t ")
    if text[:1] in ("{", "["):
        return _json(text)
    first = text.partition("\n")[0]
    if re.match(r"[^|,;\t]+[-&]-?[\d.]+\|", first):
        return _ifacialmocap(text)
    if re.match(r"(info|bs|k)\s*,", first):
        return _face_cap(text)
    return _table(text)


def _decoded(data: bytes) -> str:
    """Text of UTF-8, UTF-16 with or without a mark, or else of Windows' western code page."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    zeros = data[:200].count(0)
    if zeros > len(data[:200]) // 3:
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def by_name(names: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Columns of `values` [N, len(names)] in canonical order, float32 [N, 52]; absent coefficients stay at 0.

    Raises:
        InvalidInput: none of the names is a coefficient.
    """
    columns = [arkit.canonical(name) for name in names]
    if not any(columns):
        raise InvalidInput("none of the names is an ARKit coefficient.")
    result = np.zeros((len(values), arkit.COUNT), np.float32)
    with np.errstate(over="ignore"):
        for column, name in enumerate(columns):
            if name is not None:
                result[:, arkit.INDEX[name]] = values[:, column]
    return result


@dataclass
class _Header:
    """Where a table's columns lead: a column's coefficients, its angle, or the time."""

    coefficients: dict[int, tuple[str, ...]] = field(default_factory=dict)
    angles: dict[int, str] = field(default_factory=dict)
    time: int | None = None
    time_name: str = ""
    count: int | None = None
    width: int = 0
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, names: Sequence[str], line: int = 1) -> "_Header":
        """Columns by their names.

        Raises:
            InvalidInput: a coefficient has two columns, or a name is a misspelt one.
        """
        header = cls(width=len(names))
        unknown: dict[int, str] = {}
        taken: dict[str, int] = {}
        for column, name in enumerate(names):
            plain = "".join(c for c in name.lower() if c.isalnum())
            coefficient = arkit.canonical(name)
            if coefficient is not None:
                if coefficient in taken:
                    both = f"columns {taken[coefficient] + 1} and {column + 1}"
                    raise InvalidInput(f"line {line}: {both} are both {coefficient}; remove one.")
                taken[coefficient] = column
                header.coefficients[column] = (coefficient,)
            elif plain in _ANGLES:
                header.angles[column] = _ANGLES[plain]
            elif plain == _COUNT:
                header.count = column
            elif header.time is None and any(plain.removesuffix(u) in _TIME for u in _UNITS):
                header.time, header.time_name = column, plain
            elif plain and plain not in _OTHER:
                unknown[column] = name
        header._place_unknown(unknown, line)
        return header

    def _place_unknown(self, unknown: dict[int, str], line: int) -> None:
        """Names without a side serve both sides; misspelt ones are refused, and others noted."""
        held = {name for names in self.coefficients.values() for name in names}
        missing = [name for name in arkit.NAMES if name not in held]
        for column, name in list(unknown.items()):
            pair = [n for n in (arkit.canonical(f"{name}Left"), arkit.canonical(f"{name}Right")) if n in missing]
            if len(pair) == 2:
                self.coefficients[column] = tuple(pair)
                missing = [n for n in missing if n not in pair]
                self.notes.append(f"Column {column + 1}, {name!r}, has no side and serves both.")
                del unknown[column]
        for column, name in unknown.items() if self.coefficients else ():
            near = difflib.get_close_matches(name.lower(), [n.lower() for n in missing], 1, 0.8)
            if near:
                meant = next(n for n in missing if n.lower() == near[0])
                raise InvalidInput(
                    f"line {line}, column {column + 1}: {name!r} is no known name; if it is {meant}, write it so."
                )
        if unknown and self.coefficients:
            listed = ", ".join(repr(name) for name in list(unknown.values())[:5])
            self.notes.append(f"{len(unknown)} columns are not used: {listed}{', …' if len(unknown) > 5 else ''}.")
        if missing and self.coefficients:
            listed = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            self.notes.append(f"{len(missing)} coefficients are not in the file and stay at 0: {listed}.")


class _Bad:
    """Rows that could not be read: the first is described, all are counted."""

    def __init__(self) -> None:
        self.first = ""
        self.count = 0

    def add(self, what: str) -> None:
        self.first = self.first or what
        self.count += 1

    def note(self, rows: int) -> list[str]:
        """What to say of them.

        Raises:
            InvalidInput: they are more than half of all rows.
        """
        if self.count > _BAD_SHARE * rows:
            raise InvalidInput(f"{self.first}; {self.count} of {rows} rows cannot be read.")
        more = f" ({self.count} rows in all)" if self.count > 1 else ""
        return [f"{self.first[0].upper()}{self.first[1:]}; the frame is filled in{more}."] if self.count else []


def _rows(text: str) -> list[list[str]]:
    """Cells of a table in text, by the delimiter that its first lines share."""
    if "\0" in text:
        raise InvalidInput("not a text file.")
    head = [line for line in text.splitlines()[:20] if line.strip()]
    if not head:
        raise InvalidInput("the file is empty.")
    if head[0].lower().startswith("sep="):
        text = text.partition("\n")[2]
        head = head[1:] or [""]
    widest = max(head, key=len)
    delimiter = max(
        ";\t|,", key=lambda d: (min(widest.count(d), 9) if d != "," else min(widest.count(d), 8), -",;\t|".index(d))
    )
    return _cells(text, delimiter)


def _cells(text: str, delimiter: str = ",") -> list[list[str]]:
    """The cells of every line."""
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise InvalidInput(f"not a table of text ({error}).") from error


def _number(cell: str) -> float:
    """A cell as a number, with a decimal point or comma, or NaN."""
    try:
        value = float(cell.strip().replace(",", ".")) if "_" not in cell else math.nan
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _table(text: str) -> Recording:
    rows = _rows(text)
    best = max(range(min(20, len(rows))), key=lambda i: (sum(arkit.canonical(c) is not None for c in rows[i]), -i))
    if not any(arkit.canonical(cell) for cell in rows[best]):
        raise InvalidInput("no line among the first holds names of ARKit coefficients; this is no recording of a face.")
    header = _Header.of([cell.strip() for cell in rows[best]], best + 1)
    numbered = [(number, row) for number, row in enumerate(rows[best + 1 :], best + 2) if any(c.strip() for c in row)]
    if not numbered:
        raise InvalidInput("the recording has no frames.")
    values = np.full((len(numbered), header.width), np.nan)
    bad, unseen = _Bad(), np.zeros(len(numbered), bool)
    wanted = [*header.coefficients, *header.angles]
    for i, (line, row) in enumerate(numbered):
        counted = header.count is not None and len(row) > header.count and row[header.count].strip() in ("0", "")
        if counted or not any(c.strip() for k, c in enumerate(row) if k in header.coefficients):
            unseen[i] = True  # the application saw no face
            continue
        if len(row) < header.width or any(cell.strip() for cell in row[header.width :]):
            bad.add(f"line {line} has {len(row)} columns, the header {header.width}")
            continue
        numbers = [_number(row[k]) for k in wanted]
        if not all(map(math.isfinite, numbers)):
            column = wanted[int(np.argmin(np.isfinite(numbers)))]
            bad.add(
                f"line {line}, column {column + 1} ({rows[best][column].strip()}): {row[column][:20]!r} is no number"
            )
            continue
        values[i, wanted] = numbers
    lines = np.array([line for line, _ in numbered])
    stamps = [row[header.time] if header.time is not None and len(row) > header.time else "" for _, row in numbered]
    times = _times(header, stamps, lines)
    kind = "live-link-face" if header.count is not None else "table"
    return _recording(header, values, unseen, lines, times, bad, kind)


def _times(header: _Header, stamps: Sequence[str], lines: np.ndarray) -> Times:
    """When each row was, from what its time column is."""
    if header.time is None:
        return times_of(np.full(len(stamps), np.nan), "", lines, _UNTIMED_RATE)
    if sum(":" in stamp for stamp in stamps) * 2 >= len(stamps):
        return of_timecodes([parse_timecode(stamp) for stamp in stamps], lines, stamps)
    return times_of(np.array([_number(stamp) for stamp in stamps]), header.time_name, lines, _UNTIMED_RATE)


def _recording(
    header: _Header, values: np.ndarray, unseen: np.ndarray, lines: np.ndarray, times: Times, bad: _Bad, kind: str
) -> Recording:
    """A recording from cells [N, columns], NaN in rows that hold nothing."""
    columns = list(header.coefficients)
    notes = [*header.notes, *times.notes]
    peaks = np.max(np.abs(values[:, columns]), 1)
    known = peaks[np.isfinite(peaks)]
    if len(known) and np.median(known) > _PERCENT_FROM:
        if np.median(known) > _LARGEST_PERCENT:
            raise InvalidInput(f"values reach {np.median(known):g}; coefficients lie in 0 to 1, or 0 to 100 percent.")
        in_percent = (
            [*columns, *header.angles] if header.count is not None else columns
        )  # Live Link Face's angles are scaled along
        values[:, in_percent] /= 100
        peaks = peaks / 100
        notes.append("The values are in percent.")
    with np.errstate(invalid="ignore"):
        for row in np.flatnonzero(peaks > _PERCENT_FROM):
            column = columns[int(np.argmax(np.abs(values[row, columns])))]
            name = header.coefficients[column][0]
            bad.add(f"line {lines[row]}, column {column + 1} ({name}): {values[row, column]:g} is far above 1")
            values[row] = np.nan
    notes += bad.note(len(values))
    valid = np.isfinite(values[:, columns]).all(1) & ~unseen
    keep = times.kept
    filled = hold(values, valid)[keep]
    result = np.zeros((len(filled), arkit.COUNT), np.float32)
    for column, names in header.coefficients.items():
        for name in names:
            result[:, arkit.INDEX[name]] = filled[:, column]
    head, eyes, said = _angles(header, filled)
    meta: dict[str, Any] = {"source": kind, **times.meta}
    if notes + said:
        meta[NOTES] = notes + said
    return Recording(times.fps, result, head, eyes, valid[keep], meta)


def _angles(header: _Header, filled: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Head [N, 3] and eyes [N, 4] in degrees; a table in degrees is told by angles beyond a full turn in radians."""
    places = {name: column for column, name in header.angles.items()}

    def columns(wanted: Iterable[str]) -> np.ndarray:
        return np.stack([filled[:, places[n]] if n in places else np.zeros(len(filled)) for n in wanted], 1)

    angles = [columns(_HEAD), columns(_EYES)]
    in_degrees = any(len(a) and np.abs(a).max() > _TURN for a in angles)
    head, eyes = (a.astype(np.float32) if in_degrees else np.degrees(a).astype(np.float32) for a in angles)
    return head, eyes, ["The angles are in degrees."] if in_degrees else []


def hold(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`values` [N, C], where the last valid row before (or the first after) takes the place of rows that are not valid."""
    if not valid.any():
        return np.zeros_like(values)
    last = np.maximum.accumulate(np.where(valid, np.arange(len(valid)), -1))
    return values[np.where(last < 0, int(np.argmax(valid)), last)]


def _face_cap(text: str) -> Recording:
    """Face Cap's text: a line `bs` of names, then lines `k` of milliseconds, head place and angles, eyes and values."""
    names: list[str] = []
    rows, lines, bad = [], [], _Bad()
    for line, cells in enumerate(_cells(text), 1):
        kind = cells[0].strip() if cells else ""
        if kind == "bs":
            names = [cell.strip() for cell in cells[1:]]
        if kind != "k":
            continue
        numbers = [_number(cell) for cell in cells[1:]]
        lines.append(line)
        if len(numbers) != 11 + len(names) or not all(map(math.isfinite, numbers)):
            bad.add(f"line {line} does not hold {11 + len(names)} numbers")
            numbers = [numbers[0] if numbers else math.nan] + [math.nan] * (10 + len(names))
        rows.append(numbers)
    if not names or not rows:
        raise InvalidInput("a Face Cap recording has a line 'bs' with names and lines 'k' with values; one is missing.")
    table = np.array(rows)
    header = _Header.of([*("",) * 11, *names])
    header.angles = dict(enumerate(("HeadPitch", "HeadYaw", "HeadRoll"), 4))
    header.angles |= dict(enumerate(("LeftEyePitch", "LeftEyeYaw", "RightEyePitch", "RightEyeYaw"), 7))
    in_degrees = list(header.angles)
    table[:, in_degrees] = np.radians(table[:, in_degrees])
    times = times_of(table[:, 0], "milliseconds", np.array(lines), _LIVE_LINK_RATE)
    return _recording(header, table, np.zeros(len(table), bool), np.array(lines), times, bad, "face-cap")


_IFACIALMOCAP_ANGLES = {
    "head": ("HeadPitch", "HeadYaw", "HeadRoll"),
    "lefteye": ("LeftEyePitch", "LeftEyeYaw", "LeftEyeRoll"),
    "righteye": ("RightEyePitch", "RightEyeYaw", "RightEyeRoll"),
}


def ifacialmocap_values(packet: str) -> dict[str, float]:
    """What one of iFacialMocap's packets holds: coefficients by their names in it, and angles in radians; NaN is no number."""
    values: dict[str, float] = {}
    for part in filter(None, (p.strip().lstrip("=") for p in packet.split("|"))):
        name, mark, numbers = part.partition("#")
        if mark:
            angles = [math.radians(_number(n)) for n in numbers.split(",")[:3]]
            values |= dict(zip(_IFACIALMOCAP_ANGLES.get(name.lower(), ()), angles, strict=False))
            continue
        match = re.fullmatch(r"(\w+?)[-&](-?[\d.,]+)", part)
        values[match[1] if match else part] = _number(match[2]) / 100 if match else math.nan
    return values


def _ifacialmocap(text: str) -> Recording:
    """iFacialMocap's packets, one a line: `name-percent|…|=head#pitch,yaw,roll,x,y,z|rightEye#…|leftEye#…|`."""
    packets: list[dict[str, float]] = []
    bad = _Bad()
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    for line, packet in lines:
        values = ifacialmocap_values(packet)
        packets.append(values)
        if not values or not all(map(math.isfinite, values.values())):
            bad.add(f"line {line} is not a packet of iFacialMocap")
            packets[-1] = {}
    names = list(dict.fromkeys(name for packet in packets for name in packet))
    header = _Header.of(names)
    if not header.coefficients:
        raise InvalidInput("none of the names is an ARKit coefficient.")
    table = np.array([[packet.get(name, math.nan) for name in names] for packet in packets])
    numbers_of_lines = np.array([n for n, _ in lines])
    times = times_of(np.full(len(table), np.nan), "", numbers_of_lines, _LIVE_LINK_RATE)
    return _recording(header, table, np.zeros(len(table), bool), numbers_of_lines, times, bad, "ifacialmocap")


def _json(text: str) -> Recording:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("not valid JSON.") from error
    if isinstance(document, dict) and isinstance(document.get("facsNames"), list):
        return _audio2face(document)
    frames = document
    if isinstance(document, dict):
        frames = next((document[k] for k in ("frames", "data", "results") if isinstance(document.get(k), list)), None)
    if not isinstance(frames, list) or not frames:
        raise InvalidInput("neither an Audio2Face export ('facsNames' is missing) nor a list of frames.")
    rate = document.get("fps") if isinstance(document, dict) else None
    return _frames(frames, rate)


def _audio2face(document: dict[str, Any]) -> Recording:
    names = [str(n) for n in document["facsNames"]]
    try:
        weights = np.asarray(document.get("weightMat"), np.float64)
        rate = float(document.get("exportFps", 60))
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput("'weightMat' or 'exportFps' is not made of numbers.") from error
    if weights.ndim != 2 or weights.shape[1] != len(names):
        raise InvalidInput(f"'weightMat' must be a list of frames with {len(names)} numbers each.")
    if not math.isfinite(rate) or rate <= 0:
        raise InvalidInput(f"'exportFps' is {rate}; it must be above 0.")
    count = len(weights)
    still = np.zeros((count, 3), np.float32), np.zeros((count, 4), np.float32), np.ones(count, bool)
    return Recording(usual_rate(rate), by_name(names, weights), *still, {"source": "audio2face"})


def _scores(frame: Any) -> tuple[dict[str, float], float]:
    """Values by name and the time of one frame of JSON: names to numbers, or MediaPipe's list of categories."""
    time = math.nan
    if isinstance(frame, dict):
        for key, value in list(frame.items()):
            plain = "".join(c for c in str(key).lower() if c.isalnum())
            if any(plain.removesuffix(u) in _TIME for u in _UNITS) and isinstance(value, int | float):
                time = float(value)
                frame = {k: v for k, v in frame.items() if k != key}
        inner = [v for part in ("shapes", "categories") for k, v in frame.items() if v and part in str(k).lower()]
        frame = inner[0] if inner else frame
    if isinstance(frame, list) and len(frame) == 1:  # one face: its categories, or an object that holds them
        first = frame[0].get("categories") if isinstance(frame[0], dict) else frame[0]
        frame = first if isinstance(first, list) else frame
    if isinstance(frame, list):
        pairs = [
            (next((e[k] for k in ("categoryName", "category_name", "displayName", "name") if k in e), ""), e.get("score", e.get("value")))
            for e in frame
            if isinstance(e, dict)
        ]  # fmt: skip
    else:
        pairs = list(frame.items()) if isinstance(frame, dict) else []
    return {str(n): float(v) for n, v in pairs if isinstance(v, int | float) and abs(v) < 1e30}, time


def _frames(frames: list[Any], rate: Any) -> Recording:
    read_frames = [_scores(frame) for frame in frames]
    names = list(dict.fromkeys(n for values, _ in read_frames for n in values))
    header = _Header.of(names)
    if not header.coefficients:
        raise InvalidInput("none of the names in its frames is an ARKit coefficient.")
    table = np.array([[values.get(n, math.nan) for n in names] for values, _ in read_frames], np.float64)
    unseen = np.array([not values for values, _ in read_frames])
    bad = _Bad()
    for number, row in enumerate(table):
        if not unseen[number] and not np.isfinite(row[list(header.coefficients)]).all():
            bad.add(f"frame {number} does not hold every name")
    places = np.arange(len(frames))
    known = isinstance(rate, int | float) and 0 < rate < 1000
    when = np.array([time for _, time in read_frames])
    times = times_of(when if not known else np.full(len(frames), np.nan), "timestamp", places, usual_rate(float(rate)) if known else _UNTIMED_RATE, said=known)  # fmt: skip
    return _recording(header, table, unseen, places, times, bad, "frames")
