"""Published knowledge of which facial actions show which emotion, as a spread of faces rather than one pose.

An emotion is a handful of variants; a variant is a set of facial actions (FACS action units) with an intensity. The
FACS actions become ARKit coefficients by `ACTIONS`. Sampling draws a variant, then intensities and a slight asymmetry,
so that a model fitted to the samples learns a family of expressions.

Sources, by the keys used in `MAKEUP`:
    EMFACS   Ekman & Friesen 1983; the combinations listed in Ekman, Friesen & Hager 2002, FACS Investigator's Guide, ch. 12
    DU       Du, Tao & Martinez 2014, Compound facial expressions of emotion, PNAS 111(15), table 1
    CONTEMPT Ekman & Friesen 1986, A new pan-cultural facial expression of emotion; Matsumoto & Ekman 2004, JPSP 87(4)
    SYMPATHY Haidt & Keltner 1999, Cognition & Emotion 13(3); Goetz, Keltner & Simon-Thomas 2010, Psych. Bulletin 136(3)
    LOVE     Gonzaga, Keltner, Londahl & Smith 2001, JPSP 81(2)
    DESIRE   Gonzaga, Turner, Keltner, Campos & Altemus 2006, Emotion 6(2)
    IRONY    Attardo, Eisterhold, Hay & Poggi 2003, Humor 16(2)
    ENVY     no agreed display; hostile envy shares anger's brow and contempt's lip: Lange, Weidman & Crusius 2018, JPSP 114(4)
    CHARISMA Trichas & Schyns 2012, Leadership Quarterly 23(3); eyebrow flash: Grammer et al. 1988, J. Human Evolution 17
    SIDES    the left half of the face shows more: Sackeim, Gur & Saucy 1978, Science 202
The step from FACS to ARKit follows Apple's descriptions of `ARFaceAnchor.BlendShapeLocation`; amounts are on the scale on
which MediaPipe's blendshape model scores real faces, where 0.5 of `browDown` or 0.3 of `mouthFrown` is already a lot.
"""

from dataclasses import dataclass

import numpy as np

from cmet_engine import arkit

INTENSITY = {"A": 0.1, "B": 0.3, "C": 0.5, "D": 0.7, "E": 0.9}
"""FACS intensity letters, trace to maximum, as a share of the action's full amount (midpoints of the five steps)."""

INTENSITY_SPREAD = 0.12
OVERALL_SPREAD = 0.15
SIDE_SPREAD = 0.06
LEFT_SHARE = 1.04  # SIDES: the left half shows a little more

ACTIONS: dict[str, dict[str, float]] = {
    "1": {"browInnerUp": 0.85},
    "2": {"browOuterUp": 0.8},
    "4": {"browDown": 0.7},
    "5": {"eyeWide": 0.5},
    "6": {"cheekSquint": 0.9, "eyeSquint": 0.35},
    "7": {"eyeSquint": 0.6},
    "9": {"noseSneer": 0.75, "mouthUpperUp": 0.15, "browDown": 0.2, "cheekSquint": 0.3},
    "10": {"mouthUpperUp": 0.5, "noseSneer": 0.3},
    "12": {"mouthSmile": 1.0},
    "14": {"mouthDimple": 0.7, "mouthPress": 0.35},
    "15": {"mouthFrown": 0.65},
    "16": {"mouthLowerDown": 0.65},
    "17": {"mouthShrugLower": 0.6, "mouthShrugUpper": 0.1},
    "18": {"mouthPucker": 0.6},
    "20": {"mouthStretch": 0.75},
    "22": {"mouthFunnel": 0.35},
    "23": {"mouthPress": 0.5, "mouthRollLower": 0.12},
    "24": {"mouthPress": 0.55, "mouthRollLower": 0.2, "mouthRollUpper": 0.2},
    "25": {"mouthLowerDown": 0.2, "mouthUpperUp": 0.1},
    "26": {"jawOpen": 0.4},
    "29": {"jawForward": 0.6},
    "43": {"eyeBlink": 0.6},
}
"""FACS action -> ARKit coefficients at its maximum; names without a side stand for both sides."""


@dataclass(frozen=True)
class Variant:
    """One way to show an emotion: `actions` is FACS notation (`1C 4D R12B`: right side only), `share` how common."""

    share: float
    actions: str


@dataclass(frozen=True)
class Makeup:
    """How an emotion looks: variants, the actions it relaxes in the actor's own face, and where that is published."""

    variants: tuple[Variant, ...]
    relaxes: dict[str, float]
    sources: str


