"""The report of an edit: one HTML file to look at, one JSON file for machines, and contact sheets for evaluations."""

import base64
import html
import itertools
import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeGuard

import cv2
import numpy as np

from cmet_engine import arkit
from cmet_engine.files import whole_file
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

FORMAT = "cmet-report/1"
REALISED_TARGET = 0.6  # of the asked change, as an independent tracker reads it back
SIGN_TARGET = 0.9  # share of changed coefficients that moved the right way
CLOSED_TARGET = 0.95  # share of closed-lip frames still closed
LIP_TARGET = 0.95  # correlation of the opening between the inner lips
OUTSIDE_TARGET = 40.0  # dB outside the face
CURVES = 8  # coefficients drawn
PICTURE_SIDE = 720  # pixels of the longer side of a picture in the report
NEAR_SIDE = 400  # pixels of a picture of the face from near

_COLUMNS = 700  # points of a curve; a longer clip is drawn by the lowest and highest value of each stretch
_EMOTION_COLORS = {
    "angry": "#d6453d", "contempt": "#8a6d3b", "disgusted": "#5f8f2f", "fear": "#7b52c7", "happy": "#d99a00",
    "sad": "#3676c9", "surprised": "#d0619b", "neutral": "#7d8590", "charismatic": "#c96a17", "desirous": "#b8327a",
    "empathetic": "#1f948a", "envious": "#4f9a4a", "romantic": "#d8486f", "sarcastic": "#6d63d1",
}  # fmt: skip
_OTHER_COLORS = ("#2b8a9e", "#a0562b", "#6a7f1e", "#a04fb0", "#50749c", "#b5483f")


@dataclass
class FramePair:
    """The same moment before and after.

    Attributes:
        index: frame number in the clip.
        time: seconds from the first frame.
        source, edited: uint8 [H, W, 3] RGB, of the same size.
        face: (left, top, right, bottom) in pixels of these pictures; the small pictures show it from near.
    """

    index: int
    time: float
    source: np.ndarray
    edited: np.ndarray
    face: tuple[float, float, float, float] | None = None


@dataclass
class EditReport:
    """Everything that a report says; figures that were not measured stay None and are not shown.

    Attributes:
        clip: name of the source clip.
        output: name of the edited video, empty when there is none.
        width, height: pixels as displayed.
        fps: frames a second.
        duration: seconds.
        settings: what the user asked for and what was chosen, shown in this order.
        versions: of the program and what it stands on.
        timeline: the emotions over time.
        source, edited: the tracks before and after, of the same length.
        pairs: a few moments before and after.
        edit_realised: median of measured change over asked change, read back from the edited pictures.
        same_sign: share of strongly changed coefficients that moved in the asked direction, 0 to 1.
        lips_closed_kept: share of the source's frames with closed lips whose lips are still closed, 0 to 1.
        lip_correlation: correlation of the opening between the inner lips, before and after.
        outside_psnr: dB by which the written picture outside the face equals the source, over the first frames.
        faces_lost: frames without a face, left as they were.
        cuts: first frame of every shot after the first.
        speed: frames a second of the whole work.
        messages: sentences that the user should read.
    """

    clip: str
    width: int
    height: int
    fps: Fraction
    duration: float
    timeline: EmotionTimeline
    source: CoefficientTrack
    edited: CoefficientTrack
    output: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    pairs: list[FramePair] = field(default_factory=list)
    edit_realised: float | None = None
    same_sign: float | None = None
    lips_closed_kept: float | None = None
    lip_correlation: float | None = None
    outside_psnr: float | None = None
    faces_lost: int = 0
    cuts: list[int] = field(default_factory=list)
    speed: float | None = None
    messages: list[str] = field(default_factory=list)


