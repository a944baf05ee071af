"""Talks to a running engine: standard library only, so that Blender can import it.

engine = Client.from_file(path)                 # the file that `cmet serve --token-file` wrote
job = engine.edit("/films/take3.mp4", emotions=["happy@0-2.5"])
while (state := engine.job(job["id"]))["state"] in ("queued", "running"): ...
print(state["files"])
"""

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from cmet_engine.errors import Busy, CmetError, InvalidInput, MissingWeights, NotFound
from cmet_engine.files import read_json

TIMEOUT = 5.0  # seconds; the engine answers at once, whatever it is working on
READING = 120.0  # seconds for the engine to read a whole file
HANDOVER = "cmet-handover/1"
"""`format` of the JSON file by which the studio hands a clip, its curves and its emotions to Blender."""
REFUSALS = {kind.http_status: kind for kind in (InvalidInput, NotFound, MissingWeights, Busy)}


def video_of(files: dict[str, str]) -> tuple[str, str | None]:
    """Among the files of a finished rendering the name of the video, and of its credentials where they lie beside it."""
    credentials = next((name for name in files if name.endswith(".c2pa")), None)
    return next(name for name in files if name != credentials), credentials


class Client:
    """One engine.

    Args:
        url: where it is, e.g. `http://127.0.0.1:40123/v1`; loopback only.
        token: the secret of its start.
        name: who asks; the jobs of different clients take turns.

    Raises:
        CmetError: the address is not on this machine's loopback.
    """

    def __init__(self, url: str, token: str, name: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost") or not parts.port:
            raise CmetError(f"'{url}' is not the address of an engine on this machine.")
        self._host, self._port, self._base = parts.hostname, parts.port, parts.path.rstrip("/")
        self._token, self._name = token, name

    @classmethod
    def from_file(cls, path: str | Path, name: str = "") -> "Client":
        """The engine whose address and token stand in a file.

        Raises:
            CmetError: the file is missing or damaged.
        """
        try:
            document = read_json(path)
            return cls(document["url"], document["token"], name)
        except (CmetError, ValueError, KeyError, TypeError) as error:
            raise CmetError(f"{path} does not hold the address of an engine; is `cmet serve` running?") from error

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        seconds: float = TIMEOUT,
        **query: Any,
    ) -> Any:
        """One request; the answer's JSON, or its bytes when it is not JSON.

        Raises:
            CmetError: the engine does not answer, or refuses; with its own sentence, as the class that the engine raised.
        """
        target = f"{self._base}/{path}" + (f"?{urlencode(query)}" if query else "")
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        headers = {"Authorization": f"Bearer {self._token}"}
        if data is not None:
            headers["Content-Type"] = "application/json" if raw is None else "application/octet-stream"
        connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise CmetError("The engine does not answer; start it again.") from error
        finally:
            connection.close()
        answer: Any = content
        if response.getheader("Content-Type", "").startswith("application/json"):
            answer = json.loads(content)
        if response.status >= 400:
            named = isinstance(answer, dict) and "error" in answer
            sentence = answer["error"] if named else f"The engine refused ({response.status})."
            raise REFUSALS.get(response.status, CmetError)(sentence)
        return answer

    def health(self) -> dict[str, Any]:
        """Version, device, and how many jobs wait and run."""
        return self.request("GET", "health")

    def emotions(self) -> list[dict[str, Any]]:
        """Names and reliability of the library's emotions."""
        return self.request("GET", "emotions")

    def faces(self, clip: str | Path, **parameters: Any) -> dict[str, Any]:
        """Queue: everyone in a clip. Returns the job; its `result` lists them as `people`, its `files` are their pictures."""
        return self.request("POST", "faces", {"clip": str(clip), **parameters}, client=self._name)

    def track(self, clip: str | Path, **parameters: Any) -> dict[str, Any]:
        """Queue: footage to coefficients. Returns the job."""
        return self.request("POST", "track", {"clip": str(clip), **parameters}, client=self._name)

    def edit(self, clip: str | Path, **parameters: Any) -> dict[str, Any]:
        """Queue: edit the emotion of a clip; `parameters` are the fields of `cmet_engine.spec.EditSpec`. Returns the job."""
        return self.request("POST", "edit", {"clip": str(clip), **parameters}, client=self._name)

    def render(self, clip: str | Path, track: str | Path | None = None, **parameters: Any) -> dict[str, Any]:
        """Queue: render a clip with the curves of a track, or with those of several `people`. Returns the job."""
        curves = {} if track is None else {"track": str(track)}
        return self.request("POST", "render", {"clip": str(clip), **curves, **parameters}, client=self._name)

    def hear(self, clip: str | Path, **parameters: Any) -> dict[str, Any]:
        """Queue: what is felt in a recording or clip when. Returns the job; its `result` lists the `keys`, its file is a timeline."""
        return self.request("POST", "hear", {"clip": str(clip), **parameters}, client=self._name)

    def vector(self, paths: list[str], neutral: list[str], name: str, **parameters: Any) -> dict[str, Any]:
        """Queue: a new emotion from recordings; `neutral` may be empty (the library's neutral). Returns the job."""
        return self.request(
            "POST", "vector", {"paths": paths, "neutral": neutral, "name": name, **parameters}, client=self._name
        )

    def live(self, clip: str | Path, time: float, **parameters: Any) -> dict[str, Any]:
        """Coefficients of a tracked clip and of its edit (`emotions`, `keys`, `strength`, `mode`) at a moment, at once.

        Returns:
            `frame`, `time`, and `source` and `edited` as {name: value}.
        """
        return self.request("POST", "live", {"clip": str(clip), "time": time, **parameters})

    def live_picture(self, clip: str | Path, time: float, **parameters: Any) -> bytes:
        """The rendered frame of such an edit at a moment (JPEG), or another `view` of it, of at most `size` pixels."""
        return self.request("POST", "live/picture", {"clip": str(clip), "time": time, **parameters})

    def curves(self, clip: str | Path, **parameters: Any) -> dict[str, Any]:
        """What a timeline shows of such an edit: `times`, `source` and `edited` by name, `waveform`, `speech`, `words`, `blinks`, `cuts`."""
        return self.request("POST", "live/curves", {"clip": str(clip), **parameters})

    def export(self, track: str | Path, **parameters: Any) -> dict[str, Any]:
        """Queue: a track in another `format`, or on a `rig`; `parameters` are the fields of `cmet_engine.spec_rig.ExportSpec`."""
        return self.request("POST", "export", {"track": str(track), **parameters}, client=self._name)

    def folder(self, path: str | Path = "") -> dict[str, Any]:
        """`folders` and `clips` in a folder that the engine may use; without a path these folders themselves."""
        return self.request("GET", "folder", of=str(path))

    def clip(self, file: str | Path) -> dict[str, Any]:
        """What a clip is: `width`, `height`, `fps`, `frames`, `duration`, `has_audio`, `timecode`, `warnings`."""
        return self.request("GET", "clip", seconds=READING, file=str(file))

    def jobs(self) -> list[dict[str, Any]]:
        """The newest jobs, newest first."""
        return self.request("GET", "jobs")

    def job(self, identity: str) -> dict[str, Any]:
        """Where a job stands: `state`, `stage`, `done`, `total`, `eta_seconds`, `error`, `files`."""
        return self.request("GET", f"jobs/{quote(identity, safe='')}")

    def cancel(self, identity: str) -> dict[str, Any]:
        """Stop a job."""
        return self.request("POST", f"jobs/{quote(identity, safe='')}/cancel")

    def log(self, identity: str) -> str:
        """The end of a job's log."""
        return self.request("GET", f"jobs/{quote(identity, safe='')}/log").decode("utf-8", "replace")

    def preview(self, identity: str) -> bytes:
        """The newest edited picture of a job (JPEG)."""
        return self.request("GET", f"jobs/{quote(identity, safe='')}/preview")

    def provenance(self, path: str | Path) -> dict[str, Any]:
        """Verify a file: `credentials` (valid, changed, none or unreadable), `signed_by`, `edit` …, and `sentences` in words."""
        return self.request("GET", "provenance", seconds=READING, file=str(path))

    def seal(self, file: str | Path, **parameters: Any) -> list[str]:
        """Sign what Blender exported; `parameters` are the fields of `cmet_engine.spec_rig.SealSpec`. Returns sentences for the user."""
        return self.request("POST", "seal", {"file": str(file), **parameters}, seconds=READING)["messages"]

    def upload(self, path: str | Path) -> str:
        """Send a small file; returns the path under which jobs may name it."""
        path = Path(path)
        return self.request("POST", "files", raw=path.read_bytes(), suffix=path.suffix.lower())["path"]
