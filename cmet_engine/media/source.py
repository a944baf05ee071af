"""Opening a media file and choosing its streams: the checks and the sentences that video and sound share."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from cmet_engine.choices import GUESSED, InputSpace
from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.media.clock import Clock
from cmet_engine.media.display import space_key
from cmet_engine.media.sequences import Pictures, find_pictures, is_pattern, rate_of

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


def open_media(path: str | Path, *, format: str | None = None, options: dict[str, str] | None = None) -> InputContainer:
    """Open a media file that is on this machine.

    Args:
        path: the file.
        format: FFmpeg's name of the container; found out where it is None.
        options: demuxer options.

    Returns:
        The open container; use it as a context manager.

    Raises:
        NotFound: the file is missing.
        InvalidInput: it is a folder, empty, not readable, cut off before its index, or not media.
    """
    path = Path(path)
    if format != "image2":  # the path of an image sequence is a pattern
        if path.is_dir():
            raise InvalidInput(f"{path} is a folder; give the name of a clip.")
        if not path.exists():
            raise NotFound(f"{path} does not exist; check the name of the clip.")
        if not os.access(path, os.R_OK):
            raise InvalidInput(f"{path} may not be read; change its permissions.")
        if path.is_file() and path.stat().st_size == 0:
            raise InvalidInput(f"{path} is empty (0 bytes); export or copy the clip again.")
    try:
        # The absolute path keeps a colon in a file's name from being taken for a protocol.
        container = av.open(
            str(path.absolute()),
            format=format,
            options={"protocol_whitelist": "file", **(options or {})},
            metadata_errors="replace",
        )
    except (av.error.InvalidDataError, av.error.EOFError, av.error.PatchWelcomeError) as error:
        raise InvalidInput(
            f"{path} is not a clip that can be read: either it is no video or sound at all, or it was cut off "
            "before its index was written; export or copy it again."
        ) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"{path} cannot be opened: {reason}.") from error
    if container.format.name in _NOT_MEDIA:
        container.close()
        raise InvalidInput(f"{path} is a text file, not a video or a sound; give the name of a clip.")
    return container


class Decoded:
    """Keeps what is decoded of a short clip, so that whoever reads the whole of it again need not decode."""

    MOST = 256 << 20
    """Bytes of frames that are kept; of a longer clip none are."""

    def __init__(self) -> None:
        self._kept: dict[Any, list[Any]] = {}

    def through(
        self, about: Any, frames: Iterator[Any], count: int | None, size: Callable[[Any], int]
    ) -> Iterator[Any]:
        """The same frames, kept or as they come.

        Args:
            about: what tells these frames from others of the clip.
            frames: decodes them; left alone where they are kept.
            count: how many come, as far as that is known.
            size: bytes of one.
        """
        if about in self._kept:
            yield from self._kept[about]
            return
        kept: list[Any] | None = None if count is None else []
        for frame in frames:
            if kept is not None:
                kept.append(frame)
                if max(count or 0, len(kept)) * size(frame) > self.MOST:
                    kept = None
            yield frame
        if kept is not None:
            self._kept[about] = kept


@dataclass
class Source:
    """A clip or an image sequence that can be opened again and again.

    Attributes:
        path: the file, folder or pattern, as it was given.
        pictures: of an image sequence.
        first, end: the frames of it that are meant, `end` not among them; None means all from `first` on.
        space: what the user says about its colours.
        decoded: what is kept of it in memory while work on it goes on; None for nothing.
    """

    path: Path
    pictures: Pictures | None = None
    first: int = 0
    end: int | None = None
    space: InputSpace = GUESSED
    decoded: Decoded | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, path: "str | Path | Source", space: InputSpace = GUESSED) -> "Source":
        """The clip of a path: a file, a folder of numbered pictures, or a pattern.

        Raises:
            CmetError: see `find_pictures`.
        """
        if isinstance(path, Source):
            return path if space == GUESSED else replace(path, space=space)
        path = Path(path)
        return cls(path, find_pictures(path) if path.is_dir() or is_pattern(path) else None, space=space)

    @property
    def images(self) -> int:
        """How many pictures a sequence has; 0 of a clip."""
        return self.pictures.count if self.pictures else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about pictures that are missing."""
        return self.pictures.notes if self.pictures else ()

    @property
    def is_part(self) -> bool:
        """Whether not all frames are meant."""
        return self.part != (0, None)

    @property
    def part(self) -> tuple[int, int | None]:
        """The frames that are meant: the first, and the one behind the last."""
        return self.first, self.end

    @property
    def reading(self) -> tuple[object, ...]:
        """What tells two readings of a file apart, for the key of a cache: the part, and the colour space where it is named."""
        return *self.part, *space_key(self.space)

    @property
    def first_file(self) -> Path:
        """The file that holds the first picture."""
        return self.file_of(0)

    def file_of(self, index: int) -> Path:
        """The file that holds picture `index` of the whole."""
        return Path(self.pictures.pattern % (self.pictures.first + index)) if self.pictures else self.path

    def open(self) -> InputContainer:
        """See `open_media`."""
        if self.pictures is None:
            return open_media(self.path)
        options = {"framerate": str(rate_of(self.first_file)), "start_number": str(self.pictures.first)}
        return open_media(self.pictures.pattern, format="image2", options=options)


def decoded_frames(
    container: InputContainer, stream: Any, clock: Clock | None = None
) -> Iterator[av.VideoFrame | None]:
    """Decoded frames; None for a packet that cannot be decoded; ends quietly where the file is cut off."""
    packets = (clock or Clock()).packets(container, [stream])
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError, OSError):
            break
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            yield None
        except (av.error.FFmpegError, OSError):
            break


def filter_graph(stream: Any, name: str, arguments: str) -> av.filter.Graph:
    """A graph of one filter of FFmpeg's for the frames of a stream, ready to be pushed to and pulled from."""
    return graph_of({"template": stream, "time_base": stream.time_base}, (name, arguments))


def graph_of(frames: dict[str, Any], *filters: tuple[str, str]) -> av.filter.Graph:
    """A graph of filters with their arguments, one after the other; what comes in as `Graph.add_buffer` takes it."""
    graph = av.filter.Graph()
    chain = [graph.add_buffer(**frames), *(graph.add(*one) for one in filters), graph.add("buffersink")]
    for one, other in itertools.pairwise(chain):
        one.link_to(other)
    graph.configure()
    return graph


def video_stream(container: InputContainer, path: Path) -> Any:
    """The stream to read: cover art is not video; the clip's own default first, then the largest."""
    pictures = [s for s in container.streams.video if s.codec_context is not None]
    moving = [s for s in pictures if not s.disposition & s.disposition.attached_pic]
    if not moving:
        if container.streams.audio:
            raise InvalidInput(f"{path} holds sound only{' and a cover picture' if pictures else ''}; give a video.")
        raise InvalidInput(f"{path} holds no video; give a clip in which a face is seen.")
    return max(moving, key=lambda s: (bool(s.disposition & s.disposition.default), s.width * s.height))


def start_of(stream: Any) -> Fraction:
    """Seconds of the file's clock at which a stream begins."""
    return Fraction(stream.start_time or 0) * Fraction(stream.time_base or 1)
