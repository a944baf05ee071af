"""Image sequences: numbered pictures in a folder, each a file of its own; see `stills` for what is in them."""

import contextlib
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cmet_engine.files import whole_folder
from cmet_engine.media import container_limits, openexr
from cmet_engine.media.display import ORDINARY
from cmet_engine.media.info import Colors, Mastering, VideoInfo
from cmet_engine.media.output import Output, OutputSettings
from cmet_engine.media.segments import SEGMENT, finished, unfinished_file
from cmet_engine.media.sequences import SEQUENCE_RATE, check_sequence, remove_stale
from cmet_engine.media.source import Source
from cmet_engine.media.spaces import is_float
from cmet_engine.media.stills import StillEncoder, display_note


class SequenceOutput(Output):
    """Numbered pictures that appear when `stack` is closed without an exception."""

    def __init__(self, settings: OutputSettings, stack: contextlib.ExitStack) -> None:
        folder, self.pattern = check_sequence(settings.path, force=settings.force)
        self.final, self.seal = folder / self.pattern, settings.seal
        self.suffix = Path(self.pattern).suffix.lower()
        self.count = 0
        self.notes = settings.notes
        stack.callback(self._tidy, folder)
        self.done = False
        self.folder = stack.enter_context(whole_folder(folder, force=True))
        self.segments = settings.segments
        self.fps, about = settings.fps, settings.source
        self.pixel_aspect = about.pixel_aspect if about else Fraction(1)
        self.encode = StillEncoder(
            self.suffix, about.colors if about else Colors(), about.display if about else ORDINARY
        )
        self.source = Source.of(about.path) if about and self.suffix == ".exr" and is_float(about.pixels) else None
        self.first = round(about.begins * about.fps) if about else 0  # of the source, where a part of it is written
        if self.source:
            settings.notes += openexr.losses(self.source.path.name, openexr.read_header(self.source.file_of(0)))
        if about:
            settings.notes += _losses(about, self.suffix) + display_note(about, self.suffix)
        if settings.sound:
            settings.notes += container_limits.limits(Source(settings.sound), settings.path.suffix)

    def resume(self) -> int:
        """Take over the finished pictures, as many as make whole segments; returns their number."""
        found = finished(self.segments, self.suffix, 1)
        for path in found[: len(found) // SEGMENT * SEGMENT]:
            self._place(path)
        return self.count

    def add(self, frame: av.VideoFrame, time: Fraction, matte: np.ndarray | None = None) -> None:
        """Encode a picture and put it into the sequence."""
        data = self._encoded(frame, matte)
        if self.segments:
            part = unfinished_file(self.segments, self.count)
            part.write_bytes(data)
            self._place(part.replace(part.with_suffix(self.suffix)))
        else:
            self._next_file().write_bytes(data)

    def finish(self) -> None:
        """Seal the sequence, and say that it is whole, so that files of an earlier one may go."""
        if self.seal:
            self.notes += self.seal(self.folder / self.pattern, self.final)
        self.done = True

    def close(self) -> None:
        """Nothing is held open."""

    def _encoded(self, frame: av.VideoFrame, matte: np.ndarray | None) -> bytes:
        if self.suffix != ".exr":
            return self.encode(frame)
        if self.source and is_float(frame.format.name):
            header = openexr.kept(openexr.read_header(self.source.file_of(self.first + self.count)))
        else:
            header = self.encode.attributes(self.fps, self.pixel_aspect)
        return self.encode(frame, header, matte)

    def _next_file(self) -> Path:
        self.count += 1
        return self.folder / (self.pattern % self.count)

    def _place(self, path: Path) -> None:
        """Put a finished picture into the sequence; it stays where it is too, until the whole is done."""
        target = self._next_file()
        try:
            os.link(path, target)
        except OSError:  # another disk, or one that knows no links
            shutil.copyfile(path, target)

    def _tidy(self, folder: Path) -> None:
        if self.done:
            self.notes += remove_stale(folder, self.pattern, self.count)


def _losses(info: VideoInfo, suffix: str) -> list[str]:
    """The sentence about what of a clip numbered pictures do not say."""
    mean = f"{float(info.fps):.5g}"
    lost = {
        f"the uneven times of its frames ({mean} a second in the mean)": info.variable,
        f"its frame rate ({mean})": not info.variable and info.fps != SEQUENCE_RATE and suffix != ".exr",
        f"its start timecode ({info.timecode})": info.timecode,
        f"the name of its reel ({info.reel})": info.reel,
        f"its time of recording ({info.created})": info.created,
        f"its pixel aspect ({info.pixel_aspect})": info.pixel_aspect != 1 and suffix != ".exr",
        "its HDR mastering metadata": info.mastering != Mastering(),
    }
    named = [what for what, counts in lost.items() if counts]
    return [f"An image sequence does not hold what the clip says: {', '.join(named)}."] if named else []
