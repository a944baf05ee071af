"""How good solver and basis are on people that they were not trained on. Needs torch only for reading observations."""

from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.face.blendshapes import BLIND, load_basis, load_solver
from cmet_engine.face.pose import normalise
from cmet_engine.face.tracker import FaceGeometry, fade_of
from cmet_engine.training.face.samples import load_observations, read_names

MOVES = 0.05  # standard deviation of the teacher's score from which a coefficient counts as moving
CORRELATION_WANTED = 0.8
ERROR_WANTED = 0.04
EXPLAINED_WANTED = 0.75


def evaluate_solver(observations: Path, *, test_clips: Path | None = None, show: bool = True) -> dict[str, Any]:
    """Compare the solver with MediaPipe's blendshape scores on people kept aside; prints a table per coefficient.

    Pictures are answered one by one (`Solver.coefficients`), clips as clips (`Solver.track`). A coefficient moves when
    the teacher's score has a standard deviation of at least `MOVES`.

    Args:
        observations: folder that `observe` wrote.
        test_clips: file with the names of the clips kept aside.
        show: print the table.

    Returns:
        The figures of the table, and the means.
    """
    solver = load_solver()
    answers: dict[str, list[np.ndarray]] = {"pictures": [], "clips": []}
    wanted: dict[str, list[np.ndarray]] = {"pictures": [], "clips": []}
    explained = {}
    for sample in load_observations(observations, read_names(test_clips), test=True):
        kept = sample.only(~sample.varied)
        kind = "clips" if sample.clip else "pictures"
        if sample.clip:
            geometry = _geometry(kept.landmarks)
            answer = solver.track(geometry).coefficients
            explained[sample.name] = motion_explained(kept.landmarks, answer)
        else:
            answer = solver.coefficients(kept.landmarks)
        answers[kind].append(answer)
        wanted[kind].append(kept.scores)
    result: dict[str, Any] = {"explained": explained}
    rows: dict[str, dict[str, tuple[float, float, float]]] = {}
    for kind in answers:
        if not answers[kind]:
            continue
        rows[kind] = _compare(np.concatenate(answers[kind]), np.concatenate(wanted[kind]))
        moving = [row for row in rows[kind].values() if row[0] >= MOVES]
        result[kind] = {
            "frames": int(sum(len(a) for a in answers[kind])),
            "moving": len(moving),
            "correlation": float(np.mean([row[1] for row in moving])),
            "error": float(np.mean([row[2] for row in rows[kind].values()])),
            "error_moving": float(np.mean([row[2] for row in moving])),
            "coefficients": {
                name: {"spread": r[0], "correlation": r[1], "error": r[2]} for name, r in rows[kind].items()
            },
        }
    if show:
        _print(rows, result)
    return result


def _geometry(landmarks: np.ndarray) -> FaceGeometry:
    from fractions import Fraction

    n = len(landmarks)
    valid = np.ones(n, bool)
    return FaceGeometry(
        landmarks,
        valid,
        (0, 0),
        Fraction(25),
        np.arange(n) / 25,
        np.zeros((n, 3)),
        np.zeros((n, 4)),
        [],
        fade_of(valid, [], 25),
    )


def _compare(answers: np.ndarray, wanted: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """By name: the teacher's standard deviation, correlation, mean absolute error."""
    result = {}
    for name, column in arkit.INDEX.items():
        a, w = answers[:, column], wanted[:, column]
        spread = float(w.std())
        correlation = float(np.corrcoef(a, w)[0, 1]) if spread > 1e-3 and a.std() > 1e-6 else 0.0
        result[name] = (spread, correlation, float(np.abs(a - w).mean()))
    return result


def motion_explained(landmarks: np.ndarray, coefficients: np.ndarray) -> float:
    """Share of the variance of a clip's pose-free landmarks that basis and coefficients explain: at most 1."""
    points, _ = normalise(landmarks)
    motion = points - points.mean(0)
    told = load_basis().pose_free_motion(coefficients - coefficients.mean(0))
    return float(1 - ((motion - told) ** 2).sum() / (motion**2).sum())


def _print(rows: dict[str, dict[str, tuple[float, float, float]]], result: dict[str, Any]) -> None:
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
