"""Geometry of the demo head: numbers only, no Blender.

Millimetres; x to the person's left, y up, z forward; the mirror plane is x = 0. The face grows out of a guide of 468 points (a
statistic over many faces, see `measure_face_guide.py`) by Loop subdivision; everything else (skull, neck, shoulders, ears, lids'
and lips' inner walls, eyes, teeth, tongue, hair) is built by formula around it.

Skull, neck and face sizes: L. Farkas, Anthropometry of the Head and Face, 1994.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from demo_head_ear import ear
from demo_head_mesh import Graph, Subdivision, border_loops, bump, smoothstep

GUIDE = Path(__file__).with_name("face_guide.npz")

# Landmarks of the guide that the rules speak of; where there are two sides it is the person's left one.
FOREHEAD, CHIN = 10, 152
MOUTH_RIGHT_INNER, MOUTH_LEFT_INNER = 78, 308
EYE_OUTER, EYE_INNER = 263, 362
MOUTH_CORNER = 291
EYE_RADIUS = 12.2  # adult eyeball: 24 mm across
LID_THICKNESS = 0.9
LEVELS = 2
UPPER_LID_OPEN = 0.12


# Mouth, seen from inside: each ring of the inner wall as (outward from the lip line, back, narrowing), millimetres.
MOUTH_RINGS = (
    (0.15, 1.6, 1.0),
    (1.8, 2.8, 1.0),
    (6.0, 3.4, 1.01),
    (11.5, 6.0, 1.05),
    (14.0, 22.0, 1.0),
    (13.0, 42.0, 0.75),
    (6.0, 58.0, 0.4),
)
# Rings of the lids' inner wall: (away from the opening, distance from the eyeball's surface), millimetres.
LID_RINGS = ((0.0, 0.25), (2.5, 0.2), (6.0, -0.6))


def ellipsoid(points: np.ndarray, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """About the signed distance of points [..., 3] from an ellipsoid (first-order, exact on the surface)."""
    offset = points - np.array(centre)
    k0 = np.linalg.norm(offset / radii, axis=-1)
    k1 = np.linalg.norm(offset / np.square(radii), axis=-1)
    return k0 * (k0 - 1.0) / np.maximum(k1, 1e-9)


def rod(
    points: np.ndarray, start: tuple[float, float, float], end: tuple[float, float, float], wide: float, deep: float
) -> np.ndarray:
    """About the signed distance from a rod of elliptic section (half width, half depth)."""
    a, axis = np.array(start), np.array(end) - np.array(start)
    along = np.clip(((points - a) @ axis) / (axis @ axis), 0.0, 1.0)
    offset = (points - a - along[..., None] * axis) / np.array([wide, (wide + deep) / 2, deep])
    return (np.linalg.norm(offset, axis=-1) - 1.0) * min(wide, deep)


def union(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """Smooth union of two distances (polynomial smooth minimum, I. Quilez)."""
    h = np.clip(0.5 + 0.5 * (b - a) / blend, 0.0, 1.0)
    return b * (1 - h) + a * h - blend * h * (1 - h)


def body(points: np.ndarray) -> np.ndarray:
    """Signed distance of points [..., 3] from skull, jaw, neck and shoulders, about."""
    skull = ellipsoid(points, (0, 44, -84), (75.5, 88, 95))
    jaw = ellipsoid(points, (0, -36, -36), (55, 44, 46))
    neck = rod(points, (0, -30, -88), (0, -190, -108), 50, 54)
    side = np.abs(points[..., 0])
    mirrored = np.stack([side, points[..., 1], points[..., 2]], axis=-1)
    shoulder = rod(mirrored, (20, -186, -112), (165, -226, -108), 46, 46)
    muscle = rod(mirrored, (16, -100, -124), (86, -200, -118), 21, 21)
    chest = ellipsoid(points, (0, -285, -92), (150, 105, 88))
    chin = ellipsoid(points, (0, -60, -20), (26, 20, 20))
    head = union(union(skull, jaw, 26), chin, 14)
    head = union(head, neck, 14)
    torso = union(shoulder, chest, 40)
    torso = union(torso, muscle, 30)
    return union(head, torso, 30)


def cast(origin: np.ndarray, direction: np.ndarray, far: float = 320.0) -> np.ndarray:
    """Distance along each ray from inside the body to its surface [N] (bisection)."""
    low, high = np.zeros(len(origin)), np.full(len(origin), far)
    for step in np.linspace(0, far, 65)[1:]:  # the first crossing, not any
        inside = body(origin + direction * step) < 0
        high = np.where((~inside) & (high == far), step, high)
    low = np.maximum(high - far / 64, 0)
    for _ in range(24):
        middle = (low + high) / 2
        inside = body(origin + direction * middle[:, None]) < 0
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return (low + high) / 2


@dataclass
class Skin:
    """The skin's mesh and what the rules need to know about it."""

    points: np.ndarray
    triangles: np.ndarray
    mirror: np.ndarray
    face_count: int  # the first vertices: the subdivided guide
    outer_count: int  # face and the back of the head; after them inner walls and ears
    upper_lip: list[int]  # border of the lips from the right corner to the left one
    lower_lip: list[int]
    mouth_loop: list[int]  # both borders, in the order of the rings
    mouth_rings: list[list[int]]
    eye_loops: dict[str, list[int]]  # side -> border of the lids
    lid_rings: dict[str, list[list[int]]]
    eyes: dict[str, np.ndarray]  # side -> centre of the eyeball
    oval: list[int]
    hood: np.ndarray  # vertices of the back of the head
    ears: np.ndarray
    neck_start: float = -130.0

    def outer_triangles(self) -> np.ndarray:
        """Triangles of the face and the back of the head only: what lies outside."""
        return self.triangles[(self.triangles < self.outer_count).all(axis=1)]


