"""Many clips: a manifest, worker processes or a Ray cluster, and one line of result for every row.

The manifest is a CSV file with a header, or JSON lines, with these columns (only `clip` is needed):

    kind       edit (default), track, render, export or apply
    clip       the footage; for `export` and `apply` the track
    output     edit: a folder; otherwise a file. Default: beside the clip, named after it
    emotions   keys in text form, separated by semicolons: happy@0-2.5; sarcastic=0.6@2.5-
    keys       an emotion timeline (.json)
    speech     a recording that sounds like the wanted emotion, or a folder of them
    neutral    the same voice without the emotion
    strength   multiplies all strengths (1)
    mode       add (default) or replace
    renderer   warp (default), edtalk or none
    quality    of warp: auto (default), draft, standard or best
    face       which face, 0 the largest (0)
    track      render: the wanted curves
    source     render: the clip's own curves
    rig        export, apply: the character. `export` writes .fbx .glb .usdc .abc .blend (without a rig .csv .json .npz),
               `apply` a .blend with the keys on the character

Paths are relative to the manifest's folder. A row that takes what another row writes (`take-edited/edited.npz` of an edit) waits
for it. A row that is wrong fails alone. Rows that put tracks on characters run in a process of their own with `bpy`.

With `--ray`, manifest, inputs and outputs must lie on storage that every machine of the cluster sees under the same path,
and every machine needs this package (with `bpy` for export and apply) and its models. A row asks Ray for one core and
2 GiB, and for a GPU only where it has use for one (to draw, unless the quality is draft) and the cluster has any.
"""

import csv
import hashlib
import io
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, exclusive, remove_leftovers, whole_file
from cmet_engine.media import formats

KINDS = ("edit", "track", "render", "export", "apply")
COLUMNS = (
    "kind",
    "clip",
    "output",
    "emotions",
    "keys",
    "speech",
    "neutral",
    "strength",
    "mode",
    "renderer",
    "quality",
    "face",
    "track",
    "source",
    "rig",
)
DEFAULT_OUTPUT = {
    "edit": "{stem}-edited",
    "track": "{stem}.npz",
    "render": "{stem}-edited.mp4",
    "export": "{stem}.fbx",
    "apply": "{stem}.blend",
}
INPUTS = ("clip", "keys", "speech", "neutral", "track", "source", "rig")
ROW_MEMORY = 2 << 30  # bytes that a row may need: a 1080p edit stays below 1 GB, Blender with a character below 2
RAY_AHEAD = 1000  # rows handed to a cluster before the first of them is finished
ATTEMPTS = 2  # a row whose process dies is done again once


@dataclass
class Row:
    """One line of the manifest: its `number` (header is 1), its `identity` (a hash of what it asks) and `values`.

    A row that cannot be done as it stands has a `problem`, one sentence, and only the values it was given.
    """

    number: int
    identity: str
    values: dict[str, Any]
    problem: str | None = None

    @property
    def output(self) -> Path:
        """Where the result goes."""
        return Path(self.values["output"])


@dataclass
class Summary:
    """What became of a batch: counts, seconds, and the file with one line per row."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    results: Path = field(default_factory=Path)


def read_manifest(path: Path) -> list[Row]:
    """The rows of a `.csv`, `.jsonl` or `.ndjson` manifest, checked; a wrong row says so in its `problem`.

    Raises:
        CmetError: the file is no manifest, its header is wrong, or it has no rows.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise CmetError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CmetError(f"{path.name} is not a text file in UTF-8.") from error
    entries: list[tuple[int, dict[str, Any]]] = []
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text), strict=True)
        try:
            unknown = sorted({name.strip() for name in reader.fieldnames or []} - {*COLUMNS, ""})
            if unknown:
                raise CmetError(f"{path.name}: {_unknown(unknown[0])}")
            for entry in reader:
                more = {"": None} if None in entry else {}
                values = {k.strip(): (v or "").strip() for k, v in entry.items() if k and k.strip()}
                entries.append((reader.line_num, {**values, **more}))
        except csv.Error as error:
            raise CmetError(f"{path.name} row {reader.line_num}: {error}.") from error
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    entry = None
                entries.append((number, entry if isinstance(entry, dict) else {"": line}))
    else:
        raise CmetError(f"{path.name}: a manifest is a .csv or .jsonl file.")
    if not entries:
        raise CmetError(f"{path.name} has no rows.")
    rows = [_checked(path, number, entry) for number, entry in entries]
    outputs: dict[Path, int] = {}
    for row in rows:
        if row.problem:
            continue
        if row.output in outputs:
            row.problem = f"It writes to the same output as row {outputs[row.output]}; give each row its own."
        outputs.setdefault(row.output, row.number)
    return rows


