"""Edits made from strangers' voices beside edits asked for by name: what face judges say, and how strong they are.

    python tests/benchmarks/voice_to_face.py --speech CLEAN --speakers crema_1010 crema_1036 … CLIP…

Each speaker's emotion is a pool of up to ten recordings beside ten neutral ones (`cmet vector`).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.emotion.make_vector import emotion_vector
from cmet_engine.emotion.speech import load_encoder
from cmet_engine.emotion.vector import EmotionVector
from cmet_engine.evaluation import judges
from cmet_engine.face.clip import track_clip
from cmet_engine.face.occlusion import find_occlusion
from cmet_engine.media.reader import VideoReader
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.training.corpora.speech import read_corpus

POOL = 10
NAMED = "named"


@dataclass(frozen=True)
class Edit:
    """One edit: by whose voice (or `NAMED`), the emotion meant, the mean change of the coefficients, the judges' verdicts."""

    voice: str
    emotion: str
    change: float
    verdicts: dict[str, judges.Verdict]


def vectors(folder: Path, speakers: Sequence[str], emotions: Sequence[str]) -> dict[tuple[str, str], EmotionVector]:
    """The vector of every speaker and emotion."""
    encoder, random, found = load_encoder(), np.random.default_rng(0), {}
    recordings = read_corpus(folder).recordings
    for speaker in speakers:
        own = {
            e: [r.path for r in recordings if r.speaker == speaker and r.emotion == e] for e in (*emotions, "neutral")
        }
        pools = {e: [paths[i] for i in random.permutation(len(paths))[:POOL]] for e, paths in own.items()}
        for emotion in emotions:
            found[speaker, emotion] = emotion_vector(pools[emotion], pools["neutral"], "voice", encoder)
    return found


def edits(clip: Path, asked: dict[tuple[str, str], EmotionVector], frames: int) -> list[Edit]:
    """Edits of one clip, by name and by every voice."""
    found, library = judges.judges()[0], load_library()
    geometry, source = track_clip(clip)
    occlusion = find_occlusion(clip, geometry)
    seen = np.flatnonzero(geometry.valid)
    shown = seen[np.linspace(0, len(seen) - 1, min(frames, len(seen))).astype(int)].tolist()
    images = {frame.index: frame.image for frame in VideoReader(clip) if frame.index in shown}
    landmarks = np.asarray(geometry.landmarks[:])

    def judged(pictures: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
        crops = [judges.crop_of(pictures[i], landmarks[i]) for i in shown]
        return {judge.name: judge(crops).mean(0) for judge in found}

    before, result = judged(images), []
    by_name = {(NAMED, emotion): library[emotion] for emotion in dict.fromkeys(e for _, e in asked)}
    for (voice, emotion), vector in {**by_name, **asked}.items():
        edited = edit_track(source, EmotionTimeline.parse(["voice=1"]), {"voice": vector})
        renderer = WarpRenderer(geometry, source, edited, occlusion=occlusion)
        after = judged({i: renderer.render(images[i], i) for i in shown})
        verdicts = {name: judges.Verdict(emotion, before[name], after[name]) for name in after}
        result.append(Edit(voice, emotion, float(np.abs(edited.coefficients - source.coefficients).mean()), verdicts))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True, help="labelled speech, see docs/training.md")
    parser.add_argument("--speakers", nargs="+", required=True)
    parser.add_argument("--emotions", nargs="+", default=["angry", "disgusted", "fear", "happy", "sad"])
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("clips", type=Path, nargs="+")
    options = parser.parse_args()
    asked = vectors(options.speech, options.speakers, options.emotions)
    made = [edit for clip in options.clips for edit in edits(clip, asked, options.frames)]
    means = {
        (v, e): np.mean([m.change for m in made if (m.voice, m.emotion) == (v, e)])
        for v, e in {(m.voice, m.emotion) for m in made}
    }
    for voice in (NAMED, *options.speakers):
        print(
            voice,
            {e: round(float(means[voice, e] / means[NAMED, e]), 2) for e in options.emotions},
            "times the named change",
        )
        for judge in made[0].verdicts:
            own = judges.summary([m.verdicts[judge] for m in made if m.voice == voice])
            print(f"    {judge}: {judges.means(own)}")


if __name__ == "__main__":
    main()
