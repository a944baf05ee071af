"""The numbers of a training run as JSON: a dataclass whose missing fields keep their defaults."""

import json
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

from cmet_engine.errors import InvalidInput

Settings = TypeVar("Settings")


def read_settings(values: Any, defaults: Settings, name: str) -> Settings:
    """A copy of `defaults`, a dataclass, with the fields of a JSON object in place of its own.

    Args:
        values: what was read from JSON; a field that is a dataclass itself takes an object.
        defaults: the fields that are not given.
        name: of the file, for messages.

    Raises:
        InvalidInput: not an object, a field is unknown, or a value is of another kind than the default.
    """
    assert is_dataclass(defaults)
    if not isinstance(values, dict):
        raise InvalidInput(f"{name}: a JSON object of settings is wanted.")
    settings = {field.name: getattr(defaults, field.name) for field in fields(defaults)}
    for key, value in values.items():
        if key not in settings:
            raise InvalidInput(f"{name}: the setting '{key}' is unknown; known are {', '.join(settings)}.")
        default = settings[key]
        if is_dataclass(default):
            settings[key] = read_settings(value, default, f"{name}: {key}")
        elif not _is_like(value, default):
            raise InvalidInput(f"{name}: the setting '{key}' is {value!r}; something like {default!r} is wanted.")
        else:
            settings[key] = tuple(value) if isinstance(value, list) else value
    return cast(Settings, type(cast(object, defaults))(**settings))


def parse_settings(text: str, defaults: Settings, name: str) -> Settings:
    """`read_settings` of a JSON text.

    Raises:
        InvalidInput: it is not JSON; and see `read_settings`.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name}: not valid JSON.") from error
    return read_settings(given, defaults, name)


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value read from JSON is of the kind of `default`: a number, a yes or no, a pair of numbers, a list of names."""
    if isinstance(default, tuple):
        names = not default or isinstance(default[0], str)
        fits = isinstance(value, list) and (names or len(value) == len(default))
        return fits and all(isinstance(v, str) if names else _is_like(v, default[0]) for v in value)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)