def _unknown(column: str) -> str:
    return f"The column '{column[:80]}' is unknown; the columns are {', '.join(COLUMNS)}."


def _checked(manifest: Path, number: int, entry: dict[str, Any]) -> Row:
    """One row with its defaults filled in, or with what is wrong with it."""
    try:
        values, problem = _values(manifest, entry), None
    except CmetError as error:
        values, problem = {"kind": str(entry.get("kind") or "edit"), "clip": str(entry.get("clip", ""))}, str(error)
    text = json.dumps(entry if problem else values, sort_keys=True)
    return Row(number, hashlib.sha256(text.encode()).hexdigest()[:24], values, problem)


def _values(manifest: Path, entry: dict[str, Any]) -> dict[str, Any]:
    if "" in entry:
        raise CmetError(
            "The row has more cells than the header has columns." if entry[""] is None else "The row is no JSON object."
        )
    unknown = sorted(set(entry) - set(COLUMNS))
    if unknown:
        raise CmetError(_unknown(unknown[0]))
    values: dict[str, Any] = {name: value for name, value in entry.items() if value not in ("", None)}
    kind = values.setdefault("kind", "edit")
    if kind not in KINDS:
        raise CmetError(f"The kind '{kind}' is not one of {', '.join(KINDS)}.")
    for name in {"edit": (), "track": (), "render": ("track",), "export": (), "apply": ("rig",)}[kind]:
        if name not in values:
            raise CmetError(f"The column '{name}' is empty; a row of kind {kind} needs it.")
    if "clip" not in values:
        raise CmetError("The column 'clip' is empty.")
    for name, convert in (("strength", float), ("face", int)):
        try:
            values[name] = convert(values.get(name, 1 if name == "strength" else 0))
            if not math.isfinite(values[name]) or (name == "face" and values[name] < 0):
                raise ValueError
        except (ValueError, TypeError, OverflowError) as error:
            raise CmetError(f"The column '{name}' is '{values[name]}', which is no number that it can take.") from error
    for name, allowed in (
        ("mode", ("add", "replace")),
        ("renderer", ("warp", "edtalk", "none")),
        ("quality", ("auto", "draft", "standard", "best")),
    ):
        if values.setdefault(name, allowed[0]) not in allowed:
            raise CmetError(f"The column '{name}' is '{values[name]}', not one of {', '.join(allowed)}.")
    for name in (*INPUTS, "output"):
        if name in values:
            if not isinstance(values[name], str) or "\0" in values[name]:
                raise CmetError(f"The column '{name}' is no path.")
            values[name] = os.path.normpath(manifest.parent.absolute() / values[name])
    clip = Path(values["clip"])
    values.setdefault("output", str(clip.parent / DEFAULT_OUTPUT[kind].format(stem=clip.stem)))
    emotions = values.get("emotions", [])
    keys = emotions.split(";") if isinstance(emotions, str) else emotions
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CmetError("The column 'emotions' is no text and no list of texts.")
    values["emotions"] = [key.strip() for key in keys if key.strip()]
    return values


def write_manifest(folder: Path, output: Path, *, emotions: str = "happy", force: bool = False) -> int:
    """Write a manifest with one edit for every clip below a folder; returns the number of rows.

    Raises:
        CmetError: the folder is missing or holds no clips, or the file cannot be written.
    """
    if not folder.is_dir():
        raise CmetError(f"{folder} is not a folder.")
    clips = sorted(p for p in folder.rglob("*") if p.suffix.lower() in formats.VIDEO and p.is_file())
    if not clips:
        raise CmetError(f"{folder} holds no video files.")
    with whole_file(output, force=force) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["kind", "clip", "output", "emotions", "strength"])
        writer.writeheader()
        for clip in clips:
            relative = os.path.relpath(clip, output.parent)
            writer.writerow(
                {
                    "kind": "edit",
                    "clip": relative,
                    "output": f"{relative.rsplit('.', 1)[0]}-edited",
                    "emotions": emotions,
                    "strength": 1,
                }
            )
    return len(clips)


