"""The drawings of a report, as SVG: the emotion timeline, and the curves of the coefficients that changed most."""

import html
import itertools
import math
import textwrap

import numpy as np
from markupsafe import Markup

from cmet_engine import arkit
from cmet_engine.quality.report.data import EditReport
from cmet_engine.timeline import EmotionKey

CURVES = 8  # coefficients drawn
LEAST_CHANGE = 0.002  # mean change from which a coefficient counts as changed

_COLUMNS = 700  # points of a curve; a longer clip is drawn by the lowest and highest value of each stretch
_EMOTION_COLOURS = {
    "angry": "#d6453d", "contempt": "#8a6d3b", "disgusted": "#5f8f2f", "fear": "#7b52c7", "happy": "#d99a00",
    "sad": "#3676c9", "surprised": "#d0619b", "neutral": "#7d8590", "charismatic": "#c96a17", "desirous": "#b8327a",
    "empathetic": "#1f948a", "envious": "#4f9a4a", "romantic": "#d8486f", "sarcastic": "#6d63d1",
}  # fmt: skip
_OTHER_COLOURS = ("#2b8a9e", "#a0562b", "#6a7f1e", "#a04fb0", "#50749c", "#b5483f")

# Drawing space of the plots, in units that are pixels when the page is at its full width.
_WIDTH, _LEFT, _RIGHT, _TOP = 1000, 148, 16, 6
_END = _WIDTH - _RIGHT
_LANE, _LANE_GAP = 46, 12
_CURVE, _CURVE_GAP, _CURVE_TOP = 78, 22, 8
_AXIS = 44  # height of the time axis with its name
_LINE = 16  # between two lines of text


def timeline_svg(data: EditReport) -> Markup:
    """The emotions over time, one lane for each, and for each person; empty when there is none."""
    keys = [k for k in data.timeline.keys if k.start < data.duration]
    if not keys:
        return Markup()
    names = list(dict.fromkeys(_lane(k) for k in keys))
    bottom = _TOP + len(names) * (_LANE + _LANE_GAP)
    peak = max(1.0, max(abs(k.strength) for k in keys))
    parts = [_axis(data.duration, _TOP, bottom)]
    for row, name in enumerate(names):
        top = _TOP + row * (_LANE + _LANE_GAP)
        parts.append(f'<rect class="lane" x="{_LEFT}" y="{top}" width="{_END - _LEFT}" height="{_LANE}" rx="4"/>')
        lines = textwrap.wrap(name.replace("+", " +"), 14, max_lines=2, placeholder="…")
        label = _name(lines, top + _LANE / 2 + 5)
        parts.append(f"<g><title>{html.escape(name)}</title>{label}</g>")
        own = [key for key in keys if _lane(key) == name]
        following = any(a.start < b.start < (a.end or data.duration) for a, b in itertools.pairwise(own))
        parts += (
            [_course(own, top, peak, data.duration)] if following else [_bar(k, top, peak, data.duration) for k in own]
        )
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {bottom + _AXIS}" role="img" aria-label="Emotions over time, as bars">'
        f"{''.join(parts)}</svg>"
    )


def _lane(key: EmotionKey) -> str:
    """The name of a key's lane: the emotion, and whom it is for where that is said."""
    return key.emotion if key.person is None else f"{key.emotion} #{key.person}"


def _course(keys: list[EmotionKey], top: float, peak: float, duration: float) -> str:
    """Keys that overlap, in one lane: their sum as an area."""
    times = np.linspace(0, duration, 1200)
    level = np.sum([key.envelope(times, duration) for key in keys], 0)
    floor = top + _LANE
    line = " ".join(
        f"{_x(t, duration):.1f},{floor - min(abs(v) / peak, 1) * (_LANE - 4):.1f}"
        for t, v in zip(times, level, strict=True)
    )
    colour, largest = _colour_of(keys[0]), float(level[np.abs(level).argmax()])
    title = f"{keys[0].title}, strength up to {largest:.2g}, {len(keys)} keys"
    return (
        f'<polygon points="{_x(0, duration):.1f},{floor} {line} {_x(duration, duration):.1f},{floor}" fill="{colour}" fill-opacity=".38">'
        f"<title>{html.escape(title)}</title></polygon>"
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
    )


def _bar(key: EmotionKey, top: float, peak: float, duration: float) -> str:
    """One key in its lane: its envelope as an area, and its strength as text."""
    times = np.linspace(0, duration, 1200)
    envelope = np.abs(key.envelope(times, duration)) / peak
    inside = np.flatnonzero(envelope > 0)
    if not len(inside):
        return ""
    first, last = max(inside[0] - 1, 0), min(inside[-1] + 1, len(times) - 1)
    floor = top + _LANE
    points = [f"{_x(times[i], duration):.1f},{floor - envelope[i] * (_LANE - 4):.1f}" for i in range(first, last + 1)]
    start, end = _x(times[first], duration), _x(times[last], duration)
    area = " ".join([f"{start:.1f},{floor}", *points, f"{end:.1f},{floor}"])
    finish = duration if key.end is None else min(key.end, duration)
    title = f"{key.title}, strength {key.strength:g}, {clock(key.start)} to {clock(finish)}"
    if key.heard:
        title += "; heard as " + ", ".join(f"{name} {share:.2f}" for name, share in key.heard.items())
    colour = _colour_of(key)
    return (
        f'<polygon points="{area}" fill="{colour}" fill-opacity=".38"><title>{html.escape(title)}</title></polygon>'
        f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        f"{_strength_label(key.strength, start, end, floor - 8)}"
    )


