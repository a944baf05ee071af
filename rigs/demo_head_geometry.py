"""Geometry of the demo head: numbers only, no Blender.

Millimetres; x to the person's left, y up, z forward; the mirror plane is x = 0. The face grows out of a guide of 468 points (a
statistic over many faces, see `measure_face_guide.py`) by Loop subdivision; everything else (skull, neck, shoulders, ears, lids'
and lips' inner walls, eyes, teeth, tongue, hair) is built by formula around it.

Loop subdivision: C. Loop, Smooth Subdivision Surfaces Based on Triangles, 1987. Skull, neck and face sizes: L. Farkas,
Anthropometry of the Head and Face, 1994.
"""

import heapq
import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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


@dataclass
class Part:
    """A mesh: points float64 [V, 3] mm, triangles int [T, 3], colour float [V, 3] linear, shapes name -> delta [V, 3]."""

    points: np.ndarray
    triangles: np.ndarray
    colour: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    shapes: dict[str, np.ndarray] = field(default_factory=dict)

    def normals(self) -> np.ndarray:
        """Unit normals [V, 3], each the area-weighted mean of the triangles around."""
        return vertex_normals(self.points, self.triangles)


def vertex_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3] of a triangle mesh."""
    a, b, c = (points[triangles[:, i]] for i in range(3))
    flat = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for i in range(3):
        np.add.at(normals, triangles[:, i], flat)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def edges_of(triangles: np.ndarray) -> np.ndarray:
    """Undirected edges [E, 2], each once, the smaller index first."""
    pairs = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    return np.unique(pairs, axis=0)


def border_loops(triangles: np.ndarray) -> list[list[int]]:
    """Closed loops of border vertices, each in the direction its triangles run, longest first."""
    directed = {(int(a), int(b)) for t in triangles for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))}
    following = {a: b for a, b in directed if (b, a) not in directed}
    loops = []
    while following:
        start, step = next(iter(following.items()))
        loop = [start]
        del following[start]
        while step != start:
            loop.append(step)
            step = following.pop(step)
        loops.append(loop)
    return sorted(loops, key=len, reverse=True)


class Subdivision:
    """One step of Loop subdivision of a triangle mesh with borders; applies to any values on its vertices."""

    def __init__(self, triangles: np.ndarray, count: int) -> None:
        self.count = count
        self.edges = edges_of(triangles)
        index = {(int(a), int(b)): i for i, (a, b) in enumerate(self.edges)}
        wings: list[list[int]] = [[] for _ in self.edges]
        refined = []
        for a, b, c in triangles.tolist():
            mids = []
            for u, v, opposite in ((a, b, c), (b, c, a), (c, a, b)):
                edge = index[(min(u, v), max(u, v))]
                wings[edge].append(opposite)
                mids.append(count + edge)
            ab, bc, ca = mids
            refined += [[a, ab, ca], [b, bc, ab], [c, ca, bc], [ab, bc, ca]]
        self.triangles = np.array(refined)
        self.inner = np.array([len(w) == 2 for w in wings])
        self.wings = np.array([w if len(w) == 2 else [0, 0] for w in wings])
        self.valence = np.bincount(self.edges.ravel(), minlength=count)
        self.border = np.zeros(count, bool)
        self.border[self.edges[~self.inner].ravel()] = True

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values [V, K] on the coarse mesh -> [V + E, K] on the fine one; the coarse vertices come first."""
        a, b = values[self.edges[:, 0]], values[self.edges[:, 1]]
        odd = (a + b) / 2
        inner = self.inner
        odd[inner] = 0.375 * (a + b)[inner] + 0.125 * values[self.wings[inner]].sum(axis=1)
        around, around_border = np.zeros_like(values), np.zeros_like(values)
        for i, j in ((0, 1), (1, 0)):
            np.add.at(around, self.edges[:, i], values[self.edges[:, j]])
            np.add.at(around_border, self.edges[~inner, i], values[self.edges[~inner, j]])
        beta = np.where(self.valence == 3, 3 / 16, 3 / (8 * np.maximum(self.valence, 1)))[:, None]
        even = values * (1 - self.valence[:, None] * beta) + beta * around
        even[self.border] = 0.75 * values[self.border] + 0.125 * around_border[self.border]
        return np.concatenate([even, odd])

    def mirror(self, partner: np.ndarray) -> np.ndarray:
        """Mirror partner of every fine vertex, from that of every coarse one."""
        index = {(int(a), int(b)): i for i, (a, b) in enumerate(self.edges)}
        mirrored = np.sort(partner[self.edges], axis=1)
        return np.concatenate([partner, [self.count + index[(int(a), int(b))] for a, b in mirrored]])


