"""The process that does the jobs, one at a time, and stays warm between them.

It reads tasks from standard input (a job's folder, a row of a batch, or a moment of a clip to read), a JSON object a line, and answers with events on standard output, a JSON
object a line: `{"stage", "done", "total"}` while working, then `{"result"}` or `{"error"}`. When its standard input
closes (the engine is gone) it ends at once, whatever it is doing.
"""

import contextlib
import ctypes
import gc
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmet_engine.errors import CmetError
from cmet_engine.files import exclusive, whole_file
from cmet_engine.jobs import reuse
from cmet_engine.jobs.batch import run_row
from cmet_engine.jobs.store import Job
from cmet_engine.resume import Segments

EVENT_INTERVAL = 0.1  # seconds between two progress events
PREVIEW_INTERVAL = 1.0  # seconds between two preview pictures
PREVIEW_SIZE = 640  # pixels on their long side


class Preview:
    """Keeps the newest edited picture in a JPEG file, renewed about once a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0

    def __call__(self, picture: Any) -> None:
        """Take an edited frame, uint8 [H, W, 3]."""
        from cmet_engine.media.picture import small_jpeg

        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PREVIEW_INTERVAL
        with whole_file(self._path, force=True) as temporary:
            temporary.write_bytes(small_jpeg(picture, PREVIEW_SIZE))


def video_name(kind: str) -> str:
    """Name of an edited video in the results, by its format; numbered pictures have a folder of their own."""
    return f"frames/%06d.{kind}" if kind in ("png", "exr") else f"edited.{kind}"


def run_job(job: Job, progress: Any) -> dict[str, Any]:
    """Do one job into its folder's `results`, going on from the pieces of an earlier attempt.

    Returns:
        The figures for the job's result.

    Raises:
        CmetError: the job cannot be done; one sentence.
    """
    from cmet_engine import pipeline
    from cmet_engine.timeline import EmotionKey, EmotionTimeline
    from cmet_engine.track import CoefficientTrack

    request = job.request
    kind, given = request["kind"], request["parameters"]
    job.clear("pieces", "lock")
    if (earlier := reuse.earlier(job)) is not None:
        return earlier
    job.results.mkdir()
    pieces, preview = Segments(job.pieces), Preview(job.preview)
    if kind == "track":
        _, track = pipeline.track_clip(Path(given["clip"]), face=given["face"], progress=progress, pieces=pieces)
        track.save(job.results / f"track.{given['format']}")
        return {"frames": len(track), "fps": str(track.fps), "frames_with_face": int(track.valid.sum())}
    if kind == "edit":
        keys = [EmotionKey(**key) for key in given["keys"]]
        timeline = EmotionTimeline([*EmotionTimeline.parse(given["emotions"]).keys, *keys])
        settings = pipeline.EditSettings(
            timeline,
            given["strength"],
            given["speech"] and Path(given["speech"]),
            given["neutral"] and Path(given["neutral"]),
            given["mode"],
            given["renderer"],
            given["face"],
            given["device"],
            video_name(given["format"]),
            quality=given.get("quality", "auto"),
        )
        result = pipeline.edit_clip(
            Path(given["clip"]), settings, job.results, force=True, progress=progress, pieces=pieces, preview=preview
        )
        return {"figures": result.figures, "messages": result.messages}
    if kind == "render":
        notes: list[str] = []
        source = CoefficientTrack.load(given["source"]) if given["source"] else None
        pipeline.render_clip(
            Path(given["clip"]),
            CoefficientTrack.load(given["track"]),
            job.results / video_name(given["format"]),
            source=source,
            renderer=given["renderer"],
            face=given["face"],
            quality=given.get("quality", "auto"),
            device=given.get("device", "auto"),
            rate_factor=given.get("rate_factor"),
            force=True,
            progress=progress,
            pieces=pieces,
            preview=preview,
            notes=notes,
        )
        return {"messages": notes}
    if kind == "vector":
        from cmet_engine.emotion import library
        from cmet_engine.emotion.speech import load_encoder

        vector = library.emotion_vector(
            [Path(p) for p in given["paths"]], [Path(p) for p in given["neutral"]], given["name"], load_encoder()
        )
        held = library.load_library().get(vector.name)
        if held is None or abs(held.vector - vector.vector).max() > 1e-5:  # else an attempt that was killed stored it
            library.save_user_vector(vector, force=given["replace"])
        return {"about": library.describe_vector(vector)}
    raise CmetError(f"The kind of job '{kind}' is unknown.")


def main() -> None:
    """Serve jobs until standard input closes."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not mix with the events
    jobs: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    scrubber: Any = None
    while True:
        task = json.loads(jobs.get())
        last = 0.0

        def progress(stage: str, done: int, total: int | None) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= EVENT_INTERVAL or done == total:
                last = now
                print(json.dumps({"stage": stage, "done": done, "total": total}), file=events)

        with contextlib.ExitStack() as stack:
            if "folder" in task:
                job = Job(Path(task["folder"]))
                # the worker of an engine that was killed may take a moment to be gone
                stack.enter_context(exclusive(job.folder / "lock"))
                handler = logging.StreamHandler(
                    stack.enter_context((job.folder / "log.txt").open("a", encoding="utf-8"))
                )
                handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
                logging.getLogger().addHandler(handler)
                stack.callback(logging.getLogger().removeHandler, handler)
                answer = attempt(run_job, job, progress)
            elif "live" in task:
                if scrubber is None:
                    from cmet_engine.jobs.live import Scrubber

                    scrubber = Scrubber()
                answer = attempt(scrubber.answer, task["live"])
            else:
                answer = attempt(run_row, task["row"], progress, force=task["force"])
        print(json.dumps(answer, default=str), file=events)
        if "live" not in task:  # the next of those follows at once, and would wait for it
            give_memory_back()


def give_memory_back() -> None:
    """Free what a job left: cycles of small objects that hold frames and buffers of C libraries, and the freed pages."""
    gc.collect()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # a C library other than glibc has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)


def attempt(work: Callable[..., dict[str, Any]], *arguments: Any, **options: Any) -> dict[str, Any]:
    """`{"result": …}` of the work, or `{"error": one sentence}`; the fault itself goes to the log."""
    try:
        return {"result": work(*arguments, **options)}
    except CmetError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "The machine ran out of memory during this work."}
    except Exception as error:
        logging.exception("internal fault")
        return {"error": f"An internal fault stopped the work ({type(error).__name__}: {error})."}


if __name__ == "__main__":
    main()
