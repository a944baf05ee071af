"""The order of a batch: each row after those whose results it takes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cmet_engine.jobs.machines import _Machine
from cmet_engine.jobs.manifest import INPUTS, Row


def _line(row: Row, state: str, **more: Any) -> dict[str, Any]:
    values = row.values
    return {"row": row.number, "row_id": row.identity, "kind": values["kind"], "clip": values["clip"], "state": state, **more}  # fmt: skip


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
