"""Reading an edit at one moment of a clip, while somebody drags a slider: nothing is queued, nothing is written.

The worker's side is `Scrubber`, which keeps what the last requests needed; the engine's side is `Reader`, which has a worker
of its own, so that a long job does not keep anybody waiting.
"""

import base64
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import arkit, cache
from cmet_engine.errors import CmetError
from cmet_engine.jobs.runner import IDLE_SECONDS, NO_GPU, Worker

KEPT = 3  # clips, and edits of them, that stay at hand
PICTURE_SIZE = 960  # pixels on the long side of a drawn frame
WAITING = 8  # requests; who drags a slider asks again anyway


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
        from cmet_engine.emotion.clip_emotions import clip_emotions
        from cmet_engine.emotion.edit import edit_track
        from cmet_engine.face.clip import tracked
        from cmet_engine.render.warp import WarpRenderer
        from cmet_engine.spec import EditSpec
        from cmet_engine.timeline import EmotionKey, EmotionTimeline

        clip, face = Path(asked["clip"]), asked["face"]
        geometry, source = self._keep(("track", cache.content(clip), face), lambda: tracked(clip, face=face))
        keys = [*EmotionTimeline.parse(asked["emotions"]).keys, *(EmotionKey(**key) for key in asked["keys"])]
        timeline = EmotionTimeline(keys).scaled(asked["strength"])
        edited = source
        if keys:
            spec = EditSpec(clip=clip, emotions=tuple(timeline.names()), device="cpu")
            heard = self._keep(("heard", cache.content(clip), timeline.names()), lambda: clip_emotions(spec))

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
        from cmet_engine.media.reader import frame_at

        until = geometry.times[frame + 1] if frame + 1 < len(geometry) else geometry.times[frame] + 1e-3
        middle = Fraction(float(geometry.times[frame] + until) / 2)  # times are rounded, so ask for the time between
        image = self._keep(("frame", cache.content(clip), frame), lambda: frame_at(clip, middle))
        return base64.b64encode(small_jpeg(renderer.render(image, frame), PICTURE_SIZE)).decode()


def _named(values: np.ndarray) -> dict[str, float]:
    return dict(zip(arkit.NAMES, np.round(values.astype(float), 5).tolist(), strict=True))


class BusyError(Exception):
    """More requests wait than are worth answering, or the answer takes too long."""


class Reader:
    """Hands requests to a worker of its own, in order; the worker starts with the first one and goes when idle.

    Args:
        environment: environment variables for the worker.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.idle_seconds = IDLE_SECONDS
        self._environment = {**(environment or {}), **NO_GPU}
        self._tasks: queue.Queue[tuple[dict[str, Any], Future[dict[str, Any]]] | None] = queue.Queue(WAITING)
        self._worker: Worker | None = None
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def ask(self, asked: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer of `Scrubber`.

        Raises:
            CmetError: the request cannot be answered; the worker's sentence.
            BusyError: it was not answered within `seconds`.
        """
        future: Future[dict[str, Any]] = Future()
        try:
            self._tasks.put_nowait((asked, future))
            answer = future.result(seconds)
        except (queue.Full, TimeoutError) as error:
            raise BusyError from error
        if "error" in answer:
            raise CmetError(answer["error"])
        return answer["result"]

    def stop(self) -> None:
        """End the worker."""
        worker = self._worker
        if worker:
            worker.kill()
        while True:
            try:
                self._tasks.put_nowait(None)
                break
            except queue.Full:
                self._tasks.get_nowait()
        self._thread.join(timeout=5)

    def _loop(self) -> None:
        last = time.monotonic()
        while True:
            try:
                task = self._tasks.get(timeout=1.0)
            except queue.Empty:
                if self._worker and time.monotonic() - last > self.idle_seconds:
                    self._worker.kill()
                    self._worker = None
                continue
            if task is None:
                break
            asked, future = task
            if self._worker is None or self._worker.process.poll() is not None:
                self._worker = Worker(self._environment)
            answer = self._worker.ask({"live": asked})
            if answer is None:
                self._worker.kill()
                self._worker = None
                answer = {"error": "The reader ended unexpectedly; ask again."}
            future.set_result(answer)
            last = time.monotonic()
        if self._worker:
            self._worker.kill()
