"""The page's door: one browser by a token that works once; other pages, hosts and large bodies get nothing."""

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from running_studio import RunningStudio, chromium

from cmet_engine.studio.door import COOKIE, MAX_BODY, Door


@pytest.fixture(scope="module")
def cookie(studio: RunningStudio) -> str:
    """What a browser sends once it has brought the token."""
    token = studio.address.partition("?")[2]
    status, headers, _ = studio.raw("GET", f"/?{token}")
    assert status == 303 and headers["location"] == "/"
    given = headers["set-cookie"]
    assert "HttpOnly" in given and "SameSite=strict" in given and given.startswith(f"{COOKIE}_{studio.port}=")
    assert token.removeprefix("token=") not in given
    assert studio.raw("GET", f"/?{token}")[0] == 401, "the token works once"
    return given.partition(";")[0]


def test_the_page_is_for_the_browser_that_brought_the_token(studio, cookie):
    status, headers, page = studio.raw("GET", "/", {"Cookie": cookie})
    assert status == 200 and b"C-MET studio" in page
    assert "frame-ancestors 'self'" in headers["content-security-policy"] and b"https://" not in page.replace(
        b"https://nicegui.io", b""
    )
    assert studio.raw("GET", "/")[0] == 401
    assert studio.raw("GET", "/?token=wrong")[0] == 401
    assert studio.raw("GET", "/", {"Cookie": f"{cookie}x"})[0] == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"}, {"Host": "evil.example"}, {"Host": "127.0.0.1"}, {"Host": ""},
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/picture?time=0", "/media/clip", "/studio.css", "/_nicegui/client/x/upload/1"])
def test_what_does_not_come_from_the_page_itself_is_refused(studio, cookie, headers, path):
    for method in ("GET", "POST"):
        status, _, body = studio.raw(method, path, {"Cookie": cookie, **headers})
        assert status == 403 and len(body) < 100


def test_every_change_names_its_origin(studio, cookie):
    own = f"http://127.0.0.1:{studio.port}"
    assert studio.raw("POST", "/nowhere", {"Cookie": cookie})[0] == 403
    assert studio.raw("POST", "/nowhere", {"Cookie": cookie, "Origin": own})[0] == 404
    large = {"Cookie": cookie, "Origin": own, "Content-Length": str(MAX_BODY + 1)}
    assert studio.raw("POST", "/nowhere", large)[0] == 413


def test_no_file_but_those_of_the_work_is_handed_out(studio, cookie):
    for path in (
        "/media/job/../../etc/passwd",
        "/media/job/x/%2e%2e%2fjob.json",
        "/media/emotion/..%2f..%2fpyproject.toml",
    ):
        status, _, body = studio.raw("GET", path, {"Cookie": cookie})
        assert status in (200, 404, 422) and b"root:" not in body and b"[project]" not in body
    assert studio.raw("GET", "/media/clip", {"Cookie": cookie})[2] == (studio.films / "take.mp4").read_bytes()


def scope(kind: str, **headers: str) -> dict[str, Any]:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": kind, "method": "GET", "path": "/", "query_string": b"", "headers": given}


def test_web_sockets_need_origin_and_cookie():
    door = Door(None, 80)
    right = {"host": "127.0.0.1:80", "origin": "http://127.0.0.1:80"}
    assert door._foreign(scope("websocket", **right), {k: [v] for k, v in right.items()}) is None
    for wrong in ({"origin": "http://127.0.0.1:81"}, {"origin": ""}, {"host": "evil:80"}):
        assert door._foreign(scope("websocket", **right), {k: [v] for k, v in {**right, **wrong}.items()})
    no_origin = {"host": [right["host"]]}
    assert door._foreign(scope("websocket"), no_origin) and not door._known(no_origin)


EVIL = """<!doctype html><title>evil</title><body><script>
const told = {};
const load = (make) => new Promise((done) => make((what) => done(what)));
(async () => {
  for (const path of ["/", "/picture?time=0", "/media/clip"]) {
    told["fetch " + path] = await fetch(URL_ + path, {credentials: "include"}).then((r) => "read " + r.status, () => "nothing");
    told["blind " + path] = await fetch(URL_ + path, {credentials: "include", mode: "no-cors"}).then((r) => "opaque", () => "nothing");
  }
  told.image = await load((done) => { const i = new Image(); i.onload = () => done("seen"); i.onerror = () => done("nothing"); i.src = URL_ + "/picture?time=0"; });
  told.socket = await load((done) => { const s = new WebSocket(URL_.replace("http", "ws") + "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"); s.onopen = () => done("open"); s.onerror = () => done("nothing"); });
  told.post = await fetch(URL_ + "/_nicegui/client/x/upload/1", {method: "POST", body: "x", credentials: "include"}).then((r) => "read " + r.status, () => "nothing");
  window.told = told;
})();
</script>"""  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path: Path, studio: RunningStudio) -> Iterator[str]:
    """The address of a page on another port of this machine, which to a browser is the same site."""
    (tmp_path / "evil.html").write_text(EVIL.replace("URL_", json.dumps(f"http://127.0.0.1:{studio.port}")))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/evil.html"
    server.shutdown()
    thread.join(5)


def test_another_page_in_the_same_browser_reads_and_does_nothing(studio, cookie, elsewhere):
    name, _, value = cookie.partition("=")
    with chromium() as browser:
        context = browser.new_context()
        context.add_cookies(
            [{"name": name, "value": value, "domain": "127.0.0.1", "path": "/", "httpOnly": True, "sameSite": "Strict"}]
        )
        page = context.new_page()
        page.goto(elsewhere)
        page.wait_for_function("window.told !== undefined", timeout=30000)
        told = page.evaluate("window.told")
        assert {what for key, what in told.items() if not key.startswith("blind")} == {"nothing"}
        assert {what for key, what in told.items() if key.startswith("blind")} <= {"nothing", "opaque"}
        assert page.goto(f"http://127.0.0.1:{studio.port}/").status == 200, "the page itself may be opened"
