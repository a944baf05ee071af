"""`cmet serve`: the engine's door. HTTP on loopback, closed to everybody without the token of this start.

Upload-free by design: a client names files on the same machine, inside the allowed folders; small files may be
sent. The heavy work runs in worker processes, so that this one always answers.
"""

import base64
import contextlib
import errno
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from fastapi import Body, Depends, FastAPI, HTTPException, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from cmet_engine import __version__
from cmet_engine.errors import CmetError
from cmet_engine.jobs import reuse
from cmet_engine.jobs import store as states
from cmet_engine.jobs.live import BusyError, Reader
from cmet_engine.jobs.runner import Runner
from cmet_engine.jobs.store import Job, JobStore
from cmet_engine.serve.paths import AllowedFolders
from cmet_engine.serve.schemas import *
from cmet_engine.serve.security import *

MAX_UPLOADS = 4 << 30  # bytes of all uploads together
UPLOAD_DAYS = 7  # an upload that was not sent again for so long is removed at the next start
MAX_WAITING = 10_000  # queued jobs
LIVE_SECONDS = 4.0  # for an answer about a moment; below the time-out of clients

UPLOAD_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".npz", ".csv", ".json", ".mp4", ".mov", ".png", ".jpg")

Text = Annotated[str, Field(max_length=4096)]
Emotion = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]  # a name, a blend or a key
ClientName = Annotated[
    str, Query(max_length=80, pattern=r"^[\w .-]*$", description="who asks; jobs of different clients take turns")
]


VideoFormat = Literal["mp4", "mov", "mkv", "png", "exr"]  # the last two are numbered pictures


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EmotionKeyRequest(_Request):
    """One key of the emotion timeline; see `cmet_engine.timeline.EmotionKey`."""

    emotion: Emotion
    strength: Annotated[float, Field(ge=-10, le=10)] = 1.0
    start: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    end: Annotated[float, Field(gt=0, le=1e6)] | None = None
    ease_in: Annotated[float, Field(ge=0, le=60)] = 0.3
    ease_out: Annotated[float, Field(ge=0, le=60)] = 0.3
    easing: Literal["smooth", "linear", "step"] = "smooth"


class TrackRequest(_Request):
    """Footage to coefficients."""

    clip: Text
    face: Annotated[int, Field(ge=0, le=20)] = 0
    format: Literal["npz", "csv", "json"] = "npz"


class EditRequest(_Request):
    """Edit the emotion of a clip."""

    clip: Text
    emotions: Annotated[list[Emotion], Field(max_length=200)] = []
    keys: Annotated[list[EmotionKeyRequest], Field(max_length=1000)] = []
    speech: Text | None = None
    neutral: Text | None = None
    strength: Annotated[float, Field(ge=-10, le=10)] = 1.0
    mode: Literal["add", "replace"] = "add"
    renderer: Literal["warp", "edtalk", "none"] = "warp"
    quality: Literal["auto", "draft", "standard", "best"] = "auto"
    face: Annotated[int, Field(ge=0, le=20)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    format: VideoFormat = "mp4"


class RenderRequest(_Request):
    """Render a clip with the curves of a track."""

    clip: Text
    track: Text
    source: Text | None = None
    renderer: Literal["warp", "edtalk"] = "warp"
    quality: Literal["auto", "draft", "standard", "best"] = "auto"
    face: Annotated[int, Field(ge=0, le=20)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    format: VideoFormat = "mp4"
    rate_factor: Annotated[int, Field(ge=0, le=51)] | None = None  # rate factor of H.264; None is the writer's own


class LiveRequest(_Request):
    """Read an edit at one moment of a clip that was tracked before."""

    clip: Text
    time: Annotated[float, Field(ge=0, le=1e6)]
    emotions: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=200)] = []
    keys: Annotated[list[EmotionKeyRequest], Field(max_length=1000)] = []
    strength: Annotated[float, Field(ge=-10, le=10)] = 1.0
    mode: Literal["add", "replace"] = "add"
    face: Annotated[int, Field(ge=0, le=20)] = 0


