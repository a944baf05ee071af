"""What a writer writes into: the settings that movies and image sequences share, and what both can do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cmet_engine.files import check_apart, check_places, check_writable
from cmet_engine.media import formats
from cmet_engine.media.info import VideoInfo
from cmet_engine.media.sequences import check_sequence, files_of, is_pattern, numbered, output_pattern
from cmet_engine.spec import Spec

Seal = Callable[[Path, Path], list[str]]
"""Called with a finished file, or the pattern of finished pictures, where it lies and as it will be called; the last that happens to
it before it gets its name. Returns sentences to show to the user."""


def files_read(spec: Spec) -> Iterator[tuple[str, Path]]:
    """Every file that some work reads, those of folders and sequences one by one, and every folder; what each is in a word."""
    for name, path in spec.input_paths():
        for file in [path, *files_of(path)]:
            yield ("recording" if name == "paths" else name), file


def check_video(path: Path, *, force: bool) -> None:
    """Check that a video or a sequence of pictures may be written, before the work for it begins.

    Raises:
        InvalidInput: see `files.check_writable` and `sequences.check_sequence`.
    """
    if path.suffix.lower() in formats.SEQUENCE_OUT or not path.suffix:
        check_sequence(path, force=force)
    else:
        check_writable(path, force=force)


def check_folder(spec: Spec, folder: Path) -> None:
    """Check that the results of some work may stand in a folder; whether it may hold files already is asked later.

    Raises:
        InvalidInput: a result would take the place of an input, or of a file or folder of another kind.
    """
    folders = {path.parent for path in spec.outputs(folder)}
    check_apart(*(folders - {folder}))
    check_places(folder, dict.fromkeys(folders, True) | dict.fromkeys(files_written(spec, folder), False), force=True)


def files_written(spec: Spec, output: Path) -> list[Path]:
    """The files that some work writes or replaces; of numbered pictures those that are there already."""
    found: list[Path] = []
    for path in spec.outputs(output):
        pictures = is_pattern(path) or path.suffix.lower() in formats.SEQUENCE_OUT
        found += numbered(*output_pattern(path)) if pictures else [path]
    return found


@dataclass
class OutputSettings:
    """How pictures are written; see `VideoWriter`.

    Attributes:
        path: the file, folder or pattern to write.
        width, height: pixels of the pictures to come.
        fps: frames a second.
        source: the clip whose colour description, pixel aspect, time stamps and start of sound are kept.
        sound: the file whose sound is copied.
        metadata: tags of the file.
        force: replace an earlier output.
        rate_factor: constant rate factor of H.264, HEVC and VP9.
        codec: of a movie, as in `choices.Codec`; None is the one that loses least.
        segments: folder of finished segments.
        fields: pictures of an interlaced source come interlaced where the codec can be so.
        notes: sentences to show to the user, added while writing.
        seal: what is done to the finished file.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    source: VideoInfo | None
    sound: Path | None
    metadata: dict[str, str]
    force: bool
    rate_factor: int
    segments: Path | None
    codec: str | None = None
    fields: bool = False
    notes: list[str] = field(default_factory=list)
    seal: Seal | None = None


class Output(ABC):
    """Where a writer's pictures go; used by one thread.

    Attributes:
        field_order: of the interlaced pictures that it takes, see `VideoInfo`; empty where it takes progressive ones.
    """

    field_order = ""

    @abstractmethod
    def resume(self) -> int:
        """Take over the finished segments that are there; returns how many pictures they hold."""

    @abstractmethod
    def add(self, frame: av.VideoFrame, time: Fraction, matte: np.ndarray | None = None) -> None:
        """Encode a picture, in "rgb24" or the clip's `VideoInfo.pixels`, shown at `time` seconds from the first frame; see `VideoWriter.write`."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is still held back."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files."""
