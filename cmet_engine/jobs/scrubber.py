"""Reading an edit at one moment of a clip, in the worker: what the last requests needed stays at hand."""

import base64
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from cmet_engine import arkit, cache
from cmet_engine.emotion.clip_emotions import clip_emotions, heard_timeline
from cmet_engine.emotion.edit import edit_track
from cmet_engine.face.clip import face_key, tracked
from cmet_engine.face.occlusion import Occlusion, find_occlusion, was_found
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.picture import small_jpeg
from cmet_engine.media.reader import frame_at
from cmet_engine.media.source import Source
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.spec import EditSpec, LiveSpec
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

KEPT = 3  # clips, and edits of them, that stay at hand
LIVE = 500  # frames up to which a clip is looked through for what covers the face, where no job did so before
PICTURE_SIZE = 960  # pixels on the long side of a rendered frame

T = TypeVar("T")


class Scrubber:
    """Answers requests for moments of cached clips."""

    def __init__(self) -> None:
        self._kept: dict[str, OrderedDict[tuple[object, ...], Any]] = {}

    def answer(self, spec: LiveSpec, picture: bool = False) -> dict[str, Any]:
        """Coefficients of the clip and of its edit at a moment; and the rendered frame where one is asked for.

        Args:
            spec: which moment of which edit.
            picture: render the frame, too.

        Returns:
            `frame`, `time` of it in seconds, `source` and `edited` as {name: value}, `picture` (JPEG, base64) or None.

        Raises:
            CmetError: the clip was not tracked yet, or an emotion is unknown.
        """
        content = cache.content(spec.clip)
        geometry, source = self._keep(
            "track", (content, spec.face, spec.space), lambda: tracked(Source.of(spec.clip, spec.space), face=spec.face)
        )
        asked, _ = heard_timeline(spec.timeline(), spec.clip)
        mine = [key for key in asked.keys if key.person is None or f"#{key.person}" == spec.face]
        timeline, spec = spec.strengthened(EmotionTimeline(mine)), spec.of(None)
        about = (content, spec.face, spec.space, repr(timeline), spec.mode)  # all that decides the edit
        edited = self._keep("edit", about, lambda: self._edit(spec, content, source, timeline))
        times = np.asarray(geometry.times)
        frame = int(np.clip(np.searchsorted(times, spec.time + 1e-6, side="right") - 1, 0, len(times) - 1))
        shown = None
        if picture:
            occlusion = self._keep("occlusion", about[:3], lambda: _occlusion(spec, geometry))
            renderer = self._keep(
                "renderer", about, lambda: WarpRenderer(geometry, source, edited, occlusion=occlusion)
            )
            image = self._keep("frame", (content, spec.space, frame), lambda: _frame(spec, geometry, frame))
            shown = base64.b64encode(small_jpeg(renderer.render(image, frame), PICTURE_SIZE)).decode()
        return {
            "frame": frame,
            "time": float(times[frame]),
            "source": _named(source.coefficients[frame]),
            "edited": _named(edited.coefficients[frame]),
            "picture": shown,
        }

    def _edit(
        self, spec: LiveSpec, content: str, source: CoefficientTrack, timeline: EmotionTimeline
    ) -> CoefficientTrack:
        """The edited track."""
        if not timeline.keys:
            return source
        names = timeline.names()
        named = EditSpec(clip=spec.clip, emotions=tuple(names), device="cpu", renderer="none")
        emotions = self._keep("emotions", (content, *names), lambda: clip_emotions(named))
        emphasis = replace(emotions, timeline=timeline).emphasis(source)
        return edit_track(source, timeline, emotions.vectors, emphasis=emphasis, mode=spec.mode)

    def _keep(self, kind: str, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """What was made for `key`; the last ones of each kind are kept."""
        kept = self._kept.setdefault(kind, OrderedDict())
        if key not in kept:
            kept[key] = make()
            while len(kept) > KEPT:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]


def _frame(spec: LiveSpec, geometry: FaceGeometry, frame: int) -> np.ndarray:
    """A frame of the clip, uint8 [H, W, 3]."""
    until = geometry.times[frame + 1] if frame + 1 < len(geometry) else geometry.times[frame] + 1e-3
    middle = Fraction(float(geometry.times[frame] + until) / 2)  # times are rounded, so ask for the time between
    return frame_at(Source.of(spec.clip, spec.space), middle)


def _occlusion(spec: LiveSpec, geometry: FaceGeometry) -> Occlusion | None:
    """What lies before the face; None for a long clip that no job looked through."""
    footage = Source.of(spec.clip, spec.space)
    face = face_key(footage, spec.face)
    quick = len(geometry) <= LIVE or was_found(footage, face)
    return find_occlusion(footage, geometry, face=face) if quick else None


def _named(values: np.ndarray) -> dict[str, float]:
    return dict(zip(arkit.NAMES, np.round(values.astype(float), 5).tolist(), strict=True))