class VectorRequest(_Request):
    """Add an emotion to the library of the user who runs the engine."""

    paths: Annotated[list[Text], Field(min_length=1, max_length=1000)]
    neutral: Annotated[list[Text], Field(max_length=1000)] = []  # none: the library's neutral
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    replace: bool = False


def create_app(root: Path, token: str, allowed: AllowedFolders, slots: int = 1) -> tuple[Any, Runner]:
    """The application behind its door, and the runner of its jobs.

    Args:
        root: folder of the engine's own: jobs, uploads.
        token: the secret of this start.
        allowed: folders whose files clients may name.
        slots: how many edits and renders run at the same time; tracking and listening go on beside them.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    uploads = root / "uploads"
    uploads.mkdir(exist_ok=True)
    for path in [*root.glob(".*"), *root.glob("*/.*")]:  # what a killed engine was writing, and nobody was told of
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    for path in uploads.iterdir():
        if path.stat().st_mtime < time.time() - UPLOAD_DAYS * 86400:
            path.unlink()
    store = JobStore(root)
    allowed = AllowedFolders([*allowed.folders, uploads, store.folder])
    reuse.prune(root)
    runner, reader = Runner(store, slots), Reader()
    started = time.time()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield
        reader.stop()
        runner.stop()

    app = FastAPI(
        title="C-MET engine", version=__version__, docs_url=None, redoc_url=None, openapi_url=f"/{API}/openapi.json", lifespan=lifespan,
        responses=REFUSALS, redirect_slashes=False,
        dependencies=[
            Security(HTTPBearer(auto_error=False, description="the token of this start")),  # `Door` checks it
            Depends(known_parameters),
        ],
        description="Emotion edits of talking faces. Every request needs the header `Authorization: Bearer TOKEN`.",
    )  # fmt: skip

    @app.exception_handler(CmetError)
    def _cmet_error(_: Request, error: CmetError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=404 if "no such job" in str(error) else 422)

    @app.exception_handler(RequestValidationError)
    def _validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": _sentence(error.errors()[0])}, status_code=422)

    @app.exception_handler(StarletteHTTPException)
    def _http_error(_: Request, error: StarletteHTTPException) -> JSONResponse:
        sentence = str(error.detail)
        if not sentence.endswith("."):  # the framework's own words
            sentence = FRAMEWORK.get(error.status_code, "The request cannot be understood.")
        return JSONResponse({"error": sentence}, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(OSError)
    def _disk(request: Request, error: OSError) -> JSONResponse:
        if error.errno != errno.ENOSPC:
            raise error
        return JSONResponse({"error": "The disk of the engine is full; free some space."}, status_code=507)

    @app.exception_handler(Exception)
    def _fault(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(
            {"error": "An internal fault stopped the request; the engine's log says where."}, status_code=500
        )

    def answer(job: Job) -> JobAnswer:
        state, request = runner.state(job), job.request
        return JobAnswer(
            id=job.id, kind=request["kind"], client=request["client"], state=cast(StateName, state.state), stage=state.stage, done=state.done,
            total=state.total, eta_seconds=state.eta, attempts=state.attempts, queued_at=state.queued_at, started_at=state.started_at,
            finished_at=state.finished_at, error=state.error, result=state.result,
            files={name: str(job.results / name) for name in state.checksums},
        )  # fmt: skip

    def submit(kind: str, parameters: BaseModel, client: str) -> JobAnswer:
        if store.waiting() >= MAX_WAITING:
            raise HTTPException(429, f"{MAX_WAITING} jobs are waiting already; try again later.")
        job = store.submit(kind, parameters.model_dump(), client)
        runner.events("queued", job)
        runner.wake()
        return answer(job)

    @app.get(f"/{API}/health")
    def health() -> dict[str, Any]:
        """Whether the engine lives, and what it can do."""
        return {
            "version": __version__, "api": API, "pid": os.getpid(), "uptime_seconds": round(time.time() - started, 1),
            "jobs_waiting": store.waiting(), "jobs_running": len(runner.live), "renderers": ["warp", "edtalk"], **device(),
        }  # fmt: skip

    @app.get(f"/{API}/emotions")
    def emotions() -> list[dict[str, Any]]:
        """What the emotion library holds."""
        from cmet_engine.emotion.library import load_library

        return [{"name": v.name, "reliability": v.reliability} for v in load_library().values()]

    @app.post(f"/{API}/track", status_code=202, responses=BUSY)
    def start_track(request: TrackRequest, client: ClientName = "") -> JobAnswer:
        """Queue: footage to coefficients."""
        request.clip = str(allowed.readable(request.clip))
        return submit("track", request, client)

    @app.post(f"/{API}/edit", status_code=202, responses=BUSY)
    def start_edit(request: EditRequest, client: ClientName = "") -> JobAnswer:
        """Queue: edit the emotion of a clip."""
        from cmet_engine.timeline import EmotionKey, EmotionTimeline

        request.clip = str(allowed.readable(request.clip))
        if request.speech:
            request.speech = str(allowed.readable(request.speech, folder_too=True))
        if request.neutral:
            request.neutral = str(allowed.readable(request.neutral, folder_too=True))
        EmotionTimeline.parse(request.emotions)
        for key in request.keys:
            EmotionKey(**key.model_dump())
        return submit("edit", request, client)

    @app.post(f"/{API}/render", status_code=202, responses=BUSY)
    def start_render(request: RenderRequest, client: ClientName = "") -> JobAnswer:
        """Queue: render a clip with the curves of a track."""
        request.clip, request.track = str(allowed.readable(request.clip)), str(allowed.readable(request.track))
        if request.source:
            request.source = str(allowed.readable(request.source))
        return submit("render", request, client)

    @app.post(f"/{API}/vector", status_code=202, responses=BUSY)
    def start_vector(request: VectorRequest, client: ClientName = "") -> JobAnswer:
        """Queue: a new emotion from recordings."""
        request.paths = [str(allowed.readable(p, folder_too=True)) for p in request.paths]
        request.neutral = [str(allowed.readable(p, folder_too=True)) for p in request.neutral]
        return submit("vector", request, client)

    def live(request: LiveRequest, picture: bool) -> dict[str, Any]:
        request.clip = str(allowed.readable(request.clip))
        try:
            return reader.ask({**request.model_dump(), "picture": picture}, LIVE_SECONDS)
        except BusyError as error:
            raise HTTPException(429, "The reader is busy or getting ready; ask again.") from error

    @app.post(f"/{API}/live", responses=BUSY)
    def read_live(request: LiveRequest) -> LiveAnswer:
        """Read the coefficients of an edit at one moment; the clip must have been tracked before."""
        return LiveAnswer(**live(request, False))

    @app.post(f"/{API}/live/picture", response_class=Response, responses={**PICTURE, **BUSY})
    def draw_live(request: LiveRequest) -> Response:
        """Draw the frame of an edit at one moment, as a JPEG of at most 960 pixels."""
        return Response(base64.b64decode(live(request, True)["picture"]), media_type="image/jpeg")

    @app.get(f"/{API}/jobs")
    def list_jobs(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[JobAnswer]:
        """The newest jobs, newest first."""
        return [answer(job) for job in store.all()[-limit:][::-1]]

    @app.get(f"/{API}/jobs/{{identity}}", responses=UNKNOWN)
    def job_state(identity: str) -> JobAnswer:
        """Where a job stands."""
        return answer(store.get(identity))

    @app.post(f"/{API}/jobs/{{identity}}/cancel", responses=UNKNOWN)
    def cancel(identity: str) -> JobAnswer:
        """Stop a job; when this answers nothing works on it any more."""
        job = store.get(identity)
        runner.cancel(job)
        return answer(job)

    @app.get(f"/{API}/jobs/{{identity}}/log", response_class=PlainTextResponse, responses=UNKNOWN)
    def job_log(identity: str) -> str:
        """The job's log, its last 64 KiB."""
        path = store.get(identity).folder / "log.txt"
        return path.read_bytes()[-65536:].decode("utf-8", "replace") if path.exists() else ""

    @app.get(f"/{API}/jobs/{{identity}}/preview", response_class=FileResponse, responses={**PICTURE, **UNKNOWN})
    def job_preview(identity: str) -> FileResponse:
        """The newest edited picture of a running job."""
        path = store.get(identity).folder / "preview.jpg"
        if not path.exists():
            raise HTTPException(404, "There is no preview yet.")
        return FileResponse(path, media_type="image/jpeg")

    @app.get(
        f"/{API}/jobs/{{identity}}/files/{{name:path}}", response_class=FileResponse, responses={**ANY_FILE, **UNKNOWN}
    )
    def job_file(identity: str, name: str) -> FileResponse:
        """One result of a finished job."""
        job = store.get(identity)
        if name not in job.state.checksums:
            raise HTTPException(404, "There is no such result.")
        return FileResponse(job.results / name)

    @app.post(f"/{API}/files", status_code=201)
    def upload(
        suffix: Annotated[str, Query(pattern=r"^\.\w{1,5}$")],
        body: Annotated[bytes, Body(media_type="application/octet-stream", max_length=MAX_UPLOAD)],
    ) -> dict[str, str]:
        """Store a small file; the answer's `path` may be named in jobs."""
        if suffix.lower() not in UPLOAD_SUFFIXES:
            raise HTTPException(422, f"Files of kind '{suffix}' are not taken; use one of {' '.join(UPLOAD_SUFFIXES)}.")
        if shutil.disk_usage(uploads).free < 2 * len(body) + (64 << 20):
            raise HTTPException(507, "The disk of the engine is full; free some space.")
        path = uploads / (hashlib.sha256(body).hexdigest() + suffix.lower())
        if path.exists():
            path.touch()
        elif sum(file.stat().st_size for file in uploads.iterdir()) + len(body) > MAX_UPLOADS:
            raise HTTPException(
                507, "Too much was uploaded; name files by their path, or start the engine again in a week."
            )
        else:
            states.write_atomically(path, body)
        return {"path": str(path)}

    @app.get(f"/{API}/metrics", response_class=PlainTextResponse)
    def metrics() -> str:
        """Figures in the text format of Prometheus."""
        lines = [
            "# TYPE cmet_jobs_finished_total counter",
            *(f'cmet_jobs_finished_total{{state="{name}"}} {count}' for name, count in runner.counts.items()),
            "# TYPE cmet_jobs_waiting gauge",
            f"cmet_jobs_waiting {store.waiting()}",
            "# TYPE cmet_jobs_running gauge",
            f"cmet_jobs_running {len(runner.live)}",
            "# TYPE cmet_uptime_seconds gauge",
            f"cmet_uptime_seconds {time.time() - started:.1f}",
        ]
        return "\n".join(lines) + "\n"

    return Door(app, token), runner


def _sentence(problem: dict[str, Any]) -> str:
    """What is wrong with a request, from pydantic's description of it."""
    if problem["type"] == "json_invalid":
        return "The body is not valid JSON."
    where = ".".join(str(part) for part in problem["loc"] if part not in ("body", "query", "path"))
    if not where:
        return "The body must be a JSON object, sent as application/json."
    where = "".join(c if c.isprintable() else "?" for c in where[:80])
    return f"The field '{where}' of the request is wrong: {problem['msg']}."


def device() -> dict[str, Any]:
    """Which device the networks use and its memory; without loading torch into this process where it is not yet."""
    name, memory = "cpu", None
    driver = Path("/proc/driver/nvidia/version")
    if driver.exists():
        import torch

        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(0)
            name, memory = properties.name, properties.total_memory
    return {"device": name, "device_memory_bytes": memory}