class Graph:
    """Edges of a mesh for distances along the surface and for smoothing."""

    def __init__(self, points: np.ndarray, triangles: np.ndarray) -> None:
        self.count = len(points)
        edges = edges_of(triangles)
        length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
        self.neighbours: list[list[tuple[int, float]]] = [[] for _ in range(self.count)]
        for (a, b), metres in zip(edges.tolist(), length.tolist(), strict=True):
            self.neighbours[a].append((b, metres))
            self.neighbours[b].append((a, metres))
        self.edges = edges
        self.degree = np.maximum(np.bincount(edges.ravel(), minlength=self.count), 1).astype(float)

    def distance(self, seeds: list[int] | np.ndarray, reach: float = 1e9) -> np.ndarray:
        """Shortest way along edges from any seed to every vertex [V], infinite beyond `reach` (Dijkstra)."""
        distance = np.full(self.count, np.inf)
        queue = [(0.0, int(s)) for s in seeds]
        for _, seed in queue:
            distance[seed] = 0.0
        while queue:
            far, vertex = heapq.heappop(queue)
            if far > distance[vertex]:
                continue
            for other, step in self.neighbours[vertex]:
                if far + step < distance[other] and far + step <= reach:
                    distance[other] = far + step
                    heapq.heappush(queue, (far + step, other))
        return distance

    def smooth(self, values: np.ndarray, steps: int, strength: float | np.ndarray = 0.5) -> np.ndarray:
        """Values [V] or [V, K] moved `steps` times towards the mean of their neighbours."""
        shape = values.shape
        values = values.reshape(self.count, -1).astype(float)
        strength = np.broadcast_to(np.asarray(strength, float).reshape(-1, 1), (self.count, 1))
        a, b = self.edges.T
        for _ in range(steps):
            total = np.empty_like(values)
            for k in range(values.shape[1]):
                column = values[:, k]
                total[:, k] = np.bincount(a, column[b], self.count) + np.bincount(b, column[a], self.count)
            values = values + strength * (total / self.degree[:, None] - values)
        return values.reshape(shape)

    def harmonic(self, fixed: np.ndarray, value: np.ndarray, steps: int = 1500) -> np.ndarray:
        """A field [V] that is `value` where `fixed` and as smooth as can be elsewhere (Laplace's equation by relaxation)."""
        field_ = np.where(fixed, value, value[fixed].mean())
        a, b = self.edges.T
        for _ in range(steps):
            mean = (np.bincount(a, field_[b], self.count) + np.bincount(b, field_[a], self.count)) / self.degree
            field_ = np.where(fixed, value, mean)
        return field_


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, a smooth ramp between (either order)."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def bump(distance: np.ndarray, reach: float) -> np.ndarray:
    """1 at distance 0, falling smoothly to 0 at `reach`."""
    return 1.0 - smoothstep(0.0, reach, np.minimum(distance, reach))


# The body under the skin ------------------------------------------------------------------------------------------------


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
    trunk = union(shoulder, chest, 40)
    trunk = union(trunk, muscle, 30)
    return union(head, trunk, 30)


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


# The skin ---------------------------------------------------------------------------------------------------------------


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


