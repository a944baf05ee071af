"""Tools to sculpt with: displacements along the skin, the jaw's share, the lids on the eyeball; no Blender."""

import demo_head_geometry as geometry
import numpy as np
from demo_head_geometry import Skin
from demo_head_mesh import Graph, bump, smoothstep, vertex_normals

LID_SEAL_MM = (
    0.5  # closed lids stand this much further out than open ones: a straight way would cut through the eyeball
)
LID_OVERLAP_MM = np.array([0.0, -0.2, 0.1])


class SculptingTools:
    """What the rules of the shapes work with, for one skin."""

    def __init__(self, skin: Skin) -> None:
        self.skin = skin
        self.points = skin.points
        self.count = skin.outer_count
        outer = self.points[: self.count]
        self.outer = outer
        self.graph = Graph(outer, skin.outer_triangles())
        self.normal = vertex_normals(outer, skin.outer_triangles())
        self.soft_normal = self.graph.smooth(self.normal, 12)
        self.soft_normal /= np.linalg.norm(self.soft_normal, axis=1, keepdims=True)
        self.mirror = skin.mirror[: self.count]
        self.reached: dict[tuple[int, ...], np.ndarray] = {}
        self.upper, self.lower = np.array(skin.upper_lip), np.array(skin.lower_lip)
        far = 75.0
        self.upper_side = self.graph.distance(self.upper[4:-4], far) < self.graph.distance(self.lower[4:-4], far)
        self.jaw = self.jaw_weight()

    # tools

    def near(self, seeds: tuple[int, ...] | int, reach: float) -> np.ndarray:
        """1 at the seeds, smoothly to 0 at `reach` mm along the skin."""
        key = (seeds,) if isinstance(seeds, int) else tuple(seeds)
        if key not in self.reached:
            self.reached[key] = self.graph.distance(key, 90.0)
        return self.graph.smooth(bump(np.minimum(self.reached[key], 1e3), reach), 3)

    def push(
        self, seeds: tuple[int, ...] | int, reach: float, way: tuple[float, float, float], peak: bool = True
    ) -> np.ndarray:
        """Displacement [V, 3]: `way` mm at the seeds, fading out at `reach`."""
        weight = self.near(seeds, reach)
        if peak:
            weight = weight / weight.max()
        return weight[:, None] * np.array(way)

    def slide(self, moved: np.ndarray, share: float = 0.85) -> np.ndarray:
        """Take out the part of a displacement that would leave the surface: skin slides over bone."""
        out = (moved * self.soft_normal).sum(axis=1, keepdims=True)
        return moved - share * out * self.soft_normal

    def left(self) -> np.ndarray:
        """1 on the person's left, 0 on the right, a soft step of 8 mm in the middle."""
        return smoothstep(-8.0, 8.0, self.outer[:, 0])

    def off_lids(self, moved: np.ndarray) -> np.ndarray:
        """Keep a brow's displacement off the lids: nothing at their borders, all of it 13 mm away."""
        loops = self.skin.eye_loops["Left"] + self.skin.eye_loops["Right"]
        far = np.minimum(self.graph.distance(loops, 30.0), 30.0)
        return moved * self.graph.smooth(smoothstep(1.0, 13.0, far), 2)[:, None]

    def mirrored(self, moved: np.ndarray) -> np.ndarray:
        """The same displacement on the other side."""
        return (moved * [-1, 1, 1])[self.mirror]

    def even(self, moved: np.ndarray) -> np.ndarray:
        """Both sides: what the left rule does, and its mirror."""
        return moved + self.mirrored(moved)

    def jaw_weight(self) -> np.ndarray:
        """How far each vertex goes with the jaw, 0 to 1: 1 at lower lip and chin, 0 at the skull and below the throat."""
        p, count = self.outer, self.count
        fixed, value = np.zeros(count, bool), np.zeros(count)
        lip = self.graph.distance(self.lower[3:-3], 8.0)
        chin = (p[:, 1] < -48) & (p[:, 1] > -86) & (np.abs(p[:, 0]) < 20 + 0.2 * (p[:, 1] + 86)) & (p[:, 2] > -14)
        one = chin | (np.isfinite(lip) & ~self.upper_side & (lip < 6) & (np.abs(p[:, 0]) < 19))
        fixed |= one
        value[one] = 1.0
        slope = -24.0 + 0.62 * np.maximum(0.0, -p[:, 2] - 5)  # a line from above the mouth's corner up to the ear
        slope = np.where(np.abs(p[:, 0]) < 30, np.maximum(slope, -24.0), slope)
        zero = (p[:, 1] > slope) | (p[:, 1] < -150) | ((p[:, 2] < -95) & (p[:, 1] > -150)) | (p[:, 2] < -120)
        zero |= self.upper_side & (np.isfinite(self.graph.distance(self.upper[4:-4], 12.0)) & (np.abs(p[:, 0]) < 19))
        zero |= np.isin(np.arange(count), self.upper[3:-3])
        fixed |= zero & ~one
        value[zero & ~one] = 0.0
        weight = self.graph.harmonic(fixed, value, 2500)
        # the line of the lips: both corners open like a hinge
        x = np.linspace(-1, 1, len(self.lower))
        weight[self.lower] = 0.5 + 0.5 * (1 - np.abs(x) ** 3.0) ** 0.7
        weight[self.upper] = 0.5 - 0.5 * (1 - np.abs(x) ** 3.0) ** 0.7
        border = np.zeros(count, bool)
        border[self.lower] = border[self.upper] = True
        near = np.isfinite(self.graph.distance(np.concatenate([self.lower, self.upper]), 9.0))
        weight = self.graph.harmonic(border | ~near, weight, 120)
        weight = self.graph.smooth(weight, 6, np.where(border, 0.0, 0.4))
        return (weight + weight[self.mirror]) / 2

    # eyes

    def lid_weights(self, side: str) -> tuple[np.ndarray, np.ndarray]:
        """How far skin goes with the upper and with the lower lid of a side: 1 at the border, 0 at brow and cheek."""
        loop = np.array(self.skin.eye_loops[side])
        centre = self.skin.eyes[side]
        upper, lower = self.lid_borders(side)
        reach_up = self.graph.distance(upper, 40.0)
        reach_low = self.graph.distance(lower, 40.0)
        above = reach_up < reach_low
        weight_up = np.where(above, bump(np.minimum(reach_up, 1e3), 12.0), 0.0)
        weight_low = np.where(above, 0.0, bump(np.minimum(reach_low, 1e3), 11.0))
        free = np.ones(self.count)
        free[loop] = 0.0
        weight_up, weight_low = (
            self.graph.smooth(weight_up, 3, 0.4 * free),
            self.graph.smooth(weight_low, 3, 0.4 * free),
        )
        del centre
        return weight_up, weight_low

    def lid_borders(self, side: str) -> tuple[np.ndarray, np.ndarray]:
        """Border vertices of the upper and the lower lid from the inner to the outer corner, both corners in both."""
        loop = self.skin.eye_loops[side]
        corners = (geometry.EYE_INNER, geometry.EYE_OUTER)
        if side == "Right":
            corners = tuple(int(self.mirror[c]) for c in corners)
        one = geometry.path_between(loop, corners[0], corners[1])
        two = geometry.path_between(loop, corners[1], corners[0])[::-1]
        up = self.outer[one, 1].mean() > self.outer[two, 1].mean()
        return (np.array(one), np.array(two)) if up else (np.array(two), np.array(one))

    def lid_turn(self, side: str, upper_share: float, lower_share: float, out: float) -> np.ndarray:
        """Both lids turn about the eyeball towards the closing line by shares of the way; 1 and 1 meet."""
        centre = self.skin.eyes[side]
        upper, lower = self.lid_borders(side)
        p = self.outer

        def elevation(points: np.ndarray) -> np.ndarray:
            return np.arctan2(points[:, 1] - centre[1], points[:, 2] - centre[2])

        def at(x: np.ndarray, loop: np.ndarray, values: np.ndarray) -> np.ndarray:
            order = np.argsort(p[loop, 0])
            return np.interp(x, p[loop, 0][order], values[order])

        x = p[:, 0]
        up, low = at(x, upper, elevation(p[upper])), at(x, lower, elevation(p[lower]))
        line = low + 0.22 * (up - low)  # the upper lid does most of the closing
        weight_up, weight_low = self.lid_weights(side)
        angle = weight_up * (line - up) * upper_share + weight_low * (line - low) * lower_share
        inside = smoothstep(22.0, 15.0, np.abs(x - centre[0]))
        angle = angle * inside
        offset = p - centre
        c, s = np.cos(angle), np.sin(angle)
        turned = np.stack(
            [offset[:, 0], offset[:, 1] * c + offset[:, 2] * s, -offset[:, 1] * s + offset[:, 2] * c], axis=1
        )
        away = offset / np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-9)
        lift = (
            out
            * np.maximum(weight_up * abs(upper_share), weight_low * abs(lower_share))
            * inside
            * smoothstep(14.5, 11.0, np.abs(x - centre[0]))
        )
        return turned - offset + lift[:, None] * away

    def blink(self) -> np.ndarray:
        """Left lids closed, the borders exactly on each other."""
        moved = self.lid_turn("Left", 1.0, 1.0, LID_SEAL_MM)
        moved = self.outside_eyeball(moved)
        upper, lower = self.lid_borders("Left")
        x_up, x_low = self.outer[upper, 0], self.outer[lower, 0]
        closed_low = self.outer[lower] + moved[lower]
        order = np.argsort(x_low)
        line = np.stack([np.interp(x_up, x_low[order], closed_low[order, k]) for k in range(3)], axis=1)
        line[1:-1] += LID_OVERLAP_MM  # between vertices two border lines are not quite one
        moved[upper] = line - self.outer[upper]
        return moved

    def outside_eyeball(self, moved: np.ndarray, side: str = "Left") -> np.ndarray:
        """Push moved skin out of the eyeball where it would lie in it."""
        centre = self.skin.eyes[side]
        offset = self.outer + moved - centre
        far = np.linalg.norm(offset, axis=1)
        need = geometry.EYE_RADIUS + geometry.LID_THICKNESS
        inside = (far < need) & (offset[:, 2] > 0) & (np.abs(offset[:, 0]) < 11)
        moved = moved.copy()
        moved[inside] += (need / far[inside, None] - 1) * offset[inside]
        return moved
