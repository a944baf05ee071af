"""Many clips: the rows of a manifest, done by worker processes or a Ray cluster, and one line of result for each."""

import functools
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmet_engine.errors import InvalidInput
from cmet_engine.files import exclusive, identities, remove_leftovers, whole_file
from cmet_engine.jobs.manifest import Row, lock_of, read_manifest, results_of
from cmet_engine.jobs.schedule import Machine, Watch, line_of, schedule
from cmet_engine.jobs.workers import Workers
from cmet_engine.media.output import files_read, files_written
from cmet_engine.media.sequences import files_of


@dataclass
class Summary:
    """What became of a batch: counts, seconds, and the file with one line per row."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    results: Path = field(default_factory=Path)


Report = Callable[[Row, dict[str, Any], Summary, int], None]
"""Called as `report(row, line, summary, rows)` after every row."""


def run_batch(
    manifest: Path,
    *,
    workers: int = 1,
    machine: Callable[[], Machine] | None = None,
    resume: bool = False,
    retry: bool = False,
    force: bool = False,
    report: Report | None = None,
    watch: Watch | None = None,
) -> Summary:
    """Run every row of a manifest; failures do not stop the others.

    Args:
        manifest: see `cmet_engine.jobs.columns`.
        workers: rows at the same time on this machine.
        machine: opens another place to work instead, such as `cluster.RayCluster`.
        resume: skip rows that are done already, or failed; a row that was being done when a batch ended is done again.
        retry: skip rows that are done already; do those that failed again.
        force: replace earlier outputs.
        report: called after every row with its line, the summary so far and the number of rows.
        watch: called while rows are worked on (not with another `machine`).

    Returns:
        The summary; `results` names the file with one JSON line per row, in the manifest's order.

    Raises:
        CmetError: the manifest is wrong or being run, or it was run before and none of the above says how to go on.
    """
    rows = read_manifest(manifest)
    results, lock = results_of(manifest), lock_of(manifest)
    with exclusive(lock, f"{manifest.name} is being run by another process; wait for it."):
        try:
            earlier = _earlier(results)
            if results.exists() and results.stat().st_size and not earlier and not force:
                raise InvalidInput(
                    f"{results} holds no results of a batch, and they would replace it; move it away or add --force."
                )
            if earlier and not (resume or retry or force):
                raise InvalidInput(
                    f"The manifest was run before ({results.name}); add --resume to go on, --retry to try failed rows again, "
                    "or --force."
                )
            kept = {name: line for name, line in earlier.items() if (resume or retry) and _stays(line, retry)}
            own = {name for name, line in earlier.items() if line.get("own")}
            _spare_inputs(rows, {*kept, *own}, earlier)
            with closing(machine() if machine else Workers(workers, watch)) as place:
                return _Batch(rows, results, kept, own, force, report).run(place)
        finally:
            lock.unlink(missing_ok=True)


class _Batch:
    """The rows of one manifest as they are done, and their lines in the file of results.

    Args:
        rows: all of them.
        results: the file.
        kept: lines of an earlier run that still hold, by the rows' identities.
        own: identities of rows whose output is theirs to replace.
        force: replace what is there anyway.
        report: see `Report`.
    """

    def __init__(
        self,
        rows: list[Row],
        results: Path,
        kept: dict[str, dict[str, Any]],
        own: set[str],
        force: bool,
        report: Report | None,
    ) -> None:
        self._rows, self._force, self._report = rows, force, report
        self._lines = {row.identity: kept[row.identity] for row in rows if row.identity in kept}
        self._todo = [row for row in rows if row.identity not in self._lines]
        remove_leftovers(row.output for row in self._todo if not row.problem)
        # an output that is not there yet, or was being written when a batch ended, is this row's own to replace
        self._own = {
            row.identity for row in self._todo if not row.problem and (row.identity in own or not row.place.exists())
        }
        done = sum(line["state"] == "done" for line in self._lines.values())
        self._summary = Summary(results=results, skipped=done, failed=len(self._lines) - done)
        _write(results, rows, self._lines)

    def run(self, machine: Machine) -> Summary:
        """Do every row that has no line yet."""
        started = time.monotonic()
        summary, results = self._summary, self._summary.results
        for row, line in schedule(self._rows, self._todo, self._lines, machine, self._begin):
            self._lines[row.identity] = line
            self._note(line)
            summary.done += line["state"] == "done"
            summary.failed += line["state"] == "failed"
            summary.seconds = time.monotonic() - started
            if self._report:
                self._report(row, line, summary, len(self._rows))
        remove_leftovers(
            row.output for row in self._todo if not row.problem
        )  # of processes that died and were replaced
        _write(results, self._rows, self._lines)
        return summary

    def _begin(self, row: Row) -> bool:
        """Note that a row is begun; returns whether it may replace what is at its output."""
        own = row.identity in self._own
        self._note(line_of(row, "running", own=own))
        return self._force or own

    def _note(self, line: dict[str, Any]) -> None:
        with self._summary.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")


def _spare_inputs(rows: list[Row], passed: set[str], earlier: dict[str, dict[str, Any]]) -> None:
    """Fail rows whose output is a file that another row reads, unless an earlier run wrote it.

    Args:
        rows: all of them.
        passed: identities of rows that are not done again, or were being done when a batch ended.
        earlier: lines of an earlier run, by the rows' identities.
    """
    marks = functools.cache(identities)
    outputs = (Path(output) for line in earlier.values() for output in line.get("outputs", []))
    written = set().union(*(marks(file) for output in outputs for file in files_of(output)))
    read = {mark: row for row in rows if row.spec for _, file in files_read(row.spec) for mark in marks(file)}
    for row in rows:
        if row.spec is None or row.problem or row.identity in passed:
            continue
        for file in files_written(row.spec, row.output):
            reader = next((read[mark] for mark in marks(file) - written if mark in read), row)
            if reader is not row and file.exists():
                row.fail(f"Its output {file} is there already, and row {reader.number} reads it; give it another name.")
                break


def _stays(line: dict[str, Any], retry: bool) -> bool:
    """Whether a row's line from an earlier run still holds."""
    if line["state"] == "done":
        return all(_there(Path(path)).exists() for path in line.get("outputs", []))
    return line["state"] == "failed" and not retry


def _there(output: Path) -> Path:
    """What shows that an output was written: of numbered pictures their folder."""
    return output.parent if "%" in output.name else output


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
