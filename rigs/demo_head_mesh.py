"""Triangle meshes as numbers: subdivision, distances along the surface, smoothing; no Blender.

Loop subdivision: C. Loop, Smooth Subdivision Surfaces Based on Triangles, 1987.
"""

import heapq
from dataclasses import dataclass, field

import numpy as np


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


def merged(parts: list[Part]) -> Part:
    """Several meshes as one."""
    offsets = np.cumsum([0] + [len(p.points) for p in parts[:-1]])
    names = sorted({name for p in parts for name in p.shapes})
    shapes = {n: np.concatenate([p.shapes.get(n, np.zeros_like(p.points)) for p in parts]) for n in names}
    return Part(
        np.concatenate([p.points for p in parts]),
        np.concatenate([p.triangles + o for p, o in zip(parts, offsets, strict=True)]),
        np.concatenate([p.colour for p in parts]),
        shapes,
    )