def run_row(
    values: dict[str, Any], progress: Callable[[str, int, int | None], None] | None = None, *, force: bool = False
) -> dict[str, Any]:
    """Do what one row asks; returns its figures.

    Raises:
        CmetError: the row cannot be done; one sentence.
    """
    from cmet_engine import pipeline
    from cmet_engine.spec import EditSpec, RenderSpec
    from cmet_engine.track import CoefficientTrack

    kind, clip, output = values["kind"], Path(values["clip"]), Path(values["output"])
    output.parent.mkdir(parents=True, exist_ok=True)
    if kind == "edit":
        names = ("clip", "keys", "strength", "speech", "neutral", "mode", "renderer", "face", "quality")
        asked = {name: values[name] for name in names if name in values}
        result = pipeline.edit_clip(
            EditSpec.read({**asked, "emotions": values["emotions"]}), output, force=force, progress=progress
        )
        return {
            "outputs": [str(p) for p in result.files.values()],
            "figures": result.figures,
            "messages": result.messages,
        }
    if kind == "track":
        check_writable(output, force=force)
        _, track = pipeline.track_clip(clip, face=values["face"], progress=progress)
        track.save(output, force=force)
        return {"outputs": [str(output)], "figures": {"frames": len(track), "frames_with_face": int(track.valid.sum())}}
    if kind == "render":
        fields = ("clip", "track", "source", "renderer", "face", "quality")
        spec = RenderSpec.read({name: values[name] for name in fields if name in values})
        rendered = pipeline.render_clip(spec, output, force=force, progress=progress)
        return {"outputs": [str(output)], "messages": rendered.messages}
    if "rig" not in values:
        CoefficientTrack.load(clip).save(output, force=force)
        return {"outputs": [str(output)]}
    command = [
        sys.executable,
        "-m",
        "cmet_blender",
        kind,
        str(clip),
        "--rig",
        values["rig"],
        "-o",
        str(output),
        "--json",
    ]
    finished = subprocess.run(command + (["--force"] if force else []), capture_output=True, text=True, check=False)
    if finished.returncode:
        words = finished.stderr.strip().splitlines()
        raise CmetError(words[-1].removeprefix("cmet: ") if words else "Blender ended without a word.")
    figures = json.loads(finished.stdout)
    return {"outputs": [str(output)], "figures": {k: v for k, v in figures.items() if isinstance(v, int | float)}}


Watch = Callable[[Row, str, int, int | None], None]
"""Called as `watch(row, stage, done, total)` while a row is worked on."""


def run_batch(
    manifest: Path,
    *,
    workers: int = 1,
    ray_address: str | None = None,
    resume: bool = False,
    retry: bool = False,
    force: bool = False,
    report: Callable[[Row, dict[str, Any], Summary, int], None] | None = None,
    watch: Watch | None = None,
) -> Summary:
    """Run every row of a manifest; failures do not stop the others.

    Args:
        manifest: see the module's description.
        workers: rows at the same time on this machine.
        ray_address: a Ray cluster instead: its address, `auto`, or `local`.
        resume: skip rows that are done already, or failed; a row that was being done when a batch ended is done again.
        retry: skip rows that are done already; do those that failed again.
        force: replace earlier outputs.
        report: called after every row with its line, the summary so far and the number of rows.
        watch: called while rows are worked on (not with Ray).

    Returns:
        The summary; `results` names the file with one JSON line per row, in the manifest's order.

    Raises:
        CmetError: the manifest is wrong or being run, or it was run before and none of the above says how to go on.
    """
    rows = read_manifest(manifest)
    results = manifest.with_name(manifest.stem + ".results.jsonl")
    with exclusive(results.with_suffix(".lock"), f"{manifest.name} is being run by another process; wait for it."):
        try:
            return _run(rows, results, workers, ray_address, resume, retry, force, report, watch)
        finally:
            results.with_suffix(".lock").unlink(missing_ok=True)


