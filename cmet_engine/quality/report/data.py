"""What a report says, and the JSON document of it."""

import json
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

FORMAT = "cmet-report/1"
REALISED_TARGET = 0.6  # of the requested change, as tracked again in the edited pictures
SIGN_TARGET = 0.9  # share of changed coefficients that moved in the requested direction
CLOSED_TARGET = 0.95  # share of closed-lip frames still closed
LIP_TARGET = 0.95  # correlation of the opening between the inner lips
OUTSIDE_TARGET = 40.0  # dB outside the face
TARGETS = {
    "edit_realised": REALISED_TARGET,
    "same_sign": SIGN_TARGET,
    "lips_closed_kept": CLOSED_TARGET,
    "lip_correlation": LIP_TARGET,
    "outside_psnr_db": OUTSIDE_TARGET,
}
"""Names of the figures in the JSON document -> the least value that counts as good."""


@dataclass
class FramePair:
    """The same moment before and after.

    Attributes:
        index: frame number in the clip.
        time: seconds from the first frame.
        source, edited: uint8 [H, W, 3] RGB, of the same size.
        face: (left, top, right, bottom) in pixels of these pictures; the small pictures are close-ups of it.
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
        width, height: pixels as displayed; 0 where curves alone were edited.
        fps: frames a second.
        duration: seconds.
        settings: what the user asked for and what was chosen, shown in this order.
        versions: of the program and what it stands on.
        timeline: the emotions over time.
        source, edited: the tracks before and after, of the same length.
        pairs: a few moments before and after.
        edit_realised: share of the requested change found in the edited pictures, by least squares (`metrics.realised`).
        same_sign: share of strongly changed coefficients that moved in the requested direction, 0 to 1.
        lips_closed_kept: share of the source's frames with lips closed in speech whose lips are still closed, 0 to 1.
        lip_correlation: correlation of what speech opens between the inner lips, before and after (`metrics.lip_correlation`).
        outside_psnr: dB by which the written picture outside the face equals the source, over the first frames.
        faces_lost: frames without a face, left as they were.
        cuts: first frame of every shot after the first.
        speed: frames a second of the whole work.
        messages: sentences that the user should read.
        provenance: what the Content Credentials of the video say, in words.
        people: where several people are edited, a report of each by what they are called; `timeline` is everyone's then, and all
            else the first one's.
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
    provenance: dict[str, str] = field(default_factory=dict)
    people: "dict[str, EditReport]" = field(default_factory=dict)


def document(data: EditReport) -> dict[str, Any]:
    """The report for machines:

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
    provenance    what the Content Credentials say, in words, by what it is about
    people        only where several are edited: name -> {timeline, measured, faces_lost, coefficients, moments} of each; the
                  same fields of the document are the first one's, but for the timeline
    """
    result: dict[str, Any] = {
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
        **_of_person(data),
        "targets": TARGETS,
        "cuts": [int(c) for c in data.cuts],
        "messages": list(data.messages),
        "provenance": dict(data.provenance),
    }
    if data.people:
        result["people"] = {name: _of_person(report) for name, report in data.people.items()}
    return result


def _of_person(data: EditReport) -> dict[str, Any]:
    """What is another for every person."""
    return {
        "timeline": json.loads(data.timeline.to_json()),
        "measured": _measured(data),
        "faces_lost": int(data.faces_lost),
        "coefficients": _coefficients(data),
        "moments": [
            {
                "frame": int(pair.index),
                "time": _number(pair.time),
                "emotions": {name: _number(value, 3) for name, value in strengths(data, pair.time).items()},
            }
            for pair in data.pairs
        ],
    }


def _measured(data: EditReport) -> dict[str, float | None]:
    return {
        "edit_realised": _number(data.edit_realised),
        "same_sign": _number(data.same_sign),
        "lips_closed_kept": _number(data.lips_closed_kept),
        "lip_correlation": _number(data.lip_correlation),
        "outside_psnr_db": _number(data.outside_psnr, 2),
        "frames_per_second": _number(data.speed, 2),
    }


def _coefficients(data: EditReport) -> dict[str, dict[str, float | None]]:
    """Means before and after of every coefficient, over frames with a face (all frames where there is none)."""
    used = data.source.valid if data.source.valid.any() else np.ones(len(data.source), bool)
    before, after = data.source.coefficients[used], data.edited.coefficients[used]
    change = after - before
    coefficients: dict[str, dict[str, float | None]] = {}
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
    return coefficients


def strengths(data: EditReport, time: float) -> dict[str, float]:
    """Emotions at one moment, the strongest first."""
    keys = EmotionTimeline([k for k in data.timeline.keys if k.start < data.duration])
    weights = keys.weights(np.array([time]), data.duration) if keys.keys else {}
    found = {name: float(values[0]) for name, values in weights.items() if abs(values[0]) > 0.005}
    return dict(sorted(found.items(), key=lambda item: -abs(item[1])))


def _number(value: float | None, digits: int = 4) -> float | None:
    """A rounded number for JSON, which knows neither infinity nor NaN."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)
