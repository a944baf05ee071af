"""What is wrong with a specification, in a sentence for whoever made it."""

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from cmet_engine.errors import on_one_line

Called = Callable[[str], str]
"""What a field is called where the specification came from: an option, a column, a field of a request."""


def field_called(name: str) -> str:
    """The name of a field in a message, where no other way of calling it is given."""
    return f"The field '{name}'"


_TAGS = ("key list", "key file", "rank", "person", "picture")  # of the forms of a field; they are no part of its name

_WRONG = {
    "greater_than": "it must be above {gt:g}",
    "greater_than_equal": "it must be at least {ge:g}",
    "less_than": "it must be below {lt:g}",
    "less_than_equal": "it must be at most {le:g}",
    "too_short": "it needs at least {min_length} of them",
    "too_long": "it may hold at most {max_length} of them",
    "string_too_short": "it must not be empty",
    "string_too_long": "it may have at most {max_length} characters",
    "finite_number": "which is not a number that it can take",
    "bool_parsing": "which is neither true nor false",
    "bool_type": "which is neither true nor false",
    "tuple_type": "which is not a list",
    "model_type": "which is not an object with fields",
    "model_attributes_type": "which is not an object with fields",
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "which is not a whole number"),
    **dict.fromkeys(("float_parsing", "float_type", "fraction_parsing"), "which is not a number that it can take"),
    **dict.fromkeys(("string_type", "string_unicode", "string_sub_type"), "which is not text"),
    **dict.fromkeys(("path_type", "path_parsing"), "which is not a path"),
}  # by pydantic's type of an error; what fits behind "X is 'y', " or "X is 'y'; "


def sentence(errors: Sequence[Mapping[str, Any]], called: Called = field_called) -> str:
    """The first thing that is wrong with a specification.

    Args:
        errors: of a validation, as pydantic describes them.
        called: what a field is called where the specification came from.
    """
    first = errors[0]
    kind = first["type"]
    context = {name: float(v) if isinstance(v, Fraction) else v for name, v in first.get("ctx", {}).items()}
    name = called(".".join(shown(part) for part in first["loc"] if part not in _TAGS))
    if kind == "extra_forbidden":
        return f"{name} is unknown."
    if kind == "missing":
        return f"{name} is missing."
    if kind == "value_error" and not first["loc"]:
        return re.sub(r"\{(\w+)\}", lambda match: called(match[1]), str(context["error"])) + "."
    if kind == "value_error":
        wrong = str(context["error"])
    elif kind == "literal_error":
        wrong = "not one of " + str(context["expected"]).replace("'", "").replace(" or ", ", ")
    else:
        wrong = _WRONG.get(kind, "which cannot be used").format(**context)
    joint = "," if wrong.startswith(("which", "not")) else ";"
    return f"{name} is '{shown(first.get('input'))}'{joint} {wrong}."


def shown(value: object) -> str:
    """A value that somebody gave, short and on one line."""
    return on_one_line(str(value)[:80])
