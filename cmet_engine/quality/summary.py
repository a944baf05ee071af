"""What a report says about a clip beside its figures: moments to show, the face in them, versions, what the tracker met."""

import importlib.metadata
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import __version__
from cmet_engine.face.geometry import LISTED, FaceGeometry, runs_of
from cmet_engine.spec import EditSpec
from cmet_engine.track import CoefficientTrack

SHOWN_MOMENTS = 5
"""Frames that the report shows before and after."""
SMALL_FACE = 80
"""Pixels of width below which fine movements cannot be read well; set by eye."""
FAR_TURN = 45
"""Degrees of head yaw beyond which the edit fades."""
LYING = 60
"""Degrees of head roll from which a head counts as lying; from 120 on it is upside down."""
LEAST_REALISED = 0.15
"""Share of the asked change (`edit_realised`) below which a result is said to show next to nothing of it."""
DEPENDENCIES = ("mediapipe", "av", "torch")
"""Packages whose version decides the result."""


def moments(source: CoefficientTrack, edited: CoefficientTrack, count: int = SHOWN_MOMENTS) -> list[int]:
    """Frames worth showing: spread over the clip, each the most strongly edited of its stretch, with a face."""
    change = np.abs(edited.coefficients - source.coefficients).sum(1) * source.valid
    edges = np.linspace(0, len(source), min(count, len(source)) + 1).astype(int)
    stretches = [range(a, b) for a, b in itertools.pairwise(edges) if b > a]
    return sorted({max(stretch, key=lambda i: (change[i], -i)) for stretch in stretches})


def face_box(geometry: FaceGeometry, index: int, picture: np.ndarray) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) of the face in pixels of a scaled-down picture; None where no face was found."""
    if not geometry.valid[index]:
        return None
    points = geometry.landmarks[index][:, :2] * (picture.shape[1] / geometry.size[0])
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)


def versions() -> dict[str, str]:
    """Versions of the program and of what its results depend on."""
    return {"cmet": __version__, **{name: importlib.metadata.version(name) for name in DEPENDENCIES}}


def settings_table(spec: EditSpec) -> dict[str, Any]:
    """The settings as the report shows them: name -> value."""
    table: dict[str, Any] = {
        "mode": spec.mode,
        "renderer": spec.renderer,
        "quality": spec.quality,
        "strength": spec.strength,
        "face": spec.face.name if isinstance(spec.face, Path) else spec.face,
    }
    table |= {
        name: path.name
        for name, path in (("speech", spec.speech), ("like", spec.like), ("neutral", spec.neutral))
        if path is not None
    }
    for one in spec.people:
        own = {"mode": one.mode, "quality": one.quality, "strength": one.strength}
        table |= {f"{name} of {one.person}": value for name, value in own.items() if value is not None}
    return table


def tracking_messages(geometry: FaceGeometry) -> list[str]:
    """What the tracker met that the user should know, in sentences."""
    return [*_upside_down(geometry), *_lost(geometry), *_cuts(geometry), *_small(geometry), *_turned(geometry)]


def _upside_down(geometry: FaceGeometry) -> list[str]:
    roll = float(np.median(np.abs(geometry.head_rotation[geometry.valid, 2])))
    if roll < LYING:
        return []
    how = "upside down" if roll > 180 - LYING else "lying on its side"
    return [f"The head is {how}; it was tracked in the picture turned upright."]


def _lost(geometry: FaceGeometry) -> list[str]:
    lost = int((~geometry.valid).sum())
    if not lost:
        return []
    messages = [
        f"No face was found in {lost} of {len(geometry)} frames; they are left as they were and the edit fades around them."
    ]
    if not geometry.strangers.any():
        return messages
    away = np.zeros(len(geometry), bool)
    for a, b in runs_of(~geometry.valid):
        away[a:b] = geometry.strangers[a:b].any()
    return [
        f"The person was not found in {lost} of {len(geometry)} frames; they are left as they were and the edit fades around them.",
        f"At {geometry.spans(away)} the person is away and somebody else is seen, who is not edited.",
    ]


def unseen_edit(name: str, figures: dict[str, Any]) -> list[str]:
    """A sentence where next to nothing of what was asked for is measured in the edited pictures.

    Args:
        name: of the person, or empty.
        figures: of the check of the result; see `quality.check.ResultCheck.figures`.
    """
    share = figures.get("edit_realised")
    if share is None or share >= LEAST_REALISED:
        return []
    whose = f" of {name}" if name else ""
    return [
        f"Next to nothing of the edit{whose} is seen in the pictures (edit_realised {share:.2f}); look at the result: the face may "
        "be upside down, covered, very small or not a face at all."
    ]


def _cuts(geometry: FaceGeometry) -> list[str]:
    if not geometry.cuts:
        return []
    at = ", ".join(f"{geometry.times[c]:.2f} s" for c in geometry.cuts[:LISTED])
    several = "s" if len(geometry.cuts) > 1 else ""
    return [f"{len(geometry.cuts)} scene cut{several} at {at}; tracking began anew there."]


def _small(geometry: FaceGeometry) -> list[str]:
    widths = [np.ptp(points[geometry.valid[part], :, 0], axis=1) for part, points in geometry.chunks()]
    width = float(np.median(np.concatenate(widths)))
    if width >= SMALL_FACE:
        return []
    return [f"The face is only {width:.0f} pixels wide; fine movements cannot be read well below {SMALL_FACE}."]


def _turned(geometry: FaceGeometry) -> list[str]:
    turned = geometry.valid & (np.abs(geometry.head_rotation[:, 0]) > FAR_TURN)
    if not turned.any():
        return []
    return [f"The head is turned by more than {FAR_TURN} degrees at {geometry.spans(turned)}; the edit fades there."]
