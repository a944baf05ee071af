"""Many clips: a manifest, worker processes or a Ray cluster, and one line of result for every row.

The manifest is a CSV file with a header, or JSON lines, with these columns (only `clip` is needed):

    kind       edit (default), track, render or export
    clip       the footage; for `export` the track
    output     edit: a folder; otherwise a file. Default: beside the clip, named after it
    emotions   keys in text form, separated by semicolons: happy@0-2.5; sarcastic=0.6@2.5-
    keys       an emotion timeline (.json)
    speech     a recording that sounds like the wanted emotion, or a folder of them
    neutral    the same voice without the emotion
    strength   multiplies all strengths (1)
    mode       add (default) or replace
    renderer   warp (default), edtalk or none
    face       which face, 0 the largest (0)
    track      render: the wanted curves
    source     render: the clip's own curves
    rig        export: the character

Paths are relative to the manifest's folder. With `--ray`, manifest, inputs and outputs must lie on storage that every
machine of the cluster sees under the same path.
"""

import csv
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, whole_file

KINDS = ("edit", "track", "render", "export")
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
    "face",
    "track",
    "source",
    "rig",
)
PATHS = ("clip", "output", "keys", "speech", "neutral", "track", "source", "rig")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
DEFAULT_OUTPUT = {"edit": "{stem}-edited", "track": "{stem}.npz", "render": "{stem}-edited.mp4", "export": "{stem}.fbx"}