def build_skin() -> Skin:
    """The whole skin at rest, lips and lids in place."""
    points, triangles, mirror = face_mesh()
    face_count = len(points)
    loops = border_loops(triangles)
    oval = loops[0]
    mouth = next(loop for loop in loops if MOUTH_LEFT_INNER in loop)
    eye_left = next(loop for loop in loops if EYE_OUTER in loop)
    eye_right = next(loop for loop in loops if mirror[EYE_OUTER] in loop)
    graph = Graph(points, triangles)
    points = graph.smooth(points, 2, 0.25 * smoothstep(4, 12, graph.distance(mouth + eye_left + eye_right)))

    one, two = (
        path_between(mouth, MOUTH_RIGHT_INNER, MOUTH_LEFT_INNER),
        path_between(mouth, MOUTH_LEFT_INNER, MOUTH_RIGHT_INNER)[::-1],
    )
    upper, lower = (one, two) if points[one, 1].mean() > points[two, 1].mean() else (two, one)
    points = seal_lips(points, graph, upper, lower)
    border = np.isin(np.arange(face_count), mouth)
    corners = np.minimum(graph.distance([MOUTH_CORNER, int(mirror[MOUTH_CORNER])], 30), 30)
    points = graph.smooth(
        points, 14, np.where(border, 0.0, 0.5 * bump(corners, 13.0))
    )  # the guide's corners are pinched
    eyes = {}
    for side, loop in (("Left", eye_left), ("Right", eye_right)):
        corners = (EYE_OUTER, EYE_INNER) if side == "Left" else (mirror[EYE_OUTER], mirror[EYE_INNER])
        eyes[side] = eyeball_centre(points, loop, corners)
        points = lids_on_eyeball(points, graph, loop, eyes[side])
    points = nostrils(points, graph)
    points = (points + (points * [-1, 1, 1])[mirror]) / 2

    points, triangles, hood, mirror = add_hood(points, triangles, oval, mirror)
    outer_count = len(points)
    smooth_seam = Graph(points, triangles)
    near = smooth_seam.distance(oval, 40)
    points = smooth_seam.smooth(points, 30, 0.5 * bump(np.minimum(near, 40), 22))
    points = (points + (points * [-1, 1, 1])[mirror]) / 2

    mesh = [points]
    tris = [triangles]
    mirrors = [mirror]
    total = outer_count

    def add_rings(
        loop: list[int], rings: list[np.ndarray], partner_loop: list[int], partner_first: int
    ) -> list[list[int]]:
        """Walls that continue a border inwards; returns vertex numbers of each ring."""
        nonlocal total
        numbers, previous = [], loop
        where = {v: i for i, v in enumerate(partner_loop)}
        n = len(loop)
        for k, ring in enumerate(rings):
            now = list(range(total, total + n))
            for i in range(n):
                j = (i + 1) % n
                tris.append(np.array([[previous[j], previous[i], now[i]], [previous[j], now[i], now[j]]]))
            mesh.append(ring)
            mirrors.append(np.array([partner_first + k * n + where[int(mirror[v])] for v in loop]))
            numbers.append(now)
            previous, total = now, total + n
        return numbers

    mouth_rings = add_rings(mouth, mouth_wall(points, mouth, upper, lower), mouth, total)
    throat, last = total, mouth_rings[-1]
    mesh.append(mesh[-1].mean(axis=0, keepdims=True))
    tris.append(np.array([[last[(i + 1) % len(last)], last[i], throat] for i in range(len(last))]))
    mirrors.append(np.array([throat]))
    total += 1
    first_left = total
    first_right = total + len(LID_RINGS) * len(eye_left)
    lid_rings = {"Left": add_rings(eye_left, lid_wall(points, eye_left, eyes["Left"]), eye_right, first_right)}
    lid_rings["Right"] = add_rings(eye_right, lid_wall(points, eye_right, eyes["Right"]), eye_left, first_left)

    ear_points, ear_triangles = ear()
    ears = np.arange(total, total + 2 * len(ear_points))
    for sign in (1, -1):
        mesh.append(ear_points * [sign, 1, 1])
        tris.append(total + (ear_triangles if sign == 1 else ear_triangles[:, ::-1]))
        mirrors.append(np.arange(len(ear_points)) + (total + len(ear_points) if sign == 1 else total - len(ear_points)))
        total += len(ear_points)
    return Skin(
        np.concatenate(mesh), np.concatenate(tris), np.concatenate(mirrors), face_count, outer_count, upper, lower, mouth, mouth_rings,
        {"Left": eye_left, "Right": eye_right}, lid_rings, eyes, oval, hood, ears,
    )  # fmt: skip


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
    coarse = oval[::2]
    n = len(coarse)
    at = points[coarse]
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

    tris, total = [triangles], len(points)
    clockwise = triangles_orientation(triangles, oval)
    numbers = []
    for _ in rings[1:]:
        numbers.append(list(range(total, total + n)))
        total += n

    def add(triangle: list[int]) -> None:
        tris.append(np.array([triangle if clockwise else triangle[::-1]]))

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
    flip = np.array([(n - i) % n for i in range(n)])
    mirror = np.concatenate([mirror, *[np.array(ring)[flip] for ring in numbers]])
    hood = np.arange(len(points), total)
    return np.concatenate([points, *rings[1:]]), np.concatenate(tris), hood, mirror


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


