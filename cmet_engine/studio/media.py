"""Pictures, sound and files that the page shows, each at an address of its own."""

from pathlib import Path
from typing import Annotated, get_args

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from cmet_engine.choices import View
from cmet_engine.errors import CmetError, NotFound
from cmet_engine.studio.session import Session

GALLERY = Path(__file__).parents[2] / "cmet_blender" / "gallery"
"""Pictures of emotions that come with the package."""
UNCHANGING = {"Cache-Control": "private, max-age=3600"}


def emotion_picture(name: str) -> Path:
    """The picture of an emotion; that of an emotion of the user's own where it has none."""
    path = GALLERY / f"{name}.jpg"
    return path if path.is_file() else GALLERY / "own.jpg"


def router(session: Session) -> APIRouter:
    """The addresses, for what is open in a session."""
    routes = APIRouter()

    @routes.get("/picture")
    def picture(
        time: Annotated[float, Query(ge=0, le=1e6)],
        size: Annotated[int, Query(ge=64, le=4096)] = 960,
        view: Annotated[str, Query(pattern="|".join(get_args(View)))] = "edited",
        revision: int = 0,
    ) -> Response:
        """The open clip at a moment; `revision` only makes the address of a changed edit another one."""
        try:
            return Response(session.picture(view, time, size), media_type="image/jpeg", headers=UNCHANGING)
        except CmetError as error:
            return PlainTextResponse(str(error), error.http_status)

    @routes.get("/curves")
    def curves(revision: int = 0) -> JSONResponse:
        """What the timeline shows of the edit; `revision` only makes the address of other curves another one."""
        return JSONResponse(session.curves)

    @routes.get("/media/clip")
    def clip() -> Response:
        """The open clip itself, to play."""
        return FileResponse(session.opened().clip)

    @routes.get("/media/shot")
    def shot() -> Response:
        """The shot as a .blend, where one was made."""
        return FileResponse(session.blend) if session.blend else PlainTextResponse("There is no .blend of it yet.", 404)

    @routes.get("/media/job/{identity}/{name:path}")
    def result(identity: str, name: str) -> Response:
        """A result of one of the engine's jobs, or with the name `preview` the newest picture of a running one."""
        try:
            if name == "preview":
                data = session.link.ask(lambda engine: engine.preview(identity))
                return Response(data, media_type="image/jpeg", headers={"Cache-Control": "no-store"})
            files = session.link.ask(lambda engine: engine.job(identity))["files"]
            if name not in files:
                raise NotFound("There is no such result.")
            return FileResponse(files[name])
        except CmetError as error:
            return PlainTextResponse(str(error), error.http_status)

    @routes.get("/media/emotion/{name}")
    def emotion(name: str) -> Response:
        """The picture of an emotion."""
        known = {entry["name"] for entry in session.emotions}
        return FileResponse(emotion_picture(name if name in known else "own"), headers=UNCHANGING)

    return routes
