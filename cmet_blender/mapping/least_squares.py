"""Coefficients without a shape of their own, shown by combinations of other shapes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cmet_engine import arkit

from .rig_mapping import RigMapping
from .rows import CONVENTION, EXACT, MANUAL, SPREAD
from .words import words

SMALLEST_SHARE = 0.06  # set by eye: smaller shares add keys and no visible motion
# Set on the rigs of tests/blender/test_rig_spread.py: combinations that show less of the motion did more harm than good.
LEAST_SHOWN = 0.4
# Relative to the mean energy of the shapes; keeps the shares from cancelling each other. Set on the same rigs.
RIDGE = 0.02
# Times the ridge, for shapes of another part or side of the face, which are seldom right. Set on the same rigs.
OTHER_PART = 8.0


def spread_missing(
    mapping: RigMapping,
    shape_deltas: Mapping[str, np.ndarray],
    wanted: Mapping[str, np.ndarray],
) -> RigMapping:
    """Show missing coefficients by combinations of the shapes that exist, by least squares on their deltas.

    For each missing coefficient with motion d, the shares a >= 0 minimise |d - sum_j a_j d_j|^2 + ridge |a|^2.

    Args:
        mapping: a mapping of the rig; it is not changed.
        shape_deltas: motion of each shape of the rig, [V, 3] each, over one set of points.
        wanted: motion that each coefficient should make, [V, 3] each, over the same points; see `transferred`.

    Returns:
        A mapping whose missing rows that can be shown are of kind `spread`, their confidence the share of the motion
        (1 - residual energy / energy) that the combination shows.
    """
    owner = {shape: n for n, r in mapping.rows.items() if r.kind != SPREAD for shape in r.channels}
    left_out = {"tongueOut", *arkit.GAZE}  # an expression must not move the eyes or the tongue
    usable = [
        shape
        for shape, delta in shape_deltas.items()
        # speech shapes are combinations themselves; shapes of unknown names may take part
        if words(shape)[:1] not in (["viseme"], ["v"]) and owner.get(shape) not in left_out and np.abs(delta).max() > 0
    ]
    if not usable:
        return mapping
    stack = np.stack([np.asarray(shape_deltas[n], np.float64).ravel() for n in usable])  # [J, 3V]
    plain = stack @ stack.T
    ridge = RIDGE * np.trace(plain) / len(usable)
    rows = dict(mapping.rows)
    for name in mapping.missing:
        motion = wanted.get(name)
        if motion is None:
            continue
        motion = np.asarray(motion, np.float64).ravel()
        energy = float(motion @ motion)
        if energy <= 0:
            continue
        weight = [1.0 if _same_part(name, owner.get(shape)) else OTHER_PART for shape in usable]
        shares = _non_negative(plain + ridge * np.diag(weight), stack @ motion)
        shares[shares < SMALLEST_SHARE] = 0
        shown = 1 - float(((motion - shares @ stack) ** 2).sum()) / energy
        if shown >= LEAST_SHOWN and shares.any():
            channels = {usable[j]: round(float(shares[j]), 4) for j in np.flatnonzero(shares)}
            rows[name] = replace(rows[name], channels=channels, kind=SPREAD, confidence=round(shown, 3))
    used = {c for row in rows.values() for c in row.channels}
    unused = tuple(n for n in mapping.unused if n not in used)
    return RigMapping(rows, unused, dict(mapping.rotations), mapping.name, mapping.unit)


def _same_part(name: str, other: str | None) -> bool:
    """Whether two coefficients are of one part of the face (mouth and jaw are one, as are cheeks, nose and mouth) and side."""
    if other is None:
        return True
    below = {"jaw", "mouth", "cheeks", "nose"}
    region, other_region = (next(r for r, names in arkit.REGIONS.items() if n in names) for n in (name, other))
    sides = [next((side for side in ("Left", "Right") if n.endswith(side)), "") for n in (name, other)]
    same_part = region == other_region or {region, other_region} <= below or {region, other_region} == {"eyes", "brows"}
    return same_part and (sides[0] == sides[1] or "" in sides)


def _non_negative(gram: np.ndarray, correlation: np.ndarray, sweeps: int = 300) -> np.ndarray:
    """argmin over a >= 0 of a.G.a / 2 - a.b by coordinate descent; G [J, J] positive definite, b [J]."""
    shares = np.zeros(len(correlation))
    for _ in range(sweeps):
        before = shares.copy()
        for j in range(len(shares)):
            shares[j] = max(0.0, shares[j] + (correlation[j] - gram[j] @ shares) / gram[j, j])
        if np.abs(shares - before).max() < 1e-7:
            break
    return shares


def transferred(
    mapping: RigMapping,
    points: np.ndarray,
    shape_deltas: Mapping[str, np.ndarray],
    reference_points: np.ndarray,
    reference_deltas: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Motion [V, 3] of every coefficient of a reference head, carried over to this rig's points.

    The two heads are brought together by the centres of motion of the shapes that both have (a smile moves the same
    place on every face) with a similarity transform (Umeyama 1991), then each point takes the motion of the nearest
    points of the reference. The size of motion is matched over the shared shapes.

    Args:
        mapping: which shape of the rig is which coefficient.
        points: the rig's rest positions [V, 3].
        shape_deltas: motion of the rig's shapes, [V, 3] each.
        reference_points: rest positions [R, 3] of the reference head.
        reference_deltas: its motion by coefficient, [R, 3] each.
    """
    shared = _shared_shapes(mapping, shape_deltas, reference_deltas)
    if len(shared) < 6:
        return {}
    there = np.stack([_centre_of_motion(reference_points, reference_deltas[n]) for n, _ in shared])
    here = np.stack([_centre_of_motion(points, shape_deltas[s]) for _, s in shared])
    turn, scale = _similarity(there, here)
    moved = (np.asarray(reference_points) - there.mean(0)) @ turn.T * scale + here.mean(0)
    active = np.flatnonzero(np.max([np.abs(d).max(1) for d in reference_deltas.values()], axis=0) > 1e-6)
    nearest, share = _nearest(np.asarray(points, np.float64), moved[active])
    carried = {}
    for name, delta in reference_deltas.items():
        turned = np.asarray(delta, np.float64)[active] @ turn.T * scale
        carried[name] = (turned[nearest] * share[:, :, None]).sum(1)
    sizes = [float(np.linalg.norm(shape_deltas[s])) / max(float(np.linalg.norm(carried[n])), 1e-12) for n, s in shared]
    ratio = float(np.median(sizes))
    return {name: delta * ratio for name, delta in carried.items()}


