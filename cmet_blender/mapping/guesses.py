"""Guesses: the shape whose name is most like the coefficient's."""

import difflib
import re
from collections.abc import Mapping, Sequence

from cmet_engine import arkit

from .rows import GUESSED, Row
from .words import REGIONS, words

GUESS_THRESHOLD = 0.62  # below this a guess is more often wrong than right on the rigs of the tests
USED_FROM = 0.8  # guesses below it are offered to the user and drive nothing

_SYNONYMS = {
    "lip": "mouth", "lips": "mouth", "lid": "eye", "eyes": "eye", "eyelid": "eye", "eyebrow": "brow", "brows": "brow",
    "chin": "jaw", "cheeks": "cheek", "nostril": "nose", "close": "blink", "closed": "blink", "shut": "blink",
    "raise": "up", "raised": "up", "raiser": "up", "lower": "lower", "drop": "down", "lowered": "down", "frowning": "frown",
    "sad": "frown", "grin": "smile", "happy": "smile", "widen": "wide", "puffed": "puff", "blow": "puff", "wrinkle": "sneer",
    "scrunch": "sneer", "fwd": "forward", "thrust": "forward", "kiss": "pucker", "purse": "pucker", "opened": "open",
    "mid": "inner", "middle": "inner", "in": "inner", "out": "outer", "press": "press", "tighten": "press", "squeeze": "squint",
}  # fmt: skip


def _plain(tokens: Sequence[str]) -> list[str]:
    """Words with their synonyms replaced; a jaw that drops is an open jaw, a brow that drops goes down."""
    jaw = {"drop": "open", "down": "open"} if "jaw" in tokens or "chin" in tokens else {}
    return [jaw.get(w) or _SYNONYMS.get(w, w) for w in tokens]


def _sides(tokens: Sequence[str]) -> list[str]:
    """Sides in order, also inside words that were written together."""
    return re.findall("left|right", " ".join(tokens))


def _likeness(tokens: Sequence[str], wanted: Sequence[str]) -> float:
    """0..1: how alike two names are, words and their synonyms first, spelling second; 0 for another side or region."""
    a, b = _plain(tokens), _plain(wanted)
    if _sides(a) != _sides(b):
        return 0.0
    regions_a, regions_b = {w for w in a if w in REGIONS}, {w for w in b if w in REGIONS}
    if regions_a and regions_b and not regions_a & regions_b:
        return 0.0
    words_a, words_b = set(a) - {"left", "right"}, set(b) - {"left", "right"}
    if not words_a or not (words_a & words_b) - set(REGIONS):  # only the region in common, or a misspelling
        spelled = difflib.SequenceMatcher(None, "".join(a), "".join(b)).ratio()
        return spelled if spelled > 0.85 else 0.0
    jaccard = len(words_a & words_b) / len(words_a | words_b)
    return 0.65 * jaccard + 0.35 * difflib.SequenceMatcher(None, "".join(a), "".join(b)).ratio()


def add_guesses(rows: dict[str, Row], left: Mapping[str, Sequence[str]]) -> dict[str, Row]:
    """Give coefficients without a row the most alike of the names left over, best pairs first.

    Returns the guesses that are not sure enough to be used, by coefficient.

    Besides single names the candidates are pairs (`cheek_blow.L` with `.R` for `cheekPuff`) and, for a coefficient
    with a side, names without one (`lip_smile` for both smiles, half each).
    """
    speech = ("viseme", "phoneme", "vrc", "v")
    names = {n: list(t) for n, t in left.items() if t and t[0] not in speech}
    candidates: list[tuple[list[str], dict[str, float], frozenset[str]]] = []
    stems: dict[str, dict[str, str]] = {}
    for name, tokens in names.items():
        sides = [w for w in tokens if w in ("left", "right")]
        candidates.append((tokens, {name: 1.0}, frozenset([name])))
        if len(sides) == 1:
            stems.setdefault(" ".join(w for w in tokens if w not in ("left", "right")), {})[sides[0]] = name
        elif not sides:
            candidates += [([*tokens, side], {name: 0.5}, frozenset([f"{name}|{side}"])) for side in ("left", "right")]
    candidates += [
        (stem.split(), dict.fromkeys(both.values(), 1.0), frozenset(both.values()))
        for stem, both in stems.items()
        if len(both) == 2
    ]
    pairs = sorted(
        (
            (_likeness(tokens, words(coefficient)), coefficient, number)
            for coefficient in arkit.NAMES
            if coefficient not in rows
            for number, (tokens, _, _) in enumerate(candidates)
        ),
        key=lambda p: (-p[0], p[1], p[2]),
    )
    taken: set[str] = set()
    offered: dict[str, Row] = {}
    for score, coefficient, number in pairs:
        if score < GUESS_THRESHOLD:
            break
        _, channels, claims = candidates[number]
        names_only = {c.partition("|")[0] for c in claims}
        blocked = claims & taken or (names_only != claims and names_only & taken)
        if (
            coefficient not in rows
            and not blocked
            and not any(f"{n}|{s}" in taken for n in claims for s in ("left", "right"))
        ):
            row = Row(coefficient, dict(channels), GUESSED, round(min(score, 0.9), 3))
            (rows if score >= USED_FROM else offered).setdefault(coefficient, row)
            taken |= claims if score >= USED_FROM else set()
    return offered
