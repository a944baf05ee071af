"""The engine's door: nothing answers without the token, no path leads out of the allowed folders, nothing is unbounded."""

import contextlib
import hmac
import io
import json
import os
import pickle
import socket
import stat
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from running_engine import RunningEngine, one_sentence, refusal
from short_clips import SAMPLE, small

from cmet_engine.client import Client
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.jobs.store import FINISHED
from cmet_engine.serve import security
from cmet_engine.serve.app import create_app
from cmet_engine.serve.paths import AllowedFolders


def finished(client: Client, job: dict) -> dict:
    while (state := client.job(job["id"]))["state"] not in FINISHED:
        time.sleep(0.05)
    return state


def test_health_says_version_and_device(engine):
    health = engine.client().health()
    assert health["version"] and health["api"] == "v1" and health["device"]


def test_files_that_a_client_may_read_are_verified(engine):
    film = engine.films / "unsigned.mp4"
    film.write_bytes(SAMPLE.read_bytes())
    answer = engine.client().provenance(film)
    assert (answer["credentials"], answer["sentences"][0]) == ("none", "unsigned.mp4 carries no Content Credentials.")
    with pytest.raises(InvalidInput, match="outside the folders"):
        engine.client().provenance("/etc/hostname")


def test_clips_and_folders_that_a_client_may_use_are_listed(engine):
    take = small(engine.films / "seen.mp4", frames=4, size=96, silent=True)
    (engine.films / "hidden").mkdir(exist_ok=True)
    client = engine.client()
    assert client.clip(take) | {"path": ""} == {
        "path": "", "width": 96, "height": 96, "fps": 25.0, "rate": "25", "frames": 4, "duration": 0.16, "has_audio": False,
        "timecode": "", "warnings": [],
    }  # fmt: skip
    assert str(engine.films.resolve()) in client.folder()["folders"]
    inside = client.folder(engine.films)
    assert str(take.resolve()) in inside["clips"] and str(engine.films.resolve() / "hidden") in inside["folders"]
    assert not any(str(engine.root) in folder for folder in client.folder()["folders"])
    for ask in (client.clip, client.folder):
        with pytest.raises(InvalidInput, match="outside the folders"):
            ask("/etc")


def test_exports_that_a_client_names_are_signed(engine):
    head = engine.films / "head.glb"
    head.write_bytes(b"an animation")
    assert engine.client().seal(head, consent="Anna, today") == []
    assert engine.client().provenance(head)["edit"]["consent"] == {"text": "Anna, today"}
    with pytest.raises(InvalidInput, match=r"head\.glb\.c2pa exists already"):
        engine.client().seal(head)
    with pytest.raises(InvalidInput, match="outside the folders"):
        engine.client().seal("/etc/hostname")
    with pytest.raises(InvalidInput, match="is not one of"):
        engine.client().seal(engine.films / "head.glb.c2pa")
    status, answer = engine.raw(
        "POST", "/v1/seal", {"Content-Type": "application/json"}, json.dumps({"file": str(head)})
    )
    assert status == 401 and refusal(answer)