def _strength_label(strength: float, start: float, end: float, y: float) -> str:
    """The strength of a bar as text inside it, or beside a bar that is too short for it."""
    label = f"{strength:.0%}" if strength >= 0 else f"opposite, {-strength:.0%}"
    wide = 9.0 * len(label) + 12  # no letter of this size is wider than 9
    if end - start >= wide:
        x, anchor = (start + end) / 2, "middle"
    elif start - _LEFT > _END - end:  # more room before it than after it
        x, anchor = start - 5, "end"
    else:
        x, anchor = end + 5, "start"
    return f'<text class="value" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{label}</text>'


def curves_svg(data: EditReport) -> Markup:
    """The coefficients that changed most, before and after; empty when none changed."""
    changed = changed_most(data)
    if not changed:
        return Markup()
    bottom = _CURVE_TOP + len(changed) * (_CURVE + _CURVE_GAP) - _CURVE_GAP
    parts = _lost_spans(data, bottom)
    for row, (label, before, after) in enumerate(changed):
        top = _CURVE_TOP + row * (_CURVE + _CURVE_GAP)
        parts.append(_axis(data.duration, top, top + _CURVE, named=row == len(changed) - 1))
        parts.append(_curve(data, label, before, after, top))
    for cut in data.cuts:
        if 0 < cut < len(data.source):
            x = _x(float(data.source.times[cut]), data.duration)
            parts.append(
                f'<line class="cut" x1="{x:.1f}" y1="{_CURVE_TOP}" x2="{x:.1f}" y2="{bottom}"><title>cut</title></line>'
            )
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {bottom + _AXIS}" role="img" '
        f'aria-label="Coefficients before and after, over time">{"".join(parts)}</svg>'
    )


def _curve(data: EditReport, label: str, before: np.ndarray, after: np.ndarray, top: float) -> str:
    """One coefficient, [N] before and after: its name, the lines of its scale, both curves."""
    bottom = top + _CURVE
    low = min(0.0, float(before.min()), float(after.min()))
    high = max(1.0, float(before.max()), float(after.max()))
    parts = []
    for value in (0.0, 0.5, 1.0):
        y = bottom - (value - low) / (high - low) * _CURVE
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_END}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(_name(_words(label), (top + bottom) / 2 + 4))
    parts.append(f"<g><title>{label}</title>")
    for kind, values in (("source", before), ("edited", after)):
        times, shown = _thinned(data.source.times, values)
        ys = bottom - (shown - low) / (high - low) * _CURVE
        points = " ".join(f"{_x(float(t), data.duration):.1f},{y:.1f}" for t, y in zip(times, ys, strict=True))
        parts.append(f'<polyline class="{kind}" points="{points}"/>')
    return "".join(parts) + "</g>"


def changed_most(data: EditReport) -> list[tuple[str, np.ndarray, np.ndarray]]:
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
        if size > LEAST_CHANGE:
            candidates.append((size, label, before, after))
    candidates.sort(key=lambda c: -c[0])
    return [(label, before, after) for _, label, before, after in candidates[:CURVES]]


def clock(seconds: float) -> str:
    """`2.50 s`, or `1:02.5` from a minute on."""
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def _lost_spans(data: EditReport, bottom: float) -> list[str]:
    """Grey stretches where no face was found."""
    edges = np.flatnonzero(np.diff(np.r_[0, ~data.source.valid, 0].astype(int)))
    times = np.r_[data.source.times, data.duration]
    parts = []
    for first, after in zip(edges[::2], edges[1::2], strict=True):
        x0, x1 = _x(float(times[first]), data.duration), _x(float(times[after]), data.duration)
        parts.append(
            f'<rect class="lost" x="{x0:.1f}" y="{_CURVE_TOP}" width="{max(x1 - x0, 1):.1f}" '
            f'height="{bottom - _CURVE_TOP}"><title>no face</title></rect>'
        )
    return parts


def _name(lines: list[str], middle: float) -> str:
    """Lines of text left of a plot, around the height `middle`."""
    first = middle - _LINE / 2 * (len(lines) - 1)
    return "".join(
        f'<text class="name" x="4" y="{first + _LINE * i:.1f}">{html.escape(text)}</text>'
        for i, text in enumerate(lines)
    )


def _words(name: str) -> list[str]:
    """`mouthUpperUp` as lines that fit left of a plot: `mouth`, `UpperUp`."""
    at = next((i for i, c in enumerate(name) if c.isupper()), len(name))
    return [part for part in (name[:at], name[at:]) if part]


def _thinned(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and values [N] of a curve; of a long one the lowest and highest value of each stretch."""
    if len(values) <= 2 * _COLUMNS:
        return times, values
    edges = np.linspace(0, len(values), _COLUMNS + 1).astype(int)
    chosen = sorted(
        {int(i) for a, b in itertools.pairwise(edges) for i in (a + values[a:b].argmin(), a + values[a:b].argmax())}
    )
    return times[chosen], values[chosen]


def _axis(duration: float, top: float, bottom: float, *, named: bool = True) -> str:
    """Upright lines at round times; with `named` their numbers and the unit below."""
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
        middle = (_LEFT + _END) / 2
        parts.append(f'<text class="tick" x="{middle}" y="{bottom + 36}" text-anchor="middle">{unit}</text>')
    return "".join(parts)


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


def _x(seconds: float, duration: float) -> float:
    return _LEFT + (_END - _LEFT) * (seconds / duration if duration > 0 else 0)


def _colour_of(key: EmotionKey) -> str:
    return _colour(key.emotion.split("*")[-1].split("+")[0])


def _colour(emotion: str) -> str:
    return _EMOTION_COLOURS.get(emotion) or _OTHER_COLOURS[sum(emotion.encode()) % len(_OTHER_COLOURS)]
