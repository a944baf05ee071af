"""The emotions of one edit: the timeline with the voice's key, the emotion vectors, and how strongly the clip speaks them.

torch is imported only where a voice is encoded that is not in the cache.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cmet_engine import cache, fingerprint
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.intensity import intensity
from cmet_engine.emotion.library import EmotionVector, find_emotions, load_library
from cmet_engine.emotion.predictions import ENCODER_FILES, FrameFeatures
from cmet_engine.emotion.sound_files import sound_files
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.emotions import BASIC
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.media import audio
from cmet_engine.media.probe import measure
from cmet_engine.media.source import Source
from cmet_engine.models import assets, registry
from cmet_engine.spec import EditSpec
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.track import CoefficientTrack

log = logging.getLogger(__name__)

VOICE = "voice"
"""Name under which the emotion of `EditSpec.speech` stands in the timeline and the report."""

PRESET = "edtalk-"
"""An emotion `edtalk-happy` is EDTalk's own preset of that name, where the user has it; it needs no vector."""


@dataclass
class ClipEmotions:
    """What an edit needs to know about emotions.

    Attributes:
        timeline: which emotion, when, how strong; `EditSpec.strength` and the voice's key are in it.
        vectors: by name, the vector of every emotion of the timeline.
        intensity: by name, how strongly the clip's own voice carries the emotion, as (seconds [F], values [F] around 1);
            empty where the clip has no usable speech.
    """

    timeline: EmotionTimeline
    vectors: dict[str, EmotionVector]
    intensity: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def emphasis(self, track: CoefficientTrack) -> np.ndarray | None:
        """Vocal intensity at every frame, float32 [N] around 1: the emotions' intensities, weighted by how far each is on."""
        if not self.intensity:
            return None
        total = np.full(len(track), 1e-6, np.float32)
        emphasis = total.copy()
        for name, weight in self.timeline.weights(track.times, track.duration).items():
            if name in self.intensity:
                times, values = self.intensity[name]
                total += np.abs(weight)
                emphasis += np.abs(weight) * np.interp(track.times, times, values).astype(np.float32)
        return emphasis / total


def clip_emotions(spec: EditSpec, footage: Source | None = None) -> ClipEmotions:
    """The emotions that an edit asks for, and how strongly the clip's own voice carries them.

    Args:
        spec: what is asked for.
        footage: the part of its clip that is edited; None is the whole.

    Raises:
        CmetError: an emotion is unknown, the speech cannot be used, or no emotion was asked for.
    """
    footage = Source.of(spec.clip) if footage is None else footage
    timeline, vectors = asked_emotions(spec)
    if footage.is_part:
        info = measure(footage)
        timeline = replace(timeline, begins=info.begins, whole=info.whole)
    emotions = ClipEmotions(timeline, vectors)
    if not audio.has_sound(spec.clip):
        return emotions
    try:

        def encode() -> dict[str, np.ndarray]:
            from cmet_engine.emotion.speech import load_encoder  # brings torch

            wave = audio.load(footage)
            audio.check_speech(wave, audio.RATE, spec.clip.name)
            return load_encoder("embedded", device=spec.device).frame_features(wave, audio.RATE)._asdict()

        name = cache.key(
            "voice",
            spec.clip,
            fingerprint.code("cmet_engine.emotion.speech", "cmet_engine.media.audio"),
            spec.device,
            assets.checksums(*ENCODER_FILES),
            footage.part,
        )
        features = FrameFeatures(**cache.arrays(name, encode))
        emotions.intensity = {
            name: intensity(features, v.vector) for name, v in vectors.items() if len(v.vector) == VECTOR_SIZE
        }
    except CmetError as error:
        log.info("the clip's own voice is not used: %s", error)
    return emotions


def heard_messages(vectors: dict[str, EmotionVector]) -> list[str]:
    """What was heard in the recording of `EditSpec.speech`, as sentences; none where there is no such recording."""
    if VOICE not in vectors:
        return []
    meta = vectors[VOICE].meta
    heard = ", ".join(f"{name} {share:.2f}" for name, share in meta["heard"].items())
    return [*([f"The recording sounds {heard} (probability)."] if heard else []), *meta["messages"]]


def asked_emotions(spec: EditSpec) -> tuple[EmotionTimeline, dict[str, EmotionVector]]:
    """The timeline with the voice's key added and all strengths applied, and the vector of every emotion on it.

    Raises:
        CmetError: an emotion is unknown, the speech cannot be used, or no emotion was asked for.
    """
    timeline = spec.timeline()
    library = load_library()
    if spec.speech is not None:
        library[VOICE] = _voice_vector(spec, spec.speech)
        if not any(VOICE in EmotionTimeline([key]).names() for key in timeline.keys):
            timeline = EmotionTimeline([*timeline.keys, EmotionKey(VOICE)])
    if not timeline.keys and not spec.corrections:
        raise InvalidInput("No emotion was asked for; add --emotion NAME, --speech FILE or --keys FILE.")
    names = timeline.names()
    if spec.renderer == "edtalk":
        if any(key.regions for key in timeline.keys):
            raise InvalidInput(
                "The renderer edtalk has no gains of regions; leave out the square brackets, or use warp."
            )
        names = [name for name in names if not name.startswith(PRESET)]
    return spec.strengthened(timeline), find_emotions(names, library)


def _voice_vector(spec: EditSpec, speech: Path) -> EmotionVector:
    """The emotion of a voice against its neutral speech, or alone, in a space that the renderer's connector takes."""
    from cmet_engine.emotion.make_vector import emotion_vector  # brings torch
    from cmet_engine.emotion.speech import load_encoder

    neutral = spec.neutral
    if neutral is None and not spec.is_take and audio.has_sound(spec.clip):
        neutral = spec.clip
    encoder = load_encoder("embedded", device=spec.device)
    vector = emotion_vector([speech], None if neutral is None else [neutral], VOICE, encoder)
    if spec.renderer == "edtalk" and neutral is not None and registry.is_here("emotion2vec_plus_large"):
        return _published_vector(vector, speech, neutral, spec.device)
    return vector


def _published_vector(vector: EmotionVector, speech: Path, neutral: Path, device: str) -> EmotionVector:
    """The same emotion in the features of emotion2vec+ large, which the published connector was trained on."""
    from cmet_engine.emotion.emotion2vec import PublishedEncoder  # brings transformers
    from cmet_engine.emotion.recordings import MOST_SECONDS

    encoder = PublishedEncoder(device=device)

    def mean(path: Path) -> np.ndarray:
        waves = (audio.load(file)[: int(MOST_SECONDS * audio.RATE)] for file in sound_files([path]))
        return np.mean([encoder.utterance(wave, audio.RATE) for wave in waves], axis=0)

    return replace(vector, vector=mean(speech) - mean(neutral))


def basic_emotion_deltas(source: CoefficientTrack, frames: Sequence[int]) -> np.ndarray:
    """How each of the basic emotions would change the coefficients of some frames of a clip: float32 [E, n, 52]."""
    library = load_library()
    rows = np.asarray(frames, int)
    return np.stack(
        [
            (edit_track(source, EmotionTimeline.parse([name]), library).coefficients - source.coefficients)[rows]
            for name in BASIC
        ]
    )
