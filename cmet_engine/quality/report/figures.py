"""The measured figures of a report: what each is called, its value, whether it is good, and what it means."""

import math
from dataclasses import dataclass
from typing import TypeGuard

from cmet_engine.quality.report.data import (
    CLOSED_TARGET,
    LIP_TARGET,
    OUTSIDE_TARGET,
    REALISED_TARGET,
    SIGN_TARGET,
    EditReport,
)


@dataclass(frozen=True)
class Figure:
    """One figure as the page shows it.

    Attributes:
        title: what was measured.
        value: the figure, as text.
        good: it reaches its target; None where there is no target.
        explanation: what the figure means; the sentence begins with the value.
    """

    title: str
    value: str
    good: bool | None
    explanation: str


def figures(data: EditReport) -> list[Figure]:
    """The figures of an edit, without those that were not measured."""
    found = [*_expression(data), *_lips(data)]
    if _measured(data.outside_psnr):
        text = "identical" if math.isinf(data.outside_psnr) else f"{data.outside_psnr:.1f} dB"
        explanation = f"is how well it equals the source. {OUTSIDE_TARGET:.0f} dB or more cannot be told apart by eye."
        found.append(Figure("Picture outside the face", text, data.outside_psnr >= OUTSIDE_TARGET, explanation))
    found.append(_face_found(data))
    if data.cuts:
        found.append(
            Figure("Cuts", str(len(data.cuts)), None, "scene changes; tracking started afresh after each of them.")
        )
    if _measured(data.speed):
        found.append(Figure("Speed", f"{data.speed:.1f}", None, "frames a second for the whole work."))
    return found


def _expression(data: EditReport) -> list[Figure]:
    found = []
    if _measured(data.edit_realised):
        explanation = (
            "of the requested change of expression is visible in the edited pictures, measured by tracking them again. "
            f"{REALISED_TARGET:.0%} or more is good."
        )
        good = data.edit_realised >= REALISED_TARGET
        found.append(Figure("Edit realised", f"{data.edit_realised:.0%}", good, explanation))
    if _measured(data.same_sign):
        explanation = (
            f"of the strongly changed coefficients moved in the requested direction. {SIGN_TARGET:.0%} or more is good."
        )
        good = data.same_sign >= SIGN_TARGET
        found.append(Figure("Right direction", f"{data.same_sign:.0%}", good, explanation))
    return found


def _lips(data: EditReport) -> list[Figure]:
    found = []
    if _measured(data.lips_closed_kept):
        explanation = (
            "of the frames in which the lips were closed (as for m, b and p) still have them closed. "
            f"{CLOSED_TARGET:.0%} or more is good."
        )
        good = data.lips_closed_kept >= CLOSED_TARGET
        found.append(Figure("Closed lips kept", f"{data.lips_closed_kept:.1%}", good, explanation))
    if _measured(data.lip_correlation):
        explanation = (
            "is the correlation of the opening between the lips before and after; 1 means that they open and close "
            f"exactly as before. {LIP_TARGET} or more is good (0.85 for surprise, which opens the jaw by nature)."
        )
        good = data.lip_correlation >= LIP_TARGET
        found.append(Figure("Speech kept", f"{data.lip_correlation:.3f}", good, explanation))
    return found


def _face_found(data: EditReport) -> Figure:
    frames, lost = len(data.source), data.faces_lost
    left_out = f"{lost} frame{'s' if lost != 1 else ''} without a face stayed as in the source."
    explanation = f"of {frames} frames. " + (left_out if lost else "No frame was left out.")
    return Figure("Face found", f"{1 - lost / max(frames, 1):.0%}", lost == 0, explanation)


def _measured(value: float | None) -> TypeGuard[float]:
    """Whether a figure was measured; the correlation of something that never moves is not a number."""
    return value is not None and not math.isnan(value)
