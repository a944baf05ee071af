"""Reading an edit at one moment of a clip, in the worker: what the last requests needed stays at hand."""

import base64
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from cmet_engine import arkit, cache
from cmet_engine.corrections import corrected
from cmet_engine.emotion.clip_emotions import clip_emotions, heard_timeline
from cmet_engine.emotion.edit import edit_track
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.face.clip import face_key, tracked
from cmet_engine.face.occlusion import Occlusion, find_occlusion, was_found
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.jobs import curves
from cmet_engine.media import audio, proxy
from cmet_engine.media.picture import shrunk, small_jpeg
from cmet_engine.media.reader import frame_at
from cmet_engine.media.source import Source
from cmet_engine.render.chain import same_face
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.spec import CurvesSpec, EditSpec, LiveSpec, TimelineSpec
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

KEPT = 3  # clips, and edits of them, that stay at hand
LIVE = 500  # frames up to which a clip is looked through for what covers the face, where no job did so before
DIFFERENCE = 4  # by which a difference is multiplied to be seen

T = TypeVar("T")


@dataclass(frozen=True)
class _Edit:
    """The edit of one person that is read: where the face is, the clip's own curves and the edited ones, whose, and all that decides them."""

    geometry: FaceGeometry
    source: CoefficientTrack
    edited: CoefficientTrack
    face: int | str | Path
    about: tuple[object, ...]

    def frame(self, time: float) -> int:
        """The frame that is shown at a moment."""
        times = np.asarray(self.geometry.times)
        return int(np.clip(np.searchsorted(times, time + 1e-6, side="right") - 1, 0, len(times) - 1))


class Scrubber:
    """Answers requests about cached clips.

    Every answer raises `CmetError` where the clip was not tracked yet, or an emotion is unknown.
    """

    def __init__(self) -> None:
        self._kept: dict[str, OrderedDict[tuple[object, ...], Any]] = {}
        self._copying: set[object] = set()
        self._people = 1  # who were in the last picture

    def values(self, spec: LiveSpec) -> dict[str, Any]:
        """Coefficients of a clip and of its edit at a moment: `frame`, `time` of it in seconds, `source` and `edited`."""
        edit = self._edit(spec)
        frame = edit.frame(spec.time)
        return {
            "frame": frame,
            "time": float(edit.geometry.times[frame]),
            "source": _named(edit.source.coefficients[frame]),
            "edited": _named(edit.edited.coefficients[frame]),
        }

    def picture(self, spec: LiveSpec) -> dict[str, Any]:
        """What `spec.view` shows of a moment: `picture` (JPEG, base64)."""
        edit = self._edit(spec)
        frame = edit.frame(spec.time)
        image = self._image(spec, edit, frame)
        if spec.view != "source":
            edits = [edit, *self._others(spec, edit)]
            self._people = len(edits)
            image = _seen([self._renderer(spec, one, image) for one in edits], image, frame, spec.view)
        return {"picture": base64.b64encode(small_jpeg(image, spec.size)).decode()}

    def _renderer(self, spec: LiveSpec, edit: _Edit, image: np.ndarray) -> WarpRenderer:
        """What draws the edit of one person on pictures as large as `image`."""
        clip, scale = edit.about[:3], max(image.shape[:2]) / max(edit.geometry.size)
        occlusion = self._keep("occlusion", clip, lambda: _occlusion(spec, edit))
        geometry = self._keep("scaled", (*clip, scale), lambda: edit.geometry.scaled(image.shape[1], image.shape[0]))
        return self._keep(
            "renderer",
            (*edit.about, scale),
            lambda: WarpRenderer(geometry, edit.source, edit.edited, occlusion=occlusion, chunk=1),
        )

    def _others(self, spec: LiveSpec, edit: _Edit) -> list[_Edit]:
        """The edits of further people whom keys or corrections name, as far as they were tracked."""
        named = [key.person for key in spec.timeline().keys] + [point.person for point in spec.corrected_points]
        others = []
        for person in dict.fromkeys(named):
            if person is not None and f"#{person}" != spec.face:
                with contextlib.suppress(InvalidInput):  # not tracked yet
                    other = self._edit(spec, person)
                    key = edit.about[:3], other.about[:3]
                    same = self._keep("same", key, partial(same_face, edit.geometry, other.geometry))
                    others += [] if same else [other]
        return others

    def curves(self, spec: CurvesSpec) -> dict[str, Any]:
        """What a timeline shows of an edit; see `serve.schemas.CurvesAnswer`."""
        edit = self._edit(spec)
        sound = self._keep("sound", (edit.about[0], spec.points), lambda: _sound(spec))
        return {
            **curves.moving(edit.source, edit.edited, spec.points, spec.most, [c.name for c in spec.corrected_points]),
            "blinks": curves.blinks(edit.source),
            "cuts": [float(edit.geometry.times[frame]) for frame in edit.geometry.cuts],
            **sound,
        }

    def _edit(self, spec: TimelineSpec, person: str | None = None) -> _Edit:
        """The edit that is asked about: that of `spec.face`, or of another person whom it names."""
        alone, content = spec.of(person), cache.content(spec.clip)
        clip = (content, alone.face, spec.space)
        geometry, source = self._keep("track", clip, lambda: tracked(Source.of(spec.clip, spec.space), face=alone.face))
        names = (person,) if person is not None else (None, str(spec.face).removeprefix("#"))
        asked, _ = heard_timeline(spec.timeline(), spec.clip)
        timeline = spec.strengthened(EmotionTimeline([key for key in asked.keys if key.person in names]))
        points = [c for c in spec.corrected_points if c.person in names]
        about = (*clip, repr(timeline), alone.mode, spec.like and cache.content(spec.like))
        edited = self._keep("edit", about, lambda: self._edited(alone, content, source, timeline))
        if points:
            edited = corrected(edited, [replace(c, person=None) for c in points])
        return _Edit(geometry, source, edited, alone.face, (*about, *points))

    def _edited(
        self, spec: TimelineSpec, content: str, source: CoefficientTrack, timeline: EmotionTimeline
    ) -> CoefficientTrack:
        """The edited track, without corrections."""
        if not timeline.keys:
            return source
        names = timeline.names()
        named = EditSpec(clip=spec.clip, emotions=tuple(names), like=spec.like, device="cpu", renderer="none")
        like = spec.like and cache.content(spec.like)
        emotions = self._keep("emotions", (content, *names, like), lambda: clip_emotions(named))
        emphasis = replace(emotions, timeline=timeline).emphasis(source)
        return edit_track(
            source, timeline, emotions.vectors, emphasis=emphasis, mode=spec.mode, likeness=emotions.likeness
        )

    def _image(self, spec: LiveSpec, edit: _Edit, frame: int) -> np.ndarray:
        """A frame of the clip, uint8 [h, w, 3], as large as it is; or from its small copy where that is large enough."""
        clip = edit.about[:3]
        if spec.size <= proxy.LONGEST:
            footage = Source.of(spec.clip, spec.space)
            kept: proxy.Proxy | None = self._kept.get("proxy", OrderedDict()).get(clip)
            copies = kept or proxy.find(footage)
            if copies and len(copies) == len(edit.geometry):
                return shrunk(self._keep("proxy", clip, lambda: copies).frame(frame), spec.size)
            if clip not in self._copying:
                self._copying.add(clip)
                threading.Thread(target=_copy, args=(footage,), daemon=True).start()
        image = self._keep("frame", (edit.about[0], spec.space, frame), lambda: _frame(spec, edit.geometry, frame))
        return shrunk(image, spec.size) if spec.size <= proxy.LONGEST else image

    def _keep(self, kind: str, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """What was made for `key`; the last ones of each kind are kept."""
        kept = self._kept.setdefault(kind, OrderedDict())
        if key not in kept:
            kept[key] = make()
            while len(kept) > KEPT * self._people:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]


