"""What a writer writes into: the settings that movies and image sequences share, and what both can do."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from cmet_engine.media.info import VideoInfo


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
        notes: sentences to show to the user, added while writing.
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
    notes: list[str] = field(default_factory=list)


class Output(ABC):
    """Where a writer's pictures go; used by one thread."""

    @abstractmethod
    def resume(self) -> int:
        """Take over the finished segments that are there; returns how many pictures they hold."""

    @abstractmethod
    def add(self, frame: av.VideoFrame, time: Fraction) -> None:
        """Encode a picture, in "rgb24" or the clip's `VideoInfo.pixels`, shown at `time` seconds from the first frame."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is still held back."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files."""
