"""Who may use the page: one browser, by a token that works once; no other page, no other host, no large bodies."""

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, RedirectResponse

from cmet_engine.serve.security import MAX_UPLOAD

COOKIE = "cmet_studio"
MAX_BODY = MAX_UPLOAD + (1 << 20)  # bytes; an upload and what a form puts around it
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; font-src 'self' data:; "
    "frame-src 'self'; frame-ancestors 'self'; form-action 'self'; base-uri 'none'; object-src 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
CLOSED = "This page is opened by the command: cmet studio"


class Door:
    """ASGI middleware in front of everything: host, origin, cookie, sizes; requests and WebSockets alike.

    A page on another port of this machine is the same site to a browser, which sends it our cookie: so every request must also
    come from our own page (`Sec-Fetch-Site`), or be typed or opened by the user.

    Args:
        app: the application behind it.
        port: where it is served.
    """

    def __init__(self, app: Any, port: int) -> None:
        self.app = app
        self.token: str | None = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self._cookie = f"{COOKIE}_{port}"
        self._hosts = [f"{name}:{port}" for name in ("127.0.0.1", "localhost")]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer what is refused and what brings the token; pass the rest on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        refused = self._foreign(scope, headers)
        if scope["type"] == "http" and not refused and self._brings_token(scope):
            self.token = None
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path="/")
            await answer(scope, receive, send)
        elif refused or not self._known(headers):
            await self._refuse(refused, scope, receive, send)
        else:
            await self.app(scope, *_bounded(receive, send))

    def _foreign(self, scope: dict[str, Any], headers: dict[str, list[str]]) -> str | None:
        """Why a request cannot come from our own page, if that is so."""
        host, origin = headers.get("host", []), headers.get("origin", [])
        if len(host) != 1 or host[0].lower() not in self._hosts:
            return "The Host of the request is not this page."
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if (origin or changes) and origin != [f"http://{host[0].lower()}"]:
            return "Other web pages may not use this one."
        allowed = ["same-origin"] if changes else ["same-origin", "none"]
        if any(site not in allowed for site in headers.get("sec-fetch-site", [])):
            return "Other web pages may not use this one."
        return "The request is too large." if _length(headers) > MAX_BODY else None

    def _brings_token(self, scope: dict[str, Any]) -> bool:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        right = self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())
        return right and scope["method"] == "GET" and scope["path"] == "/"

    def _known(self, headers: dict[str, list[str]]) -> bool:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load("; ".join(headers.get("cookie", [])))
        except CookieError:
            return False
        given = cookies[self._cookie].value if self._cookie in cookies else ""
        return hmac.compare_digest(given.encode(), self._session.encode())

    async def _refuse(self, why: str | None, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4403})
            return
        status = 401 if why is None else 413 if "large" in why else 403
        await PlainTextResponse(why or CLOSED, status)(scope, receive, send)


def _length(headers: dict[str, list[str]]) -> int:
    given = headers.get("content-length", ["0"])[0]
    return int(given) if given.isdigit() else MAX_BODY + 1


def _bounded(receive: Any, send: Any) -> tuple[Any, Any]:
    """`receive` that hangs up on a body that becomes too large, and `send` that adds our headers."""
    received = 0

    async def take() -> Any:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                return {"type": "http.disconnect"}
        return message

    async def give(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
        await send(message)

    return take, give
