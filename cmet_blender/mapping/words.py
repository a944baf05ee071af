"""Names of shape keys as words: `Eye_Blink_L` and `rig:eyeBlinkLeft` both become eye, blink, left."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_WORD = re.compile(r"au\d+|[\u2e80-\uffff]+\d*|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ACTION_UNIT = re.compile(r"(?<![A-Za-z])AU[ _.-]?0*(\d{1,2})(?!\d)", re.IGNORECASE)

_NOISE = {"facs", "bs", "ctrl", "jnt", "expressions", "expression", "blendshape", "blendshapes", "shape", "div", "key", "morph", "target"}  # fmt: skip
_SIDES = dict.fromkeys(("l", "left", "lft", "lf", "lt", "links", "linke", "linkes", "gauche", "izquierda", "izquierdo", "izq", "sinistra", "sinistro", "sx", "esquerda", "esquerdo", "左"), "left")  # fmt: skip
_SIDES |= dict.fromkeys(("r", "right", "rgt", "rt", "rechts", "rechte", "rechtes", "droite", "droit", "derecha", "derecho", "der", "destra", "destro", "dx", "direita", "direito", "右"), "right")  # fmt: skip
REGIONS = ("brow", "eye", "cheek", "nose", "jaw", "mouth", "tongue")


_GLUED = tuple(
    sorted(
        "eye blink look down in out up squint wide jaw forward left right open mouth close funnel pucker smile frown dimple stretch "
        "roll lower upper shrug press brow inner outer cheek puff nose sneer tongue".split(),
        key=len,
        reverse=True,
    )
)


@lru_cache(maxsize=4096)
def _apart(word: str) -> tuple[str, ...]:
    """`eyeblinkright` as eye, blink, right: a word that is nothing but words of ARKit's names; () where it is not."""
    if not word:
        return ()
    for first in _GLUED:
        if word == first:
            return (first,)
        if word.startswith(first) and (rest := _apart(word[len(first) :])):
            return (first, *rest)
    return ()


def _split(word: str) -> list[str]:
    """One word as several: glued ones, and a side before or after words without spaces."""
    if len(word) > 1 and word[0] in "左右":
        return [word[1:], _SIDES[word[0]]]
    if len(word) > 1 and word[-1] in "左右":
        return [word[:-1], _SIDES[word[-1]]]
    return list(_apart(word)) or [word]


def words(name: str) -> list[str]:
    """`Eye_Blink_L`, `facs_bs_EyeBlinkLeft_div2`, `EYEBLINKLEFT` and `rig:eyeBlinkLeft` all become [eye, blink, left]."""
    name = unicodedata.normalize("NFKC", re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", name)))
    name = _ACTION_UNIT.sub(r" au\1 ", name)
    parts = re.split(r"[.:|]|__", name)
    tail = next((part for part in reversed(parts) if len(part) > 2 and not part.isdigit()), parts[-1])
    if parts[-1] in ("L", "R", "l", "r") and tail != parts[-1]:
        tail += "_" + parts[-1]
    found = [part for w in _WORD.findall(tail) for part in _split(w.lower())]
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
