"""The order of a batch: each row after those whose results it takes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from cmet_engine.jobs.manifest import Row

ATTEMPTS = 2  # a row whose process dies is done again once

Watch = Callable[[Row, str, int, int | None], None]
"""Called as `watch(row, stage, done, total)` while a row is worked on."""


class Machine(Protocol):
    """Where rows are done: a few worker processes or a cluster."""

    capacity: int

    def submit(self, row: Row, force: bool) -> None:
        """Start a row."""

    def finished(self) -> list[tuple[Row, dict[str, Any]]]:
        """Wait until a row is finished; rows with their answers: `result` or `error`, `seconds`."""

    def close(self) -> None:
        """End everything that still runs."""


def line_of(row: Row, state: str, **more: Any) -> dict[str, Any]:
    """The line of a row in the file of results."""
    about = {"row": row.number, "row_id": row.identity, "kind": row.kind, "clip": row.clip}
    return {**about, "state": state, **more}


def schedule(
    rows: list[Row], todo: list[Row], lines: dict[str, dict[str, Any]], machine: Machine, begin: Callable[[Row], bool]
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Hand rows to the machine in the manifest's order, each after those whose outputs it takes; yield what became of them."""
    writers = {row.place: row for row in rows if not row.problem}
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
                yield row, line_of(row, "failed", seconds=0.0, error=problem)
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
                    yield row, line_of(row, "failed", **answer)
                else:
                    yield row, line_of(row, "done", **answer.pop("result"), **answer)
        elif waiting and not moved:
            for row in waiting:
                yield row, line_of(row, "failed", seconds=0.0, error="It waits, over other rows, for its own result.")
            waiting = []


def _needed(row: Row, writers: dict[Path, Row]) -> list[Row]:
    """The rows that write what a row reads."""
    found = []
    for _, path in row.spec.input_paths() if row.spec else ():
        for place in (path, *path.parents):
            writer = writers.get(place)
            if writer and writer is not row and (place == path or writer.kind == "edit"):
                found.append(writer)
    return found
