"""The 52 shapes of a rig, carried over to MediaPipe's landmarks: what the basis falls back on. Training only.

ICT-FaceKit (USC Institute for Creative Technologies, MIT licence) has a shape for nearly every ARKit coefficient. Its
face is bent onto the mean face by 68 points whose place on both meshes is known (the 68 points of iBUG 300-W; on the
rig: ICT-FaceKit's README), and every landmark takes the motion of the nearest vertices.
"""

from pathlib import Path

import numpy as np
from scipy.interpolate import RBFInterpolator

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.face.pose import LANDMARKS, fit_similarity, template

_RIG_POINTS = (
    "1225 1888 1052 367 1719 1722 2199 1447 966 3661 4390 3927 3924 2608 3272 4088 3443 268 493 1914 2044 1401 3615 4240 4114 2734 "
    "2509 978 4527 4942 4857 1140 2075 1147 4269 3360 1507 1542 1537 1528 1518 1511 3742 3751 3756 3721 3725 3732 5708 5695 2081 0 "
    "4275 6200 6213 6346 6461 5518 5957 5841 5702 5711 5533 6216 6207 6470 5517 5966"
)
_MESH_POINTS = (
    "162 234 93 58 172 136 149 148 152 377 378 365 397 288 323 454 389 71 63 105 66 107 336 296 334 293 301 168 197 5 4 75 97 2 326 "
    "305 33 160 158 133 153 144 362 385 387 263 373 380 61 39 37 0 267 269 291 405 314 17 84 181 78 82 13 312 308 317 14 87"
)
# Landmarks that hang on the lower jaw, and those of the upper lip: near closed lips the nearest vertex may be the other lip's.
_LOWER = (
    "146 91 181 84 17 314 405 321 375 95 88 178 87 14 317 402 318 324 77 90 180 85 16 315 404 320 307 96 89 179 86 15 316 403 319 "
    "325 200 199 175 152 18 83 182 106 43 313 406 335 273 201 208 171 148 421 428 396 377 194 418 32 262 211 431 204 424 202 422 140 "
    "176 369 400 170 395 149 378 150 379 169 394"
)
_UPPER = (
    "185 40 39 37 0 267 269 270 409 191 80 81 82 13 312 311 310 415 76 184 74 73 72 11 302 303 304 408 306 183 42 41 38 12 268 271 "
    "272 407 164 167 393 165 391 2 97 326 92 322"
)
_ON_THE_JAW = 0.33  # of the largest motion of jawOpen
_FACE = 9409  # vertices of the rig's face; behind them come head, teeth and eyes
_NEAREST = 4  # vertices of the rig that stand for a landmark
_DEPTH = 0.7  # of a distance: MediaPipe's depth is the least sure of its axes


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split()]


def rig_shapes(path: Path) -> np.ndarray:
    """Motion of the landmarks by each coefficient at 1, float64 [52, 478, 3] in outer-eye distances.

    `tongueOut` is not a shape of the rig's face: tongues have no landmarks. It parts the lips and lowers the jaw a
    little, as any tongue must.

    Raises:
        CmetError: not the rig's file.
    """
    try:
        with np.load(path) as data:
            vertices, deltas = data["vertices"].astype(np.float64), data["deltas"].astype(np.float64)
            names = [str(n) for n in data["shape_names"]]
    except (OSError, KeyError, ValueError) as error:
        raise InvalidInput(f"{path} is not ICT-FaceKit's shapes: {error}.") from error
    mean = template()
    rig_points, mesh_points = _numbers(_RIG_POINTS), _numbers(_MESH_POINTS)
    fitted = fit_similarity(vertices[rig_points][None], mean.points[mesh_points], np.ones(len(rig_points)))
    scale, rotation, offset = (value[0] for value in fitted)
    aligned, deltas = (vertices - offset) / scale @ rotation, deltas / scale @ rotation
    bend = RBFInterpolator(aligned[rig_points], mean.points[mesh_points], kernel="thin_plate_spline", smoothing=1e-4)
    bent = bend(aligned[:_FACE])
    jaw = np.linalg.norm(deltas[names.index("jawOpen")][:_FACE], axis=1)
    on_jaw = jaw > _ON_THE_JAW * jaw.max()
    lower, upper = set(_numbers(_LOWER)), set(_numbers(_UPPER))
    nearest, share = np.empty((LANDMARKS, _NEAREST), int), np.empty((LANDMARKS, _NEAREST))
    for landmark in range(LANDMARKS):
        allowed = on_jaw if landmark in lower else ~on_jaw if landmark in upper else np.ones(_FACE, bool)
        candidates = np.flatnonzero(allowed)
        distance = np.linalg.norm((bent[candidates] - mean.points[landmark]) * [1, 1, _DEPTH], axis=1)
        order = np.argsort(distance)[:_NEAREST]
        nearest[landmark] = candidates[order]
        weight = 1 / (distance[order] + 0.004)
        share[landmark] = weight / weight.sum()

    def motion(name: str) -> np.ndarray:
        return np.einsum("lk,lkc->lc", share, deltas[names.index(name)][nearest])

    shapes = np.zeros((arkit.COUNT, LANDMARKS, 3))
    for name, column in arkit.INDEX.items():
        rig_name = name if name in names else name.replace("Left", "_L").replace("Right", "_R")
        if rig_name in names:
            shapes[column] = motion(rig_name)
        elif f"{rig_name}_L" in names:
            shapes[column] = motion(f"{rig_name}_L") + motion(f"{rig_name}_R")
    _turn_irises(shapes, aligned, deltas, names)
    shapes[arkit.INDEX["tongueOut"]] = _TONGUE_JAW * shapes[arkit.INDEX["jawOpen"]]
    shapes[arkit.INDEX["tongueOut"]] += _TONGUE_LIP * (
        shapes[arkit.INDEX["mouthLowerDownLeft"]] + shapes[arkit.INDEX["mouthLowerDownRight"]]
    )
    mirrored = (shapes[:, mean.mirror] * [-1, 1, 1])[list(arkit.MIRROR)]
    return (shapes + mirrored) / 2


_TONGUE_JAW, _TONGUE_LIP = 0.25, 0.4


def _turn_irises(shapes: np.ndarray, aligned: np.ndarray, deltas: np.ndarray, names: list[str]) -> None:
    """Let the irises go with the rig's eyeballs, and stay when only the lids move."""
    irises = {"Left": range(473, 478), "Right": range(468, 473)}
    points = template().points
    for side, landmarks in irises.items():
        for way in ("Up", "Down", "In", "Out"):
            ball = deltas[names.index(f"eyeLook{way}_{side[0]}")]
            moved = np.flatnonzero(np.linalg.norm(ball, axis=1) > 1e-4)
            moved = moved[moved >= _FACE]
            front = aligned[moved, 2] >= np.percentile(aligned[moved, 2], 60)
            for landmark in landmarks:
                distance = np.linalg.norm((aligned[moved] - points[landmark])[:, :2], axis=1) + 10 * ~front
                shapes[arkit.INDEX[f"eyeLook{way}{side}"], landmark] = ball[
                    moved[np.argsort(distance)[:_NEAREST]]
                ].mean(0)
        for lid in ("eyeBlink", "eyeSquint", "eyeWide"):
            shapes[arkit.INDEX[f"{lid}{side}"], list(landmarks)] = 0
