"""An emotion vector from recordings: the mean of an emotional pool minus the mean of a neutral one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmet_engine.emotion.embedded_library import nearest_emotions, neutral_mean
from cmet_engine.emotion.library import WEAK_LENGTH
from cmet_engine.emotion.pool_checks import consistency_messages, exchanged_messages, pairwise_cosine, speaker_messages
from cmet_engine.emotion.recordings import Recording, encode_recording
from cmet_engine.emotion.sound_files import sound_files
from cmet_engine.emotion.speech import Encoder
from cmet_engine.emotion.vector import VECTOR_SIZE, EmotionVector
from cmet_engine.errors import InvalidInput
from cmet_engine.progress import Progress, Stage


def emotion_vector(
    paths: Sequence[str | Path],
    neutral_paths: Sequence[str | Path] | None,
    name: str,
    encoder: Encoder,
    *,
    progress: Progress | None = None,
) -> EmotionVector:
    """An emotion vector from recordings (C-MET, arXiv 2604.07786, section 3.1).

    Args:
        paths: recordings of the emotion: files, or folders of files.
        neutral_paths: recordings of the same speaker speaking neutrally; None or empty: the library's neutral, which
            leaves something of the speaker in the vector.
        name: what to call it; not checked against the library (see `user_library.check_name`).
        encoder: what `load_encoder` gives.
        progress: called as `progress(stage, done, total)`.

    Returns:
        The vector with what is known of it in `meta`: its length, the cosines with the known emotions, how consistent
        the recordings are with each other, and messages that the user should see.

    Raises:
        CmetError: a path is missing, a folder holds no recordings, a recording cannot be used (too short, silent,
            nobody speaks, not sound), or the same file is in both pools.
    """
    wanted, neutral = sound_files(paths), sound_files(neutral_paths or [])
    _check_pools(wanted, neutral)
    recordings: list[Recording] = []
    for number, path in enumerate([*wanted, *neutral]):
        if progress:
            progress(Stage.SPEECH, number, len(wanted) + len(neutral))
        recordings.append(encode_recording(path, encoder))
    pool, rest = recordings[: len(wanted)], recordings[len(wanted) :]
    other_speakers = speaker_messages(pool, rest)
    each, shift = _differences(pool, rest, encoder, same_speaker=not other_speakers)
    vector = each.mean(0).astype(np.float32)
    each = each - shift
    consistency = pairwise_cosine(each)
    messages = [recording.message for recording in recordings if recording.message]
    messages += _size_messages(len(pool), len(rest), float(np.linalg.norm(vector)))
    if consistency is not None:
        messages += consistency_messages(pool, each, consistency)
    if rest:
        messages += exchanged_messages(pool, rest)
    messages += other_speakers
    meta = {
        "origin": "user",
        "length": round(float(np.linalg.norm(vector)), 2),
        "near": {key: round(value, 3) for key, value in nearest_emotions(vector).items()},
        "consistency": None if consistency is None else round(consistency, 3),
        "files": [p.name for p in wanted],
        "neutral_files": [p.name for p in neutral],
        "messages": messages,
    }
    return EmotionVector(name, vector, None if consistency is None else float(np.clip(consistency, 0, 1)), meta)


def _check_pools(wanted: list[Path], neutral: list[Path]) -> None:
    """Check that there are recordings of the emotion and that no file is in both pools."""
    if not wanted:
        raise InvalidInput(
            "No recording of the emotion was given; name files or folders of it first, then the neutral ones."
        )
    both = {p.resolve() for p in wanted} & {p.resolve() for p in neutral}
    if both:
        raise InvalidInput(
            f"{sorted(both)[0].name} is given both as the emotion and as neutral; take it out of one of them."
        )


def _differences(
    pool: list[Recording], rest: list[Recording], encoder: Encoder, *, same_speaker: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Difference of each recording of the pool from neutral [N, 1024], and the part of it that is the same for all [1024]."""
    shift = np.zeros(VECTOR_SIZE, np.float32)
    if rest and same_speaker:
        features, neutral, shift = encoder.predict_pools([r.features for r in pool], [r.features for r in rest])
    else:  # neutral speech of another speaker does not show how this voice departs from its own
        features, neutral = (np.array([encoder.predict(r.features).features for r in part]) for part in (pool, rest))
    return features - (neutral.mean(0) if rest else neutral_mean()), shift


def _size_messages(count: int, neutral_count: int, length: float) -> list[str]:
    """Sentences on how many recordings there are and how far from neutral they lie."""
    messages = []
    if not neutral_count:
        messages.append(
            "No neutral recordings were given: the vector is measured from the library's neutral and keeps something of "
            "the speaker; a few neutral sentences of the same voice make it cleaner."
        )
    if count == 1:
        messages.append("Made from a single recording: whether another one agrees is unknown; ten make it steady.")
    elif neutral_count == 1:
        messages.append("The neutral pool is a single recording; ten make it steady.")
    if length < WEAK_LENGTH:
        messages.append(
            f"It lies only {length:.1f} from neutral (strong emotions 8 to 15): the recordings sound almost neutral."
        )
    return messages
