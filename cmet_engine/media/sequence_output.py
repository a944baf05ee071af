"""Image sequences: numbered pictures in a folder; PNG as they are, EXR in half floats, linear light (sRGB curve undone)."""

import contextlib
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import cv2

from cmet_engine.errors import CmetError
from cmet_engine.files import whole_folder
from cmet_engine.media import container_limits
from cmet_engine.media.colour import LINEAR
from cmet_engine.media.output import Output, OutputSettings
from cmet_engine.media.segments import SEGMENT, finished, unfinished_file
from cmet_engine.media.sequences import check_sequence, exr_bytes, remove_stale
from cmet_engine.media.source import Source

_PNG_COMPRESSION = 3  # of 9: OpenCV's own choice for speed


class SequenceOutput(Output):
    """Numbered pictures that appear when `stack` is closed without an exception."""

    def __init__(self, settings: OutputSettings, stack: contextlib.ExitStack) -> None:
        folder, self.pattern = check_sequence(settings.path, force=settings.force)
        self.suffix = Path(self.pattern).suffix.lower()
        self.count = 0
        self.notes = settings.notes
        stack.callback(self._tidy, folder)
        self.done = False
        self.folder = stack.enter_context(whole_folder(folder, force=True))
        self.segments = settings.segments
        if settings.sound:
            settings.notes += container_limits.limits(Source(settings.sound), settings.path.suffix)

    def resume(self) -> int:
        """Take over the finished pictures, as many as make whole segments; returns their number."""
        found = finished(self.segments, self.suffix, 1)
        for path in found[: len(found) // SEGMENT * SEGMENT]:
            self._place(path)
        return self.count

    def add(self, frame: av.VideoFrame, time: Fraction) -> None:
        """Encode a picture and put it into the sequence."""
        data = self._encoded(frame)
        if self.segments:
            part = unfinished_file(self.segments, self.count)
            part.write_bytes(data)
            self._place(part.replace(part.with_suffix(self.suffix)))
        else:
            self._next_file().write_bytes(data)

    def finish(self) -> None:
        """Say that the sequence is whole, so that files of an earlier one may go."""
        self.done = True

    def close(self) -> None:
        """Nothing is held open."""

    def _encoded(self, frame: av.VideoFrame) -> bytes:
        rgb = frame.to_ndarray()
        if self.suffix != ".png":
            return exr_bytes(LINEAR[rgb])
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        done, picture = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION])
        if not done:
            raise CmetError(f"Picture {self.count + 1} cannot be encoded as PNG.")
        return picture.tobytes()

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
