"""The 52 ARKit shapes of the demo head, sculpted by rule: numbers only, no Blender.

A shape is a displacement of every vertex at coefficient 1, millimetres. Rules are written for the person's left side and mirrored
for the right. Meaning of each shape: Apple, ARKit, `ARFaceAnchor.BlendShapeLocation`; the muscles behind them: P. Ekman and
W. Friesen, Facial Action Coding System, 1978.
"""

from collections.abc import Callable

import demo_head_geometry as geometry
import numpy as np
from demo_head_mesh import bump, smoothstep
from demo_head_sculpting import SculptingTools

JAW_HINGE = np.array([0.0, 2.0, -66.0])  # the jaw's joint, in front of the ears
JAW_OPEN_DEGREES = 19.0
JAW_SIDE_MM, JAW_FORWARD_MM = 7.0, 7.0
EYE_DEGREES = {"In": 28.0, "Out": 28.0, "Up": 22.0, "Down": 26.0}

# Landmarks on the person's left side (the right one is the mirror)
CORNER = 291
UPPER_LIP_MIDDLE, LOWER_LIP_MIDDLE = 0, 17
UPPER_LIP_SIDE, LOWER_LIP_SIDE = (269, 270, 267), (405, 314, 321)
BROW_INNER, BROW_MIDDLE, BROW_OUTER = (285, 336, 295, 296), (282, 334, 293), (276, 300, 283, 383)
CHEEK_APPLE, CHEEK_HOLLOW, CHEEKBONE = (425, 330, 266), (427, 411, 434), (280, 346, 347)
NOSE_WING, NOSE_SIDE = (278, 279, 331, 294), (429, 420, 437, 399)
FOLD = (358, 391, 322, 410)  # from the nose's wing to the corner of the mouth
LIP_RING = (61, 291, 0, 17, 269, 39, 405, 181, 13, 14, 308, 78)
CHIN_MIDDLE = (199, 200, 175)


def rotation(axis: str, degrees: float) -> np.ndarray:
    """Rotation matrix [3, 3] about x (positive: forward turns down) or y (positive: forward turns to the person's left)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def jaw_motion(points: np.ndarray) -> dict[str, np.ndarray]:
    """Rigid motion [V, 3] of points fixed to the jaw, for each jaw coefficient at 1."""
    turned = (points - JAW_HINGE) @ rotation("x", JAW_OPEN_DEGREES).T + JAW_HINGE
    return {
        "jawOpen": turned - points + np.array([0.0, -1.0, 2.5]),  # the joint glides forward as it opens
        "jawForward": np.broadcast_to(np.array([0.0, -0.6, JAW_FORWARD_MM]), points.shape).copy(),
        "jawLeft": np.broadcast_to(np.array([JAW_SIDE_MM, 0.0, 0.0]), points.shape).copy(),
        "jawRight": np.broadcast_to(np.array([-JAW_SIDE_MM, 0.0, 0.0]), points.shape).copy(),
    }


def eye_motion(points: np.ndarray, centre: np.ndarray, side: str) -> dict[str, np.ndarray]:
    """Turn of the eyeball's points [V, 3] about its centre, for the four eyeLook coefficients of its side at 1."""
    inward = -1 if side == "Left" else 1
    turns = {
        "In": rotation("y", inward * EYE_DEGREES["In"]),
        "Out": rotation("y", -inward * EYE_DEGREES["Out"]),
        "Up": rotation("x", -EYE_DEGREES["Up"]),
        "Down": rotation("x", EYE_DEGREES["Down"]),
    }
    return {f"eyeLook{way}{side}": (points - centre) @ turn.T + centre - points for way, turn in turns.items()}


