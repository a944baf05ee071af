"""The page's application behind its door."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from nicegui import ui

from cmet_engine.studio.door import Door
from cmet_engine.studio.layout import build
from cmet_engine.studio.media import router
from cmet_engine.studio.session import Session

STYLE = Path(__file__).with_name("studio.css")


def create(session: Session, port: int) -> Door:
    """The application, for one session.

    Args:
        session: what the pages show.
        port: where it is served.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router(session))

    @app.get("/studio.css")
    def style() -> FileResponse:
        """The page's style."""
        return FileResponse(STYLE, media_type="text/css", headers={"Cache-Control": "no-cache"})

    @ui.page("/")
    def index() -> None:
        """The page."""
        ui.add_head_html('<link rel="stylesheet" href="/studio.css">')
        build(session)

    ui.run_with(app, title="C-MET studio", dark=None, tailwind=False, show_welcome_message=False, reconnect_timeout=30)
    return Door(app, port)
