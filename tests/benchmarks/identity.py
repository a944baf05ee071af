"""How far an edit moves a face from the person it shows, told by a face recogniser made by others.

    python -m pip install --no-deps dlib-bin face-recognition-models
    python tests/benchmarks/identity.py CLIP [CLIP …] [--emotions happy …] [--frames 6] [--renderer warp] [--quality standard]

The distance is that of dlib's descriptors (128 numbers) between a frame and the same frame edited with strength 1; its makers
take 0.6 and more for another person. `again` is the distance between frames of the clip itself, which show one person. Every
frame of the result comes from the encoded file.
"""

import argparse
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cmet_engine import EditSpec, edit_clip
from cmet_engine.face.clip import track_clip
from cmet_engine.media.probe import part_of
from cmet_engine.media.reader import VideoReader

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "sad", "surprised")


class Recogniser:
    """dlib's face recogniser."""

    def __init__(self) -> None:
        import dlib  # type: ignore[import-not-found]

        models = Path(find_spec("face_recognition_models").submodule_search_locations[0]) / "models"
        self._points = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        self._network = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))
        self._rectangle = dlib.rectangle

    def describe(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Descriptor [128] of the face in `image` [H, W, 3] uint8 RGB, where `landmarks` [>= 468, 2 or 3] in pixels are."""
        low, high = landmarks[:468, :2].min(0), landmarks[:468, :2].max(0)
        box = self._rectangle(*(int(v) for v in (*low, *high)))
        return np.array(self._network.compute_face_descriptor(image, self._points(image, box)))


def frames_of(path: Path, wanted: set[int]) -> dict[int, np.ndarray]:
    """The frames with those indices, RGB."""
    return {frame.index: frame.image for frame in VideoReader(path) if frame.index in wanted}


def measure(clip: Path, options: argparse.Namespace, recogniser: Recogniser) -> dict[str, float]:
    """Print the figures of a clip; returns the mean distance for every emotion."""
    geometry, _ = track_clip(part_of(clip, None, options.to))
    seen = np.flatnonzero(geometry.valid)
    chosen = seen[np.linspace(0, len(seen) - 1, options.frames).round().astype(int)]
    source = {k: recogniser.describe(image, geometry.landmarks[k]) for k, image in frames_of(clip, set(chosen)).items()}
    again = [float(np.linalg.norm(source[a] - source[b])) for a in source for b in source if a < b]
    print(f"{clip.stem:<28}{'again':<10} mean {np.mean(again):.3f}  worst {np.max(again):.3f}", flush=True)
    means = {}
    for emotion in options.emotions:
        with tempfile.TemporaryDirectory() as folder:
            spec = EditSpec(
                clip=clip, emotions=(emotion,), range_to=options.to, renderer=options.renderer, quality=options.quality
            )
            made = frames_of(edit_clip(spec, Path(folder) / "edit").files["edited.mp4"], set(chosen))
        away = [float(np.linalg.norm(source[k] - recogniser.describe(made[k], geometry.landmarks[k]))) for k in made]
        means[emotion] = float(np.mean(away))
        print(f"{clip.stem:<28}{emotion:<10} mean {means[emotion]:.3f}  worst {np.max(away):.3f}", flush=True)
    return means


def main() -> None:
    """Measure every clip, then print the means over clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--emotions", nargs="+", default=list(EMOTIONS))
    parser.add_argument("--frames", type=int, default=6, help="frames of each clip, evenly spread")
    parser.add_argument("--to", help="end of the part that is measured, seconds")
    parser.add_argument("--renderer", default="warp")
    parser.add_argument("--quality", default="draft")
    options = parser.parse_args()
    recogniser = Recogniser()
    rows = [measure(clip, options, recogniser) for clip in options.clips]
    for emotion in options.emotions:
        print(f"{'all':<28}{emotion:<10} mean {np.mean([row[emotion] for row in rows]):.3f}")
    print(f"{'all':<38} mean {np.mean([list(row.values()) for row in rows]):.3f}")


if __name__ == "__main__":
    main()
