"""Reading an edit at one moment of a clip, in the worker: what the last requests needed stays at hand."""

import base64
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import arkit, cache

KEPT = 3  # clips, and edits of them, that stay at hand
PICTURE_SIZE = 960  # pixels on the long side of a drawn frame


class Scrubber:
    """Answers requests for moments of cached clips."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Coefficients of the clip and of its edit at a moment; and the drawn frame where one is asked for.

        Args:
            asked: parameters of `LiveRequest`.

        Returns:
            `frame`, `time` of it in seconds, `source` and `edited` as {name: value}, `picture` (JPEG, base64) or None.

        Raises:
            CmetError: the clip was not tracked yet, or an emotion is unknown.
        """
        from cmet_engine import pipeline
        from cmet_engine.emotion.edit import edit_track
        from cmet_engine.face.clip import tracked
        from cmet_engine.render.warp import WarpRenderer
        from cmet_engine.timeline import EmotionKey, EmotionTimeline

        clip, face = Path(asked["clip"]), asked["face"]
        geometry, source = self._keep(("track", cache.content(clip), face), lambda: tracked(clip, face=face))
        keys = [*EmotionTimeline.parse(asked["emotions"]).keys, *(EmotionKey(**key) for key in asked["keys"])]
        timeline = EmotionTimeline(keys).scaled(asked["strength"])
        edited = source
        if keys:
            names = EmotionTimeline([EmotionKey(name) for name in timeline.names()])
            settings = pipeline.EditSettings(names, device="cpu")
            heard = self._keep(
                ("heard", cache.content(clip), timeline.names()), lambda: pipeline.listen(clip, settings)
            )

            def edit() -> Any:
                emphasis = replace(heard, timeline=timeline).emphasis(source)
                return edit_track(source, timeline, heard.vectors, emphasis=emphasis, mode=asked["mode"])

            edited = self._keep(("edit", cache.content(clip), face, repr(timeline), asked["mode"]), edit)
        times = np.asarray(geometry.times)
        frame = int(np.clip(np.searchsorted(times, asked["time"] + 1e-6, side="right") - 1, 0, len(times) - 1))
        picture = None
        if asked["picture"]:
            renderer = self._keep(("renderer", id(edited)), lambda: WarpRenderer(geometry, source, edited))
            picture = self._picture(clip, geometry, renderer, frame)
        return {
            "frame": frame,
            "time": float(times[frame]),
            "source": _named(source.coefficients[frame]),
            "edited": _named(edited.coefficients[frame]),
            "picture": picture,
        }

    def _keep(self, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """What was made for `key`; the last ones of each kind are kept."""
        name = repr(key)
        if name not in self._kept:
            self._kept[name] = make()
            same = [other for other in self._kept if other.startswith(repr(key[:1])[:-2])]
            for other in same[:-KEPT]:
                del self._kept[other]
        self._kept.move_to_end(name)
        return self._kept[name]

    def _picture(self, clip: Path, geometry: Any, renderer: Any, frame: int) -> str:
        from cmet_engine.media.picture import small_jpeg
        from cmet_engine.media.video import frame_at

        until = geometry.times[frame + 1] if frame + 1 < len(geometry) else geometry.times[frame] + 1e-3
        middle = Fraction(float(geometry.times[frame] + until) / 2)  # times are rounded, so ask for the time between
        image = self._keep(("frame", cache.content(clip), frame), lambda: frame_at(clip, middle))
        return base64.b64encode(small_jpeg(renderer.render(image, frame), PICTURE_SIZE)).decode()


def _named(values: np.ndarray) -> dict[str, float]:
    return dict(zip(arkit.NAMES, np.round(values.astype(float), 5).tolist(), strict=True))