_RELAX_SMILE = {"mouthSmile": 0.9, "mouthDimple": 0.5, "cheekSquint": 0.6}
_RELAX_BROWS = {"browInnerUp": 0.9, "browOuterUp": 0.9}
_RELAX_SCOWL = {"browDown": 0.7, "mouthFrown": 0.7, "mouthPress": 0.4}

MAKEUP: dict[str, Makeup] = {
    "angry": Makeup(
        (
            Variant(0.50, "4E 5A 7D 16E 25B 26D"),
            Variant(0.30, "4E 5A 7D 16E 22B 26D"),
            Variant(0.20, "4E 5A 7D 15A 16E 26D 29B"),
        ),
        {**_RELAX_SMILE, **_RELAX_BROWS, "eyeWide": 0.5},
        "EMFACS",
    ),
    "contempt": Makeup(
        (
            Variant(0.7, "L12B L14E L24D 24A 17C 7C 4B"),
            Variant(0.3, "L12B L14E L24D 17C 7C 4B"),
        ),
        {**_RELAX_SMILE, **_RELAX_BROWS, "mouthSmile": 1.0},
        "CONTEMPT",
    ),
    "disgusted": Makeup(
        (
            Variant(0.4, "9E 10E 17C 4B 7B 43B 15B"),
            Variant(0.3, "9E 10E 17C 4C 7B 43B 15B"),
            Variant(0.3, "9E 10E 17C 4B 7B 43B 15B 16C"),
        ),
        {**_RELAX_SMILE, **_RELAX_BROWS},
        "EMFACS, DU",
    ),
    "fear": Makeup(
        (
            Variant(0.5, "1E 2A 4C 5D 20E 25B 10A"),
            Variant(0.3, "1E 2B 4C 5D 20D 25B 15A"),
            Variant(0.2, "1E 4B 5D 20D 16A 25B 26A 10A"),
        ),
        {"mouthSmile": 0.7, "mouthDimple": 0.5, "eyeSquint": 0.7, "eyeBlink": 0.4, "mouthPress": 0.5},
        "EMFACS, DU",
    ),
    "happy": Makeup(
        (
            Variant(0.5, "6D 12E 25C 10A"),
            Variant(0.3, "6D 12E 25C 14A"),
            Variant(0.2, "6D 12E 25C 10A 1A 2A"),
        ),
        _RELAX_SCOWL,
        "EMFACS",
    ),
    "sad": Makeup(
        (
            Variant(0.5, "1C 4B 15B 17C 43B 7A 24A"),
            Variant(0.3, "1D 4B 15C 17C 43B 24A"),
            Variant(0.2, "1C 4B 15B 17C 43B 6A 7A 24A"),
        ),
        {**_RELAX_SMILE, "mouthSmile": 1.0, "mouthUpperUp": 0.3, "eyeWide": 0.7, "browOuterUp": 0.6},
        "EMFACS, DU",
    ),
    "surprised": Makeup(
        (
            Variant(0.5, "1C 2E 5E 26E 25B"),
            Variant(0.3, "1C 2E 5E 26E 25B"),
            Variant(0.2, "1C 2E 5E 26E"),
        ),
        {**_RELAX_SCOWL, "mouthSmile": 0.6, "eyeSquint": 0.6, "eyeBlink": 0.3},
        "EMFACS",
    ),
    "charismatic": Makeup(
        (
            Variant(0.6, "6C 12D 1A 2C 25B 5A"),
            Variant(0.4, "6C 12C 2C 25B"),
        ),
        _RELAX_SCOWL,
        "CHARISMA",
    ),
    "desirous": Makeup(
        (
            Variant(0.5, "43C 7C 18B 25B 12B"),
            Variant(0.5, "43C 7C 18A 25B L12C 12A"),
        ),
        {"browOuterUp": 0.4, "eyeWide": 0.8, "mouthFrown": 0.5},
        "DESIRE",
    ),
    "empathetic": Makeup(
        (
            Variant(0.6, "1D 4A 12A 24A 43A"),
            Variant(0.4, "1D 4B 17A 24B 14A"),
        ),
        {"mouthSmile": 0.3, "browDown": 0.3, "browOuterUp": 0.2},
        "SYMPATHY",
    ),
    "envious": Makeup(
        (
            Variant(0.5, "4C 7D L10C 24C L14B"),
            Variant(0.5, "4C 7D 15B 24C 17B L10B"),
        ),
        {**_RELAX_SMILE, **_RELAX_BROWS},
        "ENVY, EMFACS, CONTEMPT",
    ),
    "romantic": Makeup(
        (
            Variant(0.6, "6C 12C 1B 43B 7A"),
            Variant(0.4, "6B 12C 1B 43B 7A"),
        ),
        {"browDown": 0.6, "mouthFrown": 0.7, "mouthPress": 0.4},
        "LOVE",
    ),
    "sarcastic": Makeup(
        (
            Variant(0.5, "R2E L4C R12E R14B 7C 43B"),
            Variant(0.3, "R2E L4B R12E R14C 7C 43B"),
            Variant(0.2, "R2E L4C 7C 43B R12D R14B 17A"),
        ),
        {"browInnerUp": 0.3, "mouthSmile": 0.7},
        "IRONY",
    ),
}
"""The thirteen emotions that the library holds. `relaxes` is the share of the actor's own coefficient that gives way: what the
emotion's own actions pull the other way (raised brows under a scowl, a smile under pressed or stretched lips), and what
would contradict it at a glance. Raised brows over contempt mostly stay."""