def face_mesh() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [V, 3], triangles and mirror partners of the subdivided guide, which passes through the guide's points."""
    guide = np.load(GUIDE)
    target = guide["points"].astype(float)
    triangles, partner = guide["triangles"].astype(int), guide["mirror"].astype(int)
    steps = []
    count = len(target)
    for _ in range(LEVELS):
        step = Subdivision(triangles, count)
        partner = step.mirror(partner)
        triangles, count = step.triangles, count + len(step.edges)
        steps.append(step)
    cage = target.copy()
    for _ in range(8):
        fine = cage
        for step in steps:
            fine = step.apply(fine)
        cage = cage + 0.8 * (target - fine[: len(target)])  # the surface shrinks from its cage: push the cage out
    return fine, triangles, partner


def path_between(loop: list[int], start: int, end: int) -> list[int]:
    """The part of a closed loop from `start` to `end` inclusive, in the loop's direction."""
    at = loop.index(start)
    turned = loop[at:] + loop[:at]
    return turned[: turned.index(end) + 1]


class _Walls:
    """A mesh that grows from the outer skin by rings of vertices and by parts of its own."""

    def __init__(self, points: np.ndarray, triangles: np.ndarray, mirror: np.ndarray) -> None:
        self.points, self.triangles, self.mirrors = [points], [triangles], [mirror]
        self.mirror, self.total = mirror, len(points)

    def add_rings(
        self, loop: list[int], rings: list[np.ndarray], partner_loop: list[int], partner_first: int
    ) -> list[list[int]]:
        """Walls that continue a border inwards; returns vertex numbers of each ring."""
        numbers, previous = [], loop
        where = {v: i for i, v in enumerate(partner_loop)}
        n = len(loop)
        for k, ring in enumerate(rings):
            now = list(range(self.total, self.total + n))
            for i in range(n):
                j = (i + 1) % n
                self.triangles.append(np.array([[previous[j], previous[i], now[i]], [previous[j], now[i], now[j]]]))
            self.points.append(ring)
            self.mirrors.append(np.array([partner_first + k * n + where[int(self.mirror[v])] for v in loop]))
            numbers.append(now)
            previous, self.total = now, self.total + n
        return numbers

    def close(self, ring: list[int]) -> None:
        """Close the last ring with a fan about its centre."""
        centre = self.total
        self.points.append(self.points[-1].mean(axis=0, keepdims=True))
        self.triangles.append(np.array([[ring[(i + 1) % len(ring)], ring[i], centre] for i in range(len(ring))]))
        self.mirrors.append(np.array([centre]))
        self.total += 1

    def add_ears(self) -> np.ndarray:
        """Both ears; returns their vertices."""
        points, triangles = ear()
        ears = np.arange(self.total, self.total + 2 * len(points))
        for sign in (1, -1):
            self.points.append(points * [sign, 1, 1])
            self.triangles.append(self.total + (triangles if sign == 1 else triangles[:, ::-1]))
            other = self.total + len(points) if sign == 1 else self.total - len(points)
            self.mirrors.append(np.arange(len(points)) + other)
            self.total += len(points)
        return ears


