"""Hands, things, hair and writing drawn over a face."""

from collections.abc import Callable

import cv2
import numpy as np

from cmet_engine.face.landmarks import CHIN_TIP, EARS, FOREHEAD, NOSE, OVAL
from cmet_engine.training.occlusion.layers import (
    CANVAS,
    Scene,
    add_line,
    curve,
    line,
    noise,
    polygon,
    smooth_blob,
    texture,
)

Draw = Callable[[Scene, np.random.Generator], None]

CHEEKS = (50, 280, 205, 425, 117, 346)
"""Landmarks on the cheeks, where the skin's colour is taken from."""
TARGETS = (13, 17, 61, 291, 205, 425, 152, 4, 50, 280, 105, 334, 33, 263, 10, 199)
"""Landmarks that hands and things are held to."""
HAIRLINE = (10, 338, 297, 332, 284, 251, 21, 54, 103, 67, 109)
"""The upper part of the outline, where hair falls from."""
_OUTLINE = 0.92
"""Share of its distance from the middle at which a veil's upper edge ends."""


def _size(scene: Scene) -> float:
    """Height of the face in pixels."""
    return float(np.linalg.norm(scene.landmarks[CHIN_TIP, :2] - scene.landmarks[FOREHEAD, :2]))


def _colour(scene: Scene, at: np.ndarray, reach: int = 4) -> np.ndarray:
    """Median colour around a place: float32 [3]."""
    x, y = np.clip(np.round(at).astype(int), reach, CANVAS - reach - 1)
    part = scene.picture[y - reach : y + reach + 1, x - reach : x + reach + 1]
    return np.asarray(np.median(part.reshape(-1, 3), axis=0), np.float32)