def _seen(renderers: list[WarpRenderer], image: np.ndarray, frame: int, view: str) -> np.ndarray:
    """What a view shows of a frame, uint8 [h, w, 3]; see `choices.View`."""
    if view == "landmarks":
        drawn = image.copy()
        points = np.concatenate([renderer.target(frame)[:, :2] for renderer in renderers])
        for x, y in np.round(points).astype(int).tolist():
            cv2.circle(drawn, (x, y), max(1, image.shape[0] // 400), (64, 255, 160), -1, cv2.LINE_AA)
        return drawn
    edited = image
    for renderer in renderers:
        edited = renderer.render(edited, frame)
    change = cv2.absdiff(edited, image)
    if view == "difference":
        return cv2.convertScaleAbs(change, alpha=DIFFERENCE)
    if view == "matte":
        edited = edited.copy()
        changed = change.max(2) > 0
        edited[changed] = edited[changed] // 2 + np.array([127, 0, 0], np.uint8)
    return edited


def _frame(spec: LiveSpec, geometry: FaceGeometry, frame: int) -> np.ndarray:
    """A frame of the clip, uint8 [H, W, 3]."""
    until = geometry.times[frame + 1] if frame + 1 < len(geometry) else geometry.times[frame] + 1e-3
    middle = Fraction(float(geometry.times[frame] + until) / 2)  # times are rounded, so ask for the time between
    return frame_at(Source.of(spec.clip, spec.space), middle)


def _copy(footage: Source) -> None:
    """Make the small copies of a clip's frames beside other work; without them every frame is decoded when it is asked for."""
    try:
        proxy.make(footage)
    except CmetError:
        return  # whoever asks for a frame is told


def _occlusion(spec: LiveSpec, edit: _Edit) -> Occlusion | None:
    """What lies before the face; None for a long clip that no job looked through."""
    footage = Source.of(spec.clip, spec.space)
    face, geometry = face_key(footage, edit.face), edit.geometry
    quick = len(geometry) <= LIVE or was_found(footage, face)
    return find_occlusion(footage, geometry, face=face) if quick else None


def _sound(spec: CurvesSpec) -> dict[str, Any]:
    """Waveform and speech of a clip; empty where it has no sound that can be read."""
    try:
        wave = audio.load(spec.clip) if audio.has_sound(spec.clip) else np.zeros(0, np.float32)
    except CmetError:
        wave = np.zeros(0, np.float32)
    return {
        "waveform": curves.peaks(wave, spec.points),
        "speech": audio.spoken(wave),
        "words": curves.word_edges(wave, audio.RATE),
    }


def _named(values: np.ndarray) -> dict[str, float]:
    return dict(zip(arkit.NAMES, np.round(values.astype(float), 5).tolist(), strict=True))
