"""Image sequences: numbered pictures in a folder, each a file of its own; see `stills` for what is in them."""

import contextlib
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cmet_engine.files import whole_folder
from cmet_engine.media import container_limits, dpx, openexr
from cmet_engine.media.display import ORDINARY
from cmet_engine.media.info import ONE_MOMENT, Colors, Mastering, VideoInfo
from cmet_engine.media.output import Output, OutputSettings
from cmet_engine.media.segments import SEGMENT, finished, unfinished_file
from cmet_engine.media.sequences import SEQUENCE_RATE, check_sequence, remove_stale
from cmet_engine.media.source import Source
from cmet_engine.media.spaces import is_float
from cmet_engine.media.stills import StillEncoder, display_note
from cmet_engine.timecode import Timecode


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
        self.about = about
        self.encode = StillEncoder(
            self.suffix, about.colors if about else Colors(), about.display if about else ORDINARY
        )
        source = Source.of(about.path) if about and self.suffix in (".exr", ".dpx") else None
        self.source = source if source and source.first_file.suffix.lower() == self.suffix else None
        self.first = round(about.begins * about.fps) if about else 0  # of the source, where a part of it is written
        if self.source and self.suffix == ".exr":
            settings.notes += openexr.losses(self.source.first_file)
        if about:
            settings.notes += losses(about, self.suffix)
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
        if self.suffix not in (".exr", ".dpx"):
            return self.encode(frame)
        own = self.source.file_of(self.first + self.count) if self.source else None
        if self.suffix == ".dpx":
            picture = self.encode(frame)
            aspect, timecode, _, created = self._identity()
            header = dpx.read_header(own) if own else b""
            return dpx.with_header(picture, header or dpx.described(picture, self.fps, aspect, timecode, created))
        if own and is_float(frame.format.name):
            return self.encode(frame, openexr.kept(openexr.read_header(own)), matte, openexr.further_channels(own))
        return self.encode(frame, self.encode.attributes(self.fps, *self._identity()), matte)

    def _identity(self) -> tuple[Fraction, Timecode | None, str, str]:
        """Pixel aspect, timecode, reel and time of recording of the next frame."""
        about = self.about
        if about is None:
            return Fraction(1), None, "", ""
        timecode = Timecode.parse(about.timecode, self.fps) + self.count if about.timecode else None
        return about.pixel_aspect, timecode, about.reel, about.created

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


def losses(info: VideoInfo, suffix: str) -> list[str]:
    """Sentences about what of a clip numbered pictures do not say."""
    mean, headed = f"{float(info.fps):.5g}", suffix in (".exr", ".dpx")
    lost = {
        f"its fields ({ONE_MOMENT})": info.field_order,
        f"the uneven times of its frames ({mean} a second in the mean)": info.variable,
        f"its frame rate ({mean})": not info.variable and info.fps != SEQUENCE_RATE and not headed,
        f"its start timecode ({info.timecode})": info.timecode and not headed,
        f"the name of its reel ({info.reel})": info.reel and suffix != ".exr",
        f"its time of recording ({info.created})": info.created and not headed,
        f"its pixel aspect ({info.pixel_aspect})": info.pixel_aspect != 1 and not headed,
        "its HDR mastering metadata": info.mastering != Mastering(),
    }
    named = [what for what, counts in lost.items() if counts]
    sentence = [f"An image sequence does not hold what the clip says: {', '.join(named)}."] if named else []
    return sentence + display_note(info, suffix)
