"""What every training here does around its steps: batches made ahead by threads, checkpoints, losses as numbers and drawn."""

import csv
import io
import logging
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from cmet_engine.errors import CmetError
from cmet_engine.files import whole_file

log = logging.getLogger(__name__)

T = TypeVar("T")
COLOURS = ("#c33", "#36c", "#393", "#a6a", "#c80")


def ahead(batches: Callable[[int], T], first: int, last: int, workers: int) -> Iterator[T]:
    """Batches number `first` to `last`, in order; `workers` threads make some of them ahead, 0 makes none."""
    if workers < 1:
        yield from map(batches, range(first, last))
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future] = []
        for step in range(first, last + 2 * workers):
            if step < last:
                waiting.append(pool.submit(batches, step))
            if step >= first + 2 * workers:
                yield waiting.pop(0).result()


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all; an earlier one stays until then.

    Raises:
        CmetError: the disk is full or the folder cannot be written.
    """
    buffer = io.BytesIO()  # torch's own writer hides why it could not write
    torch.save(state, buffer)
    with whole_file(path, force=True) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint that `save_state` wrote.

    Raises:
        CmetError: the file is damaged or no checkpoint.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CmetError(f"{path} is damaged or no checkpoint; remove it to begin anew.") from error
    if not isinstance(state, dict):
        raise CmetError(f"{path} is damaged or no checkpoint; remove it to begin anew.")
    return state


def warn_unknown_labels(folder: Path, found: Counter[str], known: Sequence[str]) -> None:
    """Say which labels of a corpus are no emotion, and how many files are left out for it."""
    for label, count in sorted(found.items()):
        log.warning(
            "left out: %d file%s labelled '%s' in %s; known labels are %s.",
            count, "s" * (count != 1), label, folder, ", ".join(known),
        )  # fmt: skip


def layout_hint(folder: Path) -> str:
    """What is probably amiss with a corpus folder of no known layout: a clause to end a sentence with, or nothing."""
    if next(folder.glob("*/*.tar"), None) or next(folder.glob("*.tar"), None):
        return "; unpack the .tar files there first"
    if (folder / "audio").is_dir() or (folder / "video").is_dir() or folder.name in ("AudioWAV", "VideoFlash"):
        return f"; give the folder above it, {folder.resolve().parent}"
    return ""


def write_losses(folder: Path, names: Sequence[str], history: Sequence[Sequence[float]], stem: str = "losses") -> None:
    """The losses so far, rows of (step, one value a name), as STEM.csv and drawn (mean of neighbours) as STEM.svg."""
    with whole_file(folder / f"{stem}.csv", force=True) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *names])
        writer.writerows([f"{v:g}" for v in row] for row in history)
    values = np.array(history, float)
    width = max(1, len(values) // 200)
    rows = len(values) // width
    means = values[: rows * width].reshape(rows, width, -1).mean(1)  # [R, 1 + losses]
    top = float(means[:, 1:].max()) or 1.0
    lines = []
    for number, (name, colour) in enumerate(zip(names, COLOURS, strict=False), 1):
        points = " ".join(
            f"{40 + 700 * r[0] / max(means[-1, 0], 1):.1f},{290 - 270 * r[number] / top:.1f}" for r in means
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        lines.append(
            f'<text x="{50 + 140 * (number - 1)}" y="16" fill="{colour}">{name} {means[-1, number]:.3f}</text>'
        )
    with whole_file(folder / f"{stem}.svg", force=True) as temporary:
        temporary.write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="760" height="320" font-family="sans-serif" font-size="12">'
            f'<rect width="760" height="320" fill="#fff"/>{"".join(lines)}<text x="40" y="310">steps 1 to {int(means[-1, 0])}, '
            f"0 to {top:.2f}</text></svg>\n",
            "utf-8",
        )
