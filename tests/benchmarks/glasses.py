"""How far the rims of glasses move in edited clips: grey levels between source and result, after encoding.

    python tests/benchmarks/glasses.py CLIP [CLIP …] [--masks FILE.npz] [--to 1.2] [--sheet FOLDER] [--emotions happy …]

Rims are what the occlusion network marks; with `--masks` what was marked by hand: arrays `names` (`CLIP:FRAME`) and `masks`
[N, 128, 128] on the canonical crop. Each clip is also encoded without an edit, which shows what the codec does, and edited as
if nothing lay before the face. `--sheet` writes pictures: source, edited without and with the rims held.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.face.clip import track_clip
from cmet_engine.face.crop import crop_transform
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.occlusion import Occlusion, find_occlusion
from cmet_engine.media.probe import part_of
from cmet_engine.media.reader import VideoReader
from cmet_engine.render.stream import VideoOutput, render_video
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

EMOTIONS = ("happy", "sad", "angry", "surprised", "fear", "disgusted", "contempt")
SURE = 0.5  # probability from which a pixel of the frame counts as a rim
MEASURED = 8  # frames of a clip


def rims(clip: str, geometry: FaceGeometry, found: Occlusion, masks: Path | None) -> dict[int, np.ndarray]:
    """Rims by frame: bool [H, W]."""
    if masks is not None:
        with np.load(masks) as stored:
            names = [str(name) for name in stored["names"]]
            marked = {
                int(name.split(":")[1]): stored["masks"][k].astype(np.float32)
                for k, name in enumerate(names) if name.startswith(f"{clip}:")
            }  # fmt: skip
    else:
        spread = np.linspace(0, len(geometry) - 1, MEASURED).round().astype(int).tolist()
        marked = {k: matte for k in spread if (matte := found.matte(k)) is not None}
    width, height = geometry.size
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return {
        k: cv2.warpAffine(matte, crop_transform(geometry.landmarks[k], len(matte)), (width, height), flags=flags) > SURE
        for k, matte in marked.items() if k < len(geometry)
    }  # fmt: skip


def away(
    source: dict[int, np.ndarray], path: Path, where: dict[int, np.ndarray]
) -> tuple[float, dict[int, np.ndarray]]:
    """Mean grey levels between the rims of a source and of a video of it, and the video's frames."""
    made = {frame.index: frame.image for frame in VideoReader(path) if frame.index in where}
    gray = {k: [cv2.cvtColor(p[k], cv2.COLOR_RGB2GRAY).astype(float) for p in (source, made)] for k in made}
    levels = [np.abs(a - b)[where[k]] for k, (a, b) in gray.items() if where[k].any()]
    return float(np.concatenate(levels).mean()) if levels else float("nan"), made


def measure(clip: Path, emotions: list[str], masks: Path | None, end: str | None, sheet: Path | None) -> None:
    """Print the figures of a clip."""
    footage = part_of(clip, None, end)
    geometry, track = track_clip(footage)
    found = find_occlusion(footage, geometry)
    where = rims(clip.stem, geometry, found, masks)
    source = {frame.index: frame.image for frame in VideoReader(footage) if frame.index in where}
    library, rows = load_library(), []
    with tempfile.TemporaryDirectory() as folder:

        def result(edited: CoefficientTrack, seen: Occlusion | None) -> tuple[float, dict[int, np.ndarray]]:
            path = Path(folder) / "edited.mp4"
            render_video(footage, WarpRenderer(geometry, track, edited, occlusion=seen), VideoOutput(path, force=True))
            return away(source, path, where)

        codec = result(track, None)[0]
        for emotion in emotions:
            edited = edit_track(track, EmotionTimeline.parse([emotion]), library)
            (bent, without), (held, with_it) = result(edited, None), result(edited, found)
            print(f"{clip.stem:<28}{emotion:<10} codec {codec:5.2f}  bent {bent:5.2f}  held {held:5.2f}", flush=True)
            middle = sorted(where)[len(where) // 2] if where else None
            if middle is not None and middle in without:
                rows.append(np.hstack([source[middle], without[middle], with_it[middle]]))
    if sheet is not None and rows:
        sheet.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(sheet / f"{clip.stem}.png"), np.vstack(rows)[..., ::-1])


def main() -> None:
    """Measure every clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--to", help="end of the part that is measured, seconds")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--emotions", nargs="+", default=list(EMOTIONS))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for clip in options.clips:
        measure(clip, options.emotions, options.masks, options.to, options.sheet)


if __name__ == "__main__":
    main()
