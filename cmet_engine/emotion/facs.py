"""FACS tables: which action units show which emotion, as published.

An emotion has a few variants; a variant is a set of action units (AUs), each with an intensity. `ACTION_UNITS` maps
action units to ARKit coefficients. Sampling draws a variant, then intensities and a slight asymmetry, so that a model
fitted to the samples learns a family of expressions and not one pose.

Sources, by the keys used in `EXPRESSIONS`:
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
from cmet_engine.emotion.coefficients import columns_of

INTENSITY = {"A": 0.1, "B": 0.3, "C": 0.5, "D": 0.7, "E": 0.9}
"""FACS intensity letters, trace to maximum, as a share of the action unit's full amount (midpoints of the five steps)."""

INTENSITY_SPREAD = 0.12
"""Standard deviation of a sampled action unit's intensity: a good half of a FACS step."""

OVERALL_SPREAD = 0.15
"""Standard deviation of the factor on a whole sampled expression."""

SIDE_SPREAD = 0.06
"""Standard deviation of the factor on the left side; the right side gets 2 minus it."""

LEFT_SHARE = 1.04  # SIDES: the left half shows a little more

ACTION_UNITS: dict[str, dict[str, float]] = {
    "1": {"browInnerUp": 0.85},
    "2": {"browOuterUp": 0.8},
    "4": {"browDown": 0.7},
    "5": {"eyeWide": 0.8},
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
    "27": {"jawOpen": 0.8},
    "29": {"jawForward": 0.6},
    "43": {"eyeBlink": 0.6},
}
"""Action unit -> ARKit coefficients at its maximum; names without a side stand for both sides."""


@dataclass(frozen=True)
class Variant:
    """One way to show an emotion: `units` in FACS notation (`1C 4D R12B`: right side only), and its `share` among the variants."""

    share: float
    units: str


@dataclass(frozen=True)
class Expression:
    """How a face shows an emotion.

    Attributes:
        variants: the ways to show it.
        relaxes: share of the actor's own coefficient that gives way, by names without a side.
        sources: keys of the list of sources above.
    """

    variants: tuple[Variant, ...]
    relaxes: dict[str, float]
    sources: str


# shares of what contradicts an emotion that give way to it; chosen by eye on training-side clips
_RELAX_SMILE = {"mouthSmile": 0.9, "mouthDimple": 0.5, "cheekSquint": 0.6}
_RELAX_BROWS = {"browInnerUp": 0.9, "browOuterUp": 0.9}
_RELAX_SCOWL = {"browDown": 0.7, "mouthFrown": 0.7, "mouthPress": 0.4}

