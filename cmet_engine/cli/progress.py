"""What is shown on standard error while something is being done."""

import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmet_engine.progress import label_of, unit_of

if TYPE_CHECKING:  # brings pydantic, which `cmet --help` does not wait for
    from cmet_engine.jobs.batch import Summary
    from cmet_engine.jobs.manifest import Row


class ProgressBar:
    """Draws `progress(stage, done, total)` calls as bars with an estimate on standard error."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._stage: str | None = None
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` (None: unknown) is finished in `stage`."""
        if not self._enabled:
            return
        from tqdm import tqdm

        if stage != self._stage:
            self.close()
            self._stage = stage
            self._bar = tqdm(
                desc=label_of(stage),
                total=total,
                unit=unit_of(stage),
                dynamic_ncols=True,
                file=sys.stderr,
            )
        if total is not None and self._bar.total != total:
            self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the bar that is being drawn."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class BatchTable:
    """Shows a batch on standard error: a line for every finished row, and on a terminal below them what is being done now."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._live = shown and sys.stderr.isatty()
        self._lock = threading.Lock()
        self._now: dict[int, str] = {}
        self._summary = ""
        self._drawn, self._drawn_at = 0, 0.0
        self._worked = 0

    def watch(self, row: "Row", stage: str, done: int, total: int | None) -> None:
        """Take the progress of a row."""
        part = f"{done}/{total} {done / total:4.0%}" if total else f"{done}"
        with self._lock:
            self._now[row.number] = f"  {Path(row.clip).name[:40]:<40} {label_of(stage):<24} {part}"
            if time.monotonic() - self._drawn_at > 0.2:
                self._draw()

    def report(self, row: "Row", line: dict[str, Any], summary: "Summary", rows: int) -> None:
        """Take a finished row."""
        if not self._shown:
            return
        finished = summary.done + summary.failed + summary.skipped
        self._worked += line["seconds"] > 0  # what failed before it was begun says nothing of the pace
        pace = f", {summary.seconds / self._worked * (rows - finished) / 60:.1f} min left" if self._worked else ""
        outcome = "done" if line["state"] == "done" else f"FAILED: {line['error']}"
        with self._lock:
            self._now.pop(row.number, None)
            self._summary = f"{finished} of {rows}, {summary.failed} failed{pace if finished < rows else ''}"
            self._draw(f"[{finished}/{rows}] {Path(line['clip']).name} {line['seconds']:.1f} s {outcome}")

    def _draw(self, finished: str | None = None) -> None:
        if not self._live:
            if finished:
                print(f"{finished} ({self._summary})", file=sys.stderr)
            return
        width = shutil.get_terminal_size().columns
        table = [line[: width - 1] for line in (*self._now.values(), self._summary)]
        above = [finished] if finished else []
        print(
            f"\x1b[{self._drawn}F\x1b[J" * bool(self._drawn) + "\n".join([*above, *table]), file=sys.stderr, flush=True
        )
        self._drawn, self._drawn_at = len(table), time.monotonic()