def build_skin() -> Skin:
    """The whole skin at rest, lips and lids in place."""
    points, triangles, mirror = face_mesh()
    face_count = len(points)
    loops = border_loops(triangles)
    oval = loops[0]
    mouth = next(loop for loop in loops if MOUTH_LEFT_INNER in loop)
    eye_left = next(loop for loop in loops if EYE_OUTER in loop)
    eye_right = next(loop for loop in loops if mirror[EYE_OUTER] in loop)
    points, upper, lower, eyes = fit_openings(points, triangles, mirror, mouth, {"Left": eye_left, "Right": eye_right})

    points, triangles, hood, mirror = add_hood(points, triangles, oval, mirror)
    outer_count = len(points)
    smooth_seam = Graph(points, triangles)
    near = smooth_seam.distance(oval, 40)
    points = smooth_seam.smooth(points, 30, 0.5 * bump(np.minimum(near, 40), 22))
    points = (points + (points * [-1, 1, 1])[mirror]) / 2

    walls = _Walls(points, triangles, mirror)
    mouth_rings = walls.add_rings(mouth, mouth_wall(points, mouth, upper, lower), mouth, walls.total)
    walls.close(mouth_rings[-1])
    first_left = walls.total
    first_right = walls.total + len(LID_RINGS) * len(eye_left)
    lid_rings = {"Left": walls.add_rings(eye_left, lid_wall(points, eye_left, eyes["Left"]), eye_right, first_right)}
    lid_rings["Right"] = walls.add_rings(eye_right, lid_wall(points, eye_right, eyes["Right"]), eye_left, first_left)
    ears = walls.add_ears()
    return Skin(
        np.concatenate(walls.points), np.concatenate(walls.triangles), np.concatenate(walls.mirrors), face_count, outer_count,
        upper, lower, mouth, mouth_rings, {"Left": eye_left, "Right": eye_right}, lid_rings, eyes, oval, hood, ears,
    )  # fmt: skip


