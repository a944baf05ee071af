"""What the demo head has besides its skin: eyes, teeth, tongue, brows, lashes, hair and everyone's colours. No Blender."""

import demo_head_geometry as geometry
import demo_head_shapes as sculpt
import numpy as np
from demo_head_geometry import Skin
from demo_head_hair import RANDOM, hair_share
from demo_head_mesh import Part, merged, smoothstep

SKIN = np.array([0.58, 0.335, 0.225])  # linear RGB
SKIN_WARM = np.array([0.60, 0.23, 0.165])
LIP = np.array([0.50, 0.17, 0.15])
MOUTH_INSIDE = np.array([0.23, 0.045, 0.04])
LID_EDGE = np.array([0.56, 0.26, 0.21])
SCALP = np.array([0.16, 0.095, 0.065])
GUM = np.array([0.50, 0.17, 0.16])
TOOTH = np.array([0.74, 0.69, 0.58])
TONGUE = np.array([0.48, 0.15, 0.14])
SCLERA, SCLERA_EDGE = np.array([0.74, 0.70, 0.66]), np.array([0.62, 0.40, 0.36])
IRIS_INNER, IRIS_OUTER, LIMBUS = (
    np.array([0.20, 0.12, 0.055]),
    np.array([0.075, 0.085, 0.06]),
    np.array([0.02, 0.02, 0.018]),
)
IRIS_RADIUS, PUPIL_RADIUS = 5.9, 1.9
CORNEA_CURVE = 7.8  # radius of the cornea's front, mm


def grid_triangles(rows: int, columns: int, closed: bool) -> np.ndarray:
    """Triangles of a grid [rows, columns] of vertices, its columns closed to a ring or not."""
    tris = []
    for r in range(rows - 1):
        for c in range(columns if closed else columns - 1):
            d = (c + 1) % columns
            i, j, k, m = r * columns + c, r * columns + d, (r + 1) * columns + c, (r + 1) * columns + d
            tris += [[i, k, j], [j, k, m]]
    return np.array(tris)


def eyeball(skin: Skin, side: str) -> Part:
    """Sclera, iris and pupil of one eye: rings about the way it looks; the iris is a shallow bowl behind the cornea."""
    spokes = 64
    centre, r = skin.eyes[side], geometry.EYE_RADIUS
    limbus = np.arcsin(IRIS_RADIUS / r)
    rows, colours = [], []
    phi = np.linspace(0, 2 * np.pi, spokes, endpoint=False)
    edge_z = r * np.cos(limbus)
    streak = np.random.default_rng(RANDOM).normal(0, 1, spokes)
    streak = 0.5 * streak + 0.5 * np.cos(phi * 13 + 1.0)
    for rho in (0.2, PUPIL_RADIUS - 0.05, PUPIL_RADIUS + 0.15, 2.6, 3.2, 3.8, 4.4, 5.0, 5.5, IRIS_RADIUS):
        depth = edge_z - 1.2 + 0.9 * (rho / IRIS_RADIUS) ** 2 + (0.3 if rho == IRIS_RADIUS else 0.0)
        if rho < PUPIL_RADIUS:
            depth -= 1.2
            tint = np.zeros((spokes, 3)) + 0.002
        else:
            t = (rho - PUPIL_RADIUS) / (IRIS_RADIUS - PUPIL_RADIUS)
            tint = IRIS_INNER * (1 - t) + IRIS_OUTER * t
            tint = tint * (1 + 0.28 * (1 - t * 0.5) * streak[:, None])
            tint = tint + (LIMBUS - tint) * smoothstep(0.72, 1.0, np.array(t))
        rows.append(np.stack([rho * np.cos(phi), rho * np.sin(phi), np.full(spokes, depth)], axis=1))
        colours.append(np.clip(tint, 0, 1))
    for angle in np.concatenate([limbus + np.radians([1.5, 5, 10, 16, 24]), np.radians(np.linspace(62, 176, 12))]):
        rows.append(
            r
            * np.stack(
                [np.sin(angle) * np.cos(phi), np.sin(angle) * np.sin(phi), np.full(spokes, np.cos(angle))], axis=1
            )
        )
        edge = smoothstep(np.radians(40), np.radians(75), np.array(angle))
        tint = SCLERA * (1 - edge) + SCLERA_EDGE * edge
        if angle < limbus + np.radians(2):
            tint = 0.45 * LIMBUS + 0.55 * tint
        colours.append(np.tile(tint, (spokes, 1)))
    points = np.concatenate(rows)
    tris = grid_triangles(len(rows), spokes, True)[:, ::1]
    front, back = len(points), len(points) + 1
    points = np.concatenate([points, [[0, 0, rows[0][0, 2]], [0, 0, -r]]])
    last = (len(rows) - 1) * spokes
    caps = [[front, s, (s + 1) % spokes] for s in range(spokes)] + [
        [back, last + (s + 1) % spokes, last + s] for s in range(spokes)
    ]
    part = Part(points + centre, np.concatenate([tris, caps]), np.concatenate([*colours, [[0.002] * 3, SCLERA_EDGE]]))
    part.shapes = sculpt.eye_motion(part.points, centre, side)
    return part


