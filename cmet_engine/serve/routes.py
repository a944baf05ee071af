"""What the engine answers at which address."""

import base64
import os
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response

from cmet_engine import __version__
from cmet_engine.emotion.library import load_library
from cmet_engine.errors import NotFound
from cmet_engine.media import formats
from cmet_engine.media.probe import probe
from cmet_engine.provenance.seal import seal_export
from cmet_engine.provenance.show import examine
from cmet_engine.render.choose import installed
from cmet_engine.serve.engine import Engine
from cmet_engine.serve.schemas import (
    ANY_FILE,
    BUSY,
    PICTURE,
    UNKNOWN,
    ClipAnswer,
    CurvesAnswer,
    FolderAnswer,
    JobAnswer,
    LiveAnswer,
)
from cmet_engine.serve.security import API, MAX_UPLOAD
from cmet_engine.spec import CurvesSpec, EditSpec, FacesSpec, HearSpec, LiveSpec, RenderSpec, TrackSpec, VectorSpec
from cmet_engine.spec_base import LONGEST_PATH
from cmet_engine.spec_rig import ExportSpec, SealSpec

LOG_SHOWN = 64 << 10  # bytes of the end of a job's log
DRIVER = Path("/proc/driver/nvidia/version")  # there is a GPU where this is (Linux)


async def _engine(request: Request) -> Engine:
    return request.app.state.engine


Running = Annotated[Engine, Depends(_engine)]
ClientName = Annotated[
    str, Query(max_length=80, pattern=r"^[\w .-]*$", description="who asks; jobs of different clients take turns")
]
router = APIRouter(prefix=f"/{API}")


@router.get("/health")
def health(engine: Running) -> dict[str, Any]:
    """Whether the engine lives, and what it can do."""
    return {
        "version": __version__, "api": API, "pid": os.getpid(), "uptime_seconds": round(time.time() - engine.started, 1),
        "jobs_waiting": engine.store.waiting(), "jobs_running": len(engine.runner.live), "renderers": installed(),
        **device(),
    }  # fmt: skip


def device() -> dict[str, Any]:
    """Which device the networks use and its memory; torch is loaded only where there is the driver of a GPU."""
    name, memory = "cpu", None
    if DRIVER.exists():
        import torch

        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(0)
            name, memory = properties.name, properties.total_memory
    return {"device": name, "device_memory_bytes": memory}


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(engine: Running) -> str:
    """Figures in the text format of Prometheus."""
    lines = [
        "# TYPE cmet_jobs_finished_total counter",
        *(f'cmet_jobs_finished_total{{state="{name}"}} {count}' for name, count in engine.runner.counts.items()),
        "# TYPE cmet_jobs_waiting gauge",
        f"cmet_jobs_waiting {engine.store.waiting()}",
        "# TYPE cmet_jobs_running gauge",
        f"cmet_jobs_running {len(engine.runner.live)}",
        "# TYPE cmet_uptime_seconds gauge",
        f"cmet_uptime_seconds {time.time() - engine.started:.1f}",
    ]
    return "\n".join(lines) + "\n"


@router.get("/emotions")
def emotions() -> list[dict[str, Any]]:
    """What the emotion library holds."""
    return [{"name": vector.name, "reliability": vector.reliability} for vector in load_library().values()]


@router.post("/faces", status_code=202, responses=BUSY)
def start_faces(spec: FacesSpec, engine: Running, client: ClientName = "") -> JobAnswer:
    """Queue: everyone in a clip, with pictures and times; the job's result lists them as `people`."""
    return engine.submit(spec, client)


@router.post("/track", status_code=202, responses=BUSY)
def start_track(spec: TrackSpec, engine: Running, client: ClientName = "") -> JobAnswer:
    """Queue: footage to coefficients."""
    return engine.submit(spec, client)


@router.post("/edit", status_code=202, responses=BUSY)
def start_edit(spec: EditSpec, engine: Running, client: ClientName = "") -> JobAnswer:
    """Queue: edit the emotion of a clip."""
    return engine.submit(spec, client)


@router.post("/render", status_code=202, responses=BUSY)
def start_render(spec: RenderSpec, engine: Running, client: ClientName = "") -> JobAnswer:
    """Queue: render a clip with the curves of a track."""
    return engine.submit(spec, client)


@router.post("/hear", status_code=202, responses=BUSY)
def start_hear(spec: HearSpec, engine: Running, client: ClientName = "") -> JobAnswer:
    """Queue: what is felt in a recording when, and how strongly; the job's file is an emotion timeline, its result lists the keys."""
    return engine.submit(spec, client)


@router.post("/vector", status_code=202, responses=BUSY)
def start_vector(spec: VectorSpec, engine: Running, client: ClientName = "") -> JobAnswer:
    """Queue: a new emotion from recordings."""
    return engine.submit(spec, client)


@router.post("/export", status_code=202, responses=BUSY)
def start_export(spec: ExportSpec, engine: Running, client: ClientName = "") -> JobAnswer:
    """Queue: a track in another format, or on a character, for which the engine needs the package bpy."""
    return engine.submit(spec, client)