def fit_openings(
    points: np.ndarray, triangles: np.ndarray, mirror: np.ndarray, mouth: list[int], eye_loops: dict[str, list[int]]
) -> tuple[np.ndarray, list[int], list[int], dict[str, np.ndarray]]:
    """Close the lips, lay the lids on the eyeballs, hollow the nostrils.

    Returns:
        Points [V, 3], the borders of the upper and the lower lip, and the eyeballs' centres by side.
    """
    graph = Graph(points, triangles)
    borders = mouth + eye_loops["Left"] + eye_loops["Right"]
    points = graph.smooth(points, 2, 0.25 * smoothstep(4, 12, graph.distance(borders)))
    one, two = (
        path_between(mouth, MOUTH_RIGHT_INNER, MOUTH_LEFT_INNER),
        path_between(mouth, MOUTH_LEFT_INNER, MOUTH_RIGHT_INNER)[::-1],
    )
    upper, lower = (one, two) if points[one, 1].mean() > points[two, 1].mean() else (two, one)
    points = seal_lips(points, graph, upper, lower)
    border = np.isin(np.arange(len(points)), mouth)
    near = np.minimum(graph.distance([MOUTH_CORNER, int(mirror[MOUTH_CORNER])], 30), 30)
    points = graph.smooth(points, 14, np.where(border, 0.0, 0.5 * bump(near, 13.0)))  # the guide's corners are pinched
    eyes = {}
    for side, loop in eye_loops.items():
        corners = (EYE_OUTER, EYE_INNER) if side == "Left" else (mirror[EYE_OUTER], mirror[EYE_INNER])
        eyes[side] = eyeball_centre(points, loop, corners)
        points = lids_on_eyeball(points, graph, loop, eyes[side])
    points = nostrils(points, graph)
    return (points + (points * [-1, 1, 1])[mirror]) / 2, upper, lower, eyes


def seal_lips(points: np.ndarray, graph: Graph, upper: list[int], lower: list[int]) -> np.ndarray:
    """Bring the borders of both lips onto one line, and what lies around them along."""
    line = (points[upper] + points[lower]) / 2
    line = line.copy()
    line[1:-1] = 0.5 * line[1:-1] + 0.25 * (line[:-2] + line[2:])
    moved = np.zeros_like(points)
    moved[upper], moved[lower] = line - points[upper], line - points[lower]
    border = np.zeros(len(points), bool)
    border[upper + lower] = True
    near = graph.distance(upper + lower, 9.0)
    free = np.isfinite(near)
    for k in range(3):
        moved[:, k] = graph.harmonic(border | ~free, moved[:, k], 200)
    return points + moved


def eyeball_centre(points: np.ndarray, loop: list[int], corners: tuple[int, int]) -> np.ndarray:
    """Centre of the eyeball such that the middle of the lids lies on its surface."""
    x = points[list(corners), 0].mean()
    middle = [v for v in loop if abs(points[v, 0] - x) < 6]
    y = points[loop, 1].mean() - 0.3
    height = points[middle, 1] - y
    out = EYE_RADIUS + LID_THICKNESS
    z = (points[middle, 2] - np.sqrt(np.maximum(out**2 - height**2 - (points[middle, 0] - x) ** 2, 1.0))).mean()
    return np.array([x, y, z])


def lids_on_eyeball(points: np.ndarray, graph: Graph, loop: list[int], centre: np.ndarray) -> np.ndarray:
    """Lay the lids' borders onto the eyeball and let the skin around follow."""
    border = np.zeros(len(points), bool)
    border[loop] = True
    far = ~np.isfinite(graph.distance(loop, 12.0))
    # people before a camera narrow their eyes a little: open the upper lids to a rested look
    above = np.where(border, np.maximum(points[:, 1] - points[loop, 1].mean(), 0.0), 0.0)
    points = points + graph.harmonic(border | far, UPPER_LID_OPEN * above, 200)[:, None] * [0, 1, 0]
    offset = points[loop] - centre
    out = EYE_RADIUS + LID_THICKNESS
    wanted = np.sqrt(np.maximum(out**2 - (offset[:, :2] ** 2).sum(axis=1), 0.0)) - offset[:, 2]
    on_ball = smoothstep(15.0, 11.0, np.linalg.norm(offset[:, :2], axis=1))

    moved = np.zeros(len(points))
    moved[loop] = wanted * on_ball
    moved = graph.harmonic(border | far, moved, 200)

    points = points + moved[:, None] * [0, 0, 1]
    # skin that would still lie inside the eyeball is pushed out to it
    offset = points - centre
    reach = np.linalg.norm(offset, axis=1)
    inside = (reach < out) & (points[:, 2] > centre[2])
    points[inside] = centre + offset[inside] / reach[inside, None] * out
    return points


