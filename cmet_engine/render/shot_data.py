"""Shot data of an edited video, for conform: what came of which clip, as JSON and as a clip of OpenTimelineIO."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cmet_engine import __version__, extras
from cmet_engine.files import whole_file
from cmet_engine.media.info import VideoInfo
from cmet_engine.media.sequences import FRAME_NUMBER
from cmet_engine.media.source import Source
from cmet_engine.timecode import Timecode
from cmet_engine.timeline import EmotionKey
from cmet_engine.track import CoefficientTrack

FORMAT = "cmet-shot/1"
CHANGED = 1e-3  # difference of a coefficient from which on a frame counts as changed


@dataclass(frozen=True)
class Shot:
    """An edited clip.

    Attributes:
        info: of the clip, or of the part of it that was edited.
        source, edited: its curves, frame by frame, as they were and as they are shown.
        video: name of the result in the folder of the shot data; empty where there is none.
        keys: of the emotion timeline, with their strengths.
        settings: what else decided the result, by name.
        first: number in the clip of the first frame of `info`.
    """

    info: VideoInfo
    source: CoefficientTrack
    edited: CoefficientTrack
    video: str
    keys: Sequence[EmotionKey] = ()
    settings: dict[str, Any] | None = None
    first: int = 0

    def document(self) -> dict[str, Any]:
        """The shot as JSON values. Every `out` is the frame behind the last, as in an edit decision list."""
        info, count = self.info, len(self.source)
        keys = [
            {**asdict(key), "in": self._moment(self._frame(key.start)), "out": self._moment(self._frame(key.end))}
            for key in self.keys
        ]
        return {
            "format": FORMAT, "cmet_version": __version__,
            "clip": info.path.name, "path": str(info.path.absolute()), "reel": info.reel, "created": info.created,
            "rate": str(info.fps), "variable_rate": info.variable, "width": info.width, "height": info.height,
            "in": self._moment(0), "out": self._moment(count), "frames": count,
            "result": self.video, "settings": self.settings or {}, "keys": keys,
            "changed": [{"in": self._moment(a), "out": self._moment(b)} for a, b in self._changed()],
        }  # fmt: skip

    def clip(self, otio: ModuleType) -> Any:
        """The shot as an `opentimelineio.schema.Clip`: the result is its medium, the footage another one (`source`)."""
        document, rate = self.document(), float(self.info.fps)
        label = self._label()
        start = otio.opentime.RationalTime(label.frames if label else self.first, rate)

        def span(first: int, last: int) -> Any:
            return otio.opentime.TimeRange(
                start + otio.opentime.RationalTime(first, rate), otio.opentime.RationalTime(last - first, rate)
            )

        whole = span(0, len(self.source))
        pictures = Source.of(self.info.path).pictures
        footage = self.info.path.absolute()
        if pictures and not pictures.links:
            footage = Path(pictures.pattern.replace("%%", "%"))
        media = {"source": _reference(otio, footage, whole, pictures.first if pictures else 1)}
        if self.video:
            media["result"] = _reference(otio, Path(self.video), whole, 1)
        clip = otio.schema.Clip(name=self.info.path.stem, source_range=whole, metadata={"cmet": document})
        clip.set_media_references(media, next(reversed(media)))
        for key, about in zip(self.keys, document["keys"], strict=True):
            marked = span(about["in"]["frame"] - self.first, about["out"]["frame"] - self.first)
            clip.markers.append(otio.schema.Marker(name=f"{key.title} {key.strength:g}", marked_range=marked))
        return clip

    def _label(self) -> Timecode | None:
        """The timecode of the first frame, where the clip has one."""
        return Timecode.parse(self.info.timecode, self.info.fps) if self.info.timecode else None

    def _moment(self, frame: int) -> dict[str, Any]:
        """A frame, 0 for the first that was edited: its number in the clip, its time there in seconds, its timecode or None."""
        times, label = self.source.times, self._label()
        time = times[frame] if frame < len(times) else self.info.duration
        seconds = self.info.begins + float(time)
        return {
            "frame": self.first + frame, "seconds": round(seconds, 6), "timecode": str(label + frame) if label else None,
        }  # fmt: skip

    def _frame(self, time: float | None) -> int:
        """The frame at which a key begins or ends."""
        times = self.source.times
        return len(times) if time is None else int(np.searchsorted(times, time - 1e-6))

    def _changed(self) -> list[tuple[int, int]]:
        """Runs of frames whose curves differ: the first, and the one behind the last."""
        shown = self.edited.resampled_like(self.source).coefficients
        differs = np.abs(shown - self.source.coefficients).max(1) > CHANGED
        edges = np.flatnonzero(np.diff(np.concatenate([[0], differs, [0]]).astype(int)))
        return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def opentimelineio() -> ModuleType:
    """The package that writes OpenTimelineIO.

    Raises:
        MissingWeights: it is not installed.
    """
    return extras.load("otio", "opentimelineio")


def write_shot(path: Path, shot: Shot, *, force: bool = False) -> None:
    """Write a shot as `path` (.json) and as an .otio file beside it.

    Raises:
        CmetError: a file cannot be written, or the package opentimelineio is missing.
    """
    clip = shot.clip(opentimelineio())
    for target, text in (
        (path, json.dumps(shot.document(), indent=2)),
        (path.with_suffix(".otio"), clip.to_json_string()),
    ):
        with whole_file(target, force=force) as temporary:
            temporary.write_text(text + "\n", "utf-8")


def _reference(otio: ModuleType, path: Path, whole: Any, first: int) -> Any:
    """A medium: a movie, or numbered pictures from `first` on. Relative paths are relative to the shot data."""

    def url(path: Path) -> str:
        return path.as_uri() if path.is_absolute() else path.as_posix()

    number = FRAME_NUMBER.search(path.name)
    if not number:
        return otio.schema.ExternalReference(url(path), whole)
    folder = "" if path.parent == Path() else f"{url(path.parent)}/"
    return otio.schema.ImageSequenceReference(
        folder, path.name[: number.start()], path.name[number.end() :], start_frame=first, rate=whole.duration.rate,
        frame_zero_padding=int(number[1] or 0), available_range=whole,
    )  # fmt: skip
