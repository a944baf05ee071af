"""Opening a media file: the checks and the sentences that video and sound share."""

import os
import re
from pathlib import Path

import av
from av.container import InputContainer

from cmet_engine.errors import CmetError

# Text that FFmpeg would "play" as a terminal, a subtitle or a list of other files. A user who names one made a mistake,
# and a play list could make the reader open other files or addresses.
_NOT_MEDIA = {
    "tty",
    "ass",
    "srt",
    "webvtt",
    "lrc",
    "microdvd",
    "subviewer",
    "subviewer1",
    "sami",
    "concat",
    "hls",
    "dash",
}


FRAME_NUMBER = re.compile(r"%0?(\d*)d")
"""The place of the number in the name of an image sequence: `%d`, `%06d`."""


def is_pattern(path: str | Path) -> bool:
    """Whether a path names an image sequence, such as `frames/frame_%06d.png`, and not a file that is there."""
    path = Path(path)
    return bool(FRAME_NUMBER.search(path.name)) and not path.exists()


def open_media(path: str | Path, *, format: str | None = None, options: dict[str, str] | None = None) -> InputContainer:
    """Open a media file that is on this machine.

    Args:
        path: the file.
        format: FFmpeg's name of the container; found out where it is None.
        options: demuxer options.

    Returns:
        The open container; use it as a context manager.

    Raises:
        CmetError: the file is missing, a folder, empty, not readable, cut off before its index, or not media.
    """
    path = Path(path)
    if format != "image2":  # the path of an image sequence is a pattern
        if path.is_dir():
            raise CmetError(f"{path} is a folder; give the name of a clip.")
        if not path.exists():
            raise CmetError(f"{path} does not exist; check the name of the clip.")
        if not os.access(path, os.R_OK):
            raise CmetError(f"{path} may not be read; change its permissions.")
        if path.is_file() and path.stat().st_size == 0:
            raise CmetError(f"{path} is empty (0 bytes); export or copy the clip again.")
    try:
        # The absolute path keeps a colon in a file's name from being taken for a protocol.
        container = av.open(
            str(path.absolute()),
            format=format,
            options={"protocol_whitelist": "file", **(options or {})},
            metadata_errors="replace",
        )
    except (av.error.InvalidDataError, av.error.EOFError, av.error.PatchWelcomeError) as error:
        raise CmetError(
            f"{path} is not a clip that can be read: either it is no video or sound at all, or it was cut off "
            "before its index was written; export or copy it again."
        ) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CmetError(f"{path} cannot be opened: {reason}.") from error
    if container.format.name in _NOT_MEDIA:
        container.close()
        raise CmetError(f"{path} is a text file, not a video or a sound; give the name of a clip.")
    return container