def ear() -> tuple[np.ndarray, np.ndarray]:
    """The left ear: a polar height field with helix, antihelix, concha and lobe, laid against the head."""
    spokes, rings = 44, 15
    rho = np.concatenate([np.linspace(0.06, 1.0, rings), [1.03, 0.98, 0.7]])
    phi = np.linspace(0, 2 * np.pi, spokes, endpoint=False)  # 0: back, 90 degrees: up
    p, f = np.meshgrid(rho, phi, indexing="ij")
    up, down = np.clip(np.sin(f), 0, 1), np.clip(-np.sin(f), 0, 1)
    front = np.clip(-np.cos(f), 0, 1)
    outline = 17.0 + 17.0 * up**1.5 + 16.0 * down**2 + 2.5 * np.clip(np.cos(f), 0, 1) * up - 3.5 * front
    lobe, open_front = smoothstep(0.55, 0.95, down), smoothstep(0.2, 0.9, front) * (1 - smoothstep(0.5, 0.9, up))

    def ridge(where: float, width: float) -> np.ndarray:
        return np.exp(-(((p - where) / width) ** 2))

    height = 6.5 * ridge(0.95, 0.09) * (1 - 0.9 * lobe) * (1 - 0.8 * open_front)  # helix
    height += 5.5 * ridge(0.62, 0.12) * (1 - lobe) * (1 - open_front) * (1 - 0.45 * up)  # antihelix
    height += 4.0 * ridge(0.66, 0.16) * smoothstep(0.75, 1.0, front)  # tragus
    height += 4.0 * lobe * smoothstep(1.08, 0.6, p)
    height -= 7.0 * smoothstep(0.5, 0.12, p)  # concha
    height = height + 6.0
    last = np.array([0.0] * rings + [-2.5, -6.0, -12.0])  # the back of the ear, down to the head
    height = np.where(np.arange(len(rho))[:, None] >= rings, height[rings - 1] + last[:, None], height)
    back, high = p * outline * np.cos(f), p * outline * np.sin(f)
    local = np.stack([back, high, height], axis=-1).reshape(-1, 3)
    flare, lean = np.radians(18), np.radians(-11)
    # ear's own axes: back along the head and away from it, up, and out of it
    e_back = np.array([np.sin(flare), 0, -np.cos(flare)])
    e_out = np.array([np.cos(flare), 0, np.sin(flare)])
    e_up = np.array([0.0, 1.0, 0.0])
    a, b = (
        local[:, 0] * np.cos(lean) - local[:, 1] * np.sin(lean),
        local[:, 0] * np.sin(lean) + local[:, 1] * np.cos(lean),
    )
    points = np.array([69.5, 11.0, -86.0]) + a[:, None] * e_back + b[:, None] * e_up + local[:, 2:] * e_out
    tris = []
    for r in range(len(rho) - 1):
        for s in range(spokes):
            t = (s + 1) % spokes
            i, j, k, m = r * spokes + s, r * spokes + t, (r + 1) * spokes + s, (r + 1) * spokes + t
            tris += [[i, j, k], [j, m, k]]
    centre = len(points)
    points = np.concatenate([points, points[:spokes].mean(axis=0, keepdims=True)])
    tris += [[centre, (s + 1) % spokes, s] for s in range(spokes)]
    return points, np.array(tris)
