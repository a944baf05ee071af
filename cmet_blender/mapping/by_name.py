"""The rows that the names of a mesh's shapes give: exact names, then conventions, then guesses."""

from collections.abc import Iterable, Mapping, Sequence

from .conventions import Convention, conventions
from .guesses import add_guesses
from .rows import CONVENTION, EXACT, Row
from .words import key_of, without_common_prefix, words

SERVES_BOTH = 0.9  # confidence of a shape without a side, or of one that stands for several


class _Names:
    """The names of one mesh, to be found by what conventions call them."""

    def __init__(self, names: Sequence[str], mesh: str) -> None:
        self.words = without_common_prefix(names, mesh)
        self._present = set(names)
        self._by_key: dict[str, str] = {}
        whole = {name: words(name) for name in names}
        for name, tokens in [*self.words.items(), *whole.items()]:
            if tokens:
                self._by_key.setdefault(key_of(tokens), name)

    def find(self, shape: str, convention: frozenset[str] = frozenset()) -> tuple[dict[str, float], float]:
        """Channels and confidence of one conventional name on this mesh.

        Args:
            shape: the name.
            convention: keys of all names of its convention; a shape without a side that is one of them means what that says.
        """
        if shape in self._present:
            return {shape: 1.0}, 1.0
        prefixed = [n for n in self._present if n.endswith(shape) and not n[-len(shape) - 1].isalnum()]
        if len(prefixed) == 1:
            return {prefixed[0]: 1.0}, 0.97
        key = key_of(words(shape))
        if key in self._by_key:
            return {self._by_key[key]: 1.0}, 0.97
        both = [f"{key}|left", f"{key}|right"]
        if "|" not in key and all(k in self._by_key for k in both):
            return {self._by_key[k]: 1.0 for k in both}, 0.95
        stem, _, side = key.partition("|")
        if side and stem in self._by_key and stem not in convention:  # the rig has one shape for both sides
            return {self._by_key[stem]: 0.5}, SERVES_BOTH
        return {}, 0.0

    def find_unsplit(self, shapes: Iterable[str]) -> str | None:
        """The one shape that stands for several conventional ones: `Mouth_Funnel` for `Mouth_Funnel_Up_L` and three more."""
        left_out = ("left", "right", "up", "down", "upper", "lower")
        stems = {"".join(w for w in words(s) if w not in left_out) for s in shapes}
        return self._by_key.get(stems.pop()) if len(stems) == 1 else None

    def rows(self, convention: Convention) -> dict[str, Row]:
        """Rows of the coefficients whose shapes a convention names and this mesh has."""
        rows = {}
        keys = frozenset(
            key_of(words(s)) for alternatives in convention.shapes.values() for d in alternatives for s in d
        )
        for coefficient, alternatives in convention.shapes.items():
            found = [row for shapes in alternatives if (row := self._row(coefficient, shapes, keys)) is not None]
            if found:  # a shape of its own before one that serves both sides
                rows[coefficient] = max(found, key=lambda row: (row.confidence > SERVES_BOTH, -found.index(row)))
        return rows

    def _row(self, coefficient: str, shapes: Mapping[str, float], keys: frozenset[str]) -> Row | None:
        """The row that one choice of conventional shapes gives, if this mesh has any of them."""
        channels: dict[str, float] = {}
        scores = []
        for shape, weight in shapes.items():
            found, score = self.find(shape, keys)
            scores.append(score)
            for channel, share in found.items():
                channels[channel] = channels.get(channel, 0.0) + weight * share
        if not channels and len(shapes) > 1:
            unsplit = self.find_unsplit(shapes)
            if unsplit is not None:
                channels, scores = {unsplit: 1.0}, [SERVES_BOTH]
        if not channels:
            return None
        exact = coefficient in channels and len(channels) == 1
        return Row(coefficient, channels, EXACT if exact else CONVENTION, sum(scores) / len(scores))


def match_names(names: Sequence[str], mesh: str = "") -> tuple[dict[str, Row], str, dict[str, Row]]:
    """Rows that the names of one mesh give, the convention that fits best, and guesses that are only offered."""
    known = _Names(names, mesh)
    resolved = [(known.rows(c), c) for c in conventions()]
    resolved.sort(key=lambda entry: sum(row.confidence for row in entry[0].values()), reverse=True)
    best, label = resolved[0][0], resolved[0][1].name
    rows = dict(best)
    taken = {c for row in rows.values() for c in row.channels}
    for other, convention in resolved[1:]:
        for coefficient, row in other.items() if not convention.approximate else ():
            if coefficient not in rows and row.confidence > SERVES_BOTH and not taken & set(row.channels):
                rows[coefficient] = row
                taken |= set(row.channels)
    offered = add_guesses(rows, {n: t for n, t in known.words.items() if n not in taken})
    return rows, label if rows else "", offered