def nostrils(points: np.ndarray, graph: Graph) -> np.ndarray:
    """Two hollows under the nose."""
    normals_up = np.array([0.0, 1.0, -0.25])
    for sign in (1, -1):
        hole = (points - nostril_centre(points, sign)) / np.array([3.6, 3.2, 5.2])
        depth = np.clip(1.0 - (hole**2).sum(axis=1), 0, 1) ** 0.5
        points = points + 6.0 * depth[:, None] * normals_up
    return points


def nostril_centre(points: np.ndarray, sign: int) -> np.ndarray:
    """The middle of the nostril on the side of `sign`: between the columella (landmark 2) and the wing (landmark 294 or 64)."""
    under, wing = points[2], points[294 if sign > 0 else 64]
    tip = points[4]
    return np.array(
        [
            sign * (0.52 * abs(wing[0])),
            (under[1] + wing[1]) / 2 + 0.5,
            0.55 * under[2] + 0.2 * wing[2] + 0.25 * tip[2] - 1.0,
        ]
    )


HINGE_Y, HINGE_Z, HINGE_ARM = -130.0, 2.0, 92.0
HOOD_RINGS, BUST_RINGS, BUST_END = 26, 16, -250.0


def add_hood(
    points: np.ndarray, triangles: np.ndarray, oval: list[int], mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Skull, neck and shoulders: rings that start at the face's border and turn back about a hinge under the chin, like a hood.

    Every second border vertex starts a line; a ring lies in a half plane through the hinge axis until the plane is level at the
    base of the neck, then the rings go down to the bust's end.
    """
    start = next(i for i, v in enumerate(oval) if v == FOREHEAD)
    oval = oval[start:] + oval[:start]
    n = len(oval) // 2
    rings = hood_rings(points[oval[::2]])
    first = len(points)
    numbers = [list(range(first + k * n, first + (k + 1) * n)) for k in range(len(rings) - 1)]
    flip = np.array([(n - i) % n for i in range(n)])
    mirror = np.concatenate([mirror, *[np.array(ring)[flip] for ring in numbers]])
    hood = np.arange(first, first + n * len(numbers))
    tris = [triangles, hood_triangles(oval, numbers, triangles_orientation(triangles, oval))]
    return np.concatenate([points, *rings[1:]]), np.concatenate(tris), hood, mirror


def hood_rings(at: np.ndarray) -> list[np.ndarray]:
    """Rings [N, 3] of the hood and the bust from the border points `at` [N, 3], which are the first ring."""
    n = len(at)
    rise, back = at[:, 1] - HINGE_Y, HINGE_Z - at[:, 2]
    angle0 = np.arctan2(back, rise)  # 0: straight up, pi/2: straight back
    along = np.hypot(rise, back) - HINGE_ARM
    around = np.arctan2(at[:, 0], along)  # 0: away from the hinge
    radius0 = np.hypot(at[:, 0], along)
    first_fit = None
    even = np.arange(n) * (2 * np.pi / n)
    even = np.where(even > np.pi, even - 2 * np.pi, even) * (1 if around[1] > 0 else -1)
    even[n // 2] = around[n // 2]  # the chin: +pi and -pi are one
    rings = []
    for k in range(HOOD_RINGS + 1):
        t = k / HOOD_RINGS
        angle = angle0 * (1 - t) + (np.pi / 2) * t
        radial = np.stack([np.zeros(n), np.cos(angle), -np.sin(angle)], axis=1)
        origin = np.array([0, HINGE_Y, HINGE_Z]) + HINGE_ARM * radial
        turn = around * (1 - smoothstep(0, 1, np.array(t))) + even * smoothstep(0, 1, np.array(t))
        direction = np.sin(turn)[:, None] * [1.0, 0, 0] + np.cos(turn)[:, None] * radial
        reach = cast(origin, direction)
        if first_fit is None:
            first_fit = radius0 - reach
        blend = 0.4 - 0.28 * smoothstep(-20.0, -70.0, at[:, 1])  # under the jaw the way to the neck is short
        reach = reach + first_fit * (1 - smoothstep(0.0, blend, np.full(n, t)))
        rings.append(origin + direction * reach[:, None])
    for k in range(1, BUST_RINGS + 1):
        t = (k / BUST_RINGS) ** 1.15
        y = HINGE_Y + (BUST_END - HINGE_Y) * t
        z = HINGE_Z - HINGE_ARM - 2.0 * t
        origin = np.tile([0.0, y, z], (n, 1))
        direction = np.stack([np.sin(even), np.zeros(n), -np.cos(even)], axis=1)
        rings.append(origin + direction * cast(origin, direction)[:, None])
    return rings


def hood_triangles(oval: list[int], numbers: list[list[int]], clockwise: bool) -> np.ndarray:
    """Triangles [T, 3] between the face's border, which is twice as fine, and the rings of vertices `numbers`."""
    tris: list[list[int]] = []
    n = len(numbers[0])

    def add(triangle: list[int]) -> None:
        tris.append(triangle if clockwise else triangle[::-1])

    for i in range(n):  # from the fine border to the first ring: three triangles for two border edges
        a, m, b = oval[2 * i], oval[2 * i + 1], oval[(2 * i + 2) % len(oval)]
        c, d = numbers[0][i], numbers[0][(i + 1) % n]
        add([a, c, m])
        add([m, c, d])
        add([m, d, b])
    for previous, now in itertools.pairwise(numbers):
        for i in range(n):
            j = (i + 1) % n
            # diagonals run the same way on both sides of the mirror plane
            if i < n // 2:
                add([previous[i], now[i], previous[j]])
                add([previous[j], now[i], now[j]])
            else:
                add([previous[i], now[i], now[j]])
                add([previous[i], now[j], previous[j]])
    return np.array(tris)


def triangles_orientation(triangles: np.ndarray, oval: list[int]) -> bool:
    """Whether triangles inside the loop run along the loop's order (so that those outside must run against it)."""
    directed = {(int(a), int(b)) for t in triangles for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))}
    return (oval[0], oval[1]) in directed