def _run(
    rows: list[Row],
    results: Path,
    workers: int,
    ray_address: str | None,
    resume: bool,
    retry: bool,
    force: bool,
    report: Callable[[Row, dict[str, Any], Summary, int], None] | None,
    watch: Watch | None,
) -> Summary:
    earlier = _earlier(results)
    if earlier and not (resume or retry or force):
        raise CmetError(
            f"The manifest was run before ({results.name}); add --resume to go on, --retry to try failed rows again, or --force."
        )
    lines = {
        row.identity: earlier[row.identity]
        for row in rows
        if (resume or retry) and row.identity in earlier and _stays(earlier[row.identity], retry)
    }
    todo = [row for row in rows if row.identity not in lines]
    remove_leftovers(row.output for row in todo if not row.problem)
    # an output that is not there yet, or was being written when a batch ended, is this row's own to replace
    own = {
        row.identity
        for row in todo
        if not row.problem and (earlier.get(row.identity, {}).get("own") or not row.output.exists())
    }
    started = time.monotonic()
    summary = Summary(results=results, skipped=sum(line["state"] == "done" for line in lines.values()))
    summary.failed = len(lines) - summary.skipped
    _write(results, rows, lines)
    with results.open("a", encoding="utf-8") as file:

        def note(row: Row, line: dict[str, Any]) -> None:
            file.write(json.dumps(line, default=str) + "\n")
            file.flush()

        def begin(row: Row) -> bool:
            note(row, _line(row, "running", own=row.identity in own))
            return force or row.identity in own

        with closing(_Cluster(ray_address) if ray_address else _Workers(workers, watch)) as machine:
            for row, line in _schedule(rows, todo, lines, machine, begin):
                lines[row.identity] = line
                note(row, line)
                summary.done += line["state"] == "done"
                summary.failed += line["state"] == "failed"
                summary.seconds = time.monotonic() - started
                if report:
                    report(row, line, summary, len(rows))
    remove_leftovers(row.output for row in todo if not row.problem)  # of processes that died and were replaced
    _write(results, rows, lines)
    return summary


def _stays(line: dict[str, Any], retry: bool) -> bool:
    """Whether a row's line from an earlier run still holds."""
    if line["state"] == "done":
        return all(Path(path).exists() for path in line.get("outputs", []))
    return line["state"] == "failed" and not retry


def _write(results: Path, rows: list[Row], lines: dict[str, dict[str, Any]]) -> None:
    with whole_file(results, force=True) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            if row.identity in lines:
                file.write(json.dumps({**lines[row.identity], "row": row.number}, default=str) + "\n")


