"""Settings and curves of single people in specifications; see `cmet_engine.spec`.

In text form a setting names whom it is for behind `#`, as a key does: `replace#anna`; several stand in a list, or with semicolons
between: `add; replace#anna`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from cmet_engine.choices import Mode, Quality
from cmet_engine.spec_base import File, Person, Spec, Strength
from cmet_engine.timeline import PERSON


class PersonSettings(Spec):
    """How one person of several is edited, where not as the others; see `EditSpec`. Settings that are None are the common ones.

    Attributes:
        person: number or name, as in the keys that are for this person.
        strength, mode, quality: see `EditSpec`.
    """

    inputs: ClassVar[tuple[str, ...]] = ()
    person: Person
    strength: Strength | None = None
    mode: Mode | None = None
    quality: Quality | None = None


class PersonCurves(Spec):
    """The curves of one more person; see `RenderSpec`.

    Attributes:
        person: number or name.
        track, source, quality: see `RenderSpec`; None is the common quality.
    """

    inputs: ClassVar[tuple[str, ...]] = ("track", "source")
    person: Person
    track: File
    source: File | None = None
    quality: Quality | None = None


def with_people(values: Any, names: tuple[str, ...]) -> Any:
    """Plain values, with what the settings of some names say for single people (`replace#anna`) moved into `people`."""
    if not isinstance(values, Mapping):
        return values
    values = dict(values)
    people: dict[str, dict[str, Any]] = {}
    for name in names:
        common, own = _apart(values.get(name))
        for person, value in own.items():
            people.setdefault(person, {"person": person})[name] = value
        if own:
            del values[name]
            values |= {name: common if common[1:] else common[0]} if common else {}
    given = values.get("people") or ()
    if people and isinstance(given, list | tuple):
        values["people"] = [*given, *people.values()]
    return values


def _apart(value: Any) -> tuple[list[Any], dict[str, Any]]:
    """What a setting says for everyone, and what it says for single people.

    Args:
        value: `add`, or with whom it is for behind it: `replace#anna`; several in a list, or in a text with semicolons between.
    """
    if isinstance(value, str) and "#" in value:
        value = [part.strip() for part in value.split(";")]
    common: list[Any] = []
    own: dict[str, Any] = {}
    for part in value if isinstance(value, list | tuple) else [value]:
        text, sharp, person = str(part).rpartition("#")
        if sharp and PERSON.fullmatch(person.strip()):
            own[person.strip()] = text.strip()
        else:
            common.append(part)
    return common, own