def mouth_wall(points: np.ndarray, mouth: list[int], upper: list[int], lower: list[int]) -> list[np.ndarray]:
    """Rings of the mouth's inside, from the lips' border back to the throat."""
    at = points[mouth]
    side = np.array([1.0 if v in set(upper) else -1.0 for v in mouth])
    corner = {upper[0], upper[-1]}
    side[[v in corner for v in mouth]] = 0.0
    wide = np.abs(at[:, 0]).max()
    taper = np.sqrt(np.clip(1 - (at[:, 0] / wide) ** 2, 0, 1))
    middle = at.mean(axis=0)
    rings = []
    for outward, back, narrow in MOUTH_RINGS:
        ring = at.copy()
        ring[:, 0] *= narrow
        deep = smoothstep(8, 40, np.array(back))
        ring[:, 1] = at[:, 1] * (1 - deep) + middle[1] * deep + side * taper * outward
        ring[:, 2] = at[:, 2] * (1 - deep) + middle[2] * deep - back
        rings.append(ring)
    return rings


def lid_wall(points: np.ndarray, loop: list[int], centre: np.ndarray) -> list[np.ndarray]:
    """Rings of the lids' inside, close over the eyeball."""
    at = points[loop]
    middle = at.mean(axis=0)
    rings = []
    for away, gap in LID_RINGS:
        outward = at - middle
        outward[:, 2] = 0
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        ring = at + away * outward
        offset = ring - centre
        flat = np.linalg.norm(offset[:, :2], axis=1)
        r = EYE_RADIUS + gap
        on_ball = np.sqrt(np.maximum(r**2 - flat**2, 4.0))
        inset = smoothstep(16.0, 11.0, flat)
        ring[:, 2] = centre[2] + inset * np.minimum(on_ball, offset[:, 2]) + (1 - inset) * (offset[:, 2] - 1.5 - away)
        rings.append(ring)
    return rings
