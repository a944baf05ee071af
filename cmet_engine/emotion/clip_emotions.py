"""The emotions of one edit: the timeline with the voice's key, the emotion vectors, and how strongly the clip speaks them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cmet_engine import cache, fingerprint
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.following import follow
from cmet_engine.emotion.hearing import Hearing
from cmet_engine.emotion.intensity import intensity
from cmet_engine.emotion.library import EmotionVector, find_emotions, load_library
from cmet_engine.emotion.likeness import Likeness
from cmet_engine.emotion.make_vector import emotion_vector
from cmet_engine.emotion.predictions import ENCODER_FILES, FrameFeatures
from cmet_engine.emotion.recordings import MOST_SECONDS
from cmet_engine.emotion.sound_files import sound_files
from cmet_engine.emotion.speech import load_encoder
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.emotions import BASIC, LIKE
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.media import audio
from cmet_engine.media.probe import measure
from cmet_engine.media.source import Source
from cmet_engine.models import assets, registry
from cmet_engine.spec import CURVES, EditSpec
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.track import CoefficientTrack

log = logging.getLogger(__name__)

VOICE = "voice"
"""Name under which the emotion of `EditSpec.speech` stands in the timeline and the report."""

AUTO = "auto"
"""A key of this name stands for those that are heard in the clip's own sound."""

PRESET = "edtalk-"
"""An emotion `edtalk-happy` is EDTalk's own preset of that name, where the user has it; it needs no vector."""


