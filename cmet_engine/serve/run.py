"""`cmet serve`: the engine as a process."""

import json
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn

from cmet_engine import __version__
from cmet_engine.errors import InvalidInput
from cmet_engine.files import exclusive
from cmet_engine.processes import is_running
from cmet_engine.serve.app import create_app
from cmet_engine.serve.paths import AllowedFolders
from cmet_engine.serve.security import API, HeaderTimeoutProtocol


def hand_over(path: Path | None, port: int, token: str) -> None:
    """Write how to reach this engine: into a file that only the user can read, or on standard output."""
    text = json.dumps(
        {"url": f"http://127.0.0.1:{port}/{API}", "token": token, "pid": os.getpid(), "version": __version__}
    )
    if path is None:
        print(text, flush=True)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    temporary.replace(path)


def watch_parent(pid: int, server: uvicorn.Server) -> None:
    """End the server when process `pid` is gone."""

    def watch() -> None:
        while is_running(pid):
            if os.getppid() == 1 and pid != 1 and parent_was == pid:
                break  # adopted by init: the parent died and its number may belong to another process
            time.sleep(0.5)
        server.should_exit = True

    parent_was = os.getppid()
    threading.Thread(target=watch, daemon=True).start()


def listen(port: int) -> socket.socket:
    """A socket on loopback; from here on a client may connect, and is answered once the server runs.

    Raises:
        InvalidInput: the port is in use.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two engines share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "it is not between 0 and 65535"
        raise InvalidInput(
            f"Port {port} cannot be used: {why}; choose another with --port, or 0 for a free one."
        ) from error
    return listener


def serve(
    root: Path,
    *,
    allow: list[Path],
    port: int = 0,
    token_file: Path | None = None,
    parent: int | None = None,
    slots: int = 1,
) -> int:
    """Run the engine until it is told to stop.

    Args:
        root: folder for jobs and uploads; one engine at a time may use it.
        allow: folders whose files clients may read and write.
        port: loopback port; 0 takes a free one.
        token_file: where to write address and token (readable by the user alone); None prints them.
        parent: end when this process ends.
        slots: how many edits and renders run at the same time; other work goes on beside them.

    Raises:
        CmetError: the port or the folder is in use, or a folder is missing.
    """
    if token_file is not None and token_file.exists() and b'"token"' not in token_file.read_bytes()[:1000]:
        raise InvalidInput(f"{token_file} is there already and no token file; give another name with --token-file.")
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    busy = f"Another engine is using {root}; stop it, or give another folder with --root."
    with exclusive(root / "lock", busy):
        token = secrets.token_urlsafe(32)
        app, _ = create_app(root, token, AllowedFolders(allow), slots)
        listener = listen(port)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, limit_concurrency=200, timeout_keep_alive=5, http=HeaderTimeoutProtocol, ws="none", h11_max_incomplete_event_size=65536,
            server_header=False,
        )  # fmt: skip
        server = uvicorn.Server(config)
        if parent is not None:
            watch_parent(parent, server)
        hand_over(token_file, listener.getsockname()[1], token)
        try:
            server.run(sockets=[listener])
        finally:
            if token_file is not None:
                token_file.unlink(missing_ok=True)
    return 0