def write_report(path_html: str | Path, path_json: str | Path, data: EditReport, *, force: bool = True) -> None:
    """Write both files of a report; each appears whole or not at all.

    The JSON document:

        format        "cmet-report/1"
        edited        true: the video is edited, and whoever passes it on should say so
        clip          {name, width, height, fps: "30000/1001", frames, duration (s)}
        output        name of the edited video, "" when there is none
        settings      name -> value, as given
        versions      name -> version
        timeline      {format, keys}, readable by `EmotionTimeline.load`
        measured      {edit_realised, same_sign, lips_closed_kept, lip_correlation, outside_psnr_db,
                      frames_per_second}, null where not measured
        targets       the same names -> the least value that counts as good
        faces_lost    frames without a face
        cuts          first frame of every shot after the first
        coefficients  name -> {source_mean, edited_mean, mean_change, largest_change} over frames with a face
        moments       [{frame, time (s), emotions: name -> strength}] of the pictures in the HTML
        messages      sentences

    Args:
        path_html, path_json: the two files.
        data: what to say.
        force: replace earlier files.

    Raises:
        CmetError: a file cannot be written.
    """
    with whole_file(path_html, force=force) as temporary:
        temporary.write_text(_page(data), "utf-8")
    with whole_file(path_json, force=force) as temporary:
        temporary.write_text(json.dumps(_document(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray | None]],
    labels: Sequence[str],
    *,
    columns: Sequence[str] = (),
    cell: int = 224,
) -> np.ndarray:
    """A grid of pictures with a label left of every row and above every column.

    Args:
        rows: pictures uint8 [H, W, 3] RGB of any sizes; None leaves a cell empty.
        labels: one for each row.
        columns: one for each column, or none.
        cell: pixels of a cell's side; pictures are fitted into it, their shape kept.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ValueError: there are not as many labels as rows, or more columns than names for them.
    """
    wide = max((len(row) for row in rows), default=0)
    if len(labels) != len(rows) or (columns and len(columns) != wide):
        raise ValueError(f"{len(labels)} labels and {len(columns)} columns for {len(rows)} rows of {wide} pictures")
    font, scale, gap, ink = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, cell / 420), 6, (40, 40, 40)
    line = cv2.getTextSize("Ag", font, scale, 1)[0][1] + 10

    def wrap(text: str, width: int) -> list[str]:
        lines: list[str] = []
        for part in str(text).split("\n"):
            current = ""
            for word in part.split(" "):
                candidate = f"{current} {word}" if current else word
                if current and cv2.getTextSize(candidate, font, scale, 1)[0][0] > width:
                    lines.append(current)
                    current = word
                else:
                    current = candidate
            lines.append(current)
        return lines

    def size(lines: list[str]) -> int:
        return max((cv2.getTextSize(text, font, scale, 1)[0][0] for text in lines), default=0)

    side_lines = [wrap(label, cell) for label in labels]
    side = max((size(lines) for lines in side_lines), default=0) + 2 * gap
    head_lines = [wrap(name, cell) for name in columns]
    head = max((len(lines) for lines in head_lines), default=0) * line + (gap if columns else 0)
    widths = [max(cell, size(head_lines[c])) if columns else cell for c in range(wide)]
    lefts = [side + gap + sum(widths[:c]) + gap * c for c in range(wide)]
    sheet = np.full(
        (head + gap + len(rows) * (cell + gap), side + gap + sum(widths) + gap * max(wide, 1), 3), 250, np.uint8
    )

    def write(lines: list[str], left: int, top: int) -> None:
        for i, text in enumerate(lines):
            cv2.putText(sheet, text, (left, top + (i + 1) * line - 8), font, scale, ink, 1, cv2.LINE_AA)

    for lines, left in zip(head_lines, lefts, strict=False):
        write(lines, left, gap // 2)
    for r, row in enumerate(rows):
        top = head + gap + r * (cell + gap)
        write(side_lines[r], gap, top + max(0, (cell - len(side_lines[r]) * line) // 2))
        for picture, left in zip(row, lefts, strict=False):
            if picture is None:
                continue
            small = _fitted(np.asarray(picture), cell, enlarge=True)
            h, w = small.shape[:2]
            y, x = top + (cell - h) // 2, left + (cell - w) // 2
            sheet[y : y + h, x : x + w] = small
    return sheet


def write_png(path: str | Path, image: np.ndarray, *, force: bool = True) -> Path:
    """Write a picture, uint8 [H, W, 3] RGB, as PNG; it appears whole or not at all.

    Raises:
        CmetError: the file cannot be written.
    """
    path = Path(path)
    with whole_file(path, force=force) as temporary:
        temporary.write_bytes(_encoded(image, ".png"))
    return path


def _fitted(image: np.ndarray, side: int, *, enlarge: bool = False) -> np.ndarray:
    """The picture scaled so that its longer side is `side` pixels (smaller ones stay unless `enlarge`)."""
    factor = side / max(image.shape[:2])
    if factor >= 1 and not enlarge:
        return image
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _encoded(image: np.ndarray, suffix: str) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    return data.tobytes()


def _near(pair: FramePair) -> tuple[slice, slice]:
    """Rows and columns around the face, as a square where the picture allows; the whole picture without a face."""
    height, width = pair.source.shape[:2]
    if pair.face is None:
        return slice(0, height), slice(0, width)
    left, top, right, bottom = pair.face
    side = 1.7 * max(right - left, bottom - top)

    def span(middle: float, size: int) -> slice:
        length = min(max(round(side), 1), size)
        start = min(max(round(middle - length / 2), 0), size - length)
        return slice(start, start + length)

    return span((top + bottom) / 2, height), span((left + right) / 2, width)


def _inline(image: np.ndarray, side: int = PICTURE_SIDE) -> str:
    data = _encoded(_fitted(image, side), ".jpg")
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _measured(value: float | None) -> TypeGuard[float]:
    """A correlation of something that never moves, for one, is not a number; it counts as not measured."""
    return value is not None and not math.isnan(value)


def _number(value: float | None, digits: int = 4) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def _strengths(data: EditReport, time: float) -> dict[str, float]:
    """Emotions at one moment, the strongest first."""
    keys = EmotionTimeline([k for k in data.timeline.keys if k.start < data.duration])
    weights = keys.weights(np.array([time]), data.duration) if keys.keys else {}
    found = {name: float(values[0]) for name, values in weights.items() if abs(values[0]) > 0.005}
    return dict(sorted(found.items(), key=lambda item: -abs(item[1])))


def _document(data: EditReport) -> dict[str, Any]:
    used = data.source.valid if data.source.valid.any() else np.ones(len(data.source), bool)
    before, after = data.source.coefficients[used], data.edited.coefficients[used]
    change = after - before
    coefficients = {}
    for i, name in enumerate(arkit.NAMES):
        if not len(change):
            break
        peak = change[int(np.abs(change[:, i]).argmax()), i]
        coefficients[name] = {
            "source_mean": _number(before[:, i].mean()),
            "edited_mean": _number(after[:, i].mean()),
            "mean_change": _number(change[:, i].mean()),
            "largest_change": _number(peak),
        }
    return {
        "format": FORMAT,
        "edited": True,
        "clip": {
            "name": data.clip,
            "width": data.width,
            "height": data.height,
            "fps": str(data.fps),
            "frames": len(data.source),
            "duration": _number(data.duration),
        },
        "output": data.output,
        "settings": {
            str(k): v if isinstance(v, str | int | float | bool) else str(v) for k, v in data.settings.items()
        },
        "versions": {str(k): str(v) for k, v in data.versions.items()},
        "timeline": json.loads(data.timeline.to_json()),
        "measured": {
            "edit_realised": _number(data.edit_realised),
            "same_sign": _number(data.same_sign),
            "lips_closed_kept": _number(data.lips_closed_kept),
            "lip_correlation": _number(data.lip_correlation),
            "outside_psnr_db": _number(data.outside_psnr, 2),
            "frames_per_second": _number(data.speed, 2),
        },
        "targets": {
            "edit_realised": REALISED_TARGET,
            "same_sign": SIGN_TARGET,
            "lips_closed_kept": CLOSED_TARGET,
            "lip_correlation": LIP_TARGET,
            "outside_psnr_db": OUTSIDE_TARGET,
        },
        "faces_lost": int(data.faces_lost),
        "cuts": [int(c) for c in data.cuts],
        "coefficients": coefficients,
        "moments": [
            {
                "frame": int(pair.index),
                "time": _number(pair.time),
                "emotions": {name: _number(value, 3) for name, value in _strengths(data, pair.time).items()},
            }
            for pair in data.pairs
        ],
        "messages": list(data.messages),
    }


def _color(name: str) -> str:
    return _EMOTION_COLORS.get(name) or _OTHER_COLORS[sum(name.encode()) % len(_OTHER_COLORS)]


def _clock(seconds: float) -> str:
    """`2.50 s`, or `1:02.5` from a minute on."""
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def _ticks(duration: float, count: int = 8) -> list[float]:
    """Round times from 0 to `duration`, about `count` of them."""
    if duration <= 0:
        return [0.0]
    rough = duration / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    if step >= 10:  # from there on a clock's steps read better
        step = next((s for s in (10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600) if s >= rough), step)
    return [i * step for i in range(int(duration / step + 1e-9) + 1)]


def _tick_label(seconds: float, duration: float) -> str:
    if duration >= 90:
        return f"{int(seconds // 60)}:{round(seconds % 60):02d}"
    return f"{seconds:g}"


# Drawing space of the plots, in units that are pixels when the page is at its full width.
_WIDTH, _LEFT, _RIGHT = 1000, 148, 16


def _x(seconds: float, duration: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (seconds / duration if duration > 0 else 0)


def _axis(duration: float, top: float, bottom: float, *, named: bool = True) -> str:
    parts = []
    for tick in _ticks(duration):
        x = _x(tick, duration)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>')
        if named:
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{_tick_label(tick, duration)}</text>'
            )
    if named:
        unit = "time in the clip, minutes:seconds" if duration >= 90 else "time in the clip, seconds"
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(f'<text class="tick" x="{middle}" y="{bottom + 36}" text-anchor="middle">{unit}</text>')
    return "".join(parts)


def _timeline_svg(data: EditReport) -> str:
    duration = data.duration
    keys = [k for k in data.timeline.keys if k.start < duration]
    if not keys:
        return '<p class="quiet">No emotion was put on the timeline.</p>'
    names = list(dict.fromkeys(k.emotion for k in keys))
    lane, gap, top = 46, 12, 6
    bottom = top + len(names) * (lane + gap)
    peak = max(1.0, max(abs(k.strength) for k in keys))
    times = np.linspace(0, duration, 1200)
    parts = [_axis(duration, top, bottom)]
    for row, name in enumerate(names):
        y = top + row * (lane + gap)
        colour = _color(name.split("*")[-1].split("+")[0])
        parts.append(
            f'<rect class="lane" x="{_LEFT}" y="{y}" width="{_WIDTH - _LEFT - _RIGHT}" height="{lane}" rx="4"/>'
        )
        lines = textwrap.wrap(name.replace("+", " +"), 14, max_lines=2, placeholder="…")
        first = y + lane / 2 + 5 - 8 * (len(lines) - 1)
        parts.append(f"<g><title>{html.escape(name)}</title>")
        for i, text in enumerate(lines):
            parts.append(f'<text class="name" x="4" y="{first + 16 * i}">{html.escape(text)}</text>')
        parts.append("</g>")
        for key in (k for k in keys if k.emotion == name):
            envelope = np.abs(key.envelope(times, duration)) / peak
            inside = np.flatnonzero(envelope > 0)
            if not len(inside):
                continue
            first, last = max(inside[0] - 1, 0), min(inside[-1] + 1, len(times) - 1)
            points = [
                f"{_x(times[i], duration):.1f},{y + lane - envelope[i] * (lane - 4):.1f}"
                for i in range(first, last + 1)
            ]
            start, end = _x(times[first], duration), _x(times[last], duration)
            area = " ".join([f"{start:.1f},{y + lane}", *points, f"{end:.1f},{y + lane}"])
            finish = duration if key.end is None else min(key.end, duration)
            says = f"{name}, strength {key.strength:g}, {_clock(key.start)} to {_clock(finish)}"
            parts.append(
                f'<polygon points="{area}" fill="{colour}" fill-opacity=".38"><title>{html.escape(says)}</title></polygon>'
                f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
            label = f"{key.strength:.0%}" if key.strength >= 0 else f"opposite, {-key.strength:.0%}"
            wide = 9.0 * len(label) + 12
            if end - start >= wide:
                parts.append(
                    f'<text class="value" x="{(start + end) / 2:.1f}" y="{y + lane - 8}" text-anchor="middle">{label}</text>'
                )
            else:  # too short to hold its own label: put it on the side where there is room
                before = start - _LEFT > _WIDTH - _RIGHT - end
                x, anchor = (start - 5, "end") if before else (end + 5, "start")
                parts.append(
                    f'<text class="value" x="{x:.1f}" y="{y + lane - 8}" text-anchor="{anchor}">{label}</text>'
                )
    return f'<svg viewBox="0 0 {_WIDTH} {bottom + 44}" role="img" aria-label="Emotions over time, as bars">{"".join(parts)}</svg>'


def _changed(data: EditReport) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The coefficients that changed most, left and right taken together: (label, source [N], edited [N])."""
    candidates = []
    done: set[str] = set()
    for name in arkit.NAMES:
        if name in done:
            continue
        mirror = arkit.mirrored(name)
        done |= {name, mirror}
        columns = [arkit.INDEX[name]] if mirror == name else [arkit.INDEX[name], arkit.INDEX[mirror]]
        before = data.source.coefficients[:, columns].mean(1)
        after = data.edited.coefficients[:, columns].mean(1)
        label = name if mirror == name else name.removesuffix("Left").removesuffix("Right")
        size = float(np.abs(after - before).mean()) if len(before) else 0.0
        if size > 0.002:
            candidates.append((size, label, before, after))
    candidates.sort(key=lambda c: -c[0])
    return [(label, before, after) for _, label, before, after in candidates[:CURVES]]


def _path(times: np.ndarray, values: np.ndarray, duration: float, y0: float, y1: float, low: float, high: float) -> str:
    """Points of a curve drawn between y0 (top) and y1 (bottom) for values in [low, high]."""
    if len(values) > 2 * _COLUMNS:
        edges = np.linspace(0, len(values), _COLUMNS + 1).astype(int)
        chosen = sorted(
            {int(i) for a, b in itertools.pairwise(edges) for i in (a + values[a:b].argmin(), a + values[a:b].argmax())}
        )
        times, values = times[chosen], values[chosen]
    ys = y1 - (values - low) / (high - low) * (y1 - y0)
    return " ".join(f"{_x(float(t), duration):.1f},{y:.1f}" for t, y in zip(times, ys, strict=True))


def _curves_svg(data: EditReport) -> str:
    changed = _changed(data)
    if not changed:
        return '<p class="quiet">No coefficient changed.</p>'
    times, duration = data.source.times, data.duration
    height, gap, top = 78, 22, 8
    bottom = top + len(changed) * (height + gap) - gap
    parts = []
    lost = np.flatnonzero(np.diff(np.r_[0, ~data.source.valid, 0].astype(int)))
    ends = np.r_[times, duration]
    for a, b in zip(lost[::2], lost[1::2], strict=True):
        x0, x1 = _x(float(ends[a]), duration), _x(float(ends[b]), duration)
        parts.append(
            f'<rect class="lost" x="{x0:.1f}" y="{top}" width="{max(x1 - x0, 1):.1f}" height="{bottom - top}"><title>no face</title></rect>'
        )
    for row, (label, before, after) in enumerate(changed):
        y0, y1 = top + row * (height + gap), top + row * (height + gap) + height
        low = min(0.0, float(before.min()), float(after.min()))
        high = max(1.0, float(before.max()), float(after.max()))
        parts.append(_axis(duration, y0, y1, named=row == len(changed) - 1))
        for value in (0.0, 0.5, 1.0):
            y = y1 - (value - low) / (high - low) * height
            parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        middle = (y0 + y1) / 2
        words = _spoken(label)
        first = middle + 4 - 8 * (len(words) - 1)
        for i, word in enumerate(words):
            parts.append(f'<text class="name" x="4" y="{first + 16 * i:.1f}">{word}</text>')
        parts.append(f"<g><title>{label}</title>")
        parts.append(f'<polyline class="source" points="{_path(times, before, duration, y0, y1, low, high)}"/>')
        parts.append(f'<polyline class="edited" points="{_path(times, after, duration, y0, y1, low, high)}"/></g>')
    for cut in data.cuts:
        if 0 < cut < len(times):
            x = _x(float(times[cut]), duration)
            parts.append(
                f'<line class="cut" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"><title>cut</title></line>'
            )
    return (
        f'<div class="plot"><svg viewBox="0 0 {_WIDTH} {bottom + 44}" role="img" '
        f'aria-label="Coefficients before and after, over time">{"".join(parts)}</svg></div>'
    )


def _spoken(name: str) -> list[str]:
    """`mouthUpperUp` as lines that fit left of a plot: `mouth`, `UpperUp`."""
    at = next((i for i, c in enumerate(name) if c.isupper()), len(name))
    return [part for part in (name[:at], name[at:]) if part]


@dataclass
class _Figure:
    title: str
    value: str
    good: bool | None
    says: str


def _figures(data: EditReport) -> list[_Figure]:
    figures = []
    if _measured(data.edit_realised):
        good = data.edit_realised >= REALISED_TARGET
        figures.append(
            _Figure(
                "Edit realised",
                f"{data.edit_realised:.0%}",
                good,
                "of the asked change of expression is really seen in the edited pictures, measured by tracking them again. "
                f"{REALISED_TARGET:.0%} or more is good.",
            )
        )
    if _measured(data.same_sign):
        figures.append(
            _Figure(
                "Right direction",
                f"{data.same_sign:.0%}",
                data.same_sign >= SIGN_TARGET,
                f"of the strongly changed coefficients moved the asked way. {SIGN_TARGET:.0%} or more is good.",
            )
        )
    if _measured(data.lips_closed_kept):
        figures.append(
            _Figure(
                "Closed lips kept",
                f"{data.lips_closed_kept:.1%}",
                data.lips_closed_kept >= CLOSED_TARGET,
                "of the frames in which the lips were closed (as for m, b and p) still have them closed. "
                f"{CLOSED_TARGET:.0%} or more is good.",
            )
        )
    if _measured(data.lip_correlation):
        figures.append(
            _Figure(
                "Speech kept",
                f"{data.lip_correlation:.3f}",
                data.lip_correlation >= LIP_TARGET,
                "is the correlation of the opening between the lips before and after; 1 means that they open and close "
                f"exactly as before. {LIP_TARGET} or more is good (0.85 for surprise, which opens the jaw by nature).",
            )
        )
    if _measured(data.outside_psnr):
        figures.append(
            _Figure(
                "Picture outside the face",
                "identical" if math.isinf(data.outside_psnr) else f"{data.outside_psnr:.1f} dB",
                data.outside_psnr >= OUTSIDE_TARGET,
                f"is how well it equals the source. {OUTSIDE_TARGET:.0f} dB or more cannot be told apart by eye.",
            )
        )
    frames = len(data.source)
    figures.append(
        _Figure(
            "Face found",
            f"{1 - data.faces_lost / max(frames, 1):.0%}",
            data.faces_lost == 0,
            f"of {frames} frames. "
            + (
                f"{data.faces_lost} frame{'s' if data.faces_lost != 1 else ''} without a face stayed as in the source."
                if data.faces_lost
                else "No frame was left out."
            ),
        )
    )
    if data.cuts:
        figures.append(
            _Figure("Cuts", str(len(data.cuts)), None, "scene changes; tracking started afresh after each of them.")
        )
    if _measured(data.speed):
        figures.append(_Figure("Speed", f"{data.speed:.1f}", None, "frames a second for the whole work."))
    return figures


def _pairs_html(data: EditReport) -> str:
    if not data.pairs:
        return ""
    strip = []
    for number, pair in enumerate(data.pairs):
        feelings = ", ".join(f"{name} {value:.0%}" for name, value in _strengths(data, pair.time).items())
        caption = f"{_clock(pair.time)}, frame {pair.index}" + (f" · {feelings}" if feelings else "")
        rows, columns = _near(pair)
        side = NEAR_SIDE if pair.face is not None else PICTURE_SIDE
        before, after = _inline(pair.source[rows, columns], side), _inline(pair.edited[rows, columns], side)
        h, w = _fitted(pair.source[rows, columns], side).shape[:2]
        whole = (
            f' data-before="{_inline(pair.source)}" data-after="{_inline(pair.edited)}"'
            if pair.face is not None
            else ""
        )
        strip.append(
            f'<figure class="pair"{whole}><div class="two">'
            f'<div><img src="{before}" width="{w}" height="{h}" alt="before, {html.escape(_clock(pair.time))}"><span>before</span></div>'
            f'<div><img src="{after}" width="{w}" height="{h}" alt="after, {html.escape(_clock(pair.time))}"><span>after</span></div>'
            f'</div><figcaption><button type="button" data-pair="{number}">compare</button>{html.escape(caption)}</figcaption></figure>'
        )
    h, w = data.pairs[0].source.shape[:2]
    return (
        '<section><h2>Before and after</h2><div class="stage">'
        f'<div class="compare" style="--cut:50%;aspect-ratio:{w}/{h};--ratio:{w / h:.4f}">'
        '<img class="under" alt="before"><img class="over" alt="after"><i></i><b class="l">before</b><b class="r">after</b>'
        '<input type="range" min="0" max="100" value="50" aria-label="Move between before and after"></div>'
        '<p class="quiet">Drag across the picture to compare; choose another moment below.</p></div>'
        f'<div class="strip">{"".join(strip)}</div></section>'
    )


def _table(title: str, values: dict[str, Any]) -> str:
    if not values:
        return ""
    rows = "".join(f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>" for k, v in values.items())
    return f"<section><h2>{title}</h2><table>{rows}</table></section>"


def _page(data: EditReport) -> str:
    cards = []
    for figure in _figures(data):
        mark = "" if figure.good is None else ("good" if figure.good else "look")
        says = {"good": "✓ good", "look": "! have a look", "": ""}[mark]
        cards.append(
            f'<div class="card {mark}"><h3>{figure.title}</h3><p class="big">{figure.value}'
            f"{f'<em>{says}</em>' if says else ''}</p><p>{figure.says}</p></div>"
        )
    rate = f"{float(data.fps):.3f}".rstrip("0").rstrip(".")
    facts = f"{data.width} × {data.height} pixels · {rate} frames a second · {_clock(data.duration)} · {len(data.source)} frames"
    messages = "".join(f"<li>{html.escape(m)}</li>" for m in data.messages)
    output = f" → <strong>{html.escape(data.output)}</strong>" if data.output else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="C-MET"><title>Emotion edit of {html.escape(data.clip)}</title><style>{_STYLE}</style></head><body><main>
<header><h1>Emotion edit</h1><p class="lead"><strong>{html.escape(data.clip)}</strong>{output}</p><p class="quiet">{facts}</p></header>
<aside class="notice"><strong>This video is edited.</strong> The expression of the person in it was changed by a program.
Use it only with the person's consent, and say that it is edited wherever you show it.</aside>
{f'<aside class="messages"><strong>Messages</strong><ul>{messages}</ul></aside>' if messages else ""}
{_pairs_html(data)}
<section><h2>Emotion timeline</h2><p class="quiet">Height of a bar is strength; its slopes are the easing in and out.</p>{_timeline_svg(data)}</section>
<section><h2>What was measured</h2><div class="cards">{"".join(cards)}</div></section>
<section><h2>Coefficients that changed most</h2><p class="quiet legend"><svg viewBox="0 0 34 10"><line class="source" x1="1" y1="5" x2="33" y2="5"/></svg>before
<svg viewBox="0 0 34 10"><line class="edited" x1="1" y1="5" x2="33" y2="5"/></svg>after · ARKit coefficients, 0 at rest to 1 in full; left and right as their mean{" · grey: no face" if not data.source.valid.all() else ""}{" · dashed: cut" if data.cuts else ""}</p>{_curves_svg(data)}</section>
<div class="tables">{_table("Settings", data.settings)}{_table("Versions", data.versions)}</div>
<footer class="quiet">The same figures for machines are in the JSON report beside this file; the whole tracks are in source.npz and edited.npz.</footer>
</main><script>{_SCRIPT}</script></body></html>
"""


_STYLE = """
:root{color-scheme:light dark;--paper:#fbfbfa;--card:#fff;--ink:#1c1e21;--soft:#5d646d;--line:#e2e3e5;--lane:#f0f1f2;--edited:#4b3fd1;--source:#868d96;--good:#1c7c45;--look:#a35a00;--note:#fff6de;--noteline:#e8cf86}
@media (prefers-color-scheme:dark){:root{--paper:#16181b;--card:#1f2226;--ink:#e9eaec;--soft:#a3aab3;--line:#343940;--lane:#24282d;--edited:#9d95ff;--source:#868e98;--good:#6fcf97;--look:#f0b35a;--note:#2c2718;--noteline:#6a5a2a}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 24px 56px}h1{font-size:34px;line-height:1.15;letter-spacing:-.02em;margin:0 0 4px}
h2{font-size:21px;letter-spacing:-.01em;margin:44px 0 8px}h3{font-size:14px;font-weight:600;margin:0;color:var(--soft)}
.lead{font-size:18px;margin:0;overflow-wrap:anywhere}.quiet{color:var(--soft);margin:2px 0 12px;font-size:15px}
.notice,.messages{border:1px solid var(--line);border-radius:10px;padding:12px 16px;margin:18px 0 0;background:var(--card)}
.notice{background:var(--note);border-color:var(--noteline)}.messages ul{margin:4px 0 0;padding-left:20px}
.stage{display:flex;flex-direction:column;align-items:center}.compare{position:relative;width:min(100%,calc(560px*var(--ratio)));border-radius:10px;overflow:hidden;background:#000;touch-action:pan-y}
.compare img{position:absolute;inset:0;width:100%;height:100%;display:block}.compare .over{clip-path:inset(0 0 0 var(--cut))}
.compare i{position:absolute;top:0;bottom:0;left:var(--cut);width:2px;margin-left:-1px;background:#fff;box-shadow:0 0 5px #0009;pointer-events:none}
.compare i::after{content:"";position:absolute;top:50%;left:50%;width:30px;height:30px;border-radius:50%;background:#ffffffe8;transform:translate(-50%,-50%);box-shadow:0 1px 6px #0007}
.compare b{position:absolute;top:10px;font-size:13px;font-weight:600;color:#fff;background:#000a;border-radius:6px;padding:2px 9px;pointer-events:none}.compare .l{left:10px}.compare .r{right:10px}
.compare input{position:absolute;inset:0;width:100%;height:100%;margin:0;opacity:0;cursor:ew-resize}
.compare:focus-within{outline:3px solid var(--edited);outline-offset:2px}.stage .quiet{margin-top:8px}
.strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:18px}.pair{margin:0}.two{display:grid;grid-template-columns:1fr 1fr;gap:3px;border-radius:10px;overflow:hidden}
.two div{position:relative}.two img{width:100%;height:auto;display:block}.two span{position:absolute;left:7px;bottom:7px;font-size:12px;color:#fff;background:#000a;border-radius:5px;padding:1px 7px}
figcaption{display:flex;align-items:center;gap:10px;font-size:14px;color:var(--soft);padding-top:6px}
button{font:inherit;font-size:13px;color:var(--ink);background:var(--card);border:1px solid var(--line);border-radius:7px;padding:2px 10px;cursor:pointer}button[aria-pressed=true]{border-color:var(--edited);color:var(--edited)}
.plot{overflow-x:auto}.plot svg{min-width:680px}svg{width:100%;height:auto;display:block}svg text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--soft)}
svg text.name{fill:var(--ink);font-weight:600;font-size:14px}svg text.value{fill:var(--ink);font-weight:600;font-size:14px}
.grid{stroke:var(--line);stroke-width:1}.lane{fill:var(--lane)}.lost{fill:var(--soft);fill-opacity:.18}.cut{stroke:var(--soft);stroke-width:1;stroke-dasharray:4 4}
.source{fill:none;stroke:var(--source);stroke-width:1.3;stroke-linejoin:round}.edited{fill:none;stroke:var(--edited);stroke-width:2.6;stroke-linejoin:round}
.legend svg{display:inline-block;width:34px;height:10px;margin:0 6px 0 0;vertical-align:middle}.legend svg+svg,.legend svg:nth-of-type(2){margin-left:14px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(235px,1fr));gap:14px}.card{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--line);border-radius:10px;padding:14px 16px}
.card p{margin:0;font-size:14px;color:var(--soft)}.card .big{font-size:28px;font-weight:650;letter-spacing:-.01em;color:var(--ink);line-height:1.35}.card em{font:600 13px system-ui,sans-serif;margin-left:10px;vertical-align:middle;white-space:nowrap}
.good{border-left-color:var(--good)}.good em{color:var(--good)}.look{border-left-color:var(--look)}.look em{color:var(--look)}
.tables{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:0 40px}table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:6px 12px 6px 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}th{font-weight:500;color:var(--soft);width:42%}
footer{margin-top:36px}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#ccc;--lane:#f2f2f2;--edited:#4b3fd1;--source:#777;--good:#1c7c45;--look:#a35a00;--note:#fff;--noteline:#999}
.stage,button{display:none}main{max-width:none;padding:0}.strip{grid-template-columns:1fr 1fr}.plot{overflow:visible}.plot svg{min-width:0}figure,.card,.plot,svg,tr{break-inside:avoid}h2,h2+.quiet{break-after:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

_SCRIPT = """
(function(){var c=document.querySelector('.compare');if(!c)return;var r=c.querySelector('input'),buttons=document.querySelectorAll('[data-pair]'),pairs=document.querySelectorAll('.pair');
function show(n){var p=pairs[n],m=p.querySelectorAll('img');c.querySelector('.under').src=p.dataset.before||m[0].src;c.querySelector('.over').src=p.dataset.after||m[1].src;buttons.forEach(function(b,i){b.setAttribute('aria-pressed',i===n)})}
r.addEventListener('input',function(){c.style.setProperty('--cut',r.value+'%')});
buttons.forEach(function(b,i){b.addEventListener('click',function(){show(i);c.scrollIntoView({block:'nearest'})})});show(Math.floor((pairs.length-1)/2))})();
"""