@dataclass
class ClipEmotions:
    """What an edit needs to know about emotions.

    Attributes:
        timeline: which emotion, when, how strong; `EditSpec.strength` and the voice's key are in it.
        vectors: by name, the vector of every emotion of the timeline.
        messages: what was heard, as sentences.
        intensity: by name, how strongly the clip's own voice carries the emotion, as (seconds [F], values [F] around 1);
            empty where the clip has no usable speech, or another recording is followed.
        likeness: the expression of `EditSpec.like`, where that is given.
    """

    timeline: EmotionTimeline
    vectors: dict[str, EmotionVector]
    messages: list[str] = field(default_factory=list)
    intensity: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    likeness: Likeness | None = None

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
    emotions = asked_emotions(spec)
    vectors = emotions.vectors
    if footage.is_part:
        info = measure(footage)
        emotions.timeline = replace(emotions.timeline, begins=info.begins, whole=info.whole)
    if not vectors or spec.follow or not audio.has_sound(spec.clip):
        return emotions
    try:

        def encode() -> dict[str, np.ndarray]:
            wave = audio.load(footage)
            audio.check_speech(wave, audio.RATE, spec.clip.name)
            return load_encoder().frame_features(wave, audio.RATE)._asdict()

        name = cache.key(
            "voice",
            spec.clip,
            fingerprint.code("cmet_engine.emotion.speech", "cmet_engine.media.audio"),
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


def _voice_messages(vector: EmotionVector) -> list[str]:
    """What was heard in the recording of `EditSpec.speech`, as sentences."""
    heard = ", ".join(f"{name} {share:.2f}" for name, share in vector.meta["heard"].items())
    return [*([f"The recording sounds {heard} (probability)."] if heard else []), *vector.meta["messages"]]


def asked_emotions(spec: EditSpec) -> ClipEmotions:
    """The timeline with what is heard put in and all strengths applied, and the vector of every emotion on it.

    Raises:
        CmetError: an emotion is unknown, the speech cannot be used, or no emotion was asked for, or heard.
    """
    timeline, messages = heard_timeline(spec.timeline(), spec.clip, spec.neutral)
    library = load_library()
    if spec.speech is not None and spec.follow:
        hearing = Hearing.of(spec.speech, spec.neutral)
        followed = follow(spec.speech, spec.clip, hearing)
        timeline = EmotionTimeline([*timeline.keys, *followed.timeline.keys])
        messages += [*followed.messages, *hearing.messages(spec.neutral)]
    elif spec.speech is not None:
        library[VOICE] = _voice_vector(spec, spec.speech)
        messages += _voice_messages(library[VOICE])
        timeline = _with_key(timeline, VOICE)
    likeness = None
    if spec.like is not None:
        likeness = Likeness.of(spec.like)
        timeline = _with_key(timeline, LIKE)
        measured = CoefficientTrack.load(spec.clip) if spec.is_take else measure(Source.of(spec.clip))
        messages += [*likeness.messages, *likeness.said_beside(spec.like.name, float(measured.duration))]
    if not timeline.keys and not spec.corrections:
        raise InvalidInput("No emotion was asked for; add --emotion NAME, --speech FILE, --like FILE or --keys FILE.")
    names = [name for name in timeline.names() if name != LIKE]
    if spec.renderer == "edtalk":
        if any(key.regions for key in timeline.keys):
            raise InvalidInput(
                "The renderer edtalk has no gains of regions; leave out the square brackets, or use warp."
            )
        names = [name for name in names if not name.startswith(PRESET)]
    return ClipEmotions(spec.strengthened(timeline), find_emotions(names, library), messages, likeness=likeness)


def _with_key(timeline: EmotionTimeline, name: str) -> EmotionTimeline:
    """A timeline with a key of that name over the whole clip, unless it has one."""
    return timeline if name in timeline.names() else EmotionTimeline([*timeline.keys, EmotionKey(name)])


def heard_timeline(
    timeline: EmotionTimeline, clip: Path, neutral: Path | None = None
) -> tuple[EmotionTimeline, list[str]]:
    """A timeline with every key `AUTO` replaced by what is heard in the clip while it lasts, and what to say of that.

    The keys take strength, person and gains of regions from the one that they stand for.

    Raises:
        CmetError: the clip has no sound, nobody speaks in it, or it sounds neutral.
    """
    asked = [key for key in timeline.keys if key.emotion == AUTO]
    if not asked:
        return timeline, []
    if clip.suffix.lower() in CURVES or not audio.has_sound(clip):
        raise InvalidInput(f"{clip.name} has no sound to hear an emotion in; name one, or give --speech FILE --follow.")
    hearing = Hearing.of(clip, neutral)
    heard = hearing.timeline().keys
    keys = [one for key in timeline.keys for one in (_in_place_of(key, heard) if key.emotion == AUTO else [key])]
    if not keys:
        raise InvalidInput(f"{clip.name} sounds neutral; name an emotion, such as --emotion happy.")
    return EmotionTimeline(keys), hearing.messages(neutral)


def _in_place_of(auto: EmotionKey, heard: Sequence[EmotionKey]) -> list[EmotionKey]:
    """The `heard` keys within the time of `auto`, with its strength, person and gains."""
    found = []
    for key in heard:
        start = max(key.start, auto.start)
        end = min((end for end in (key.end, auto.end) if end is not None), default=None)
        if end is None or end > start:
            found.append(
                replace(
                    key,
                    start=start,
                    end=end,
                    strength=key.strength * auto.strength,
                    person=auto.person,
                    regions=auto.regions,
                )
            )
    return found


def _voice_vector(spec: EditSpec, speech: Path) -> EmotionVector:
    """The emotion of a voice against its neutral speech, or alone, in a space that the renderer's connector takes."""
    neutral = spec.neutral
    if neutral is None and not spec.is_take and audio.has_sound(spec.clip):
        neutral = spec.clip
    encoder = load_encoder()
    vector = emotion_vector([speech], None if neutral is None else [neutral], VOICE, encoder)
    if spec.renderer == "edtalk" and neutral is not None and registry.is_here("emotion2vec_plus_large"):
        return _published_vector(vector, speech, neutral, spec.device)
    return vector


def _published_vector(vector: EmotionVector, speech: Path, neutral: Path, device: str) -> EmotionVector:
    """The same emotion in the features of emotion2vec+ large, which the published connector was trained on."""
    from cmet_engine.emotion.emotion2vec import PublishedEncoder  # brings transformers

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
