"""How good solver and basis are on held-out people. `cmet eval solver`."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.face.blendshapes import BLIND, load_basis, load_solver
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.pose import normalise
from cmet_engine.training.face.samples import load_observations, read_names

MOVES = 0.05
"""Standard deviation of the teacher's score from which a coefficient counts as moving."""

CORRELATION_WANTED, ERROR_WANTED, EXPLAINED_WANTED = 0.8, 0.04, 0.75
"""Targets, set before training: mean correlation, mean absolute error, share of the landmark motion that is explained."""

RATE = 25
"""Frames a second that observed clips are taken for; it only sets how long fades are, and nothing fades here."""

Row = tuple[float, float, float]
"""Of one coefficient: the teacher's standard deviation, correlation, mean absolute error."""


def evaluate_solver(observations: Path, *, test_clips: Path | None = None, show: bool = True) -> dict[str, Any]:
    """Compare the solver with MediaPipe's blendshape scores on held-out people; prints a table per coefficient.

    Coefficients of pictures are predicted one by one (`Solver.coefficients`), those of clips as clips (`Solver.track`). A
    coefficient moves when the teacher's score has a standard deviation of at least `MOVES`.

    Args:
        observations: folder that `observe` wrote.
        test_clips: file with the names of the held-out clips.
        show: print the table.

    Returns:
        The figures of the table, and the means.
    """
    solver = load_solver()
    predicted: dict[str, list[np.ndarray]] = {"pictures": [], "clips": []}
    wanted: dict[str, list[np.ndarray]] = {"pictures": [], "clips": []}
    explained = {}
    for sample in load_observations(observations, read_names(test_clips), test=True):
        kept = sample.only(~sample.varied)
        if sample.clip:
            coefficients = solver.track(_geometry(kept.landmarks)).coefficients
            explained[sample.name] = motion_explained(kept.landmarks, coefficients)
        else:
            coefficients = solver.coefficients(kept.landmarks)
        kind = "clips" if sample.clip else "pictures"
        predicted[kind].append(coefficients)
        wanted[kind].append(kept.scores)
    rows = {
        kind: _compare(np.concatenate(predicted[kind]), np.concatenate(wanted[kind]))
        for kind in predicted
        if predicted[kind]
    }
    result: dict[str, Any] = {"explained": explained}
    for kind, of_kind in rows.items():
        result[kind] = _summary(of_kind, sum(len(p) for p in predicted[kind]))
    if show:
        _print(rows, result)
    return result


def _geometry(landmarks: np.ndarray) -> FaceGeometry:
    """Geometry of a clip of which only landmarks [N, 478, 3] are known."""
    n = len(landmarks)
    return FaceGeometry(
        landmarks, np.ones(n, bool), (0, 0), Fraction(RATE), np.arange(n) / RATE, np.zeros((n, 3)), np.zeros((n, 4))
    )


def _compare(predicted: np.ndarray, wanted: np.ndarray) -> dict[str, Row]:
    """By name: see `Row`."""
    result = {}
    for name, column in arkit.INDEX.items():
        p, w = predicted[:, column], wanted[:, column]
        spread = float(w.std())
        correlation = float(np.corrcoef(p, w)[0, 1]) if spread > 1e-3 and p.std() > 1e-6 else 0.0
        result[name] = (spread, correlation, float(np.abs(p - w).mean()))
    return result


def _summary(rows: dict[str, Row], frames: int) -> dict[str, Any]:
    """Means over the coefficients, and the coefficients themselves, as JSON values."""
    moving = [row for row in rows.values() if row[0] >= MOVES]
    return {
        "frames": frames,
        "moving": len(moving),
        "correlation": float(np.mean([row[1] for row in moving])),
        "error": float(np.mean([row[2] for row in rows.values()])),
        "error_moving": float(np.mean([row[2] for row in moving])),
        "coefficients": {name: {"spread": r[0], "correlation": r[1], "error": r[2]} for name, r in rows.items()},
    }


def motion_explained(landmarks: np.ndarray, coefficients: np.ndarray) -> float:
    """Share of the variance of a clip's pose-free landmarks that basis and coefficients explain: at most 1.

    Args:
        landmarks: [N, 478, 3] pixels.
        coefficients: [N, 52].
    """
    points, _ = normalise(landmarks)
    motion = points - points.mean(0)
    explained = load_basis().pose_free_motion(coefficients - coefficients.mean(0))
    return float(1 - ((motion - explained) ** 2).sum() / (motion**2).sum())


def _print(rows: dict[str, dict[str, Row]], result: dict[str, Any]) -> None:
    kinds = list(rows)
    print(f"{'coefficient':22s}" + "".join(f"{kind:>10s}: spread  corr.  error" for kind in kinds))
    for name in arkit.NAMES:
        line = f"{name:22s}"
        for kind in kinds:
            spread, correlation, error = rows[kind][name]
            mark = " " if spread >= MOVES else "."
            line += f"{'':10s}{mark} {spread:6.3f} {correlation:6.2f} {error:6.3f}"
        print(line + ("   from geometry" if name in BLIND else ""))
    print(f"A dot marks coefficients that the teacher moves by less than {MOVES} (standard deviation).")
    for kind in kinds:
        r = result[kind]
        print(
            f"{kind}: {r['frames']} frames; over {r['moving']} coefficients that move: mean correlation {r['correlation']:.3f} "
            f"(wanted {CORRELATION_WANTED}), mean absolute error {r['error_moving']:.3f}; over all 52: {r['error']:.3f} (wanted {ERROR_WANTED})"
        )
    if result["explained"]:
        shares = list(result["explained"].values())
        print(
            "pose-free landmark motion explained: " + ", ".join(f"{k} {v:.2f}" for k, v in result["explained"].items())
        )
        print(f"median {np.median(shares):.3f} (wanted {EXPLAINED_WANTED}), least {min(shares):.3f}")
