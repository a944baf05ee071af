"""What independent judges read on rendered rigs: a performance is edited with every emotion, and put on characters.

The add-on renders the pictures in a process of its own (`python -m cmet_blender stills`).
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.evaluation import judges as independent
from cmet_engine.evaluation.judges import Judge, Verdict
from cmet_engine.media.reader import VideoReader
from cmet_engine.progress import Progress, Stage
from cmet_engine.rest import calibrated, rest_of
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.face_estimator import FaceEstimator

LIMIT = 3600.0
"""Seconds that one rig and one performance may take to render."""


def evaluate_rigs(
    rigs: Sequence[Path],
    tracks: Sequence[Path],
    *,
    emotions: Sequence[str] = independent.JUDGED,
    strength: float = 1.0,
    frames: int = 3,
    landmarker: Path | None = None,
    pictures: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Edit performances with every emotion, render them on rigs, and ask the judges.

    Args:
        rigs: characters that the add-on reads.
        tracks: performances, which are calibrated first (`rest`); head and eyes stay level, as judges look at the face alone.
        emotions, strength: of the edits, with bearing.
        frames: pictures of each performance and emotion, spread over it.
        landmarker: MediaPipe's `face_landmarker.task`, which finds the rendered faces; None takes the embedded tracker.
        pictures: where the rendered pictures are kept, a folder for each rig and performance; None keeps none.
        progress: called with (stage, done, in all).

    Returns:
        JSON values: per judge `edits` (`judges.summary` over all rigs and performances), `each` (the same by rig) and
        `rest` (how often it calls the unedited performance neutral); `rigs`, `tracks`, `frames` and `missing`.

    Raises:
        CmetError: a rig or track cannot be read, Blender fails, or a rig shows no face that is found.
    """
    found, missing = independent.judges()
    estimator, library = FaceEstimator(landmarker), load_library()
    verdicts: dict[str, dict[str, list[Verdict]]] = {judge.name: {rig.name: [] for rig in rigs} for judge in found}
    with tempfile.TemporaryDirectory(prefix="cmet-rigs-") as scratch:
        folder = pictures or Path(scratch)
        for number, (rig, path) in enumerate((rig, path) for rig in rigs for path in tracks):
            if progress:
                progress(Stage.CLASSIFY, number, len(rigs) * len(tracks))
            poses = _poses(CoefficientTrack.load(path), emotions, strength, frames, library)
            images = _rendered(rig, poses, folder / f"{rig.stem}-{path.stem}")
            for name, said in _answers(found, images, estimator, frames, rig).items():
                verdicts[name][rig.name] += [Verdict(e, said[0], said[1 + k]) for k, e in enumerate(emotions)]
    result: dict[str, Any] = {"rigs": [r.name for r in rigs], "tracks": [t.name for t in tracks], "frames": frames}
    result["judges"] = {name: _figures(by_rig) for name, by_rig in verdicts.items()}
    return {**result, "missing": missing}


def _figures(by_rig: dict[str, list[Verdict]]) -> dict[str, Any]:
    together = [v for own in by_rig.values() for v in own]
    calm = [v.before.argmax() == independent.ANSWERS.index("neutral") for v in together]
    return {
        "edits": independent.summary(together),
        "each": {rig: independent.means(independent.summary(own)) for rig, own in by_rig.items()},
        "rest": round(float(np.mean(calm)), 4),
    }


def _poses(
    track: CoefficientTrack, emotions: Sequence[str], strength: float, frames: int, library: Any
) -> CoefficientTrack:
    """A track of `frames` moments of a performance, as it is and once more with each emotion."""
    source = calibrated(track, rest_of(track))
    source.head_rotation[:] = source.eye_rotation[:] = 0
    chosen = np.linspace(0, len(source) - 1, frames + 2).round().astype(int)[1:-1]
    shown = [source]
    for emotion in emotions:
        timeline = EmotionTimeline.parse([f"{emotion}={strength}"])
        shown.append(edit_track(source, timeline, library, bearing=True))
    parts = [[getattr(t, name)[chosen] for t in shown] for name in ("coefficients", "head_rotation", "eye_rotation")]
    return CoefficientTrack(track.fps, *(np.concatenate(part) for part in parts))


def _rendered(rig: Path, poses: CoefficientTrack, folder: Path) -> list[np.ndarray]:
    """Pictures of a rig in each frame of a track, uint8 [H, W, 3]."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = poses.save(folder.with_suffix(".npz"))
    command = [sys.executable, "-m", "cmet_blender", "stills", str(path), "--rig", str(rig), "-o", str(folder), "-q"]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired as error:
        raise CmetError(f"{rig.name} was not rendered within {LIMIT / 60:.0f} minutes.") from error
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or ["Blender ended without a message."]
        raise CmetError(lines[-1].removeprefix("cmet: "))
    return [next(iter(VideoReader(file))).image for file in sorted(folder.glob("*.png"))]


def _answers(
    judges: Sequence[Judge], images: Sequence[np.ndarray], estimator: FaceEstimator, frames: int, rig: Path
) -> dict[str, np.ndarray]:
    """Mean probabilities [1 + emotions, 7] by each judge; all pictures of a moment are cropped as the unedited one."""
    landmarks = estimator(images[:frames])[0]
    seen = np.flatnonzero(np.isfinite(landmarks).all((1, 2)))
    if not len(seen):
        raise InvalidInput(f"No face was found in the pictures of {rig.name}.")
    result = {}
    for judge in judges:
        rows = [
            judge([independent.crop_of(images[start + i], landmarks[i]) for i in seen]).mean(0)
            for start in range(0, len(images), frames)
        ]
        result[judge.name] = np.stack(rows)
    return result


def rigs_report(figures: dict[str, Any]) -> str:
    """The figures as text for the terminal."""
    lines = [*figures["missing"]]
    for name, section in figures["judges"].items():
        mean = ", ".join(f"{k.replace('_', ' ')} {v:.0%}" for k, v in independent.means(section["edits"]).items())
        lines.append(f"judge {name}: {mean}; calls the unedited faces neutral in {section['rest']:.0%}")
        lines += [f"  {rig}: rose most {each['rose_most']:.0%}" for rig, each in section["each"].items() if each]
        lines += independent.table(section["edits"])
    return "\n".join(lines)