EXPRESSIONS: dict[str, Expression] = {
    "angry": Expression(
        (
            Variant(0.50, "4E 5A 7D 16E 25B 26D"),
            Variant(0.30, "4E 5A 7D 16E 22B 26D"),
            Variant(0.20, "4E 5A 7D 15A 16E 26D 29B"),
        ),
        {**_RELAX_SMILE, **_RELAX_BROWS, "eyeWide": 0.5},
        "EMFACS",
    ),
    "contempt": Expression(
        (
            Variant(0.7, "L12B L14E L24D 24A 17C 7C 4B"),
            Variant(0.3, "L12B L14E L24D 17C 7C 4B"),
        ),
        {**_RELAX_SMILE, **_RELAX_BROWS, "mouthSmile": 1.0},
        "CONTEMPT",
    ),
    "disgusted": Expression(
        (
            Variant(0.4, "9E 10E 17C 4B 7B 43B 15B"),
            Variant(0.3, "9E 10E 17C 4C 7B 43B 15B"),
            Variant(0.3, "9E 10E 17C 4B 7B 43B 15B 16C"),
        ),
        {**_RELAX_SMILE, **_RELAX_BROWS},
        "EMFACS, DU",
    ),
    "fear": Expression(
        (
            Variant(0.5, "1E 2A 4C 5C 20E 25B 10A"),
            Variant(0.3, "1E 2B 4C 5C 20D 25B 15A"),
            Variant(0.2, "1E 4B 5C 20D 16A 25B 26A 10A"),
        ),
        {"mouthSmile": 0.7, "mouthDimple": 0.5, "eyeSquint": 0.7, "eyeBlink": 0.4, "mouthPress": 0.5},
        "EMFACS, DU",
    ),
    "happy": Expression(
        (
            Variant(0.5, "6D 12E 25C 10A"),
            Variant(0.3, "6D 12E 25C 14A"),
            Variant(0.2, "6D 12E 25C 10A 1A 2A"),
        ),
        _RELAX_SCOWL,
        "EMFACS",
    ),
    "sad": Expression(
        (
            Variant(0.5, "1C 4B 15B 17C 43B 7A 24A"),
            Variant(0.3, "1D 4B 15C 17C 43B 24A"),
            Variant(0.2, "1C 4B 15B 17C 43B 6A 7A 24A"),
        ),
        {**_RELAX_SMILE, "mouthSmile": 1.0, "mouthUpperUp": 0.3, "eyeWide": 0.7, "browOuterUp": 0.6},
        "EMFACS, DU",
    ),
    "surprised": Expression(
        (
            Variant(0.5, "1C 2E 5D 26E 25B"),
            Variant(0.3, "1C 2E 5D 26E 25B"),
            Variant(0.2, "1C 2E 5D 26E"),
        ),
        {**_RELAX_SCOWL, "mouthSmile": 0.6, "eyeSquint": 0.6, "eyeBlink": 0.3},
        "EMFACS",
    ),
    "charismatic": Expression(
        (
            Variant(0.6, "6C 12D 1A 2C 25B 5A"),
            Variant(0.4, "6C 12C 2C 25B"),
        ),
        _RELAX_SCOWL,
        "CHARISMA",
    ),
    "desirous": Expression(
        (
            Variant(0.5, "43C 7C 18B 25B 12B"),
            Variant(0.5, "43C 7C 18A 25B L12C 12A"),
        ),
        {"browOuterUp": 0.4, "eyeWide": 0.8, "mouthFrown": 0.5},
        "DESIRE",
    ),
    "empathetic": Expression(
        (
            Variant(0.6, "1D 4A 12A 24A 43A"),
            Variant(0.4, "1D 4B 17A 24B 14A"),
        ),
        {"mouthSmile": 0.3, "browDown": 0.3, "browOuterUp": 0.2},
        "SYMPATHY",
    ),
    "envious": Expression(
        (
            Variant(0.5, "4C 7D L10C 24C L14B"),
            Variant(0.5, "4C 7D 15B 24C 17B L10B"),
        ),
        {**_RELAX_SMILE, **_RELAX_BROWS},
        "ENVY, EMFACS, CONTEMPT",
    ),
    "romantic": Expression(
        (
            Variant(0.6, "6C 12C 1B 43B 7A"),
            Variant(0.4, "6B 12C 1B 43B 7A"),
        ),
        {"browDown": 0.6, "mouthFrown": 0.7, "mouthPress": 0.4},
        "LOVE",
    ),
    "sarcastic": Expression(
        (
            Variant(0.5, "R2E L4C R12E R14B 7C 43B"),
            Variant(0.3, "R2E L4B R12E R14C 7C 43B"),
            Variant(0.2, "R2E L4C 7C 43B R12D R14B 17A"),
        ),
        {"browInnerUp": 0.3, "mouthSmile": 0.7},
        "IRONY",
    ),
}
"""The thirteen emotions of the embedded library. `relaxes` holds what the emotion's own action units pull the other way (raised
brows under a scowl, a smile under pressed or stretched lips), and what would contradict the emotion at a glance."""


@dataclass(frozen=True)
class Family:
    """How strongly a face shows an emotion at full strength, FACS intensities C to D.

    Attributes:
        silent: action units of a face that says nothing.
        speech: action units while it speaks, which leave the mouth its freedom; None for what the connector gives.
        relaxes: share of the actor's own coefficient that gives way, by names without a side.
        besides: action units that come on top of either.
    """

    silent: str
    speech: str | None
    relaxes: dict[str, float]
    besides: str = ""


_NO_SMILE = {"mouthSmile": 1.0, "mouthDimple": 0.6, "cheekSquint": 0.8}

