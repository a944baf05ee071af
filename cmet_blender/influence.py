"""The influence of strips, which is the strength of their emotions: its keys, ramps at both ends, and how it goes with a strip."""

import itertools
import json
from typing import Any

from .nla import tracks_of

_SPANS = (
    "cmet_spans"  # custom property of a datablock: JSON with where each strip was when its influence was last looked at
)
_GENTLE = 0.1  # share of the steepest part of a ramp below which its top is reached (a cosine's last 3 %), and of a slope that says nothing
_NOTHING = 1e-4  # influence that counts as none, and frames that count as one place


def set_influence(strip: Any, keys: list[tuple[float, float]]) -> None:
    """Replace the strength curve of a strip by keys (scene frame, strength), straight between them."""
    strip.use_animated_influence = True
    curve = strip.fcurves.find("influence")
    points = curve.keyframe_points
    while len(points):
        points.remove(points[0])
    points.add(len(keys))
    for point, key in zip(points, keys, strict=True):  # foreach_set leaves those of library overrides as they are
        point.co, point.interpolation = key, "LINEAR"
    curve.update()


def keyed(strip: Any) -> Any | None:
    """The influence curve of a strip; None where it has no keys."""
    curve = strip.fcurves.find("influence") if strip.use_animated_influence else None
    return curve if curve is not None and len(curve.keyframe_points) else None


def strength(strip: Any) -> float:
    """The influence that is farthest from 0 among the keys of a strip."""
    curve = keyed(strip)
    return max((point.co[1] for point in curve.keyframe_points), key=abs) if curve is not None else strip.influence


def set_strength(strip: Any, value: float) -> None:
    """Scale the influence of a strip so that `strength` is `value`; its course is kept."""
    curve, peak = keyed(strip), strength(strip)
    if curve is None or abs(peak) < _NOTHING:
        first, last = fades(strip)
        set_influence(strip, [(strip.frame_start_raw + first, value), (strip.frame_end_raw - last, value)])
        return
    for point in curve.keyframe_points:
        for name in ("co", "handle_left", "handle_right"):
            getattr(point, name)[1] *= value / peak
    curve.update()
    strip.influence = value


def fades(strip: Any) -> tuple[float, float]:
    """Frames in which the influence of a strip rises from 0 at its start, and falls to 0 at its end."""
    first, last = (_ramp(strip, end) for end in (False, True))
    return (first[-1][0] - first[0][0] if first else 0.0), (last[0][0] - last[-1][0] if last else 0.0)


def _ramp(strip: Any, end: bool) -> list[tuple[float, float]]:
    """Keys (frame, influence) of the ramp at an end of a strip, from 0 to its top; none where there is no ramp.

    A curved ramp has several. It ends where the curve no longer rises, much less than before, or faster again after it was flattening.
    """
    curve = keyed(strip)
    keys = [tuple(point.co) for point in curve.keyframe_points] if curve is not None else []
    keys, place = (keys[::-1], strip.frame_end_raw) if end else (keys, strip.frame_start_raw)
    if not keys or abs(keys[0][1]) > _NOTHING or abs(keys[0][0] - place) > 0.01:
        return []
    steepest, before, count = 0.0, 0.0, 1
    for (frame, value), (next_frame, next_value) in itertools.pairwise(keys):
        slope = (abs(next_value) - abs(value)) / max(abs(next_frame - frame), _NOTHING)
        if slope <= _NOTHING or slope < _GENTLE * steepest or before * (1 + _GENTLE) < min(slope, steepest):
            break
        steepest, before, count = max(steepest, slope), slope, count + 1
    return keys[:count] if count > 1 else []


def set_fade(strip: Any, frames: float, end: bool) -> None:
    """Let the influence of a strip rise from 0 at its start, or fall to 0 at its end, in so many frames; keys beyond are kept."""
    first, last = strip.frame_start_raw, strip.frame_end_raw
    curve, ramp = keyed(strip), _ramp(strip, end)
    keys = [tuple(point.co) for point in curve.keyframe_points] if curve is not None else [(first, strip.influence)]
    sign, place = (-1, last) if end else (1, first)
    level = ramp[-1][1] if ramp else keys[-1 if end else 0][1]
    frames = max(0.0, min(frames, (last - first) - fades(strip)[not end]))
    top = place + sign * frames
    if curve is None:
        set_influence(strip, [(first, level), (last, level)])
        curve = strip.fcurves.find("influence")
    points, old = curve.keyframe_points, {frame for frame, _ in ramp[:-1]}
    for index in [k for k, p in enumerate(points) if p.co[0] in old or (p.co[0] - top) * sign <= _NOTHING][::-1]:
        points.remove(points[index])
    for frame, value in {top: level, **({place: 0.0} if frames > 0 else {})}.items():
        points.insert(frame, value).interpolation = "LINEAR"
    curve.update()


def carry(owner: Any) -> None:
    """Move the influence keys of strips that were moved or scaled since the last look; those of a strip that was trimmed stay."""
    before = json.loads(owner.get(_SPANS, "{}"))
    now = {}
    for strip in (strip for track in tracks_of(owner) for strip in track.strips):
        curve = keyed(strip)
        if curve is None:
            continue
        span = _span(strip, curve)
        # a copy is first seen where it was dropped, with the keys of the strip that it was made of
        was = before.get(strip.name) or next((one for one in before.values() if one[2:] == span[2:]), None)
        if was and was[:2] != span[:2] and was[2:] == span[2:]:
            factor = (span[1] - span[0]) / (was[1] - was[0])
            for point in curve.keyframe_points:
                for name in ("co", "handle_left", "handle_right"):
                    getattr(point, name)[0] = span[0] + (getattr(point, name)[0] - was[0]) * factor
            curve.update()
        now[strip.name] = _span(strip, curve)
    if now != before:
        owner[_SPANS] = json.dumps(now)


def _span(strip: Any, curve: Any) -> list[float]:
    """Where a strip lies, the part of its Action that it plays and how often, and its first influence key."""
    part = (strip.action_frame_start, strip.action_frame_end, strip.repeat)
    return [round(v, 3) for v in (strip.frame_start_raw, strip.frame_end_raw, *part, curve.keyframe_points[0].co[0])]
