"""The engine's application: its routes behind the access control, and how refusals and faults are answered.

Upload-free by design: a client names files on the same machine, inside the allowed folders; small files may be
sent. The heavy work runs in worker processes, so that this one always answers.
"""

import contextlib
import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from cmet_engine import __version__
from cmet_engine.errors import CmetError
from cmet_engine.jobs.runner import Runner
from cmet_engine.serve.engine import Engine
from cmet_engine.serve.paths import AllowedFolders
from cmet_engine.serve.routes import router
from cmet_engine.serve.schemas import FRAMEWORK, REFUSALS
from cmet_engine.serve.security import API, AccessControl, known_parameters
from cmet_engine.spec_errors import sentence


def create_app(root: Path, token: str, allowed: AllowedFolders, slots: int = 1) -> tuple[AccessControl, Runner]:
    """The application behind its access control, and the runner of its jobs.

    Args:
        root: folder of the engine's own: jobs, uploads.
        token: the secret of this start.
        allowed: folders whose files clients may name.
        slots: how many edits and renders run at the same time; other work goes on beside them.
    """
    engine = Engine(root, allowed, slots)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.stop()

    app = FastAPI(
        title="C-MET engine", version=__version__, docs_url=None, redoc_url=None, openapi_url=f"/{API}/openapi.json", lifespan=lifespan,
        responses=REFUSALS, redirect_slashes=False,
        dependencies=[
            Security(HTTPBearer(auto_error=False, description="the token of this start")),  # `AccessControl` checks it
            Depends(known_parameters),
        ],
        description="Emotion edits of talking faces. Every request needs the header `Authorization: Bearer TOKEN`.",
    )  # fmt: skip
    app.state.engine = engine
    app.include_router(router)
    app.add_exception_handler(CmetError, _refused)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _disk)
    app.add_exception_handler(Exception, _fault)
    return AccessControl(app, token), engine.runner


def _refused(_: Request, error: Exception) -> JSONResponse:
    status = error.http_status if isinstance(error, CmetError) else 422
    return JSONResponse({"error": str(error)}, status_code=status)


def _wrong(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"error": _sentence(error.errors())}, status_code=422)


def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    words = str(error.detail)
    if not words.endswith("."):  # the framework's own words
        words = FRAMEWORK.get(error.status_code, "The request cannot be understood.")
    return JSONResponse({"error": words}, status_code=error.status_code, headers=error.headers)


def _disk(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
        raise error
    return JSONResponse({"error": "The disk of the engine is full; free some space."}, status_code=507)


def _fault(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse(
        {"error": "An internal fault stopped the request; the engine's log says where."}, status_code=500
    )


def _sentence(errors: Sequence[Any]) -> str:
    """What is wrong with a request, from pydantic's description of it."""
    first = dict(errors[0])
    if first["type"] == "json_invalid":
        return "The body is not valid JSON."
    first["loc"] = tuple(part for part in first["loc"] if part not in ("body", "query", "path"))
    if not first["loc"] and first["type"] != "value_error":
        return "The body must be a JSON object, sent as application/json."
    return sentence([first], lambda name: f"The field '{name[:80]}' of the request")
