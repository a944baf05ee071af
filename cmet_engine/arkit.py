"""The 52 ARKit blendshape coefficients: canonical names and order, left/right pairs, regions of the face.

Source of names and meaning: Apple, ARKit, `ARFaceAnchor.BlendShapeLocation`. "Left" is the person's own left.
"""

import re

NAMES: tuple[str, ...] = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft", "eyeWideLeft",
    "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight", "eyeWideRight",
    "jawForward", "jawLeft", "jawRight", "jawOpen",
    "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight",
    "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""Apple's camelCase names in canonical order: left eye, right eye, jaw, mouth, brow, cheek, nose, tongue."""

COUNT = len(NAMES)

INDEX: dict[str, int] = {name: i for i, name in enumerate(NAMES)}
"""Column of each name in a `CoefficientTrack`."""


def mirrored(name: str) -> str:
    """The coefficient of the other side: `mouthSmileLeft` -> `mouthSmileRight`; a middle one is its own mirror."""
    if name.endswith("Left"):
        return name[:-4] + "Right"
    if name.endswith("Right"):
        return name[:-5] + "Left"
    return name


MIRROR: tuple[int, ...] = tuple(INDEX[mirrored(name)] for name in NAMES)
"""`coefficients[:, MIRROR]` is the track of the face seen in a mirror."""

PAIRS: tuple[tuple[str, str], ...] = tuple((n, mirrored(n)) for n in NAMES if n.endswith("Left"))
"""Every (left, right) pair of names."""

REGIONS: dict[str, tuple[str, ...]] = {
    "eyes": tuple(n for n in NAMES if n.startswith("eye")),
    "jaw": tuple(n for n in NAMES if n.startswith("jaw")),
    "mouth": tuple(n for n in NAMES if n.startswith("mouth")),
    "brows": tuple(n for n in NAMES if n.startswith("brow")),
    "cheeks": tuple(n for n in NAMES if n.startswith("cheek")),
    "nose": tuple(n for n in NAMES if n.startswith("nose")),
    "tongue": ("tongueOut",),
}
"""Names by region of the face, in the order of a panel from eyes to tongue."""

GAZE: tuple[str, ...] = tuple(n for n in NAMES if n.startswith("eyeLook"))
"""The coefficients that say where the eyes look."""


def columns(names: tuple[str, ...] | list[str]) -> list[int]:
    """Columns of `names` in canonical order's numbering.

    Raises:
        KeyError: a name is not one of the 52.
    """
    return [INDEX[name] for name in names]


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _spellings() -> dict[str, str]:
    """Plain spelling -> name: a side in any place between the words, whole or as one letter."""
    result = {}
    for name in NAMES:
        side = next((s for s in ("Left", "Right") if name.endswith(s)), "")
        words = re.findall(r"[A-Z]?[a-z]+", name.removesuffix(side))
        for place in range(len(words) + 1):
            for written in {side, side[:1]}:
                result["".join([*words[:place], written, *words[place:]]).lower()] = name
    return result


_BY_SPELLING = _spellings()
_PREFIXES = ("blendshapes", "blendshape", "arkit", "facs", "bs", "face", "weights", "weight", "shape", "expression")


def canonical(name: str) -> str | None:
    """The coefficient that a name means, whatever its case, separators, side's place and usual prefix; None for others.

    `EyeBlink_L`, `eye_blink_left`, `L_EyeBlink` and `blendShapes.EyeBlinkLeft` are all `eyeBlinkLeft`. Nothing is guessed: each
    word must be there.
    """
    for text in (_plain(name), _plain(re.split(r"[.:/|]", name)[-1])):
        if text in _BY_SPELLING:
            return _BY_SPELLING[text]
        for prefix in _PREFIXES:
            if text.startswith(prefix) and text.removeprefix(prefix) in _BY_SPELLING:
                return _BY_SPELLING[text.removeprefix(prefix)]
    return None