class Sculptor(SculptingTools):
    """Makes the shapes of a skin."""

    def left_rules(self) -> dict[str, Callable[[], np.ndarray]]:
        """One-sided shapes: name without its side -> rule for the left."""
        return {
            "eyeBlink": self.blink,
            "eyeLookDown": lambda: self.outside_eyeball(self.lid_turn("Left", 0.62, -0.25, 0.2)),
            "eyeLookUp": lambda: self.outside_eyeball(self.lid_turn("Left", -0.24, 0.12, 0.0)),
            "eyeLookIn": lambda: self.push((geometry.EYE_INNER, 385, 380), 12, (-0.5, 0, 0.25)),
            "eyeLookOut": lambda: self.push((geometry.EYE_OUTER, 387, 373), 12, (0.5, 0, 0.25)),
            "eyeSquint": self.squint,
            "eyeWide": self.wide,
            "mouthSmile": self.smile,
            "mouthFrown": self.frown,
            "mouthDimple": self.dimple,
            "mouthStretch": self.stretch,
            "mouthPress": self.press,
            "mouthLowerDown": self.lower_down,
            "mouthUpperUp": self.upper_up,
            "browDown": self.brow_down,
            "browOuterUp": self.brow_outer_up,
            "cheekSquint": self.cheek_squint,
            "noseSneer": self.nose_sneer,
        }

    def squint(self) -> np.ndarray:
        """The lower lid rises and the eye narrows by a quarter, as other makers' heads do (ICT-FaceKit: 0.24)."""
        moved = self.outside_eyeball(self.lid_turn("Left", 0.12, 0.7, 0.2))
        moved = moved + self.push((450, 449, 448), 20, (0, 0.4, 0.8)) + self.push(CHEEKBONE, 26, (0, 1.2, 0.8))
        return self.outside_eyeball(moved)

    def wide(self) -> np.ndarray:
        """The upper lid lifts off the iris."""
        return self.outside_eyeball(self.lid_turn("Left", -0.42, -0.22, 0.0)) + self.push(
            (386, 385, 387), 26, (0, 0.6, 0)
        )

    def smile(self) -> np.ndarray:
        """The corner of the mouth up and out; the cheek gathers, the fold beside the nose deepens."""
        moved = self.push(CORNER, 40, (9.0, 9.5, -5.5))
        moved += self.push(UPPER_LIP_SIDE, 22, (2.0, 1.0, -1.2)) + self.push(LOWER_LIP_SIDE, 20, (2.0, 0.8, -1.0))
        moved += self.push(CHEEK_APPLE, 30, (1.5, 4.5, 3.6)) + self.push(CHEEKBONE, 24, (0.5, 2.0, 1.4))
        moved += self.push(FOLD, 9, (0.4, 0.4, -1.3)) + self.push(NOSE_WING, 12, (1.2, 0.8, -0.3))
        return moved

    def frown(self) -> np.ndarray:
        """The corner of the mouth down."""
        moved = self.push(CORNER, 34, (4.0, -8.0, -3.0)) + self.push(
            (*LOWER_LIP_SIDE, *UPPER_LIP_SIDE), 18, (1.2, -0.6, 0.0)
        )
        moved += self.push((422, 424, 431), 30, (0.5, -2.6, 1.2)) + self.push(CHEEK_HOLLOW, 26, (0, -2.5, -0.4))
        return moved

    def dimple(self) -> np.ndarray:
        """The corner of the mouth back and in."""
        return (
            self.push(CORNER, 20, (5.0, 1.2, -5.5))
            + self.push((410, 287, 436), 14, (1.0, 0.3, -1.2))
            + self.push(CHEEK_HOLLOW, 24, (1.2, 0.6, 1.0))
        )

    def stretch(self) -> np.ndarray:
        """The corner of the mouth out and down."""
        moved = self.push(CORNER, 36, (9.5, -1.8, -5.0)) + self.push(LOWER_LIP_SIDE, 22, (3.2, -1.2, -1.0))
        return moved + self.push(CHEEK_HOLLOW, 30, (2.0, -1.5, -0.8)) + self.push(UPPER_LIP_SIDE, 18, (1.6, -0.4, -0.8))

    def lip_band(self, lip: str, reach: float) -> np.ndarray:
        """Weight [V]: 1 at the border of one lip, 0 at `reach`, tapering to the corners."""
        border = self.upper if lip == "upper" else self.lower
        x = np.linspace(-1, 1, len(border))
        far = self.graph.distance(border[2:-2], 60.0)
        weight = bump(np.minimum(far, 1e3), reach)
        same = self.upper_side if lip == "upper" else ~self.upper_side
        weight = np.where(same, weight, 0.0)
        weight[border] = 1.0
        taper = np.clip(1 - (np.abs(self.outer[:, 0]) / (np.abs(self.outer[border, 0]).max() + 2.0)) ** 2, 0, 1)
        del x
        return weight * taper**0.8

    def press(self) -> np.ndarray:
        """Lips pressed on each other."""
        left = self.left()
        up, low = self.lip_band("upper", 13), self.lip_band("lower", 13)
        moved = (left * up)[:, None] * [0, -0.9, -1.6] + (left * low)[:, None] * [0, 0.9, -1.6]
        # the red of the lips flattens between them, the border line itself stays closed
        outer_up = left * self.near((UPPER_LIP_MIDDLE, *UPPER_LIP_SIDE, 409), 9)
        outer_low = left * self.near((LOWER_LIP_MIDDLE, *LOWER_LIP_SIDE, 375), 9)
        moved += outer_up[:, None] * [0, -1.5, -0.4] + outer_low[:, None] * [0, 1.9, -0.4]
        moved += self.push(CORNER, 15, (1.2, 0.3, -1.6))
        return self.keep_sealed(moved)

    def keep_sealed(self, moved: np.ndarray, band: float = 8.0) -> np.ndarray:
        """Make both lip borders move alike, so that closed lips stay closed, and blend the difference into the lips."""
        mean = (moved[self.upper] + moved[self.lower]) / 2
        for border in (self.upper, self.lower):
            change = mean - moved[border]
            spread = np.zeros((self.count, 3))
            spread[border] = change
            fixed = np.zeros(self.count, bool)
            fixed[border] = True
            near = np.isfinite(self.graph.distance(border, band))
            other = self.lower if border is self.upper else self.upper
            fixed |= ~near
            fixed[other] = True
            spread[np.setdiff1d(other, border)] = 0.0
            for k in range(3):
                spread[:, k] = self.graph.harmonic(fixed, spread[:, k], 60)
            moved = moved + spread
        return moved

    def lower_down(self) -> np.ndarray:
        """The lower lip down, off the teeth."""
        left, low = self.left(), self.lip_band("lower", 24)
        moved = (left * low)[:, None] * [0.8, -8.0, -0.8]
        return moved + left[:, None] * self.push((200, 421, 418), 22, (0.4, -1.8, 0.5))

    def upper_up(self) -> np.ndarray:
        """The upper lip up, off the teeth."""
        left, up = self.left(), self.lip_band("upper", 26)
        moved = (left * up)[:, None] * [0.4, 7.0, -0.2]
        return moved + left[:, None] * (
            self.push(NOSE_WING, 16, (0.8, 1.8, 0.0))
            + self.push(CHEEK_APPLE, 26, (0.3, 2.0, 1.6))
            + self.push(FOLD, 8, (0, 0.8, -0.8))
        )

    def brow_down(self) -> np.ndarray:
        """The brow down and in."""
        moved = self.push(BROW_INNER, 30, (-3.0, -6.0, 0.6)) + self.push(BROW_MIDDLE, 24, (-1.0, -4.2, 0.4))
        moved = self.slide(self.off_lids(moved + self.push(BROW_OUTER, 20, (0, -1.5, 0))), 0.7)
        return self.outside_eyeball(moved + self.push((285, 417), 12, (-0.6, -0.4, 1.2)))

    def brow_outer_up(self) -> np.ndarray:
        """The outer end of the brow up."""
        moved = self.push(BROW_OUTER, 32, (0.6, 6.5, 0)) + self.push(BROW_MIDDLE, 28, (0.3, 4.5, 0))
        return self.slide(self.off_lids(moved), 0.8)

    def cheek_squint(self) -> np.ndarray:
        """The cheek up, against the lower lid."""
        moved = (
            self.push(CHEEKBONE, 30, (-0.4, 5.0, 2.8))
            + self.push(CHEEK_APPLE, 26, (0, 2.5, 1.6))
            + self.push((446, 342, 340), 18, (-0.8, 1.2, 0.4))
        )
        return self.outside_eyeball(moved + self.lid_turn("Left", 0.0, 0.7, 0.2))

    def nose_sneer(self) -> np.ndarray:
        """The nose's wing up; the nose wrinkles."""
        moved = self.push(NOSE_WING, 20, (1.4, 4.5, -0.2)) + self.push(NOSE_SIDE, 20, (0.6, 3.2, 0.8))
        left, up = self.left(), self.lip_band("upper", 24)
        moved += (
            (left * up)[:, None] * [0.2, 1.3, 0.2]
            + self.push((413, 464, 453), 14, (-0.4, -0.6, 1.0))
            + self.push(BROW_INNER, 18, (-0.6, -1.6, 0.2))
        )
        return self.outside_eyeball(moved + self.push(FOLD[:2], 10, (0.4, 1.0, -1.2)))

    def funnel(self) -> np.ndarray:
        """Lips forward and open, a ring."""
        moved = self.even(self.push(CORNER, 32, (-5.5, 0, 3.0)))
        moved += self.even(
            self.push(UPPER_LIP_SIDE, 18, (-1.6, 0, 1.0)) + self.push(LOWER_LIP_SIDE, 18, (-1.6, 0, 1.0))
        )
        up, low = self.lip_band("upper", 22), self.lip_band("lower", 22)
        return moved + up[:, None] * [0, 6.0, 6.0] + low[:, None] * [0, -7.5, 6.0]

    def pucker(self) -> np.ndarray:
        """Lips forward and closed, a kiss."""
        toward = np.clip(self.outer[:, 0] / 26.0, -1, 1) * self.near(LIP_RING, 30)
        moved = self.graph.smooth(toward, 6)[:, None] * np.array([-10.5, 0, 0])
        ring = self.graph.smooth(self.near(LIP_RING, 24), 4)
        middle = np.exp(-((self.outer[:, 0] / 16.0) ** 2))
        moved += (ring * (0.35 + 0.65 * middle))[:, None] * [0, 0, 6.5]
        up, low = self.lip_band("upper", 20), self.lip_band("lower", 20)
        moved += up[:, None] * [0, 0.9, 0.6] + low[:, None] * [0, -0.9, 0.6]
        return self.even(self.keep_sealed(moved)) / 2

    def sideways(self) -> np.ndarray:
        """Mouth to the person's left, jaw at rest."""
        both = np.maximum(self.near((UPPER_LIP_MIDDLE, LOWER_LIP_MIDDLE, 13, 14), 40), 0)
        weight = np.maximum(both, np.maximum(self.near(CORNER, 30), self.near(int(self.mirror[CORNER]), 30)))
        weight = self.graph.smooth(weight, 10)
        moved = weight[:, None] * [11.0, 0.0, 0.0]
        moved[:, 2] -= weight * 0.0022 * 11.0 * self.outer[:, 0] * 2  # along the curve of the teeth
        return self.keep_sealed(moved + self.push(CHEEK_HOLLOW, 24, (0, 0.5, 1.5)))

    def roll(self, lip: str) -> np.ndarray:
        """A lip rolls in over its teeth."""
        sign = -1.0 if lip == "upper" else 1.0
        band = self.lip_band(lip, 12)
        outer = (UPPER_LIP_MIDDLE, *UPPER_LIP_SIDE) if lip == "upper" else (LOWER_LIP_MIDDLE, *LOWER_LIP_SIDE)
        red = self.near(tuple(outer) + tuple(int(self.mirror[v]) for v in outer), 10)
        same = self.upper_side if lip == "upper" else ~self.upper_side
        moved = band[:, None] * [0, 0.4 * sign, -4.2] + (red * same)[:, None] * [0, 3.2 * sign, -1.6]
        border = self.upper if lip == "upper" else self.lower
        moved[border, 1] *= 0.3
        return self.even(moved) / 2

    def shrug_lower(self) -> np.ndarray:
        """The lower lip and the chin push up."""
        low = self.lip_band("lower", 24)
        moved = low[:, None] * [0, 4.5, 2.8] + self.even(self.push(CHIN_MIDDLE, 26, (0, 2.6, 1.0)) / 2)
        moved += self.lip_band("upper", 16)[:, None] * [0, 3.6, 1.2]
        return self.keep_sealed(self.even(moved) / 2)

    def shrug_upper(self) -> np.ndarray:
        """The upper lip pushes up and out."""
        moved = self.lip_band("upper", 24)[:, None] * [0, 3.4, 2.4] + self.lip_band("lower", 14)[:, None] * [
            0,
            2.6,
            1.0,
        ]
        return self.keep_sealed(self.even(moved) / 2)

    def brow_inner_up(self) -> np.ndarray:
        """The inner ends of both brows up."""
        moved = self.push(BROW_INNER, 28, (0.4, 7.5, 0)) + self.push((9, 107, 336), 30, (0, 2.0, 0))
        return self.even(self.slide(self.off_lids(moved), 0.8) * self.left()[:, None])

    def cheek_puff(self) -> np.ndarray:
        """Cheeks full of air."""
        weight = self.near(CHEEK_HOLLOW, 38)
        moved = weight[:, None] * self.soft_normal * 8.5 + self.push(CORNER, 18, (-1.0, 0, 1.2))
        moved += self.push((UPPER_LIP_SIDE[1], LOWER_LIP_SIDE[0]), 14, (0, 0, 1.2))
        return self.keep_sealed(self.even(moved))

    def tongue_room(self) -> np.ndarray:
        """Lips make way for the tongue."""
        return self.lip_band("lower", 20)[:, None] * [0, -4.0, 1.5] + self.lip_band("upper", 14)[:, None] * [
            0,
            1.6,
            0.8,
        ]

    def mouth_close(self, jaw_open: np.ndarray) -> np.ndarray:
        """Lips closed over an open jaw: with jawOpen at 1, mouthClose at 1 brings both borders onto one line."""
        drop = jaw_open[self.lower] - jaw_open[self.upper]
        share = 0.66  # the lower lip does most of it
        x = self.outer[self.lower, 0]
        order = np.argsort(x)
        here = np.stack([np.interp(self.outer[:, 0], x[order], drop[order, k]) for k in range(3)], axis=1)
        moved = np.zeros((self.count, 3))
        for border, part, same in ((self.lower, -share, ~self.upper_side), (self.upper, 1 - share, self.upper_side)):
            far = np.minimum(self.graph.distance(border, 40.0), 40.0)
            whole_lip = self.graph.smooth(np.where(same, smoothstep(36.0, 9.0, far), 0.0), 4)
            moved += part * whole_lip[:, None] * here
        fixed = np.zeros(self.count, bool)
        fixed[self.lower] = fixed[self.upper] = True
        exact = moved.copy()
        exact[self.lower], exact[self.upper] = -share * drop, (1 - share) * drop
        near = np.isfinite(self.graph.distance(np.concatenate([self.upper, self.lower]), 5.0))
        for k in range(3):
            moved[:, k] += self.graph.harmonic(fixed | ~near, np.where(fixed, exact[:, k] - moved[:, k], 0.0), 100)
        return moved

    def shapes(self) -> dict[str, np.ndarray]:
        """All 52 shapes on the whole skin, name -> displacement [V, 3] mm, in the order of no one: look up by name."""
        outer: dict[str, np.ndarray] = {}
        for name, rule in self.left_rules().items():
            moved = rule()
            outer[name + "Left"], outer[name + "Right"] = moved, self.mirrored(moved)
        jaw = jaw_motion(self.outer)
        for name, moved in jaw.items():
            outer[name] = moved * self.jaw[:, None]
        outer["mouthClose"] = self.mouth_close(outer["jawOpen"])
        outer["mouthFunnel"], outer["mouthPucker"] = self.even(self.funnel()) / 2, self.pucker()
        outer["mouthLeft"] = self.sideways()
        outer["mouthRight"] = self.mirrored(outer["mouthLeft"])
        outer["mouthRollUpper"], outer["mouthRollLower"] = self.roll("upper"), self.roll("lower")
        outer["mouthShrugUpper"], outer["mouthShrugLower"] = self.shrug_upper(), self.shrug_lower()
        outer["browInnerUp"] = self.brow_inner_up()
        outer["cheekPuff"] = self.cheek_puff()
        outer["tongueOut"] = self.even(self.tongue_room()) / 2
        return {name: self.whole(name, moved) for name, moved in outer.items()}

    def whole(self, name: str, moved: np.ndarray) -> np.ndarray:
        """Continue a shape of the outer skin onto inner walls and ears; nothing below a hundredth of a millimetre."""
        skin = self.skin
        full = np.zeros_like(self.points)
        full[: self.count] = moved
        mouth = self.skin.mouth_rings
        first = self.mouth_loop()
        jaw = jaw_motion(self.points).get(name)
        for depth, ring in enumerate(mouth):
            follow = (1.0, 0.85, 0.55, 0.25, 0.05, 0.0, 0.0)[depth]
            full[ring] = follow * moved[first]
            if jaw is not None:
                lower = np.clip(0.5 - (self.points[ring, 1] - self.points[first, 1].mean()) / 4.0, 0, 1)
                lower = np.where(depth < 2, self.jaw[first], lower)
                full[ring] = jaw[ring] * lower[:, None] * (1.0, 1.0, 1.0, 1.0, 0.9, 0.6, 0.3)[depth]
        for side, rings in skin.lid_rings.items():
            for depth, ring in enumerate(rings):
                full[ring] = (1.0, 0.8, 0.35)[depth] * moved[self.skin.eye_loops[side]]
        full[np.abs(full).max(axis=1) < 0.01] = 0.0
        return full

    def mouth_loop(self) -> list[int]:
        """The lips' border in the order of the rings of the inner wall."""
        return self.skin.mouth_loop
