"""Glasses drawn over a face, placed by its pose in three dimensions."""

from dataclasses import dataclass

import cv2
import numpy as np

from cmet_engine.face.pose import Pose, normalise
from cmet_engine.training.occlusion.layers import CANVAS, Scene, curve, line, noise, polygon

COLOURS = (
    (25, 22, 20), (25, 22, 20), (25, 22, 20), (45, 40, 45), (70, 45, 30), (95, 60, 35), (130, 85, 50), (160, 130, 80), (190, 165, 120),
    (150, 150, 155), (200, 200, 205), (110, 112, 118), (60, 70, 110), (140, 40, 45), (225, 215, 205), (90, 95, 70),
)  # fmt: skip
"""Of rims: black, horn, gold, steel, a few bright ones, clear."""
STRONG = 0.7
"""Opacity from which a reflection counts as lying before the face."""


@dataclass(frozen=True)
class Frame:
    """One pair of glasses in the pose-free space (outer-eye distances): lens outlines [2][K, 3], bridge, temples [2][2, 3]."""

    lenses: list[np.ndarray]
    bridges: list[np.ndarray]
    temples: list[np.ndarray]


def _frame(random: np.random.Generator) -> Frame:
    half_width, aspect = random.uniform(0.19, 0.27), random.uniform(0.6, 1.05)
    half_height = min(half_width * aspect, 0.25)
    gap = random.uniform(0.07, 0.12)  # from the middle to the inner edge of a lens
    centre = np.array([gap + half_width, random.uniform(0.23, 0.35)])
    power, taper = random.uniform(1.8, 5.0), random.uniform(-0.25, 0.12)
    lift, drop, curve_up = random.normal(0, 0.15), random.normal(0, 0.1), random.uniform(0.2, 0.6)
    depth, wrap = random.uniform(0.16, 0.3), random.uniform(0.05, 0.35)
    angles = np.linspace(0, 2 * np.pi, 56, endpoint=False)
    x = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** (2 / power)
    y = np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** (2 / power)
    x = x * (1 + taper * -y)  # narrower below, as most are
    y = y + lift * x * (y > 0) + drop * x * (y < 0)

    def placed(points: np.ndarray, side: int) -> np.ndarray:
        return np.column_stack([side * points[:, 0], points[:, 1], depth - wrap * points[:, 0] ** 2])

    outline = centre + np.stack([x * half_width, y * half_height], 1)
    inner = centre + np.array([-half_width * random.uniform(0.8, 1.0), half_height * random.uniform(-0.05, 0.6)])
    across = np.array([inner, [0.05, inner[1] + 0.12 * curve_up], [-0.05, inner[1] + 0.12 * curve_up], inner * [-1, 1]])
    bridges = [placed(curve(across, 12), 1)]
    if random.random() < 0.15:  # a second bar above
        bar = np.array([[gap + 0.1, centre[1] + half_height * 0.95], [-gap - 0.1, centre[1] + half_height * 0.95]])
        bridges.append(placed(bar, 1))
    outer = centre + np.array([half_width * 0.97, half_height * random.uniform(0.1, 0.75)])
    hinge = placed(outer[None], 1)[0]
    ear = np.array([random.uniform(0.76, 0.84), random.uniform(0.3, 0.44), -0.62])
    sides = np.array([[1, 1, 1], [-1, 1, 1]])
    return Frame([placed(outline, 1), placed(outline, -1)], bridges, [np.stack([hinge, ear]) * side for side in sides])