def cornea(skin: Skin, side: str) -> Part:
    """The clear front of one eye: a steeper cap on the eyeball, and a skirt just over the sclera."""
    spokes = 48
    centre, r = skin.eyes[side], geometry.EYE_RADIUS
    phi = np.linspace(0, 2 * np.pi, spokes, endpoint=False)
    limbus_z = np.sqrt(r**2 - IRIS_RADIUS**2)
    bend = limbus_z - np.sqrt(CORNEA_CURVE**2 - IRIS_RADIUS**2)
    rows = []
    for rho in (0.8, 1.6, 2.6, 3.6, 4.6, 5.4, IRIS_RADIUS, 6.6):
        cap, ball = bend + np.sqrt(max(CORNEA_CURVE**2 - rho**2, 0)), np.sqrt(r**2 - rho**2)
        z = cap + 0.05 if rho < IRIS_RADIUS else max(ball, cap if rho == IRIS_RADIUS else 0) + 0.05
        rows.append(np.stack([rho * np.cos(phi), rho * np.sin(phi), np.full(spokes, z)], axis=1))
    for angle in np.radians([38, 50, 64, 80]):
        rows.append(
            (r + 0.05)
            * np.stack(
                [np.sin(angle) * np.cos(phi), np.sin(angle) * np.sin(phi), np.full(spokes, np.cos(angle))], axis=1
            )
        )
    points = np.concatenate([*rows, [[0, 0, bend + CORNEA_CURVE + 0.05]]])
    tris = np.concatenate(
        [grid_triangles(len(rows), spokes, True), [[len(points) - 1, s, (s + 1) % spokes] for s in range(spokes)]]
    )
    part = Part(points + centre, tris, np.ones((len(points), 3)))
    part.shapes = sculpt.eye_motion(part.points, centre, side)
    return part


# Teeth: width at the edge, height of the crown, mm, from the middle outwards (Wheeler's Dental Anatomy: central incisor to second molar)
UPPER_TEETH = ((8.4, 9.6), (6.6, 8.6), (7.5, 9.4), (7.0, 8.0), (6.8, 7.6), (10.0, 7.2), (9.5, 7.0))
LOWER_TEETH = ((5.2, 8.2), (5.7, 8.4), (6.8, 9.4), (7.0, 8.2), (7.1, 7.8), (10.6, 7.2), (10.2, 7.0))


def arch(s: np.ndarray | float, wide: float) -> tuple[np.ndarray, np.ndarray]:
    """Point (x, z) and outward way (x, z) of a dental arch at the length `s` from its middle (a parabola, its tip at z = 0)."""
    x = np.linspace(0, wide * 1.15, 400)
    z = -(46.0 / wide**2) * x**2
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
    sign = np.sign(s)
    at = np.interp(np.abs(s), length, x)
    point = np.stack([sign * at, -(46.0 / wide**2) * at**2], axis=-1)
    slope = 2 * 46.0 / wide**2 * at
    out = np.stack([sign * slope, np.ones_like(at)], axis=-1)
    return point, out / np.linalg.norm(out, axis=-1, keepdims=True)


def tooth(width: float, height: float, deep: float, up: float) -> tuple[np.ndarray, np.ndarray]:
    """A crown: superellipse sections from the gum to a rounded edge; its edge at y = 0, its root at up * height."""
    spokes = 14
    phi = np.linspace(0, 2 * np.pi, spokes, endpoint=False)
    rows = []
    for t, wide, thick in (
        (1.15, 0.80, 1.0),
        (0.8, 0.90, 1.0),
        (0.45, 1.0, 0.88),
        (0.15, 1.0, 0.62),
        (0.03, 0.93, 0.42),
        (0.0, 0.7, 0.22),
    ):
        c, s = np.cos(phi), np.sin(phi)
        x = np.sign(c) * np.abs(c) ** 0.62 * width / 2 * wide
        z = np.sign(s) * np.abs(s) ** 0.75 * deep / 2 * thick
        rows.append(np.stack([x, np.full(spokes, up * t * height), z], axis=1))
    points = np.concatenate([*rows, [[0, 0, 0]]])
    tris = grid_triangles(len(rows), spokes, True)
    last = (len(rows) - 1) * spokes
    caps = np.array([[last + s, len(points) - 1, last + (s + 1) % spokes] for s in range(spokes)])
    tris = np.concatenate([tris, caps])
    return points, tris if up > 0 else tris[:, ::-1]