def _skin(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """The skin's colour, a little lighter or darker; now and then somebody else's."""
    tone = np.median([_colour(scene, scene.landmarks[k, :2]) for k in CHEEKS], axis=0)
    if random.random() < 0.2:
        tone = np.array([224, 180, 150]) * random.uniform(0.25, 1.1)
    return np.asarray(tone * random.uniform(0.65, 1.25) * random.uniform(0.93, 1.07, 3), np.float32)


def _rounded(alpha: np.ndarray, random: np.random.Generator, reach: float) -> np.ndarray:
    """Brightness of a round body with this outline: float32 [192, 192], about 0.5 to 1.15."""
    inside = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    height = np.sqrt(np.clip(inside / max(reach, 1), 0, 1))
    height = cv2.GaussianBlur(height, (0, 0), 1.0)
    down, across = np.gradient(height)
    angle = random.uniform(0, 2 * np.pi)
    light = random.uniform(0.3, 2.0) * (down * np.sin(angle) + across * np.cos(angle))
    result: np.ndarray = (0.62 + 0.38 * height + np.clip(light, -0.3, 0.3)).astype(np.float32)
    return result


def _toward_face(scene: Scene, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A place on the face, and the direction from which something reaches it: mostly from below or from the side."""
    target = scene.landmarks[random.choice(TARGETS), :2] + random.normal(0, 0.05, 2) * _size(scene)
    angle = random.normal(np.pi / 2, 0.9) if random.random() < 0.8 else random.uniform(0, 2 * np.pi)
    return target, np.array([np.cos(angle), np.sin(angle)])


def draw_hand(scene: Scene, random: np.random.Generator) -> None:
    """A hand: fingers over the face, palm and arm as far as they are in the picture."""
    size = _size(scene)
    target, outward = _toward_face(scene, random)
    length = size * random.uniform(0.28, 0.45)
    wide = length * random.uniform(0.17, 0.25)
    palm = target + outward * length * random.uniform(0.1, 1.1)
    side = np.array([-outward[1], outward[0]]) * random.choice([-1, 1])
    spread, bent = random.uniform(0.0, 0.25), random.normal(0, 0.25)
    folded = random.random(5) < random.uniform(0, 0.6)
    tone = _skin(scene, random)
    rough = 1 + 0.05 * noise(random, 8) + 0.03 * noise(random, 60)
    if random.random() < 0.5:  # somebody's skin
        other = texture(scene, random).mean(2)
        rough *= np.clip(other / max(float(other.mean()), 1.0), 0.3, 2) ** random.uniform(0.2, 0.7)
    shapes: list[np.ndarray] = []
    wrist = palm + outward * length * 1.1
    knuckles = [palm + side * wide * 1.1 * (k - 1.5) for k in range(4)]
    outline = np.array([knuckles[0] - side * wide * 0.6, knuckles[3] + side * wide * 0.6, wrist + side * wide * 1.7,
                        wrist + outward * length * 2 + side * wide * 2, wrist + outward * length * 2 - side * wide * 2,
                        wrist - side * wide * 1.7])  # fmt: skip
    shapes.append(cv2.GaussianBlur(polygon(outline), (0, 0), 2.0))
    for k in range(4):
        turn = (k - 1.5) * spread + bent
        ahead = -outward * np.cos(turn) + side * np.sin(turn)
        reach = length * (0.85, 1.0, 0.95, 0.75)[k] * (random.uniform(0.3, 0.6) if folded[k] else 1)
        knee = knuckles[k] + ahead * reach * 0.55
        shapes.append(
            _finger(knuckles[k], knee, knee + ahead * reach * 0.5 + side * random.normal(0, 0.1) * reach, wide)
        )
    thumb = palm + side * wide * -1.9 + outward * length * 0.4
    tip = thumb + (-outward * random.uniform(0.2, 0.9) - side * random.uniform(0, 0.8)) * length * 0.6
    shapes.append(_finger(thumb, (thumb + tip) / 2, tip, wide * 1.1))
    whole = np.clip(np.max([shape > 0.5 for shape in shapes], 0).astype(np.float32), 0, 1)
    scene.shade(whole, random.uniform(0, 0.5), random.uniform(1, 8), random.normal(0, 4, 2))
    for number in [0, *random.permutation(np.arange(1, len(shapes)))]:
        shape = shapes[number]
        if number:  # a dark line where a finger lies on its neighbour
            scene.shade(shape, random.uniform(0.1, 0.35), 1.2, np.zeros(2))
        body = tone * (_rounded(shape, random, wide * (0.5 if number else 2)) * rough)[..., None]
        scene.put(np.clip(body, 0, 255), shape)
    if random.random() < 0.6:
        _creases(scene, random, whole, wide)


def _finger(base: np.ndarray, knee: np.ndarray, tip: np.ndarray, width: float) -> np.ndarray:
    points = curve(np.stack([base, knee, tip]), 10)
    return line(points, width * np.linspace(1, 0.75, 10))


def _creases(scene: Scene, random: np.random.Generator, whole: np.ndarray, width: float) -> None:
    """Short dark lines as over knuckles."""
    marks = np.zeros((CANVAS, CANVAS), np.uint8)
    inside = np.argwhere(whole > 0.5)
    for y, x in inside[random.integers(0, len(inside), 12)] if len(inside) else ():
        add_line(marks, np.array([[x, y], np.array([x, y]) + random.normal(0, width * 0.4, 2)]), np.ones(2))
    scene.shade(marks.astype(np.float32) / 255 * whole, random.uniform(0.05, 0.25), 0.3, np.zeros(2))


def draw_thing(scene: Scene, random: np.random.Generator) -> None:
    """A shape of any outline with a texture cut from another picture, or of one colour."""
    target, outward = _toward_face(scene, random)
    radius = _size(scene) * random.uniform(0.08, 0.4)
    alpha = polygon(smooth_blob(random, target + outward * radius * random.uniform(0.3, 1.3), radius))
    _body(scene, random, alpha, radius)


def _body(scene: Scene, random: np.random.Generator, alpha: np.ndarray, reach: float) -> None:
    """Fill a shape with a texture or a colour, round or flat, with a shadow."""
    plain = random.uniform(0, 255, 3) * np.ones((CANVAS, CANVAS, 1))
    colours = texture(scene, random) if random.random() < 0.6 else plain + 12 * noise(random, 30)[..., None]
    if random.random() < 0.5:
        colours = colours * _rounded(alpha, random, reach * 0.6)[..., None]
    scene.shade(alpha, random.uniform(0, 0.5), random.uniform(1, 8), random.normal(0, 4, 2))
    scene.put(np.clip(colours, 0, 255).astype(np.float32), cv2.GaussianBlur(alpha, (0, 0), random.uniform(0.3, 1.2)))


def draw_microphone(scene: Scene, random: np.random.Generator) -> None:
    """A microphone held to the mouth, or the arm of a headset along the cheek."""
    size = _size(scene)
    shade = random.uniform(10, 90) * np.ones(3, np.float32)
    if random.random() < 0.4:
        ear = scene.landmarks[random.choice(EARS), :2]
        mouth = scene.landmarks[random.choice([61, 291, 17, 57, 287]), :2] + random.normal(0, 0.04, 2) * size
        between = (ear + mouth) / 2 + np.array([0, random.uniform(0, 0.2) * size])
        path = curve(np.stack([ear, between, mouth]))
        arm = line(path, size * random.uniform(0.006, 0.03))
        foam = line(path[-3:], size * random.uniform(0.02, 0.08))
        alpha = np.maximum(arm, foam)
        scene.shade(alpha, random.uniform(0, 0.4), 2.0, random.uniform(0, 3, 2))
        tone = shade if random.random() < 0.6 else _skin(scene, random)
        scene.put(np.clip(tone * (1 + 0.2 * noise(random, 20))[..., None], 0, 255), alpha)
        return
    mouth = scene.landmarks[17, :2] + random.normal(0, 0.12, 2) * size
    angle = random.normal(np.pi / 2, 0.6)
    down = np.array([np.cos(angle), np.sin(angle)])
    radius = size * random.uniform(0.06, 0.17)
    handle = line(np.stack([mouth, mouth + down * size]), radius * random.uniform(1.0, 1.5))
    head = line(np.stack([mouth, mouth + down * radius * random.uniform(0.01, 0.8)]), 2 * radius)
    scene.put(np.clip(shade * _rounded(handle, random, radius)[..., None], 0, 255), handle)
    mesh = 1 + random.uniform(0, 0.4) * np.sign(noise(random, 90)) + 0.1 * noise(random, 10)
    scene.shade(head, random.uniform(0, 0.4), 3.0, random.normal(0, 3, 2))
    tone = random.uniform(20, 200) * random.uniform(0.8, 1.2, 3)
    scene.put(np.clip(tone * (_rounded(head, random, radius) * mesh)[..., None], 0, 255), head)


def draw_cup(scene: Scene, random: np.random.Generator) -> None:
    """A cup or bottle at the mouth, or a cigarette between the lips."""
    size = _size(scene)
    mouth = scene.landmarks[[13, 61, 291][random.integers(3)], :2]
    angle = random.normal(np.pi / 2, 0.7)
    down = np.array([np.cos(angle), np.sin(angle)])
    side = np.array([-down[1], down[0]])
    if random.random() < 0.4:
        stick = line(
            np.stack([mouth, mouth + down * size * random.uniform(0.15, 0.5)]), size * random.uniform(0.02, 0.045)
        )
        white = np.full(3, random.uniform(170, 250), np.float32)
        scene.put(white * _rounded(stick, random, size * 0.015)[..., None], stick)
        return
    half, long = size * random.uniform(0.12, 0.28), size * random.uniform(0.3, 0.8)
    foot = half * random.uniform(0.6, 1.0)
    quad = np.stack(
        [mouth - side * half, mouth + side * half, mouth + down * long + side * foot, mouth + down * long - side * foot]
    )
    _body(scene, random, cv2.GaussianBlur(polygon(quad), (0, 0), 1.0), half)


def draw_veil(scene: Scene, random: np.random.Generator) -> None:
    """A mask or scarf over mouth and chin, or a veil over the upper face."""
    points = scene.landmarks[:, :2]
    middle = points[NOSE]
    oval = middle + (points[list(OVAL)] - middle) * random.uniform(1.0, 1.25)
    edge = middle[1] + random.uniform(-0.15, 0.25) * _size(scene)
    below = random.random() < 0.8
    keep = oval[:, 1] > edge if below else oval[:, 1] < edge - 0.1 * _size(scene)
    if keep.sum() < 6:
        return
    first = int(np.argmax(keep & ~np.roll(keep, 1)))
    part = np.roll(oval, -first, 0)[: keep.sum()]
    between = (part[0] + part[-1]) / 2 + np.array([0, random.uniform(-0.2, 0.1) * _size(scene)])
    alpha = polygon(
        np.concatenate([part, curve(np.stack([part[-1], between, part[0]]), 16) * _OUTLINE + (1 - _OUTLINE) * between])
    )
    tone = random.uniform(20, 250) * random.uniform(0.85, 1.15, 3)
    folds = 1 + 0.1 * noise(random, 5) + 0.06 * np.sin(np.arange(CANVAS)[:, None] / random.uniform(2, 9))
    colours = texture(scene, random) if random.random() < 0.3 else tone * folds[..., None]
    scene.shade(alpha, random.uniform(0, 0.4), 3, np.array([0, random.uniform(-4, 2)]))
    scene.put(np.clip(colours * _rounded(alpha, random, 30)[..., None], 0, 255).astype(np.float32), alpha)


def draw_hair(scene: Scene, random: np.random.Generator) -> None:
    """Strands or locks that fall from the hairline, in the colour of the hair above the forehead."""
    size, middle = _size(scene), scene.landmarks[NOSE, :2]
    up = scene.landmarks[FOREHEAD, :2] - scene.landmarks[CHIN_TIP, :2]
    hair = _colour(scene, scene.landmarks[FOREHEAD, :2] + up * random.uniform(0.04, 0.14))
    if random.random() < 0.3:
        hair = np.array([[30, 25, 22], [90, 60, 35], [170, 130, 80], [190, 185, 180]], np.float32)[random.integers(4)]
    for _ in range(random.integers(1, 4)):
        root = scene.landmarks[random.choice(HAIRLINE), :2]
        root = middle + (root - middle) * random.uniform(1.0, 1.2)
        tip = scene.landmarks[
            random.choice([105, 334, 66, 296, 33, 263, 50, 280, 127, 356, 151, 205, 425, 132, 361]), :2
        ]
        tip = tip + random.normal(0, 0.1, 2) * size
        bend = (root + tip) / 2 + random.normal(0, 0.15, 2) * size
        lock = random.random() < 0.3
        spread = size * (random.uniform(0.02, 0.06) if lock else random.uniform(0.0, 0.05))
        tones = [hair * random.uniform(0.6, 1.4) + random.normal(0, 6) for _ in range(3)]
        for tone in tones:
            strands = np.zeros((CANVAS, CANVAS), np.uint8)
            for _ in range(random.integers(4, 10) if lock else random.integers(0, 4)):
                shift = random.normal(0, 1, (3, 2)) * spread * np.array([[1], [1], [1.4]])
                path = curve(np.stack([root, bend, tip]) + shift, 20)
                add_line(strands, path, random.uniform(0.6, 2.6) * np.linspace(1, random.uniform(0.2, 0.9), 20))
            alpha = strands.astype(np.float32) / 255
            if random.random() < 0.3:
                scene.shade(alpha, random.uniform(0, 0.3), 1.5, random.normal(0, 2, 2))
            scene.put(np.clip(tone, 0, 255).astype(np.float32), alpha * random.uniform(0.55, 1.0))


def draw_writing(scene: Scene, random: np.random.Generator) -> None:
    """Writing or a simple logo laid over the picture."""
    layer = np.zeros((CANVAS, CANVAS), np.uint8)
    text = "".join(
        random.choice(
            list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 !?.,"), random.integers(2, 16)
        )
    )
    place = (int(random.integers(-20, 140)), int(random.integers(30, 250)))
    scale, thick = random.uniform(0.4, 1.6), int(random.integers(1, 4))
    outlined = random.random() < 0.5
    if outlined:
        cv2.putText(layer, text, place, int(random.integers(0, 8)), scale, (255,), thick + 2, cv2.LINE_AA)
        scene.put(np.zeros(3, np.float32), layer.astype(np.float32) / 255)
        layer[...] = 0
    cv2.putText(layer, text, place, int(random.integers(0, 8)), scale, (255,), thick, cv2.LINE_AA)
    tone = random.uniform(150, 255, 3) if random.random() < 0.7 else random.uniform(0, 255, 3)
    scene.put(tone.astype(np.float32), layer.astype(np.float32) / 255 * random.uniform(0.6, 1.0))


def cast_shadow(scene: Scene, random: np.random.Generator) -> None:
    """A shadow on the face or faint dark lines in it, which are no occluders."""
    if random.random() < 0.6:
        centre = scene.landmarks[random.integers(468), :2]
        shape = polygon(smooth_blob(random, centre, _size(scene) * random.uniform(0.1, 0.5)))
        scene.shade(shape, random.uniform(-0.3, 0.55), random.uniform(0.5, 10), np.zeros(2))
        return
    for _ in range(random.integers(1, 8)):
        start = scene.landmarks[random.integers(468), :2]
        path = curve(start + np.cumsum(random.normal(0, 0.06, (4, 2)), 0) * _size(scene))
        scene.shade(line(path, random.uniform(0.8, 2.5)), random.uniform(0.05, 0.35), 0.8, np.zeros(2))