@dataclass
class Row:
    """One line of the manifest: its `number` (header is 1), its `identity` (a hash of what it asks) and `values`."""

    number: int
    identity: str
    values: dict[str, Any]

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
    """The rows of a `.csv`, `.jsonl` or `.ndjson` manifest, checked.

    Raises:
        CmetError: the file or a row is wrong; the message names row and column.
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
            for entry in reader:
                if None in entry:
                    raise CmetError(f"{path.name} row {reader.line_num}: more cells than the header has columns.")
                entries.append((reader.line_num, {k.strip(): (v or "").strip() for k, v in entry.items() if k}))
        except csv.Error as error:
            raise CmetError(f"{path.name} row {reader.line_num}: {error}.") from error
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise CmetError(f"{path.name} line {number}: not valid JSON.") from error
                if not isinstance(entry, dict):
                    raise CmetError(f"{path.name} line {number}: not an object.")
                entries.append((number, entry))
    else:
        raise CmetError(f"{path.name}: a manifest is a .csv or .jsonl file.")
    if not entries:
        raise CmetError(f"{path.name} has no rows.")
    rows = [_checked(path, number, entry) for number, entry in entries]
    outputs: dict[Path, int] = {}
    for row in rows:
        if row.output in outputs:
            raise CmetError(
                f"{path.name} row {row.number}: writes to the same output as row {outputs[row.output]}; give each its own."
            )
        outputs[row.output] = row.number
    return rows


def _checked(manifest: Path, number: int, entry: dict[str, Any]) -> Row:
    where = f"{manifest.name} row {number}"
    unknown = sorted(set(entry) - set(COLUMNS))
    if unknown:
        raise CmetError(f"{where}: the column '{unknown[0]}' is unknown; the columns are {', '.join(COLUMNS)}.")
    values: dict[str, Any] = {name: value for name, value in entry.items() if value not in ("", None)}
    kind = values.setdefault("kind", "edit")
    if kind not in KINDS:
        raise CmetError(f"{where}: the kind '{kind}' is not one of {', '.join(KINDS)}.")
    if "clip" not in values:
        raise CmetError(f"{where}: the column 'clip' is empty.")
    for name, convert in (("strength", float), ("face", int)):
        try:
            values[name] = convert(values.get(name, 1 if name == "strength" else 0))
        except (ValueError, TypeError) as error:
            raise CmetError(f"{where}: '{name}' is '{values[name]}', not a number.") from error
    for name, allowed in (("mode", ("add", "replace")), ("renderer", ("warp", "edtalk", "none"))):
        if values.setdefault(name, allowed[0]) not in allowed:
            raise CmetError(f"{where}: '{name}' is '{values[name]}', not one of {', '.join(allowed)}.")
    for name in PATHS:
        if name in values:
            values[name] = str((manifest.parent / str(values[name])).absolute())
    clip = Path(values["clip"])
    values.setdefault("output", str(clip.parent / DEFAULT_OUTPUT[kind].format(stem=clip.stem)))
    for name in {"edit": (), "track": (), "render": ("track",), "export": ()}[kind]:
        if name not in values:
            raise CmetError(f"{where}: a {kind} needs the column '{name}'.")
    emotions = values.get("emotions", [])
    values["emotions"] = (
        [e.strip() for e in emotions.split(";") if e.strip()] if isinstance(emotions, str) else list(emotions)
    )
    identity = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]
    return Row(number, identity, values)


def write_manifest(folder: Path, output: Path, *, emotions: str = "happy", force: bool = False) -> int:
    """Write a manifest with one edit for every clip below a folder; returns the number of rows.

    Raises:
        CmetError: the folder is missing or holds no clips, or the file cannot be written.
    """
    if not folder.is_dir():
        raise CmetError(f"{folder} is not a folder.")
    clips = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
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
    from cmet_engine.timeline import EmotionTimeline
    from cmet_engine.track import CoefficientTrack

    kind, clip, output = values["kind"], Path(values["clip"]), Path(values["output"])
    output.parent.mkdir(parents=True, exist_ok=True)
    if kind == "edit":
        timeline = EmotionTimeline.load(values["keys"]) if "keys" in values else EmotionTimeline()
        timeline = EmotionTimeline([*timeline.keys, *EmotionTimeline.parse(values["emotions"]).keys])
        settings = pipeline.EditSettings(
            timeline,
            values["strength"],
            Path(values["speech"]) if "speech" in values else None,
            Path(values["neutral"]) if "neutral" in values else None,
            values["mode"],
            values["renderer"],
            values["face"],
        )
        result = pipeline.edit_clip(clip, settings, output, force=force, progress=progress)
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
        source = CoefficientTrack.load(values["source"]) if "source" in values else None
        edited = CoefficientTrack.load(values["track"])
        pipeline.render_clip(
            clip,
            edited,
            output,
            source=source,
            renderer=values["renderer"],
            face=values["face"],
            force=force,
            progress=progress,
        )
        return {"outputs": [str(output)]}
    if "rig" not in values:
        CoefficientTrack.load(clip).save(output, force=force)
        return {"outputs": [str(output)]}
    command = [sys.executable, "-m", "cmet_blender", "export", str(clip), "--rig", values["rig"], "-o", str(output)]
    finished = subprocess.run(command + (["--force"] if force else []), capture_output=True, text=True, check=False)
    if finished.returncode:
        raise CmetError(
            finished.stderr.strip().splitlines()[-1] if finished.stderr.strip() else "The export failed without a word."
        )
    return {"outputs": [str(output)]}


def run_batch(
    manifest: Path,
    *,
    workers: int = 1,
    ray_address: str | None = None,
    resume: bool = False,
    retry: bool = False,
    force: bool = False,
    report: Callable[[Row, dict[str, Any], Summary, int], None] | None = None,
) -> Summary:
    """Run every row of a manifest; failures do not stop the others.

    Args:
        manifest: see the module's description.
        workers: rows at the same time on this machine.
        ray_address: a Ray cluster instead: its address, `auto`, or `local`.
        resume: skip rows that are done already.
        retry: with `resume`, do rows that failed again.
        force: replace earlier outputs.
        report: called after every row with its line, the summary so far and the number of rows.

    Returns:
        The summary; `results` names the file with one JSON line per row.

    Raises:
        CmetError: the manifest is wrong, or it was run before and neither `resume` nor `force` is given.
    """
    rows = read_manifest(manifest)
    results = manifest.with_name(manifest.stem + ".results.jsonl")
    earlier = _earlier(results)
    if earlier and not (resume or retry or force):
        raise CmetError(
            f"{manifest.name} was run before ({results.name}); add --resume to go on, --retry to try failed rows again, or --force."
        )
    keep: dict[str, dict[str, Any]] = {}
    if resume or retry:
        for row in rows:
            line = earlier.get(row.identity)
            if line and (line["state"] == "done" or not retry):
                keep[row.identity] = line
    started, summary = time.monotonic(), Summary(results=results, skipped=len(keep))
    with whole_file(results, force=True) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in keep.values()), "utf-8")
    todo = [row for row in rows if row.identity not in keep]
    run = _on_ray(todo, ray_address, force) if ray_address else _on_workers(todo, workers, force)
    with results.open("a", encoding="utf-8") as file, ExitStack() as stack:
        stack.callback(run.close)
        for row, line in run:
            file.write(json.dumps(line, default=str) + "\n")
            file.flush()
            if line["state"] == "done":
                summary.done += 1
            else:
                summary.failed += 1
            summary.seconds = time.monotonic() - started
            if report:
                report(row, line, summary, len(rows))
    return summary


def _earlier(results: Path) -> dict[str, dict[str, Any]]:
    """The last line of every row from an earlier run; a line cut off by a crash is passed over."""
    lines: dict[str, dict[str, Any]] = {}
    if results.exists():
        for text in results.read_text("utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                lines[line["row_id"]] = line
            except (ValueError, KeyError, TypeError):
                continue
    return lines


def _line(row: Row, state: str, seconds: float, **more: Any) -> dict[str, Any]:
    return {
        "row": row.number, "row_id": row.identity, "kind": row.values["kind"], "clip": row.values["clip"], "state": state,
        "seconds": round(seconds, 2), **more,
    }  # fmt: skip


def _on_workers(rows: list[Row], workers: int, force: bool) -> Generator[tuple[Row, dict[str, Any]], None, None]:
    """Rows in warm worker processes of this machine, as they finish."""
    from cmet_engine.serve.runner import Worker

    local = threading.local()
    alive: list[Worker] = []

    def work(row: Row) -> dict[str, Any]:
        started = time.monotonic()
        attempts = 0
        answer = None
        while answer is None and attempts < 2:
            attempts += 1
            if getattr(local, "worker", None) is None:
                local.worker = Worker()
                alive.append(local.worker)
            answer = local.worker.ask({"row": row.values, "force": force})
            if answer is None:
                local.worker.kill()
                local.worker = None
        if answer is None:
            answer = {"error": "The worker ended unexpectedly, twice (too little memory is the usual reason)."}
        seconds = time.monotonic() - started
        if "error" in answer:
            return _line(row, "failed", seconds, error=answer["error"], attempts=attempts)
        return _line(row, "done", seconds, attempts=attempts, **answer["result"])

    pool = ThreadPoolExecutor(max_workers=max(1, workers))
    try:
        waiting: dict[Future[dict[str, Any]], Row] = {pool.submit(work, row): row for row in rows}
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield waiting.pop(future), future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in alive:
            worker.kill()


def _on_ray(rows: list[Row], address: str, force: bool) -> Generator[tuple[Row, dict[str, Any]], None, None]:
    """Rows on a Ray cluster, a GPU each where the cluster has any; a lost machine's rows are done again elsewhere."""
    try:
        import ray
    except ImportError as error:
        raise CmetError("Ray is not installed; run: pip install 'cmet[ray]'.") from error
    ray.init(
        address=None if address == "local" else address,
        log_to_driver=False,
        include_dashboard=False,
        logging_level=logging.ERROR,
    )
    gpus = ray.cluster_resources().get("GPU", 0)

    @ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=2)
    def remote(values: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"result": run_row(values, force=force)}
        except CmetError as error:
            return {"error": str(error)}
        except Exception as error:
            return {"error": f"An internal fault stopped the row ({type(error).__name__}: {error})."}

    try:
        running = {remote.remote(row.values): (row, time.monotonic()) for row in rows}
        while running:
            ready, _ = ray.wait(list(running), num_returns=1)
            row, started = running.pop(ready[0])
            try:
                answer = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                answer = {"error": f"The machines that ran this row were lost ({type(error).__name__})."}
            seconds = time.monotonic() - started
            if "error" in answer:
                yield row, _line(row, "failed", seconds, error=answer["error"])
            else:
                yield row, _line(row, "done", seconds, **answer["result"])
    finally:
        ray.shutdown()
