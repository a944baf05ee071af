"""Names of shape keys as words: `Eye_Blink_L` and `rig:eyeBlinkLeft` both become eye, blink, left."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_NOISE = {"facs", "bs", "ctrl", "jnt", "expressions", "expression", "blendshape", "blendshapes", "shape", "div", "key", "morph", "target"}  # fmt: skip
_SIDES = {"l": "left", "left": "left", "lft": "left", "r": "right", "right": "right", "rgt": "right"}
REGIONS = ("brow", "eye", "cheek", "nose", "jaw", "mouth", "tongue")


def words(name: str) -> list[str]:
    """`Eye_Blink_L`, `facs_bs_EyeBlinkLeft_div2` and `rig:eyeBlinkLeft` all become [eye, blink, left]."""
    parts = re.split(r"[.:|]|__", name)
    tail = next((part for part in reversed(parts) if len(part) > 2 and not part.isdigit()), parts[-1])
    if parts[-1] in ("L", "R", "l", "r") and tail != parts[-1]:
        tail += "_" + parts[-1]
    found = [w.lower() for w in _WORD.findall(tail)]
    found = [_SIDES.get(w, w) for w in found]
    return [w for w in found if w not in _NOISE and not w.isdigit() and not (len(w) == 1 and w in "abt")]


def key_of(tokens: Sequence[str]) -> str:
    """One text for a name: words together, a single side at the end; two sides keep their places."""
    sides = [w for w in tokens if w in ("left", "right")]
    if len(sides) != 1:
        return "".join(tokens)
    return "".join(w for w in tokens if w not in ("left", "right")) + "|" + sides[0]


def without_common_prefix(names: Sequence[str], mesh: str = "") -> dict[str, list[str]]:
    """Words of each name, without leading ones that nearly all share (`Head_blink`, `Head_smile`) or that name the mesh."""
    table = {name: words(name) for name in names}
    own = words(mesh) if mesh else []
    if own:
        table = {n: w[len(own) :] if w[: len(own)] == own and len(w) > len(own) + 1 else w for n, w in table.items()}
    while len(table) >= 5:
        first = [w[0] for w in table.values() if len(w) > 1]
        if len(first) < 0.8 * len(table):
            break
        common = max(set(first), key=first.count)
        if first.count(common) < 0.8 * len(table) or common in REGIONS:
            break
        table = {n: w[1:] if len(w) > 1 and w[0] == common else w for n, w in table.items()}
    return table