def draw_glasses(scene: Scene, random: np.random.Generator) -> None:
    """Draw a random pair of glasses: rims, bridge and temples, lenses with tint, refraction and reflections, shadow."""
    _, pose = normalise(scene.landmarks[None])
    frame, unit = _frame(random), float(pose.scale[0])
    slip = random.normal(0, [0.015, 0.025, 0.02])
    lenses = [_project(points + slip, pose) for points in frame.lenses]
    bridges = [_project(points + slip, pose) for points in frame.bridges]
    temples = [_project(points + slip, pose) for points in frame.temples]
    width = unit * float(np.exp(random.uniform(np.log(0.01), np.log(0.06))))
    style = random.choice(["full", "full", "full", "top", "rimless"])
    dark = random.random() < 0.12
    glass = np.clip(sum(polygon(points) for points in lenses), 0, 1)
    _lens(scene, random, lenses, glass, dark=dark)
    rims = np.zeros((CANVAS, CANVAS), np.float32)
    for points in lenses:
        ys = points[:, 1]
        upper = np.clip((ys.max() - ys) / (np.ptp(ys) + 1e-6), 0, 1)
        thick = width * (1 + random.choice([0, 0.5, 2.0]) * upper**2)
        part = line(points, np.maximum(thick, 0.7), closed=True)
        if style == "top":
            part *= np.clip((ys.mean() - np.arange(CANVAS)) / (0.2 * np.ptp(ys) + 1) + 0.5, 0, 1)[:, None]
        elif style == "rimless":
            part = line(points, max(0.012 * unit, 0.7), closed=True) * random.uniform(0.25, 0.7)
        rims = np.maximum(rims, part)
    metal = np.zeros_like(rims)
    for points in bridges:
        metal = np.maximum(metal, line(points, max(width * random.uniform(0.6, 1.4), 0.8)))
    middle = scene.landmarks[:468, 0].mean()
    for points in temples:
        away = points[1, 0] - points[0, 0]
        if away * (points[0, 0] - middle) > 0:  # the far one is hidden behind the head
            metal = np.maximum(metal, line(points, max(width * random.uniform(0.7, 2.5), 1.0)))
    if random.random() < 0.4:
        metal = np.maximum(metal, _pads(random, lenses, unit))
    whole = np.maximum(rims, metal)
    drop = np.array([random.normal(0, 0.02), random.uniform(0.005, 0.07)]) * unit
    scene.shade(whole, random.uniform(0, 0.5), random.uniform(0.01, 0.04) * unit, drop)
    base = np.array(COLOURS[random.integers(len(COLOURS))], np.float32) * random.uniform(0.6, 1.25)
    shine = 1 + random.uniform(0, 0.4) * noise(random, 9) + random.uniform(0, 0.25) * noise(random, 40)
    colours = np.clip(base * shine[..., None], 0, 255)
    if random.random() < 0.5:  # light from above along the rim
        lit = cv2.GaussianBlur(whole, (0, 0), max(0.3 * width, 0.5))
        edge = np.maximum(lit - np.roll(lit, 1, 0), 0) * random.uniform(0, 3)
        colours = np.clip(colours + 150 * edge[..., None], 0, 255)
    scene.put(colours, whole * (1.0 if style == "rimless" else random.uniform(0.75, 1.0)))


def _project(points: np.ndarray, pose: Pose) -> np.ndarray:
    """Points [K, 3] of the pose-free space in the picture: [K, 2] pixels."""
    placed: np.ndarray = pose.scale[0] * points @ pose.rotation[0].T + pose.offset[0]
    return placed[:, :2] * [1, -1]


def _pads(random: np.random.Generator, lenses: list[np.ndarray], unit: float) -> np.ndarray:
    """The pads on the nose with their thin arms."""
    result = np.zeros((CANVAS, CANVAS), np.float32)
    middle = np.mean([points.mean(0) for points in lenses], 0)
    for points in lenses:
        near = points[np.argmin(np.abs(points[:, 0] - middle[0]))]
        tip = near + (middle - near) * [0.35, 0] + [0, unit * random.uniform(0.03, 0.09)]
        result = np.maximum(result, line(np.stack([near, tip]), max(0.01 * unit, 0.8)))
    return result


def _lens(
    scene: Scene, random: np.random.Generator, lenses: list[np.ndarray], glass: np.ndarray, *, dark: bool
) -> None:
    """What the lenses do to what is seen through them; dark ones hide the eyes."""
    strength = random.normal(0, 0.05)  # of refraction
    grid = np.stack(np.meshgrid(np.arange(CANVAS), np.arange(CANVAS)), -1).astype(np.float32)
    for points in lenses:
        centre = points.mean(0).astype(np.float32)
        at = grid + (centre - grid) * np.float32(strength)
        seen = cv2.remap(scene.picture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        scene.put(seen, polygon(points), counts=False)
    if dark:
        tone = np.array(random.uniform(5, 70, 3), np.float32)
        fall = np.linspace(0, random.uniform(-0.5, 0.2), CANVAS, dtype=np.float32)[:, None]
        scene.put(tone, glass * np.clip(random.uniform(0.75, 1.0) + fall * 0.5, 0, 1))
        scene.covered[...] = np.maximum(scene.covered, glass)
    elif random.random() < 0.4:
        scene.picture *= 1 - glass[..., None] * random.uniform(0, 0.3, 3).astype(np.float32)
    if random.random() < 0.3:
        _reflections(scene, random, lenses, glass)


def _reflections(scene: Scene, random: np.random.Generator, lenses: list[np.ndarray], glass: np.ndarray) -> None:
    """Windows, lamps and veils of light in the lenses, at the same place in both."""
    shape = np.zeros((CANVAS, CANVAS), np.float32)
    size = np.ptp(lenses[0], axis=0)
    where = random.uniform(-0.6, 0.6, 2)
    turn, big = random.uniform(0, np.pi), random.uniform(0.08, 0.7)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size * big / 2 * random.uniform(0.4, 1, 2)
    corners = corners @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    for points in lenses:
        shape = np.maximum(shape, polygon(points.mean(0) + where * size / 2 + corners))
    shape = cv2.GaussianBlur(shape, (0, 0), random.uniform(0.4, 6)) * glass
    opacity = random.uniform(0.05, 1.0)
    scene.put(random.uniform([150, 160, 160], 255).astype(np.float32), shape * opacity, counts=False)
    if opacity > STRONG:
        scene.covered[...] = np.maximum(scene.covered, (shape * opacity > STRONG).astype(np.float32))
