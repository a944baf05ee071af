"""How long expressions take to come and go, in talking faces and takes.

    python tests/benchmarks/time_course.py CLIP|TAKE [CLIP|TAKE …]

Counts every rise of smiles, raised and lowered brows, corners down, sneers, cheeks and wide eyes by `LEAST` or more from which the
face comes back. Times are between 10 and 90 % of the rise.
"""

import argparse
from pathlib import Path

import numpy as np
import scipy

from cmet_engine.emotion.coefficients import columns_of
from cmet_engine.face.clip import track_clip
from cmet_engine.spec import CURVES
from cmet_engine.track import CoefficientTrack

LEAST = 0.15  # of a coefficient: a faint expression
SMOOTH = 0.06  # seconds, Gaussian
GROUPS = {
    "smiles": ("mouthSmile",),
    "brows up": ("browInnerUp", "browOuterUp"),
    "brows down": ("browDown",),
    "others": ("mouthFrown", "noseSneer", "cheekSquint", "eyeWide"),
}


def expressions(amount: np.ndarray, fps: float) -> list[tuple[float, float, float]]:
    """Seconds of onset, apex (above 90 %) and offset (NaN where it does not come back) of each expression in `amount` [N]."""
    slow = scipy.ndimage.gaussian_filter1d(amount, SMOOTH * fps)
    found = []
    peaks, facts = scipy.signal.find_peaks(slow, prominence=LEAST)
    for peak, rise in zip(peaks, facts["prominences"], strict=True):
        share = (slow - slow[peak] + rise) / rise
        before = np.flatnonzero(share[:peak] < 0.1)
        if not len(before):
            continue
        begins = int(before[-1])
        full = begins + int(np.argmax(share[begins:] >= 0.9))
        relaxes = peak + int(np.argmax(np.append(share[peak:], 0) < 0.9))
        gone = np.flatnonzero(share[relaxes:] < 0.1)
        found.append(((full - begins) / fps, (relaxes - full) / fps, gone[0] / fps if len(gone) else np.nan))
    return found


def main() -> None:
    """Print quartiles for every group and all together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path, nargs="+")
    files = parser.parse_args().faces
    tracks = [CoefficientTrack.load(p) if p.suffix in CURVES else track_clip(p)[1] for p in files]
    total = []
    for title, names in GROUPS.items():
        group = [
            event
            for track in tracks
            for event in expressions(
                track.coefficients[:, np.concatenate([columns_of(n) for n in names])].mean(1), float(track.fps)
            )
        ]
        total += group
        show(title, group)
    show("all", total)


def show(title: str, events: list[tuple[float, float, float]]) -> None:
    """Print quartiles of onset, apex and offset."""
    if events:
        low, middle, high = np.nanquantile(np.array(events), (0.25, 0.5, 0.75), axis=0)
        cells = [
            f"{n} {m:.2f} s ({a:.2f} to {b:.2f})"
            for n, a, m, b in zip(("onset", "apex", "offset"), low, middle, high, strict=True)
        ]
        print(f"{title:<11} {len(events):>4}  " + "  ".join(cells))


if __name__ == "__main__":
    main()