@router.get("/folder")
def folder(engine: Running, of: Annotated[str, Query(max_length=LONGEST_PATH)] = "") -> FolderAnswer:
    """What lies in a folder that the engine may use: folders and clips; without a path those folders themselves."""
    here, folders, clips = engine.allowed.listing(of, formats.VIDEO)
    own = {engine.uploads.folder.resolve(), engine.store.folder.resolve()}
    shown = [str(inside) for inside in folders if inside not in own]
    return FolderAnswer(path=None if here is None else str(here), folders=shown, clips=[str(clip) for clip in clips])


@router.get("/clip")
def clip(file: Annotated[str, Query(max_length=LONGEST_PATH)], engine: Running) -> ClipAnswer:
    """What a clip is: size, rate, length, timecode."""
    info = probe(engine.allowed.readable(file, folder_too=True))
    return ClipAnswer(
        path=str(info.path), width=info.width, height=info.height, fps=float(info.fps), rate=str(info.fps), frames=info.frames,
        duration=info.duration, has_audio=info.has_audio, timecode=info.timecode, warnings=list(info.warnings),
    )  # fmt: skip


@router.post("/live", responses=BUSY)
def read_live(spec: LiveSpec, engine: Running) -> LiveAnswer:
    """Read the coefficients of an edit at one moment; the clip must have been tracked before."""
    return LiveAnswer(**engine.live(spec, "values"))


@router.post("/live/picture", response_class=Response, responses={**PICTURE, **BUSY})
def render_live(spec: LiveSpec, engine: Running) -> Response:
    """Render the frame of an edit at one moment, or another view of it, as a JPEG."""
    return Response(base64.b64decode(engine.live(spec, "picture")["picture"]), media_type="image/jpeg")


@router.post("/live/curves", responses=BUSY)
def read_curves(spec: CurvesSpec, engine: Running) -> CurvesAnswer:
    """Read what a timeline shows of an edit: its curves, the sound, speech, blinks and cuts; the clip must have been tracked before."""
    return CurvesAnswer(**engine.live(spec, "curves"))


@router.get("/jobs")
def list_jobs(engine: Running, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[JobAnswer]:
    """The newest jobs, newest first."""
    return [engine.answer(job) for job in engine.store.all()[-limit:][::-1]]


@router.get("/jobs/{identity}", responses=UNKNOWN)
def job_state(identity: str, engine: Running) -> JobAnswer:
    """Where a job stands."""
    return engine.answer(engine.store.get(identity))


@router.post("/jobs/{identity}/cancel", responses=UNKNOWN)
def cancel(identity: str, engine: Running) -> JobAnswer:
    """Stop a job; when this answers nothing works on it any more."""
    job = engine.store.get(identity)
    engine.runner.cancel(job)
    return engine.answer(job)


@router.get("/jobs/{identity}/log", response_class=PlainTextResponse, responses=UNKNOWN)
def job_log(identity: str, engine: Running) -> str:
    """The job's log, its last 64 KiB."""
    path = engine.store.get(identity).folder / "log.txt"
    return path.read_bytes()[-LOG_SHOWN:].decode("utf-8", "replace") if path.exists() else ""


@router.get("/jobs/{identity}/preview", response_class=FileResponse, responses={**PICTURE, **UNKNOWN})
def job_preview(identity: str, engine: Running) -> FileResponse:
    """The newest edited picture of a running job."""
    path = engine.store.get(identity).preview
    if not path.exists():
        raise NotFound("There is no preview yet.")
    return FileResponse(path, media_type="image/jpeg")


@router.get("/jobs/{identity}/files/{name:path}", response_class=FileResponse, responses={**ANY_FILE, **UNKNOWN})
def job_file(identity: str, name: str, engine: Running) -> FileResponse:
    """One result of a finished job."""
    job = engine.store.get(identity)
    if name not in job.state.checksums:
        raise NotFound("There is no such result.")
    return FileResponse(job.results / name)


@router.get("/provenance", responses={404: UNKNOWN[404]})
def provenance(file: Annotated[str, Query(max_length=LONGEST_PATH)], engine: Running) -> dict[str, Any]:
    """Verify a file and say where it comes from: `credentials` (valid, changed, none or unreadable) and more, and `sentences`."""
    return examine(engine.allowed.readable(file, folder_too=True)).as_json()


@router.post("/seal")
def seal(spec: SealSpec, engine: Running) -> dict[str, list[str]]:
    """Sign what Blender exported, beside it, and put it on record; `messages` are sentences for the user."""
    return {"messages": seal_export(engine.allow(spec))}


@router.post("/files", status_code=201)
def upload(
    suffix: Annotated[str, Query(pattern=r"^\.\w{1,5}$")],
    body: Annotated[bytes, Body(media_type="application/octet-stream", max_length=MAX_UPLOAD)],
    engine: Running,
) -> dict[str, str]:
    """Store a small file; the answer's `path` may be named in jobs."""
    return {"path": str(engine.uploads.add(body, suffix))}