def _sided(name: str, side: str) -> list[str]:
    """The coefficients of a name without a side: both, one (`L`, `R`), or the middle one."""
    if name in arkit.INDEX:
        return [name]
    return [name + s for s in {"": ("Left", "Right"), "L": ("Left",), "R": ("Right",)}[side]]


def parse_actions(actions: str) -> list[tuple[str, str, float]]:
    """FACS notation to (side, action, intensity 0..1): `1C R12B` -> [("", "1", 0.5), ("R", "12", 0.3)]."""
    parsed = []
    for term in actions.split():
        side = term[0] if term[0] in "LR" else ""
        action, letter = term[len(side) : -1], term[-1]
        if action not in ACTIONS or letter not in INTENSITY:
            raise ValueError(f"'{term}' is not a FACS action with an intensity, such as 12C or L14B.")
        parsed.append((side, action, INTENSITY[letter]))
    return parsed


def compose(actions: list[tuple[str, str, float]]) -> np.ndarray:
    """Coefficients [52] of FACS actions; actions that share a coefficient add, up to 0.95."""
    result = np.zeros(arkit.COUNT, np.float32)
    for side, action, intensity in actions:
        for name, amount in ACTIONS[action].items():
            for full in _sided(name, side):
                result[arkit.INDEX[full]] += amount * intensity
    return np.clip(result, 0, 0.95)


def mean(emotion: str) -> np.ndarray:
    """The emotion's average expression as added coefficients, float32 [52].

    Raises:
        KeyError: the emotion has no published makeup.
    """
    makeup = MAKEUP[emotion]
    total = sum(v.share for v in makeup.variants)
    return sum(v.share / total * compose(parse_actions(v.actions)) for v in makeup.variants)  # type: ignore[return-value]


def relaxes(emotion: str) -> np.ndarray:
    """Share of each of the actor's own coefficients that the emotion takes away, float32 [52] in 0..1."""
    result = np.zeros(arkit.COUNT, np.float32)
    for name, share in MAKEUP[emotion].relaxes.items():
        for full in _sided(name, ""):
            result[arkit.INDEX[full]] = share
    return result


def sample(emotion: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` expressions of an emotion as added coefficients, float32 [count, 52]."""
    makeup = MAKEUP[emotion]
    shares = np.array([v.share for v in makeup.variants])
    parsed = [parse_actions(v.actions) for v in makeup.variants]
    side = np.ones(arkit.COUNT)
    left = np.array([n.endswith("Left") for n in arkit.NAMES])
    right = np.array([n.endswith("Right") for n in arkit.NAMES])
    drawn = np.empty((count, arkit.COUNT), np.float32)
    for row, which in enumerate(rng.choice(len(shares), count, p=shares / shares.sum())):
        actions = [(s, a, float(np.clip(i + rng.normal(0, INTENSITY_SPREAD), 0, 1))) for s, a, i in parsed[which]]
        lean = rng.normal(LEFT_SHARE, SIDE_SPREAD)
        side[left], side[right] = lean, 2 - lean
        drawn[row] = np.clip(compose(actions) * side * max(rng.normal(1, OVERALL_SPREAD), 0.3), 0, 1)
    return drawn