def _earlier(results: Path) -> dict[str, dict[str, Any]]:
    """The last line of every row from an earlier run; a line cut off by a crash is passed over."""
    lines: dict[str, dict[str, Any]] = {}
    if results.exists():
        for text in results.read_text("utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                if line["state"] in ("done", "failed", "running"):
                    lines[line["row_id"]] = line
            except (ValueError, KeyError, TypeError):
                continue
    return lines


def _line(row: Row, state: str, **more: Any) -> dict[str, Any]:
    values = row.values
    return {"row": row.number, "row_id": row.identity, "kind": values["kind"], "clip": values["clip"], "state": state, **more}  # fmt: skip


class _Machine(Protocol):
    """Where rows are done: a few worker processes or a cluster."""

    capacity: int

    def submit(self, row: Row, force: bool) -> None:
        """Start a row."""

    def finished(self) -> list[tuple[Row, dict[str, Any]]]:
        """Wait until a row is finished; rows with their answers: `result` or `error`, `seconds`."""

    def close(self) -> None:
        """End everything that still runs."""


def _schedule(
    rows: list[Row], todo: list[Row], lines: dict[str, dict[str, Any]], machine: _Machine, begin: Callable[[Row], bool]
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Hand rows to the machine in the manifest's order, each after those whose outputs it takes; yield what became of them."""
    writers = {row.output: row for row in rows if not row.problem}
    needed = {row.identity: _needed(row, writers) for row in todo}
    waiting, running = list(todo), 0
    while waiting or running:
        held: list[Row] = []
        moved = False
        for position, row in enumerate(waiting):
            if running >= machine.capacity:
                held += waiting[position:]
                break
            before = [lines.get(other.identity) for other in needed[row.identity]]
            lost = [line["row"] for line in before if line and line["state"] == "failed"]
            problem = row.problem or (f"It takes the result of row {lost[0]}, which failed." if lost else None)
            if problem:
                moved = True
                yield row, _line(row, "failed", seconds=0.0, error=problem)
            elif None in before:
                held.append(row)
            else:
                moved = True
                running += 1
                machine.submit(row, begin(row))
        waiting = held
        if running:
            for row, answer in machine.finished():
                running -= 1
                if "error" in answer:
                    yield row, _line(row, "failed", **answer)
                else:
                    yield row, _line(row, "done", **answer.pop("result"), **answer)
        elif waiting and not moved:
            for row in waiting:
                yield row, _line(row, "failed", seconds=0.0, error="It waits, over other rows, for its own result.")
            waiting = []


def _needed(row: Row, writers: dict[Path, Row]) -> list[Row]:
    """The rows that write what a row reads."""
    found = []
    for name in INPUTS:
        path = Path(row.values[name]) if name in row.values and not row.problem else None
        for place in (path, *path.parents) if path else ():
            writer = writers.get(place)
            if writer and writer is not row and (place == path or writer.values["kind"] == "edit"):
                found.append(writer)
    return found


class _Workers:
    """Warm worker processes on this machine."""

    def __init__(self, workers: int, watch: Watch | None) -> None:
        self.capacity = max(1, workers)
        self._watch = watch
        self._pool = ThreadPoolExecutor(max_workers=self.capacity)
        self._running: dict[Future[dict[str, Any]], Row] = {}
        self._local = threading.local()
        self._alive: list[Any] = []
        self._closed = False
        threads = max(1, (os.cpu_count() or 1) // self.capacity)
        self._environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}

    def submit(self, row: Row, force: bool) -> None:
        self._running[self._pool.submit(self._work, row, force)] = row

    def finished(self) -> list[tuple[Row, dict[str, Any]]]:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in done]

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in self._alive:
            worker.kill()

    def _work(self, row: Row, force: bool) -> dict[str, Any]:
        from cmet_engine.jobs.runner import Worker

        def progress(event: dict[str, Any]) -> None:
            if self._watch:
                self._watch(row, event["stage"], event["done"], event["total"])

        started = time.monotonic()
        answer, attempts = None, 0
        while answer is None and attempts < ATTEMPTS and not self._closed:
            attempts += 1
            worker = getattr(self._local, "worker", None)
            if worker is None:
                worker = self._local.worker = Worker(self._environment)
                self._alive.append(worker)
            answer = worker.ask({"row": row.values, "force": force}, progress)
            if answer is None and not self._closed:
                worker.kill()
                self._alive.remove(worker)
                self._local.worker = None
        if answer is None:
            answer = {"error": "The worker ended unexpectedly, twice (too little memory is the usual reason)."}
        return {**answer, "seconds": round(time.monotonic() - started, 2), "attempts": attempts}


class _Cluster:
    """A Ray cluster; what a lost machine was doing is done again elsewhere."""

    capacity = RAY_AHEAD

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise CmetError("Ray is not installed; run: pip install 'cmet[ray]'.") from error
        self._ray = ray
        try:
            ray.init(
                address=None if address == "local" else address,
                log_to_driver=False,
                include_dashboard=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise CmetError(f"The Ray cluster '{address}' does not answer; start it, or use --ray local.") from error
        self._gpus = ray.cluster_resources().get("GPU", 0)
        largest = max(node["Resources"].get("memory", 0) for node in ray.nodes())
        self._memory = int(min(ROW_MEMORY, largest))  # what no machine has would be waited for for ever
        self._remote = ray.remote(max_retries=ATTEMPTS)(_on_ray)
        self._running: dict[Any, Row] = {}

    def submit(self, row: Row, force: bool) -> None:
        gpus = 1 if self._gpus and uses_gpu(row.values) else 0
        options = {"num_cpus": 1, "num_gpus": gpus, "memory": self._memory, "name": f"cmet row {row.number}"}
        self._running[self._remote.options(**options).remote(row.values, force)] = row

    def finished(self) -> list[tuple[Row, dict[str, Any]]]:
        (ready, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        row = self._running.pop(ready)
        try:
            return [(row, self._ray.get(ready))]
        except self._ray.exceptions.RayError as error:
            lost = f"The machines that ran this row were lost ({type(error).__name__})."
            return [(row, {"error": lost, "seconds": 0.0})]

    def close(self) -> None:
        self._ray.shutdown()


def uses_gpu(values: dict[str, Any]) -> bool:
    """Whether a row has use for a GPU: to draw with EDTalk or to refine (`auto` does where there is one); see `warp_renderer`."""
    draws = values["kind"] in ("edit", "render") and values["renderer"] != "none"
    return draws and not (values["renderer"] == "warp" and values["quality"] == "draft")


def _on_ray(values: dict[str, Any], force: bool) -> dict[str, Any]:
    from cmet_engine.jobs.worker import attempt, give_memory_back

    started = time.monotonic()
    answer = attempt(run_row, values, force=force)
    give_memory_back()
    return {**answer, "seconds": round(time.monotonic() - started, 2)}
