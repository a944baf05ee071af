"""A field of a specification that names a moment of a clip."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from cmet_engine.errors import InvalidInput
from cmet_engine.timecode import parse_moment


def _as_text(value: Any) -> Any:
    return format(value, "f") if isinstance(value, int | float) and not isinstance(value, bool) else value


def _moment(text: str) -> str:
    try:
        parse_moment(text)
    except InvalidInput as error:
        raise ValueError("write seconds (2.5), frames (120f) or a timecode (01:00:10:00)") from error
    return text


Moment = Annotated[str, BeforeValidator(_as_text), Field(max_length=32), AfterValidator(_moment)]
"""A moment of a clip: seconds (`2.5`), frames from its beginning (`120f`) or a timecode (`01:00:10:00`)."""
