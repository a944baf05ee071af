"""Who may ask and how much: token, host, origin, sizes and times of requests."""

import asyncio
import hmac
import time
from typing import Any

import h11
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

API = "v1"
MAX_BODY = 1 << 20  # bytes of a request; only uploads may be larger
MAX_UPLOAD = 64 << 20  # bytes; larger files are named by path instead

HEADER_SECONDS = 10.0  # within which the head of a request must be here
BODY_SECONDS = 60.0  # within which its body must be here


class AccessControl:
    """ASGI middleware in front of everything: token, host, origin and size.

    Args:
        app: the application behind it.
        token: what `Authorization: Bearer …` must hold.
    """

    def __init__(self, app: Any, token: str) -> None:
        self.app = app
        self.token = token.encode()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request that is refused; pass the others on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        refused = self._refusal(headers, scope)
        if refused:
            status, sentence = refused
            await JSONResponse({"error": sentence}, status_code=status)(scope, receive, send)
            return
        limit = MAX_UPLOAD if scope["path"] == f"/{API}/files" else MAX_BODY
        received, complete = 0, False
        deadline = time.monotonic() + BODY_SECONDS

        async def bounded() -> Any:
            nonlocal received, complete
            if complete:  # what follows the body is only the news that the client hung up
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), deadline - time.monotonic())
            except TimeoutError as error:
                raise HTTPException(408, f"The request did not arrive within {BODY_SECONDS:.0f} seconds.") from error
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > limit:
                raise HTTPException(413, f"The request is larger than {limit >> 20} MiB.")
            return message

        await self.app(scope, bounded, send)

    def _refusal(self, headers: dict[bytes, list[bytes]], scope: dict[str, Any]) -> tuple[int, str] | None:
        hosts = headers.get(b"host", [])
        port = (scope.get("server") or ("", None))[1]
        wanted = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}
        if len(hosts) != 1 or hosts[0].lower() not in wanted:
            return 403, "The Host of the request is not this engine."
        if b"origin" in headers or b"sec-fetch-site" in headers:
            return 403, "Web pages may not talk to the engine."
        given = headers.get(b"authorization", [b""])
        if len(given) != 1 or not hmac.compare_digest(given[0], b"Bearer " + self.token):
            return 401, "The token is missing or wrong."
        length = headers.get(b"content-length", [b"0"])[0]
        if not length.isdigit() or int(length) > MAX_UPLOAD:
            return 413, f"The request is larger than {MAX_UPLOAD >> 20} MiB."
        return None


class HeaderTimeoutProtocol(H11Protocol):
    """Closes connections on which the head of a request does not arrive in time; uvicorn itself waits for ever."""

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait for the rest only so long."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        if self._overdue:
            self._overdue.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            if self._overdue:
                self._overdue.cancel()
            self._overdue = None
        elif self._overdue is None:
            self._overdue = self.loop.call_later(HEADER_SECONDS, self.transport.close)


def known_parameters(request: Request) -> None:
    """Refuse a misspelt parameter of a query instead of passing over it."""
    unknown = set(request.query_params) - {field.alias for field in request.scope["route"].dependant.query_params}
    if unknown:
        raise HTTPException(422, "The request holds a parameter that is not known here.")
