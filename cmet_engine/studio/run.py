"""`cmet studio`: the page's server."""

import asyncio
import contextlib
import threading
import webbrowser
from pathlib import Path

import uvicorn

from cmet_engine import extras
from cmet_engine.serve.run import listen
from cmet_engine.serve.security import HeaderTimeoutProtocol
from cmet_engine.studio.blender import find
from cmet_engine.studio.link import EngineLink
from cmet_engine.studio.session import Session


def run(
    root: Path,
    *,
    allow: list[Path],
    clip: Path | None = None,
    port: int = 0,
    browser: bool = True,
    blender: Path | None = None,
) -> int:
    """Serve the page until it is told to stop, and print its address.

    Args:
        root: folder of the studio: the engine's jobs, and projects.
        allow: folders whose files it may use.
        clip: to open at once.
        port: loopback port; 0 takes a free one.
        browser: open the address there.
        blender: the user's Blender; None looks for it.

    Raises:
        CmetError: NiceGUI is missing, Blender is not where it was said, the port is in use, or the engine cannot be started or cannot read the clip.
    """
    extras.load("studio", "nicegui")
    from cmet_engine.studio.app import create  # brings nicegui

    link = EngineLink(root / "engine", allow)
    session = Session(link, root / "projects", find(blender))
    try:
        if clip is not None:
            session.open(str(clip.absolute()))
        else:
            session.refresh_emotions()
        listener = listen(port)
        port = listener.getsockname()[1]
        door = create(session, port)
        address = f"http://127.0.0.1:{port}/?token={door.token}"
        print(address, flush=True)
        if browser:
            threading.Timer(0.5, webbrowser.open, [address]).start()
        config = uvicorn.Config(
            door, log_level="warning", access_log=False, limit_concurrency=200, http=HeaderTimeoutProtocol, ws="websockets-sansio",
            ws_max_size=4 << 20, server_header=False, timeout_graceful_shutdown=3, loop="asyncio",
        )  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        link.stop()
    return 0
