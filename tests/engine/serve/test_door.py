"""The engine's door: nothing answers without the token, and no path leads out of the allowed folders."""

import http.client
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cmet_engine.client import Client
from cmet_engine.errors import CmetError


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A running engine: (client, allowed folder, file with address and token)."""
    folder = tmp_path_factory.mktemp("engine")
    allowed = folder / "films"
    allowed.mkdir()
    token_file = folder / "engine.json"
    command = [
        sys.executable,
        "-m",
        "cmet_engine.cli",
        "serve",
        "--root",
        folder / "root",
        "--allow",
        allowed,
        "--token-file",
        token_file,
    ]
    process = subprocess.Popen([str(c) for c in command] + ["--parent", str(os.getpid())])
    deadline = time.monotonic() + 60
    while not token_file.exists():
        assert process.poll() is None and time.monotonic() < deadline, "the engine did not start"
        time.sleep(0.05)
    yield Client.from_file(token_file), allowed, token_file
    process.terminate()
    process.wait(timeout=20)


def raw(
    token_file: Path, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> tuple[int, bytes]:
    document = json.loads(token_file.read_text())
    port = int(document["url"].split(":")[2].split("/")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def test_health_says_version_and_device(engine):
    health = engine[0].health()
    assert health["version"] and health["api"] == "v1" and health["device"]


def test_the_token_file_is_for_the_user_alone(engine):
    assert stat.S_IMODE(engine[2].stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic dG9rZW4="}, 401),
        ({"Authorization": "RIGHT", "Origin": "http://evil.example"}, 403),
        ({"Authorization": "RIGHT", "Origin": "null"}, 403),
        ({"Authorization": "RIGHT", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Authorization": "RIGHT", "Host": "evil.example"}, 403),
        ({"Authorization": "RIGHT", "Host": "localhost.evil.example:80"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/v1/health", "/v1/openapi.json", "/v1/jobs", "/nowhere"])
def test_requests_without_the_right_door_key_are_refused(engine, headers, status, path):
    token = json.loads(engine[2].read_text())["token"]
    headers = {k: v.replace("RIGHT", f"Bearer {token}") for k, v in headers.items()}
    got, body = raw(engine[2], "GET", path, headers)
    assert got == status
    assert token.encode() not in body


@pytest.mark.parametrize("name", ["/etc/passwd", "relative.mp4", "{allowed}/../root/lock", "{allowed}/link", "{allowed}/nothing.mp4", "{allowed}", "{allowed}/pipe", "/dev/zero", "a\0b", "", "/" + "x" * 5000])  # fmt: skip
def test_paths_out_of_the_allowed_folders_are_refused(engine, name):
    client, allowed, _ = engine
    link, pipe = allowed / "link", allowed / "pipe"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
        os.mkfifo(pipe)
    with pytest.raises(CmetError) as refusal:
        client.track(name.replace("{allowed}", str(allowed)))
    assert "Traceback" not in str(refusal.value)


def test_too_large_and_malformed_bodies_are_refused(engine):
    client, _, token_file = engine
    headers = {
        "Authorization": f"Bearer {json.loads(token_file.read_text())['token']}",
        "Content-Type": "application/json",
    }
    assert raw(token_file, "POST", "/v1/track", headers, b'{"clip": "' + b"x" * (2 << 20) + b'"}')[0] == 413
    assert raw(token_file, "POST", "/v1/track", headers, b"\xff\xfe")[0] in (400, 422)
    assert raw(token_file, "POST", "/v1/edit", headers, b'{"clip": "/x", "strength": NaN}')[0] in (400, 422)
    assert raw(token_file, "POST", "/v1/edit", headers, b'{"clip": "/x", "unknown": 1}')[0] == 422
    with pytest.raises(CmetError, match=r"\.exe"):
        client.request("POST", "files", raw=b"MZ", suffix=".exe")


def test_an_upload_can_be_named_in_a_job(engine, tmp_path):
    client = engine[0]
    voice = tmp_path / "voice.wav"
    voice.write_bytes(b"not a voice")
    path = client.upload(voice)
    job = client.vector([path], [path], "wistful")
    while (state := client.job(job["id"]))["state"] in ("queued", "running"):
        time.sleep(0.05)
    assert state["state"] == "failed" and state["error"].endswith(".")


def test_a_job_that_does_not_exist_is_said(engine):
    for identity in ("nope", "..", "%2e%2e", "a" * 500):
        with pytest.raises(CmetError):
            engine[0].job(identity)


def test_a_client_only_talks_to_loopback():
    for url in ("http://example.org:80/v1", "https://127.0.0.1:5/v1", "http://127.0.0.1/v1", "file:///etc/passwd"):
        with pytest.raises(CmetError):
            Client(url, "token")
