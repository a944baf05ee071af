"""Hair, brows and lashes of the demo head: numbers only, no Blender."""

import demo_head_shapes as sculpt
import numpy as np
from demo_head_geometry import Skin
from demo_head_mesh import Part, merged, smoothstep, vertex_normals

from cmet_engine.arkit import mirrored

BROW_LOWER, BROW_UPPER = (285, 295, 282, 283, 276), (336, 296, 334, 293, 300)
HAIR = np.array([0.045, 0.026, 0.016])
RANDOM = 20261122
CROWN = np.array([0.0, 112.0, -132.0])  # where the hair turns
STRANDS = 3600


def follow(skin: Skin, shapes: dict[str, np.ndarray], roots: np.ndarray, count: int = 4) -> dict[str, np.ndarray]:
    """Shapes of things that sit on the skin: every root [K, 3] moves as the skin's nearest vertices do."""
    outer = skin.points[: skin.face_count]
    far = np.linalg.norm(roots[:, None] - outer[None], axis=2)
    nearest = np.argpartition(far, count, axis=1)[:, :count]
    weight = 1 / (np.take_along_axis(far, nearest, axis=1) + 0.05) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    moved = {name: (delta[nearest] * weight[:, :, None]).sum(axis=1) for name, delta in shapes.items()}
    return {name: delta for name, delta in moved.items() if np.abs(delta).max() > 0.02}


