"""Are curves that are keyed by hand drawn? Each coefficient is keyed alone, and read from the picture again.

    python tests/benchmarks/curves.py CLIP [CLIP …] --landmarker face_landmarker.task [--frames 2] [--to 0.8]

`up` is keyed to `--to` where the face does less, `down` to 0 where it does `SHOWN` or more: change that is read over change that is
asked (1: as asked), median over frames, by MediaPipe's own model, which hardly ever reports some. `moves` is the largest way that
a landmark goes for `up`, in % of the distance between the outer eye corners: below 1 the picture cannot show a coefficient.
"""

import argparse
from pathlib import Path

import numpy as np

from cmet_engine import arkit
from cmet_engine.face.clip import track_clip
from cmet_engine.face.landmarks import OUTER_EYE_CORNERS
from cmet_engine.media.reader import VideoReader
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.training.face_estimator import FaceEstimator

SHOWN = 0.25
"""A coefficient that a face shows from this value on can be keyed away."""

UNREAD, UNSEEN = 0.2, 1.0
"""Below this share of what was asked a coefficient is not read; below this way, in %, it is not seen."""

Shares = dict[str, list[float]]


def measure(
    path: Path, estimator: FaceEstimator, frames: int, to: float, up: Shares, down: Shares, moves: Shares
) -> None:
    """Append the shares of one clip to `up` and `down`, and the ways to `moves`, by coefficient."""
    geometry, source = track_clip(path)
    usable = np.flatnonzero(geometry.valid & (geometry.fade >= 1))
    chosen = {int(i) for i in usable[np.linspace(0, len(usable) - 1, frames + 2).round().astype(int)[1:-1]]}
    images = {frame.index: frame.image for frame in VideoReader(path) if frame.index in chosen}
    numbers = sorted(images)
    before = estimator([images[i] for i in numbers])[1]
    for name in arkit.NAMES:
        column = arkit.INDEX[name]
        for value, shares in ((to, up), (0.0, down)):
            edited = source.copy()
            edited.coefficients[:, column] = value
            asked = value - source.coefficients[:, column]
            which = [k for k, i in enumerate(numbers) if (asked[i] > 0.3 if value else asked[i] < -SHOWN)]
            if not which:
                continue
            renderer = WarpRenderer(geometry, source, edited)
            after = estimator([renderer.render(images[numbers[k]], numbers[k]) for k in which])[1]
            read = [(after[j, column] - before[k, column]) / asked[numbers[k]] for j, k in enumerate(which)]
            if value:
                points = [(geometry.landmarks[numbers[k]], renderer.target(numbers[k])) for k in which]
                unit = [np.linalg.norm(np.subtract(*old[list(OUTER_EYE_CORNERS)])) for old, _ in points]
                ways = [np.linalg.norm(new - old, axis=1).max() / u for (old, new), u in zip(points, unit, strict=True)]
                moves.setdefault(name, []).extend(100 * float(way) for way in ways)
            shares.setdefault(name, []).extend(float(r) for r in read if np.isfinite(r))


def main() -> None:
    """Measure clips and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--landmarker", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--to", type=float, default=0.8)
    arguments = parser.parse_args()
    estimator = FaceEstimator(arguments.landmarker)
    up: Shares = {}
    down: Shares = {}
    moves: Shares = {}
    for clip in arguments.clips:
        measure(clip, estimator, arguments.frames, arguments.to, up, down, moves)
    median = {name: (float(np.median(up[name])), float(np.median(moves[name]))) for name in arkit.NAMES if up.get(name)}
    print(f"{'coefficient':<22}{'up':>7}{'frames':>8}{'down':>7}{'frames':>8}{'moves %':>9}")
    for name in arkit.NAMES:
        cells = [(f"{np.median(s[name]):.2f}", len(s[name])) if s.get(name) else ("-", 0) for s in (up, down)]
        way = f"{median[name][1]:.1f}" if name in median else "-"
        print(f"{name:<22}" + "".join(f"{share:>7}{count:>8}" for share, count in cells) + f"{way:>9}")
    print("not seen:", ", ".join(n for n, (_, way) in median.items() if way < UNSEEN))
    print("seen, not read:", ", ".join(n for n, (share, way) in median.items() if way >= UNSEEN and share < UNREAD))


if __name__ == "__main__":
    main()
