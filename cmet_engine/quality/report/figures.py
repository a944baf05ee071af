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
    rated = [
        _rated(
            "Edit realised", data.edit_realised, "{:.0%}", REALISED_TARGET,
            "of the requested change of expression is visible in the edited pictures, measured by tracking them again. "
            f"{REALISED_TARGET:.0%} or more is good.",
        ),
        _rated(
            "Right direction", data.same_sign, "{:.0%}", SIGN_TARGET,
            "of the strongly changed coefficients moved in the requested direction. "
            f"{SIGN_TARGET:.0%} or more is good.",
        ),
        _rated(
            "Closed lips kept", data.lips_closed_kept, "{:.1%}", CLOSED_TARGET,
            "of the frames in which speech closed the lips (m, b and p) still have them closed. "
            f"{CLOSED_TARGET:.0%} or more is good.",
        ),
        _rated(
            "Speech kept", data.lip_correlation, "{:.3f}", LIP_TARGET,
            "is the correlation of what speech opens between the lips before and after; 1 means that they open and close "
            f"exactly as before. {LIP_TARGET} or more is good (0.85 for surprise, which opens the jaw by nature).",
        ),
        _rated(
            "Picture outside the face", data.outside_psnr, "{:.1f} dB", OUTSIDE_TARGET,
            f"is how well it equals the source. {OUTSIDE_TARGET:.0f} dB or more cannot be distinguished by eye.",
        ),
    ]  # fmt: skip
    found = [figure for figure in rated if figure]
    found.append(_face_found(data))
    if data.cuts:
        explanation = "scene changes; tracking started afresh after each of them."
        found.append(Figure("Cuts", str(len(data.cuts)), None, explanation))
    if _measured(data.speed):
        found.append(
            Figure(
                "Speed",
                f"{data.speed:.1f}" if data.speed >= 1 else f"{data.speed:.2g}",
                None,
                "frames a second for the whole work.",
            )
        )
    return found


def _rated(title: str, value: float | None, form: str, target: float, explanation: str) -> Figure | None:
    """A figure that is good from its target on; None where it was not measured."""
    if not _measured(value):
        return None
    text = "identical" if math.isinf(value) else form.format(value)  # a PSNR without any error
    return Figure(title, text, value >= target, explanation)


def _face_found(data: EditReport) -> Figure:
    frames, lost = len(data.source), data.faces_lost
    left_out = f"{lost} frame{'s' if lost != 1 else ''} without a face stayed as in the source."
    explanation = f"of {frames} frames. " + (left_out if lost else "No frame was left out.")
    return Figure("Face found", f"{1 - lost / max(frames, 1):.0%}", lost == 0, explanation)


def _measured(value: float | None) -> TypeGuard[float]:
    """Whether a figure was measured; the correlation of something that never moves is not a number."""
    return value is not None and not math.isnan(value)