def test_the_token_file_is_for_the_user_alone(engine):
    assert stat.S_IMODE(engine.token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(engine.root.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "RIGHTx"}, 401),
        ({"Authorization": "Bearer \xff\xfe"}, 401),
        ({"Authorization": "Basic dG9rZW4="}, 401),
        ({"Cookie": "token=RIGHT"}, 401),
        ({"Authorization": "RIGHT", "Origin": "http://evil.example"}, 403),
        ({"Authorization": "RIGHT", "Origin": "http://127.0.0.1"}, 403),
        ({"Authorization": "RIGHT", "Origin": "null"}, 403),
        ({"Authorization": "RIGHT", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Authorization": "RIGHT", "Host": "evil.example"}, 403),
        ({"Authorization": "RIGHT", "Host": ""}, 403),
        ({"Authorization": "RIGHT", "Host": "127.0.0.1"}, 403),
        ({"Authorization": "RIGHT", "Host": "localhost.evil.example:80"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/v1/health", "/v1/openapi.json", "/v1/jobs", "/v1/metrics", "/nowhere"])
def test_requests_without_the_right_door_key_are_refused(engine, headers, status, path):
    headers = {k: v.replace("RIGHT", f"Bearer {engine.token}") for k, v in headers.items()}
    got, body = engine.raw("GET", path, headers)
    assert got == status
    assert engine.token not in refusal(body)


def test_the_token_is_compared_in_constant_time(monkeypatch):
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(security.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    door = security.AccessControl(None, "secret")
    scope = {"server": ("127.0.0.1", 1)}
    host = {b"host": [b"127.0.0.1:1"]}
    assert door._refusal({**host, b"authorization": [b"Bearer secreT"]}, scope)[0] == 401
    assert door._refusal({**host, b"authorization": [b"Bearer secret"]}, scope) is None
    assert [given for given, _ in compared] == [b"Bearer secreT", b"Bearer secret"]


@pytest.fixture(scope="session")
def traps(engine: RunningEngine) -> Path:
    """The allowed folder with things in it that a client must not reach."""
    films = engine.films
    (films / "take.mp4").write_text("no film")
    (films / "link").symlink_to("/etc/passwd")
    (films / "folderlink").symlink_to("/etc")
    (films / "loop").symlink_to(films / "loop")
    (films / "sealed").symlink_to(engine.root / "lock")
    os.mkfifo(films / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(films / "socket"))
    listener.close()
    return films


NAMES = [
    "/etc/passwd", "relative.mp4", "~/take.mp4", "file://{films}/take.mp4", "http://127.0.0.1/take.mp4", "{films}/../root/lock",
    "{films}/./../root/lock", "{films}/link", "{films}/folderlink/passwd", "{films}/loop", "{films}/sealed", "{films}/nothing.mp4",
    "{films}", "{films}/pipe", "{films}/socket", "{films}/take.mp4/more", "/dev/zero", "/dev/stdin", "/proc/self/mem", "/proc/self/fd/0",
    "a\0b", "{films}/take.mp4\0.png", "{films}/take\n.mp4", "", " ", "/", "//", "/" + "x" * 4000, "/" + "x" * 5000, "{films}/" + "x" * 300,
    "{films}/%2e%2e/root/lock", "concat:{films}/take.mp4", "\udcff", "C:\\Windows\\win.ini", "\\\\host\\share\\take.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["track", "edit", "render", "vector"])
def test_paths_out_of_the_allowed_folders_are_refused(engine, traps, kind, name):
    name, good = name.replace("{films}", str(traps)), str(traps / "take.mp4")
    bodies = {
        "track": [{"clip": name}],
        "edit": [{"clip": name}, {"clip": good, "speech": name or "/"}, {"clip": good, "neutral": name or "/"}],
        "render": [{"clip": name, "track": good}, {"clip": good, "track": name}],
        "vector": [{"paths": [name], "neutral": [good], "name": "x"}],
    }
    jobs = len(engine.client().jobs())
    for body in bodies[kind]:
        if name == str(traps) and {"speech", "neutral", "paths"} & set(body):
            continue  # a folder of recordings may be named
        status, answer = engine.raw("POST", f"/v1/{kind}", None, json.dumps(body))
        assert status in (400, 422)
        sentence = refusal(answer)
        for secret in ("root:x:", str(engine.root), "/etc/passwd"):
            assert secret in name or secret not in sentence
    assert len(engine.client().jobs()) == jobs


def test_numbers_counts_and_words_are_bounded(engine, traps):
    clip = str(traps / "take.mp4")
    for kind, body in [
        ("track", {"clip": clip, "face": -1}),
        ("track", {"clip": clip, "face": 10**30}),
        ("track", {"clip": clip, "face": 0.5}),
        ("track", {"clip": [clip]}),
        ("track", [clip]),
        ("track", clip),
        ("track", None),
        ("track", {"clip": clip, "format": "exe"}),
        ("track", {"clip": clip, "output": "/etc/passwd"}),
        ("edit", {"clip": clip, "strength": float("nan")}),
        ("edit", {"clip": clip, "strength": float("inf")}),
        ("edit", {"clip": clip, "strength": -1e308}),
        ("edit", {"clip": clip, "emotions": ["happy"] * 201}),
        ("edit", {"clip": clip, "emotions": ["happy" * 100]}),
        ("edit", {"clip": clip, "emotions": ["happy@5-1"]}),
        ("edit", {"clip": clip, "emotions": ["0\n0"]}),
        ("edit", {"clip": clip, "emotions": [""]}),
        ("edit", {"clip": clip, "emotions": ["happy=nan"]}),
        ("edit", {"clip": clip, "emotions": ["happy=1e999"]}),
        ("edit", {"clip": clip, "emotions": ["happy@-3-"]}),
        ("edit", {"clip": clip, "keys": [{"emotion": "happy", "start": -1}]}),
        ("edit", {"clip": clip, "keys": [{"emotion": "happy", "start": 3, "end": 2}]}),
        ("edit", {"clip": clip, "keys": [{"emotion": "happy"}] * 1001}),
        ("edit", {"clip": clip, "renderer": "../../evil"}),
        ("edit", {"clip": clip, "device": "cuda:99"}),
        ("render", {"clip": clip, "track": clip, "quality": 99}),
        ("vector", {"paths": [clip] * 1001, "neutral": [clip], "name": "x"}),
        ("vector", {"paths": [], "neutral": [clip], "name": "x"}),
        ("vector", {"paths": [clip], "neutral": [clip], "name": "../x"}),
        ("vector", {"paths": [clip], "neutral": [clip], "name": "x\0"}),
        ("track?client=" + "x" * 81, {"clip": clip}),
        ("track?client=%3Cscript%3E", {"clip": clip}),
        ("track?clinet=me", {"clip": clip}),
    ]:
        status, answer = engine.raw("POST", f"/v1/{kind}", None, json.dumps(body))
        assert status == 422, (kind, body)
        refusal(answer)
    for query in ("limit=0", "limit=-1", "limit=1001", "limit=1e3", "limit=NaN", "limit=" + "9" * 5000):
        status, answer = engine.raw("GET", f"/v1/jobs?{query}")
        assert status == 422
        refusal(answer)


HUGE = b'{"clip": "' + b"x" * (2 << 20) + b'"}'


@pytest.mark.parametrize(
    ("body", "content_type", "statuses"),
    [
        (HUGE, "application/json", [413]),
        (iter([HUGE[:700_000]] * 3), "application/json", [413]),  # sent in chunks, its size not said beforehand
        (b"\xff\xfe", "application/json", [400, 422]),
        (b"", "application/json", [422]),
        (b'{"clip": "/x"', "application/json", [422]),
        (b"[" * 500_000, "application/json", [400, 422]),
        (b'{"a":' * 100_000, "application/json", [400, 422]),
        (b'{"clip": ' + b"9" * 100_000 + b"}", "application/json", [400, 422]),
        (b'{"clip": "/x", "face": 1e400}', "application/json", [422]),
        (b'{"clip": "\\ud800"}', "application/json", [400, 422]),
        (b'{"clip": "/x"}', "text/plain", [422]),
        (b'{"clip": "/x"}', "application/x-www-form-urlencoded", [422]),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", [422]),
        (pickle.dumps({"clip": "/x"}), "application/json", [400, 422]),
        (pickle.dumps({"clip": "/x"}), "application/octet-stream", [422]),
        (b'{"clip": "/x"}', "application/json; charset=utf-16", [422]),
        (b"\x1f\x8b\x08\0\0\0\0\0", "application/json", [400, 422]),
    ],
)
def test_bodies_that_are_not_what_they_should_be_are_refused(engine, body, content_type, statuses):
    headers = {"Authorization": f"Bearer {engine.token}", "Content-Type": content_type}
    status, answer = engine.raw("POST", "/v1/track", headers, body)
    assert status in statuses
    refusal(answer)
    assert engine.client().health()


@pytest.mark.parametrize("suffix", [".exe", ".pkl", ".pt", ".py", ".npy", "wav", "./../x", ".wav/..", ".WAVE", ""])
def test_uploads_of_other_kinds_are_refused(engine, suffix):
    there = list((engine.root / "uploads").iterdir())
    with pytest.raises(CmetError):
        engine.client().request("POST", "files", raw=b"MZ", suffix=suffix)
    assert list((engine.root / "uploads").iterdir()) == there


def test_methods_and_places_that_are_not_there_are_refused_in_a_sentence(engine):
    for method, path, status in [
        ("DELETE", "/v1/jobs", 405),
        ("PUT", "/v1/track", 405),
        ("TRACE", "/v1/health", 405),
        ("GET", "/v1/../etc/passwd", 404),
        ("GET", "/v1/jobs/", 404),
        ("GET", "/v2/health", 404),
        ("GET", "/docs", 404),
    ]:
        got, body = engine.raw(method, path)
        assert got == status, (method, path)
        refusal(body)


@pytest.mark.parametrize("identity", ["nope", "..", "%2e%2e", "%2e%2e%2f%2e%2e", "a" * 500, "%00", "%ff", "20261101-000000-000000000-00000000", "%C2%B2", "*"])  # fmt: skip
@pytest.mark.parametrize("rest", ["", "/log", "/preview", "/files/edited.mp4", "/files/..%2fstate.json", "/cancel"])
def test_a_job_that_does_not_exist_is_said(engine, identity, rest):
    status, body = engine.raw("POST" if rest == "/cancel" else "GET", f"/v1/jobs/{identity}{rest}")
    assert status in (404, 405)
    refusal(body)


def test_half_a_request_is_not_waited_for_for_ever(monkeypatch):
    """However slowly its bytes come; what is sent in time is answered, also on a connection that was used before."""
    monkeypatch.setattr(security, "HEADER_SECONDS", 0.5)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    service = uvicorn.Server(
        uvicorn.Config(app, http=security.HeaderTimeoutProtocol, lifespan="off", log_level="warning")
    )
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=service.run, args=([listener],))
    thread.start()
    address = listener.getsockname()
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(address) as silent, socket.create_connection(address) as used:
        for _ in range(2):
            used.sendall(whole)
            assert used.recv(1000).startswith(b"HTTP/1.1 200")
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in whole[:-1] * 9:
                used.sendall(bytes([byte]))
                time.sleep(0.05)
        assert 0.4 < time.monotonic() - started < 2
        silent.settimeout(2)
        assert silent.recv(1) == b""
    service.should_exit = True
    thread.join()


def test_a_body_that_comes_too_slowly_is_refused(tmp_path, monkeypatch):
    import asyncio

    monkeypatch.setattr(security, "BODY_SECONDS", 0.3)
    app, runner = create_app(tmp_path / "root", "secret", AllowedFolders([tmp_path]))
    sent = []

    async def receive():
        await asyncio.sleep(0.1)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/track", "raw_path": b"/v1/track", "query_string": b"", "http_version": "1.1",
        "scheme": "http", "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2), "root_path": "",
        "headers": [(b"host", b"127.0.0.1:1"), (b"authorization", b"Bearer secret"), (b"content-type", b"application/json")],
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 5))
    runner.stop()
    assert sent[0]["status"] == 408
    refusal(sent[1]["body"])


def test_the_door_stays_open_while_others_knock(engine):
    """Many idle connections are closed or refused; a client is answered in the end."""
    idle = [socket.create_connection(("127.0.0.1", engine.port), timeout=5) for _ in range(250)]
    for connection in idle:
        connection.close()
    deadline = time.monotonic() + 30
    while True:  # until the engine has noticed that they are gone
        try:
            assert engine.client().health()["version"]
            break
        except CmetError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_an_upload_can_be_named_in_a_job(engine, tmp_path):
    client = engine.client()
    voice = tmp_path / "voice.wav"
    voice.write_bytes(b"not a voice")
    path = client.upload(voice)
    assert client.upload(voice) == path
    state = finished(client, client.vector([path], [path], "wistful"))
    assert state["state"] == "failed" and state["error"].endswith(".")


class _Harm:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".json"])
def test_a_pickle_from_a_client_is_never_run(engine, traps, tmp_path, suffix):
    harmed = tmp_path / "harmed"
    archive = io.BytesIO()
    np.savez(archive, coefficients=np.array([_Harm(harmed)], dtype=object))
    for number, data in enumerate((archive.getvalue(), pickle.dumps(_Harm(harmed)))):
        harm = tmp_path / f"harm{number}{suffix}"
        harm.write_bytes(data)
        client = engine.client()
        state = finished(client, client.render(traps / "take.mp4", client.upload(harm)))
        assert state["state"] == "failed"
        one_sentence(state["error"])
    assert not harmed.exists()


def test_a_client_only_talks_to_loopback():
    for url in ("http://example.org:80/v1", "https://127.0.0.1:5/v1", "http://127.0.0.1/v1", "file:///etc/passwd"):
        with pytest.raises(CmetError):
            Client(url, "token")


def test_metrics_are_what_prometheus_reads(engine):
    """The text format, version 0.0.4: every sample belongs to a family whose type was said, and is a number."""
    status, body = engine.raw("GET", "/v1/metrics")
    assert status == 200
    types: dict[str, str] = {}
    samples: dict[str, float] = {}
    for line in body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            types[name] = kind
        elif not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert name.split("{")[0] in types
            samples[name] = float(value)
    assert types["cmet_jobs_finished_total"] == "counter" and types["cmet_jobs_waiting"] == "gauge"
    assert samples['cmet_jobs_finished_total{state="failed"}'] >= 1


def test_an_emotion_that_a_killed_attempt_stored_already_is_no_reason_to_fail(engine, traps):
    client = engine.client()
    voice, calm = (str(small(traps / f"voice{n}.mp4", start=n, frames=30, size=64)) for n in (0, 60))
    for _ in range(2):  # the second finds what it would store itself
        state = finished(client, client.vector([voice], [calm], "mine"))
        assert state["state"] == "done", state["error"]


def test_a_vector_without_neutral_recordings_says_what_that_means(engine, traps):
    client = engine.client()
    voice = str(small(traps / "voice.mp4", start=0, frames=30, size=64))
    state = finished(client, client.vector([voice], [], "alone"))
    assert state["state"] == "done", state["error"]
    assert "the library's neutral" in str(state["result"])