def strands(
    roots: np.ndarray, ways: np.ndarray, bend: np.ndarray, normals: np.ndarray, width: np.ndarray, steps: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tapered flat hairs: root + way * t + bend * t², across = way x normal. Returns points, triangles, the strand of each point."""
    points, tris = [], []
    across = np.cross(ways, normals)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    n = len(roots)
    for k in range(steps):
        t = k / steps
        middle = roots + ways * t + bend * t**2
        half = across * (width * (1 - t) ** 0.7 / 2)[:, None]
        points += [middle - half, middle + half]
    points.append(roots + ways + bend)
    per = 2 * steps + 1
    cloud = np.stack(points, axis=1).reshape(-1, 3)
    one = []
    for k in range(steps - 1):
        a, b, c, d = 2 * k, 2 * k + 1, 2 * k + 2, 2 * k + 3
        one += [[a, b, c], [b, d, c]]
    one.append([2 * steps - 2, 2 * steps - 1, 2 * steps])
    tris = (np.array(one)[None] + per * np.arange(n)[:, None, None]).reshape(-1, 3)
    return cloud, tris, np.repeat(np.arange(n), per)


def polyline(points: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points [N, 3] at the shares `t` of a line through `points`, by length."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return np.stack([np.interp(t * length[-1], length, points[:, k]) for k in range(3)], axis=1)


def with_mirror(part: Part) -> Part:
    """A part and its mirror image; shapes of left and right change places."""
    other = Part(
        part.points * [-1, 1, 1],
        part.triangles[:, ::-1],
        part.colour,
        {mirrored(n): d * [-1, 1, 1] for n, d in part.shapes.items()},
    )
    return merged([part, other])


def brows(skin: Skin, shapes: dict[str, np.ndarray]) -> Part:
    """Brow hairs on the skin."""
    random = np.random.default_rng(RANDOM)
    count = 460
    u = np.sort(random.uniform(0, 1, count) ** 0.9)
    v = random.uniform(0, 1, count)
    low, high = polyline(skin.points[list(BROW_LOWER)], u), polyline(skin.points[list(BROW_UPPER)], u)
    thick = 0.74 * (0.72 + 0.28 * smoothstep(0, 0.15, u)) * (1 - 0.62 * smoothstep(0.45, 1.0, u))
    place = 0.36 + thick * (v - 0.5)
    roots = low + (high - low) * place[:, None]
    roots, normals = on_skin(skin, roots)
    ahead = polyline(skin.points[list(BROW_LOWER)], np.clip(u + 0.05, 0, 1)) - polyline(
        skin.points[list(BROW_LOWER)], np.clip(u - 0.05, 0, 1)
    )
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    rise = (
        (0.85 - 0.72 * smoothstep(0.0, 0.40, u))
        - 0.7 * (v - 0.5) * smoothstep(0.3, 0.8, u)
        - 0.15 * smoothstep(0.6, 1, u)
    )
    ways = ahead + rise[:, None] * np.array([0, 1.0, 0]) + random.normal(0, 0.10, (count, 3))
    ways -= (ways * normals).sum(axis=1, keepdims=True) * normals
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    length = random.uniform(4.8, 8.0, count) * (0.8 + 0.2 * smoothstep(0, 0.2, u)) * (1 - 0.25 * smoothstep(0.7, 1, u))
    bend = ahead * 1.2 - normals * 0.9
    points, tris, strand = strands(
        roots + normals * 0.25, ways * length[:, None] + normals * 0.9, bend, normals, np.full(count, 0.34)
    )
    shade = (HAIR * random.uniform(1.2, 2.4, (count, 1)))[strand]
    return with_mirror(Part(points, tris, shade, follow(skin, shapes, points)))


def on_skin(skin: Skin, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points [K, 3] laid onto the plane of the nearest skin vertices, and the skin's normals there."""
    outer = skin.points[: skin.face_count]
    normals = vertex_normals(skin.points, skin.triangles)[: skin.face_count]
    far = np.linalg.norm(points[:, None] - outer[None], axis=2)
    nearest = np.argpartition(far, 4, axis=1)[:, :4]
    weight = 1 / (np.take_along_axis(far, nearest, axis=1) + 0.1) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    normal = (normals[nearest] * weight[:, :, None]).sum(axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    height = ((points[:, None] - outer[nearest]) * normal[:, None]).sum(axis=2)
    return points - (height * weight).sum(axis=1, keepdims=True) * normal, normal


def lashes(skin: Skin, sculptor: sculpt.Sculptor, shapes: dict[str, np.ndarray]) -> Part:
    """Lashes on the borders of both lids."""
    random = np.random.default_rng(RANDOM + 1)
    upper, lower = sculptor.lid_borders("Left")
    centre = skin.eyes["Left"]
    parts = []
    for loop, count, long, rise, width in ((upper, 64, 6.6, 0.55, 0.20), (lower, 40, 3.2, -0.5, 0.13)):
        u = np.clip(np.linspace(0.10, 0.985, count) + random.normal(0, 0.006, count), 0, 1)
        roots = polyline(skin.points[loop], u)
        out = roots - centre
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        side = np.stack([(roots[:, 0] - centre[0]) / 14 * 0.6, np.zeros(count), np.zeros(count)], axis=1)
        ways = out + side + np.array([0, 0.25 * np.sign(rise), 0])
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        length = long * random.uniform(0.75, 1.0, count) * (0.65 + 0.35 * smoothstep(0.0, 0.6, u))
        bend = np.array([0, rise, 0]) * length[:, None]
        points, tris, strand = strands(
            roots, ways * length[:, None] * 0.8, bend, np.tile([0.0, 1.0, 0.0], (count, 1)), np.full(count, width)
        )
        near = follow(skin, shapes, roots, 2)
        parts.append(Part(points, tris, np.tile(HAIR * 0.6, (len(points), 1)), {n: d[strand] for n, d in near.items()}))
    return with_mirror(merged(parts))


EAR_MIDDLE = np.array([10.0, -88.0])  # y, z


def hair_share(points: np.ndarray) -> np.ndarray:
    """How far inside the hair a point of the head lies, mm, about: negative in the face, on the neck and round the ears."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    front = (y - (95 - 0.0075 * np.minimum(x, 85) ** 2)) * 0.9  # hairline over the forehead, lower at the temples
    side = np.minimum(-(z + 60 - 0.10 * (y - 20)) * 0.9, (y - 4) * 0.8)  # from the temple back, down before the ear
    back = np.minimum(-(z + 108), y + 58)
    ear = np.hypot((y - EAR_MIDDLE[0]) / 38.0, (z - EAR_MIDDLE[1]) / 25.0)
    round_ear = np.where(x > 50, (ear - 1.0) * 24.0, 50.0)
    return np.minimum(np.maximum(np.maximum(front, side), back), round_ear)


def hair_volume(points: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Height of the hair above the scalp, mm: full on top, short at the sides, none at the hairline."""
    top = smoothstep(45.0, 118.0, points[:, 1])
    return (3.6 + 12.5 * top) * smoothstep(-1.0, 16.0 + 8.0 * top, inside) ** 0.6


def hair(skin: Skin) -> Part:
    """Short hair: a cap that sinks under the skin at the hairline, and locks that lie over it, away from the crown."""
    random = np.random.default_rng(RANDOM + 2)
    points, outer = skin.points[: skin.outer_count], skin.outer_triangles()
    inside = hair_share(points)
    normals = vertex_normals(points, outer)
    height = hair_volume(points, inside)
    tris = outer[(inside[outer] > -6).all(axis=1)]
    used = np.unique(tris)
    number = np.full(len(points), -1)
    number[used] = np.arange(len(used))
    cap = points + normals * (0.8 * height - 1.8 * smoothstep(8.0, 0.0, inside))[:, None]
    parts = [Part(cap[used], number[tris], np.tile(HAIR * 0.8, (len(used), 1)))]

    grown = outer[(inside[outer] > -1.5).all(axis=1)]
    a, b, c = (points[grown[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) * np.where(inside[grown].mean(axis=1) < 9, 2.4, 1.0)
    chosen = random.choice(len(grown), STRANDS, p=area / area.sum())
    share = random.dirichlet([1.0, 1.0, 1.0], STRANDS)

    def at(values: np.ndarray) -> np.ndarray:
        return np.einsum("ni,ni...->n...", share, values[grown[chosen]])

    root, normal, deep, high = at(points), at(normals), at(inside), at(height)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    away = root - CROWN
    swirl = np.cross(normal, away) * 0.35
    front = smoothstep(-55.0, -5.0, root[:, 2]) * smoothstep(60.0, 100.0, root[:, 1])
    swept = np.array([0.85, 0.35, 0.25])  # over the forehead it is combed to the side
    length_of = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    way = (
        (away + swirl) / length_of * (1 - front[:, None])
        + swept * front[:, None]
        + random.normal(0, 0.13, (STRANDS, 3))
    )
    sides = smoothstep(70.0, 20.0, root[:, 1])
    way += sides[:, None] * np.array([0.0, -0.9, -0.25])
    way -= (way * normal).sum(axis=1, keepdims=True) * normal
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    top = smoothstep(45.0, 118.0, root[:, 1])
    length = (9.0 + 22.0 * top) * random.uniform(0.75, 1.2, STRANDS) * (0.55 + 0.45 * smoothstep(0.0, 14.0, deep))
    start = root + normal * (0.75 * high - 0.3)[:, None]
    lift = normal * (0.10 * length + 0.8)[:, None] * random.uniform(0.5, 1.5, (STRANDS, 1))
    bend = -normal * (length**2 / 190.0 + 1.0)[:, None] + np.array([0, -1.0, 0]) * (0.06 * length)[:, None]
    width = random.uniform(0.9, 2.2, STRANDS) * (0.55 + 0.45 * smoothstep(0.0, 12.0, deep))
    locks, lock_tris, strand = strands(start, way * length[:, None] + lift, bend, normal, width, 4)
    shade = HAIR * random.uniform(0.75, 1.7, (STRANDS, 1))
    parts.append(Part(locks, lock_tris, shade[strand]))
    return merged(parts)