def _shared_shapes(
    mapping: RigMapping, shape_deltas: Mapping[str, np.ndarray], reference_deltas: Mapping[str, np.ndarray]
) -> list[tuple[str, str]]:
    """(coefficient, shape) of those that the rig and the reference head both move, one shape each."""
    return [
        (name, shape)
        for name, row in mapping.rows.items()
        if row.kind in (EXACT, CONVENTION, MANUAL) and len(row.channels) == 1 and name in reference_deltas
        for shape in row.channels
        if shape in shape_deltas and np.abs(shape_deltas[shape]).max() > 0 and np.abs(reference_deltas[name]).max() > 0
    ]


def _centre_of_motion(points: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Mean [3] of points [V, 3], weighted by the energy of their motion [V, 3]."""
    weight = (np.asarray(motion, np.float64) ** 2).sum(1)
    return (weight[:, None] * points).sum(0) / max(weight.sum(), 1e-30)


def _similarity(there: np.ndarray, here: np.ndarray) -> tuple[np.ndarray, float]:
    """Rotation [3, 3] and scale that bring `there` [N, 3] to `here` [N, 3], both about their means (Umeyama 1991)."""
    there, here = there - there.mean(0), here - here.mean(0)
    u, singular, vt = np.linalg.svd(here.T @ there)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    return u @ np.diag(sign) @ vt, float((singular * sign).sum() / max((there**2).sum(), 1e-30))


def _nearest(points: np.ndarray, others: np.ndarray, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Indices [V, count] of the nearest `others` and weights [V, count] by inverse distance, fading far away."""
    count = min(count, len(others))
    index = np.empty((len(points), count), np.int64)
    weight = np.empty((len(points), count))
    extent = float(np.linalg.norm(np.ptp(others, axis=0)))
    for start in range(0, len(points), 256):  # 256 rows at a time keep the distance table small
        block = points[start : start + 256]
        distance = np.sqrt(np.maximum(((block[:, None] - others[None]) ** 2).sum(2), 0))
        order = np.argpartition(distance, count - 1, axis=1)[:, :count]
        near = np.take_along_axis(distance, order, 1)
        index[start : start + 256] = order
        inverse = 1 / (near + 1e-6 * extent)
        far = np.exp(-((near[:, :1] / (0.05 * extent)) ** 2))  # the back of the head does not smile
        weight[start : start + 256] = inverse / inverse.sum(1, keepdims=True) * far
    return index, weight
