"""Which data each embedded weight was fitted to, and whether that data is cleared for commercial use (`assets/licences.json`)."""

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cmet_engine.errors import InvalidInput, MissingWeights
from cmet_engine.files import read_json

FILE = "licences.json"

CLEAN_ONLY = "CMET_CLEAN_ONLY"
"""Environment variable: where it is set, and not to 0, the clean variants of exceptions are used; those without one are refused."""

CLEAN = "clean/"
"""Folder of the clean variants: the same weights, fitted to cleared data alone."""


def clean_only() -> bool:
    """Whether nothing that is not cleared may be used."""
    return os.environ.get(CLEAN_ONLY, "0") not in ("", "0")


@dataclass(frozen=True)
class Source:
    """Data, or other published weights, that a weight was made from.

    Attributes:
        key: its name in `licences.json`.
        about: what it is.
        licence: SPDX identifier where there is one.
        source: where it is published, or where the licence is stated.
        cleared: whether its licence allows commercial use and derived weights.
    """

    key: str
    about: str
    licence: str
    source: str
    cleared: bool


@dataclass(frozen=True)
class Weight:
    """An embedded weight.

    Attributes:
        name: file in `assets`.
        sources: what it was made from; none where a formula gives it.
        exception: why it is embedded although a source is not cleared; None where all are.
    """

    name: str
    sources: tuple[Source, ...]
    exception: str | None

    @property
    def uncleared(self) -> tuple[Source, ...]:
        """The sources that are not cleared for commercial use."""
        return tuple(source for source in self.sources if not source.cleared)


@functools.cache
def weights() -> dict[str, Weight]:
    """Every embedded weight by the name of its file.

    Raises:
        CmetError: a weight names an unknown source, or one without clearance although it is no exception.
    """
    table = read_json(Path(__file__).parents[1] / "assets" / FILE)
    sources = {key: Source(key, **entry) for key, entry in table["sources"].items()}
    found = {}
    for name, entry in table["weights"].items():
        if unknown := set(entry["sources"]) - set(sources):
            raise InvalidInput(f"{FILE}: {name} names the source '{sorted(unknown)[0]}', which is not described there.")
        weight = Weight(name, tuple(sources[key] for key in entry["sources"]), entry.get("exception"))
        if weight.uncleared and weight.exception is None:
            raise InvalidInput(
                f"{FILE}: {name} was made from {weight.uncleared[0].key}, which is not cleared for commercial use, and is "
                "not marked as an exception."
            )
        if name.startswith(CLEAN) and weight.exception is not None:
            raise InvalidInput(f"{FILE}: {name} is a clean variant and cannot be an exception.")
        found[name] = weight
    return found


def place(name: str) -> str:
    """Where the embedded file `name` lies, in `assets`: its clean variant where only those may be used and it is an exception."""
    weight = weights().get(name)
    return f"{CLEAN}{name}" if clean_only() and weight is not None and weight.exception is not None else name


def chosen(name: str) -> str:
    """The embedded file that is read for `name`: see `place`.

    Raises:
        MissingWeights: it would have to be a clean variant, and there is none.
    """
    found = place(name)
    if found != name and found not in weights():
        raise MissingWeights(
            f"{name} is not cleared for commercial use ({weights()[name].exception}), has no clean variant, and "
            f"{CLEAN_ONLY} is set; unset it, or let CMET_WEIGHTS name a folder with one that you trained on your own data "
            "(`cmet models list --licences`)."
        )
    return found


def check_recipe(name: str, datasets: Iterable[str]) -> None:
    """Check that a weight may be embedded after a training on these `datasets`, by their keys in `licences.json`.

    Raises:
        InvalidInput: one of them is not among the weight's sources.
    """
    known = {source.key for source in weights()[name].sources}
    if others := sorted(set(datasets) - known):
        raise InvalidInput(
            f"{name} cannot be embedded: it was trained on '{others[0]}', which {FILE} does not name as a source of it; "
            "add it there with its licence, or train without it."
        )


def rows() -> list[dict[str, object]]:
    """One row for every source of every weight: `weight`, `data`, `licence`, `source`, `cleared`, `exception`."""
    return [
        {
            "weight": weight.name,
            "data": source.about,
            "licence": source.licence,
            "source": source.source,
            "cleared": source.cleared,
            "exception": weight.exception,
        }
        for weight in weights().values()
        for source in weight.sources
    ]


def text() -> str:
    """What every embedded weight was made from, as lines of text."""
    lines = []
    for weight in weights().values():
        lines.append(f"{weight.name:<34} {'cleared' if weight.exception is None else f'EXCEPTION: {weight.exception}'}")
        for source in weight.sources:
            cleared = "" if source.cleared else "; not cleared for commercial use"
            lines.append(f"    {source.about}: {source.licence} ({source.source}){cleared}")
    return "\n".join(lines)


def markdown() -> str:
    """The table of the model card: a row for every weight."""
    lines = ["| weight | made from (licence) | commercial use |", "|---|---|---|"]
    for weight in weights().values():
        made = "; ".join(f"{source.about} ({source.licence})" for source in weight.sources) or "a formula"
        cleared = "yes" if weight.exception is None else f"**exception**: {weight.exception}"
        lines.append(f"| `{weight.name}` | {made} | {cleared} |")
    return "\n".join(lines) + "\n"
