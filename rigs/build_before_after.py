"""Make the moving picture of the README: the sample clip before the edit, and with three emotions.

python rigs/build_before_after.py        writes cmet_engine/docs/before_after.webp
"""

import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cmet_engine.cli import main

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "cmet_engine" / "assets" / "sample" / "talking_head.mp4"
OUTPUT = ROOT / "cmet_engine" / "docs" / "before_after.webp"
EMOTIONS = ("happy", "angry", "surprised")
FACE = (slice(48, 424), slice(112, 400))  # rows and columns of the sample that show the head
STEP = 2  # every second frame: 12.5 a second
SCALE = 0.8
BAND = 26  # pixels of the caption below


def frames_of(clip: Path) -> list[np.ndarray]:
    """The head in every second frame, uint8 [H, W, 3]."""
    with av.open(str(clip)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [picture[FACE] for picture in pictures[::STEP]]


def panel(picture: np.ndarray, caption: str) -> Image.Image:
    """A picture with its caption below."""
    height, width = (round(side * SCALE) for side in picture.shape[:2])
    result = Image.new("RGB", (width, height + BAND), "white")
    result.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
    draw = ImageDraw.Draw(result)
    draw.text((width / 2, height + BAND / 2), caption, "black", ImageFont.load_default(16), anchor="mm")
    return result


def build() -> None:
    """Edit the sample with each emotion and set the results side by side."""
    columns = [("before", frames_of(SAMPLE))]
    with tempfile.TemporaryDirectory() as folder:
        for emotion in EMOTIONS:
            result = Path(folder) / emotion
            if main(["edit", str(SAMPLE), "--emotion", emotion, "--quality", "draft", "-o", str(result)]):
                raise SystemExit(f"The edit with '{emotion}' failed.")
            columns.append((emotion, frames_of(result / "edited.mp4")))
    pictures = []
    for row in zip(*(frames for _, frames in columns), strict=True):
        panels = [panel(picture, name) for picture, (name, _) in zip(row, columns, strict=True)]
        strip = Image.new("RGB", (sum(p.width for p in panels) + 6 * (len(panels) - 1), panels[0].height), "white")
        left = 0
        for each in panels:
            strip.paste(each, (left, 0))
            left += each.width + 6
        pictures.append(strip)
    pictures[0].save(
        OUTPUT, save_all=True, append_images=pictures[1:], duration=40 * STEP, loop=0, quality=62, method=4
    )
    print(f"{OUTPUT}: {OUTPUT.stat().st_size / 1e6:.2f} MB, {len(pictures)} frames, {pictures[0].size}")


if __name__ == "__main__":
    build()
