"""The rows that the names of a mesh's shapes give: exact names, then conventions, then guesses."""

from collections.abc import Iterable, Sequence

from .conventions import Convention, conventions
from .guesses import add_guesses
from .rows import CONVENTION, EXACT, Row
from .words import key_of, without_common_prefix, words


class _Names:
    """The names of one mesh, to be found by what conventions call them."""

    def __init__(self, names: Sequence[str], mesh: str) -> None:
        self.words = without_common_prefix(names, mesh)
        self._present = set(names)
        self._by_key: dict[str, str] = {}
        for name, tokens in self.words.items():
            self._by_key.setdefault(key_of(tokens), name)

    def find(self, shape: str) -> tuple[dict[str, float], float]:
        """Channels and confidence of one conventional name on this mesh."""
        if shape in self._present:
            return {shape: 1.0}, 1.0
        key = key_of(words(shape))
        if key in self._by_key:
            return {self._by_key[key]: 1.0}, 0.97
        both = [f"{key}|left", f"{key}|right"]
        if "|" not in key and all(k in self._by_key for k in both):
            return {self._by_key[k]: 1.0 for k in both}, 0.95
        stem, _, side = key.partition("|")
        if side and stem in self._by_key:  # the rig has one shape for both sides
            return {self._by_key[stem]: 0.5}, 0.9
        return {}, 0.0

    def find_unsplit(self, shapes: Iterable[str]) -> str | None:
        """The one shape that stands for several conventional ones: `Mouth_Funnel` for `Mouth_Funnel_Up_L` and three more."""
        left_out = ("left", "right", "up", "down", "upper", "lower")
        stems = {"".join(w for w in words(s) if w not in left_out) for s in shapes}
        return self._by_key.get(stems.pop()) if len(stems) == 1 else None

    def rows(self, convention: Convention) -> dict[str, Row]:
        """Rows of the coefficients whose shapes a convention names and this mesh has."""
        rows = {}
        for coefficient, shapes in convention.shapes.items():
            channels: dict[str, float] = {}
            scores = []
            for shape, weight in shapes.items():
                found, score = self.find(shape)
                scores.append(score)
                for channel, share in found.items():
                    channels[channel] = channels.get(channel, 0.0) + weight * share
            if not channels and len(shapes) > 1:
                unsplit = self.find_unsplit(shapes)
                if unsplit is not None:
                    channels, scores = {unsplit: 1.0}, [0.9]
            if channels:
                exact = coefficient in channels and len(channels) == 1
                confidence = sum(scores) / len(scores)
                rows[coefficient] = Row(coefficient, channels, EXACT if exact else CONVENTION, confidence)
        return rows


def match_names(names: Sequence[str], mesh: str = "") -> tuple[dict[str, Row], str]:
    """Rows that the names of one mesh give, and the convention that fits best."""
    known = _Names(names, mesh)
    resolved = [(known.rows(c), c.name) for c in conventions()]
    resolved.sort(key=lambda entry: sum(row.confidence for row in entry[0].values()), reverse=True)
    best, label = resolved[0]
    rows = dict(best)
    taken = {c for row in rows.values() for c in row.channels}
    for other, _ in resolved[1:]:
        for coefficient, row in other.items():
            if coefficient not in rows and not taken & set(row.channels):
                rows[coefficient] = row
                taken |= set(row.channels)
    add_guesses(rows, {n: t for n, t in known.words.items() if n not in taken})
    return rows, label if rows else ""
