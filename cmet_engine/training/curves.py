"""The losses of a training run, as numbers and drawn."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmet_engine.files import whole_file

COLOURS = ("#c33", "#36c", "#393", "#a6a", "#c80")


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