def teeth(skin: Skin, upper: bool) -> Part:
    """One row of fourteen teeth with its gum, behind the lips; the lower one carries the jaw's shapes."""
    lips = skin.points[skin.upper_lip]
    middle = lips[len(lips) // 2]
    sizes, up = (UPPER_TEETH, 1.0) if upper else (LOWER_TEETH, -1.0)
    wide = 27.0 if upper else 25.0
    front = middle[2] - (4.6 if upper else 6.6)
    edge = middle[1] + (-2.0 if upper else -1.5)
    parts = []
    for sign in (-1.0, 1.0):
        s = 0.0
        for i, (width, height) in enumerate(sizes):
            local, tris = tooth(width * 0.985, height, 5.5 if i < 3 else 9.0, up)
            if i > 4:
                local[:, 1] += up * 0.6
            if i in (1,):
                local[:, 1] += up * 0.7
            (x, z), (ox, oz) = arch(sign * (s + width / 2), wide)
            tilt = 0.10 * np.array([ox, oz])  # crowns lean out a little
            q = np.stack(
                [local[:, 0] * oz + local[:, 2] * ox, local[:, 1], -local[:, 0] * ox + local[:, 2] * oz], axis=1
            )
            q[:, [0, 2]] += np.array([x, z]) - np.abs(local[:, 1:2]) * tilt - 2.5 * np.array([ox, oz])
            colour = (
                TOOTH
                * (1 - 0.012 * i)
                * np.ones((len(q), 1))
                * (1 - 0.10 * smoothstep(0.6, 1.1, np.abs(local[:, 1:2]) / height))
            )
            parts.append(Part(q, tris, colour))
            s += width
    gum_s = np.linspace(-46, 46, 70)
    ring = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    point, out = arch(gum_s, wide)
    base = 7.4 + 1.0 * np.cos(np.clip(np.abs(gum_s), 0, 40) / 40 * np.pi / 2)
    scallop = 0.35 * np.cos(gum_s / 7.2 * 2 * np.pi)
    rows = []
    for angle in ring:
        radial = 3.7 * np.cos(angle) - 3.2
        rise = up * (base + 4.2 + (4.6 + scallop) * np.sin(angle))
        rows.append(np.stack([point[:, 0] + out[:, 0] * radial, rise, point[:, 1] + out[:, 1] * radial], axis=1))
    gum_points = np.stack(rows, axis=1).reshape(-1, 3)
    tris = grid_triangles(len(gum_s), len(ring), True)
    parts.append(Part(gum_points, tris if up < 0 else tris[:, ::-1], np.tile(GUM, (len(gum_points), 1))))
    row = merged(parts)
    row.points = row.points + np.array([0.0, edge, front])
    if not upper:
        row.shapes = sculpt.jaw_motion(row.points)
    return row


def tongue(skin: Skin) -> Part:
    """The tongue at rest behind the lower teeth; moves with the jaw, comes out with tongueOut."""
    lips = skin.points[skin.upper_lip]
    middle = lips[len(lips) // 2]
    rows, spokes = 22, 20
    t = np.linspace(0, 1, rows)
    phi = np.linspace(0, 2 * np.pi, spokes, endpoint=False)
    half = 16.5 * np.sqrt(np.clip(1 - (1 - t) ** 3.0, 0.0, 1)) * (0.92 + 0.15 * t)
    thick = 1.6 + 7.0 * np.sqrt(np.clip(t, 0, 1))
    z = middle[2] - 13.0 - 46.0 * t
    top = middle[1] - 5.0 + 3.5 * np.sin(np.pi * np.clip(t * 0.9, 0, 1)) - 5.0 * smoothstep(0.7, 1.0, t)
    points = []
    for i in range(rows):
        c, s = np.cos(phi), np.sin(phi)
        groove = 1.3 * np.exp(-((c * half[i] / 3.0) ** 2)) * (s > 0) * min(1.0, 3 * t[i])
        y = top[i] + np.where(s > 0, s * 2.6, s * thick[i]) - groove
        points.append(np.stack([c * half[i], y, np.full(spokes, z[i])], axis=1))
    cloud = np.concatenate([*points, [[0, top[0], z[0] + 1.0]]])
    tris = grid_triangles(rows, spokes, True)
    tip = len(cloud) - 1
    tris = np.concatenate([tris, [[tip, s, (s + 1) % spokes] for s in range(spokes)]])
    part = Part(cloud, tris, np.tile(TONGUE, (len(cloud), 1)))
    part.shapes = sculpt.jaw_motion(part.points)
    along = np.clip((cloud[:, 2] - z[-1]) / (z[0] - z[-1]), 0, 1)
    out = np.zeros_like(cloud)
    out[:, 2] = 33.0 * along**1.2
    out[:, 1] = 1.5 * along - 13.0 * smoothstep(0.62, 1.05, along) * along
    out[:, 0] = -0.10 * cloud[:, 0] * along
    part.shapes["tongueOut"] = out
    return part


def skin_colours(skin: Skin, sculptor: sculpt.Sculptor) -> np.ndarray:
    """Colour of every vertex of the skin [V, 3], linear: lips, cheeks, nose and ears warmer, the mouth's inside dark."""
    p = skin.points
    count = skin.outer_count
    colour = np.tile(SKIN, (len(p), 1))

    def tint(weight: np.ndarray, target: np.ndarray) -> None:
        colour[:count] += (target - colour[:count]) * weight[:, None]

    graph = sculptor.graph
    for seeds, reach, strength in (
        (sculpt.CHEEK_APPLE, 34, 0.45),
        (sculpt.NOSE_WING, 16, 0.4),
        ((4, 1), 16, 0.35),
        ((152, 199), 24, 0.2),
        ((10, 151), 50, 0.10),
    ):
        both = tuple(seeds) + tuple(int(sculptor.mirror[s]) for s in seeds)
        tint(strength * sculptor.near(both, reach), SKIN_WARM)
    red = lip_area(skin)
    tint(graph.smooth(red, 3, 0.5), LIP)
    border = np.isin(np.arange(count), skin.mouth_loop).astype(float)
    tint(0.55 * np.maximum(border, 0.5 * graph.smooth(border, 2)), MOUTH_INSIDE)
    for side in ("Left", "Right"):
        edge = np.isin(np.arange(count), skin.eye_loops[side]).astype(float)
        tint(0.7 * edge, LID_EDGE)
        tint(0.5 * sculptor.near(tuple(skin.eye_loops[side]), 9.0), np.array([0.50, 0.27, 0.20]))
        for ring in skin.lid_rings[side]:
            colour[ring] = LID_EDGE * 0.8
    for sign in (1, -1):
        hole = np.linalg.norm((p[:count] - geometry.nostril_centre(p, sign) - [0, 2.5, 0]) / [3.6, 3.4, 5.0], axis=1)
        tint(smoothstep(1.1, 0.6, hole), np.array([0.10, 0.03, 0.025]))
    inside = hair_share(p[:count])
    tint(0.9 * smoothstep(-2.0, 6.0, inside), SCALP)
    for depth, ring in enumerate(skin.mouth_rings):
        share = smoothstep(0, 2, np.array(float(depth)))
        colour[ring] = (LIP * 0.8) * (1 - share) + MOUTH_INSIDE * share * (1.0 - 0.12 * depth)
    colour[skin.ears] = 0.6 * SKIN + 0.4 * SKIN_WARM
    random = np.random.default_rng(RANDOM + 3)
    for steps, strength in ((2, 0.03), (12, 0.055)):  # skin is never of one colour
        patch = graph.smooth(random.normal(0, 1, count), steps)
        patch = (patch + patch[sculptor.mirror]) / 2
        colour[:count] *= 1 + strength * np.clip(patch / patch.std(), -2, 2)[:, None] * np.array([0.5, 0.9, 1.0])
    return np.clip(colour, 0, 1)


LIP_OUTLINE = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)


def lip_area(skin: Skin) -> np.ndarray:
    """1 within the red of the lips [V outer], 0 outside: inside the outline as seen from the front."""
    p = skin.points[: skin.outer_count]
    outline = p[list(LIP_OUTLINE), :2]
    x, y = p[:, 0], p[:, 1]
    inside = np.zeros(len(p), bool)
    for a, b in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (a[1] > y) != (b[1] > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0]
        inside ^= crosses & (x < at)
    return (inside & (p[:, 2] > -20)).astype(float)
