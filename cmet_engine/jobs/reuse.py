"""Results of earlier jobs, used again for the same request: the same content of files, settings, models and code.

    <root>/done/<checksum of all that>    the id of the job that did it

The results themselves stay with their jobs, and are compared with their checksums before they are copied.
"""

import shutil
from pathlib import Path
from typing import Any

from cmet_engine import cache, fingerprint
from cmet_engine.emotion.sound_files import sound_files
from cmet_engine.emotion.user_library import user_folder
from cmet_engine.errors import CmetError
from cmet_engine.face.people import names_file
from cmet_engine.jobs.store import DONE, Job, write_atomically
from cmet_engine.models import registry
from cmet_engine.models.assets import CHECKSUMS
from cmet_engine.provenance.identity import signers

WORK = "cmet_engine.jobs.worker"  # the module that does the jobs, and imports all code that decides their results
FILES = (
    "clip",
    "track",
    "source",
    "speech",
    "like",
    "neutral",
    "lips",
    "portrait",
)  # parameters that name a file or a folder


def identity(request: dict[str, Any]) -> str | None:
    """Checksum of everything that the result of a job depends on; None for one that changes something elsewhere.

    Raises:
        CmetError: a folder holds no recordings.
        OSError: a file is gone.
    """
    given = request["parameters"]
    if request["kind"] == "vector" or given.get("names"):
        return None
    people = [
        (f"{name} {number}", value) for number, one in enumerate(given.get("people", ())) for name, value in one.items()
    ]
    settings = sorted(
        (name, repr(value)) for name, value in (*given.items(), *people) if name.split()[0] not in (*FILES, "people")
    )
    parts: list[object] = [fingerprint.code(WORK), request["kind"], settings, cache.content(CHECKSUMS)]
    parts += [(name, cache.content(Path(value))) for name, value in people if name.split()[0] in FILES and value]
    for name in FILES:
        path = Path(given.get(name) or "")
        files = sound_files([path]) if name in ("speech", "neutral") and given.get(name) else [path]
        # a report shows the names of the clip and of recordings
        parts += [(name, file.name, cache.content(file)) for file in files if given.get(name)]
    if given.get("shot_data"):
        parts.append(given["clip"])  # they name its folder
    if isinstance(face := given.get("face"), str) and not face.startswith("#"):
        parts.append(cache.content(Path(face)))  # a picture of the person
    if isinstance(consent := given.get("consent"), str) and consent.lower().endswith(".json"):
        parts.append(cache.content(Path(consent)))
    parts.append(signers())  # they are in the results
    if given.get("clip") and (names := names_file(Path(given["clip"]))).is_file():
        parts.append(cache.content(names))
    if request["kind"] == "edit" and user_folder().is_dir():
        parts += [(path.name, cache.content(path)) for path in sorted(user_folder().glob("*.json"))]
    if given.get("renderer", "warp") not in ("auto", "warp", "none") and registry.models_folder().is_dir():
        weights = sorted(path for path in registry.models_folder().rglob("*") if path.is_file())
        parts += [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
    return fingerprint.data(*parts)


def earlier(job: Job) -> dict[str, Any] | None:
    """Copy the results of an earlier job that did the same into this one's, and return its figures; else None.

    From then on this job stands for what it is asked to do.
    """
    try:
        name = identity(job.request)
    except (CmetError, OSError):
        return None  # the work itself finds out, and says it
    if name is None:
        return None
    index = job.folder.parent.parent / "done" / name
    index.parent.mkdir(exist_ok=True)
    found = None
    try:
        other = Job(job.folder.parent / index.read_text("utf-8"))
        if other.id != job.id and other.state.state == DONE:
            other.verify()
            shutil.copytree(other.results, job.results)
            if other.preview.exists():
                shutil.copyfile(other.preview, job.preview)
            found = other.state.result
            job.log(f"the same was done by job {other.id}; its results are used")
    except (CmetError, OSError, ValueError, TypeError):
        shutil.rmtree(job.results, ignore_errors=True)  # that job is gone, or its results are not what they were
    write_atomically(index, job.id.encode())
    return found


def prune(root: Path) -> None:
    """Forget results whose jobs are gone."""
    for index in (root / "done").glob("[0-9a-f]" * 64):
        if not (root / "jobs" / index.read_text("utf-8")).is_dir():
            index.unlink()
