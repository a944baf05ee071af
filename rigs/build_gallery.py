"""Render the gallery of emotions: the demo head at rest, edited by each emotion that ships with the engine.

    python rigs/build_gallery.py [--out FOLDER] [--strength S] [--samples N] [--size PIXELS] [--sheet FILE]

Needs `bpy` and the engine. Writes one JPEG for each emotion, `neutral.jpg`, and `own.jpg` for emotions that users add.
"""

import argparse
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bpy
import cv2
import demo_studio as studio
import numpy as np

from cmet_engine.arkit import COUNT, NAMES
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.emotions import BASIC, EXTENDED
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.track import CoefficientTrack

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "cmet_blender" / "gallery"
LENS = 190.0  # mm: the face fills a small picture
QUALITY = 88  # of JPEG
FRAMES = 51  # two seconds: the ramps of a key are over in the middle
OWN_TINT = np.array([1.12, 0.98, 0.80])  # a warmer light tells the user's own emotions from the others


def expression(emotion: str, strength: float) -> dict[str, float]:
    """Coefficients of the resting face edited by an emotion."""
    rest = CoefficientTrack(Fraction(25), np.zeros((FRAMES, COUNT)))
    if emotion != "neutral":
        rest = edit_track(rest, EmotionTimeline([EmotionKey(emotion, strength)]), load_library())
    return dict(zip(NAMES, rest.coefficients[FRAMES // 2].tolist(), strict=True))


def main(arguments: list[str] | None = None) -> None:
    """Render and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    parser.add_argument("--strength", type=float, default=1.5, help="of the emotions; small pictures need strong faces")
    parser.add_argument("--samples", type=int, default=32, help="light paths a pixel")
    parser.add_argument("--size", type=int, default=128, help="width and height in pixels")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also all of them in one PNG, to look at")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.open_mainfile(filepath=str(HERE / "demo_head.blend"))
    studio.furnish(given.size, given.samples).data.lens = LENS
    pictures: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as scratch:
        stage = studio.Stage(Path(scratch))
        for emotion in ("neutral", *BASIC, *EXTENDED):
            face = expression(emotion, given.strength)
            strongest = sorted(face.items(), key=lambda item: -item[1])[:6]
            print(emotion, ", ".join(f"{name} {value:.2f}" for name, value in strongest), file=sys.stderr, flush=True)
            studio.pose(face)
            pictures[emotion] = stage.shoot()
    pictures["own"] = (pictures["neutral"] * OWN_TINT).clip(0, 255).astype(np.uint8)
    for name, picture in pictures.items():
        colours = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(given.out / f"{name}.jpg"), colours, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if given.sheet:
        rows = np.array_split(np.stack(list(pictures.values())), 3)
        sheet = np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)
        cv2.imwrite(str(given.sheet), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    print(
        f"{given.out}: {len(pictures)} pictures, {sum(p.stat().st_size for p in given.out.glob('*.jpg')) / 1e3:.0f} kB"
    )


if __name__ == "__main__":
    main()
