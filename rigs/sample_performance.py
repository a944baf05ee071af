"""What the sample's head does: phonemes with their times to ARKit coefficients, blinks, brows and small head motion.

Coarticulation by dominance functions: M. Cohen and D. Massaro, Modeling Coarticulation in Synthetic Visual Speech, 1993.
"""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from speech_synthesis import Phoneme

from cmet_engine import arkit
from cmet_engine.track import CoefficientTrack

LEAD = 0.03  # seconds by which the mouth is ahead of the sound
FADE = 0.085  # seconds in which a phoneme's dominance falls to 1/e
RANDOM = 7

_BOTH = ("mouthSmile", "mouthStretch", "mouthPress", "mouthLowerDown", "mouthUpperUp", "mouthDimple", "mouthFrown")

# mouth shapes at full articulation; a name of _BOTH stands for left and right
_SHAPES: dict[str, dict[str, float]] = {
    "rest": {},
    "a": {"jawOpen": 0.52, "mouthLowerDown": 0.22, "mouthUpperUp": 0.12},
    "ae": {"jawOpen": 0.46, "mouthStretch": 0.22, "mouthLowerDown": 0.25, "mouthUpperUp": 0.16},
    "e": {"jawOpen": 0.34, "mouthStretch": 0.20, "mouthLowerDown": 0.24, "mouthUpperUp": 0.12},
    "i": {"jawOpen": 0.16, "mouthStretch": 0.28, "mouthDimple": 0.22, "mouthLowerDown": 0.28, "mouthUpperUp": 0.14},
    "o": {"jawOpen": 0.34, "mouthFunnel": 0.50, "mouthPucker": 0.30},
    "u": {"jawOpen": 0.16, "mouthFunnel": 0.30, "mouthPucker": 0.70},
    "schwa": {"jawOpen": 0.24, "mouthLowerDown": 0.14, "mouthUpperUp": 0.06},
    "closed": {"jawOpen": 0.10, "mouthClose": 0.10, "mouthPress": 0.30, "mouthRollLower": 0.12, "mouthRollUpper": 0.08},
    "f": {"jawOpen": 0.08, "mouthRollLower": 0.50, "mouthShrugLower": 0.20, "mouthUpperUp": 0.22},
    "th": {"jawOpen": 0.18, "mouthLowerDown": 0.22, "mouthUpperUp": 0.08, "tongueOut": 0.10},
    "t": {"jawOpen": 0.12, "mouthStretch": 0.10, "mouthLowerDown": 0.26, "mouthUpperUp": 0.10},
    "sh": {"jawOpen": 0.10, "mouthFunnel": 0.55, "mouthUpperUp": 0.10},
    "k": {"jawOpen": 0.22, "mouthLowerDown": 0.14},
    "w": {"jawOpen": 0.10, "mouthPucker": 0.75, "mouthFunnel": 0.22},
    "r": {"jawOpen": 0.16, "mouthFunnel": 0.34, "mouthPucker": 0.20},
}  # fmt: skip

# IPA symbol (its first sign decides where a longer one is not listed) -> (mouth shape, dominance)
_PHONES: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("ɑ", "a", "ʌ", "ɐ"), ("a", 1.0)), **dict.fromkeys(("æ",), ("ae", 1.0)), **dict.fromkeys(("ɛ", "e"), ("e", 1.0)),
    **dict.fromkeys(("i", "ɪ", "j"), ("i", 0.9)), **dict.fromkeys(("o", "ɔ"), ("o", 1.2)), **dict.fromkeys(("u", "ʊ"), ("u", 1.3)),
    **dict.fromkeys(("ə", "ᵻ"), ("schwa", 0.5)), **dict.fromkeys(("p", "b", "m"), ("closed", 6.0)), **dict.fromkeys(("f", "v"), ("f", 3.0)),
    **dict.fromkeys(("ð", "θ"), ("th", 1.0)), **dict.fromkeys(("t", "d", "n", "s", "z", "l", "ɾ"), ("t", 0.9)),
    **dict.fromkeys(("ʃ", "ʒ"), ("sh", 1.6)), **dict.fromkeys(("k", "ɡ", "g", "ŋ", "h"), ("k", 0.5)), "w": ("w", 1.8),
    **dict.fromkeys(("ɹ", "ɚ", "ɜ", "r"), ("r", 0.8)), "": ("rest", 1.0),
}  # fmt: skip
# second half of a diphthong
_GLIDES = {"aɪ": "i", "eɪ": "i", "ɔɪ": "i", "oʊ": "u", "aʊ": "u", "oːɹ": "r", "ɪɹ": "r", "ɛɹ": "r", "ɑːɹ": "r"}


def vector(shape: str) -> np.ndarray:
    """A mouth shape as coefficients [52]."""
    values = np.zeros(arkit.COUNT)
    for name, value in _SHAPES[shape].items():
        for full in (name + "Left", name + "Right") if name in _BOTH else (name,):
            values[arkit.INDEX[full]] = value
    return values


