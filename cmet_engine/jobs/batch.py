"""Many clips: the rows of a manifest, done by worker processes or a Ray cluster, and one line of result for each."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, exclusive, remove_leftovers, whole_file
from cmet_engine.jobs.machines import Watch, _Cluster, _Workers
from cmet_engine.jobs.manifest import Row, read_manifest
from cmet_engine.jobs.schedule import _line, _schedule


@dataclass
class Summary:
    """What became of a batch: counts, seconds, and the file with one line per row."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    results: Path = field(default_factory=Path)


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
            quality=values["quality"],
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
        notes: list[str] = []
        pipeline.render_clip(
            clip,
            edited,
            output,
            source=source,
            renderer=values["renderer"],
            face=values["face"],
            quality=values["quality"],
            force=force,
            progress=progress,
            notes=notes,
        )
        return {"outputs": [str(output)], "messages": notes}
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
