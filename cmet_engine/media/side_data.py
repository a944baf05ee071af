"""What a decoder says beside a picture, such as how it is to be turned."""

from typing import Any

import av
from av.sidedata.sidedata import Type


def _unnamed(kind: type[Type], value: object) -> Type:
    """A member for a type of side data that PyAV has no name for; it makes one when FFmpeg attaches, say, EXIF (31)."""
    member: Any = object.__new__(kind)
    member._name_, member._value_ = f"TYPE_{value}", value
    return kind._value2member_map_.setdefault(value, member)  # type: ignore[return-value]


# PyAV reads all side data of a frame at once, and raises ValueError when one is of a type without a name (28 to 32 in 18.1).
Type._missing_ = classmethod(_unnamed)  # type: ignore[assignment, method-assign]


def side_data(frame: av.VideoFrame, name: str) -> bytes | None:
    """The side data of a type, such as `DISPLAYMATRIX`; None where the frame has none."""
    found: Any = frame.side_data.get(name)
    return None if found is None else bytes(found)