def targets(phonemes: list[Phoneme]) -> list[tuple[float, float, float, np.ndarray]]:
    """(centre s, half length s, dominance, coefficients [52]) of every mouth shape in the sentence."""
    found = []
    for phoneme in phonemes:
        shape, dominance = _PHONES.get(phoneme.symbol, _PHONES.get(phoneme.symbol[:1], ("schwa", 0.5)))
        length = phoneme.end - phoneme.start
        if phoneme.symbol in _GLIDES:
            found.append((phoneme.start + 0.3 * length, 0.3 * length, dominance, vector(shape)))
            found.append((phoneme.start + 0.85 * length, 0.15 * length, 0.8, vector(_GLIDES[phoneme.symbol])))
        elif length > 0.02:
            found.append((phoneme.start + length / 2, length / 2, dominance, vector(shape)))
    return found


def perform(phonemes: list[Phoneme], duration: float, fps: int = 25, before: float = 0.4) -> CoefficientTrack:
    """The whole performance: `before` seconds of rest, the sentence, rest to the end of `duration` seconds."""
    n = round(duration * fps)
    time = np.arange(n) / fps
    spoken = time - before + LEAD
    total, weight = np.zeros((n, arkit.COUNT)), np.full((n, 1), 1e-3)
    for centre, half, dominance, shape in targets(phonemes):
        beyond = np.maximum(np.abs(spoken - centre) - half * 0.6, 0.0)
        fade = 0.045 if dominance >= 3 else FADE  # lips close and open fast
        share = dominance * np.exp(-((beyond / fade) ** 1.4))[:, None]
        total, weight = total + share * shape, weight + share
    end = phonemes[-1].end
    talking = np.clip(np.minimum((spoken + 0.18) / 0.16, (end + 0.22 - spoken) / 0.2), 0, 1)[:, None]
    coefficients = total / weight * talking

    def column(name: str) -> int:
        return arkit.INDEX[name]

    random = np.random.default_rng(RANDOM)
    for blink in (0.28, 2.35, 4.15, duration - 0.55):
        shape = np.interp(time - blink, [-0.11, -0.03, 0.03, 0.19], [0, 1, 1, 0])
        for side in ("Left", "Right"):
            coefficients[:, column(f"eyeBlink{side}")] = np.maximum(coefficients[:, column(f"eyeBlink{side}")], shape)
    for at, size in ((before + 1.2, 0.22), (before + 3.15, 0.26), (before + 4.5, 0.15)):  # brows lift on stressed words
        lift = size * np.exp(-(((time - at) / 0.22) ** 2))
        coefficients[:, column("browInnerUp")] += lift
        for side in ("Left", "Right"):
            coefficients[:, column(f"browOuterUp{side}")] += 0.7 * lift

    def drift(size: float, slow: float) -> np.ndarray:
        knots = np.arange(-1, duration + 2 * slow, slow)
        values = random.normal(0, size, len(knots))
        smooth = np.interp(time, knots, values)
        kernel = np.hanning(max(3, int(slow * fps) | 1))
        return np.convolve(np.pad(smooth, len(kernel), mode="edge"), kernel / kernel.sum(), "same")[
            len(kernel) : -len(kernel)
        ]

    head = np.stack([drift(3.4, 0.9), drift(2.2, 0.7), drift(1.5, 1.0)], axis=1)
    for at in (before + 1.2, before + 3.2, before + 4.6):  # and the head nods with them
        head[:, 1] -= 2.2 * np.exp(-(((time - at) / 0.2) ** 2))
    gaze = np.zeros((n, 2))
    for start, yaw, pitch in ((0.0, 0.0, 0.0), (1.55, 3.0, -1.0), (2.4, -1.0, 0.0), (3.3, -4.0, 1.0), (4.2, 0.5, 0.0)):
        gaze[time >= start] = yaw, pitch
    gaze -= 0.8 * head[:, :2]  # eyes stay on whom they look at while the head moves
    degrees = {"Left": (28.0, 28.0), "Right": (28.0, 28.0)}
    for side, (out, inward) in degrees.items():
        to_left = gaze[:, 0] / out
        first, second = ("Out", "In") if side == "Left" else ("In", "Out")
        coefficients[:, column(f"eyeLook{first}{side}")] = np.clip(to_left, 0, 1)
        coefficients[:, column(f"eyeLook{second}{side}")] = np.clip(-gaze[:, 0] / inward, 0, 1)
        coefficients[:, column(f"eyeLookUp{side}")] = np.clip(gaze[:, 1] / 22.0, 0, 1)
        coefficients[:, column(f"eyeLookDown{side}")] = np.clip(-gaze[:, 1] / 26.0, 0, 1)
    eyes = np.repeat(gaze[:, None], 2, axis=1).reshape(n, 4)
    return CoefficientTrack(
        Fraction(fps), np.clip(coefficients, 0, 1), head, eyes, meta={"source": "rigs/sample_performance.py"}
    )