FAMILIES: dict[str, Family] = {
    "angry": Family(
        "4E 5A 7D 9B 23D 24D 17C 15A",
        None,
        {**_NO_SMILE, "browInnerUp": 1.0, "browOuterUp": 0.9, "eyeBlink": 0.3, "eyeSquint": 0.8},
        "2B 4B",
    ),
    "contempt": Family(
        "L12C L14E L24D 17C 7B 4A",
        "L12C L14E L24C 7B 4A",
        {**_NO_SMILE, "browInnerUp": 0.5, "browOuterUp": 0.5},
    ),
    "disgusted": Family(
        "9E 10E 4A 6B 15B 17D",
        None,
        {**_NO_SMILE, "cheekSquint": 0.0, "browInnerUp": 0.4, "browOuterUp": 0.4, "eyeWide": 0.8},
        "17B",
    ),
    "fear": Family(
        "1E 2B 4C 5D 20E 25B 26B",
        "1E 2B 4C 5D 20E 16A 25B 26B",
        {**_NO_SMILE, "eyeSquint": 0.8, "eyeBlink": 0.4, "mouthPress": 0.6},
    ),
    "sad": Family(
        "1E 4B 15C 17E 43C 7B 24A",
        "1E 4B 15C 17B 43C 7B",
        {**_NO_SMILE, "mouthUpperUp": 0.4, "eyeWide": 0.9, "browOuterUp": 0.8},
    ),
    "surprised": Family(
        "1C 2E 5D 27D 18C 25C",
        "1C 2E 5D 27C 18C 25B",
        {
            **_NO_SMILE,
            "browDown": 0.8,
            "mouthFrown": 0.7,
            "mouthPress": 0.6,
            "eyeSquint": 0.8,
            "eyeBlink": 0.4,
            "mouthUpperUp": 0.3,
        },
    ),
}
"""Emotions whose amounts depend on whether the face speaks (EMFACS, DU, CONTEMPT): lips that harden in anger and are pushed up in
disgust part for words, and jaws fall looser between them. Two units are there for ARKit's sake: 2 beside 4 in anger draws the brows
into the V of angry faces, of which `browDown` lowers both ends, and 18 in surprise rounds the mouth as 27 does."""


def parse_units(units: str) -> list[tuple[str, str, float]]:
    """FACS notation to (side, action unit, intensity 0..1): `1C R12B` -> [("", "1", 0.5), ("R", "12", 0.3)].

    Raises:
        ValueError: a term is not an action unit with an intensity.
    """
    parsed = []
    for term in units.split():
        side = term[0] if term[0] in "LR" else ""
        unit, letter = term[len(side) : -1], term[-1]
        if unit not in ACTION_UNITS or letter not in INTENSITY:
            raise ValueError(f"'{term}' is not a FACS action unit with an intensity, such as 12C or L14B.")
        parsed.append((side, unit, INTENSITY[letter]))
    return parsed


def compose(units: list[tuple[str, str, float]]) -> np.ndarray:
    """Coefficients float32 [52] of parsed action units; units that share a coefficient add, up to 0.95."""
    result = np.zeros(arkit.COUNT, np.float32)
    for side, unit, intensity in units:
        for name, amount in ACTION_UNITS[unit].items():
            for column in columns_of(name, side):
                result[column] += amount * intensity
    return np.clip(result, 0, 0.95)


def mean_expression(emotion: str) -> np.ndarray:
    """The emotion's average expression as added coefficients, float32 [52].

    Raises:
        KeyError: the emotion is not in `EXPRESSIONS`.
    """
    variants = EXPRESSIONS[emotion].variants
    total = sum(v.share for v in variants)
    return sum(v.share / total * compose(parse_units(v.units)) for v in variants)  # type: ignore[return-value]


def relaxed_share(emotion: str) -> np.ndarray:
    """Share of each of the actor's own coefficients that the emotion takes away, float32 [52] in 0..1."""
    result = np.zeros(arkit.COUNT, np.float32)
    for name, share in EXPRESSIONS[emotion].relaxes.items():
        result[columns_of(name)] = share
    return result


def sample_expressions(emotion: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` expressions of an emotion as added coefficients, float32 [count, 52]."""
    variants = EXPRESSIONS[emotion].variants
    shares = np.array([v.share for v in variants])
    parsed = [parse_units(v.units) for v in variants]
    side = np.ones(arkit.COUNT)
    left = np.array([n.endswith("Left") for n in arkit.NAMES])
    right = np.array([n.endswith("Right") for n in arkit.NAMES])
    drawn = np.empty((count, arkit.COUNT), np.float32)
    for row, which in enumerate(rng.choice(len(shares), count, p=shares / shares.sum())):
        units = [(s, u, float(np.clip(i + rng.normal(0, INTENSITY_SPREAD), 0, 1))) for s, u, i in parsed[which]]
        left_share = rng.normal(LEFT_SHARE, SIDE_SPREAD)
        side[left], side[right] = left_share, 2 - left_share
        drawn[row] = np.clip(compose(units) * side * max(rng.normal(1, OVERALL_SPREAD), 0.3), 0, 1)
    return drawn
