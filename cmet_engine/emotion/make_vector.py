"""An emotion vector from how recordings sound."""

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
from cmet_engine.errors import CmetError
from cmet_engine.progress import Progress, Stage


def emotion_vector(
    paths: Sequence[str | Path],
    neutral_paths: Sequence[str | Path] | None,
    name: str,
    encoder: Encoder,
    *,
    progress: Progress | None = None,
) -> EmotionVector:
    """An emotion from how recordings sound.

    Args:
        paths: recordings of the emotion: files, or folders of files.
        neutral_paths: recordings of the same voice speaking neutrally; None or empty: the library's neutral, which
            leaves something of the speaker in the vector.
        name: what to call it; not checked against the library (see `check_name`).
        encoder: what hears.
        progress: called as `progress(stage, done, total)`.

    Returns:
        The vector with what is known of it in `meta`: how long it is against the known ones, which of them it is near,
        how consistent the recordings are with each other, and messages that the user should see.

    Raises:
        CmetError: a path is missing, a folder holds no recordings, a recording cannot be used (too short, silent,
            nobody speaks, not sound), or the same file is in both pools.
    """
    wanted, neutral = sound_files(paths), sound_files(neutral_paths or [])
    if not wanted:
        raise CmetError(
            "No recording of the emotion was given; name files or folders of it first, then the neutral ones."
        )
    both = {p.resolve() for p in wanted} & {p.resolve() for p in neutral}
    if both:
        raise CmetError(
            f"{sorted(both)[0].name} is given both as the emotion and as neutral; take it out of one of them."
        )
    heard: list[Recording] = []
    for number, path in enumerate([*wanted, *neutral]):
        if progress:
            progress(Stage.SPEECH, number, len(wanted) + len(neutral))
        heard.append(encode_recording(path, encoder))
    messages = [recording.message for recording in heard if recording.message]
    pool, calm = heard[: len(wanted)], heard[len(wanted) :]
    strangers = speaker_messages(pool, calm)
    drawn = np.zeros(VECTOR_SIZE, np.float32)  # hides how recordings differ
    if calm and not strangers:
        features, rest, drawn = encoder.predict_pools([r.heard for r in pool], [r.heard for r in calm])
    else:  # neutral speech of somebody else says nothing of how this voice departs from its own rest
        features, rest = (np.array([encoder.predict(r.heard).features for r in part]) for part in (pool, calm))
    each = features - (rest.mean(0) if calm else neutral_mean())  # [N, 1024]
    vector = each.mean(0).astype(np.float32)
    each = each - drawn
    length = float(np.linalg.norm(vector))
    near = nearest_emotions(vector)
    consistency = pairwise_cosine(each)
    if not calm:
        messages.append(
            "No neutral recordings were given: the vector is measured from the library's neutral and keeps something of "
            "the speaker; a few neutral sentences of the same voice make it cleaner."
        )
    if len(pool) == 1:
        messages.append("Made from a single recording: whether another one agrees cannot be told; ten make it steady.")
    elif len(calm) == 1:
        messages.append("The neutral pool is a single recording; ten make it steady.")
    if length < WEAK_LENGTH:
        messages.append(
            f"It lies only {length:.1f} from neutral (strong emotions 8 to 15): the recordings sound almost neutral."
        )
    if consistency is not None:
        messages += consistency_messages(pool, each, consistency)
    if calm:
        messages += exchanged_messages(pool, calm)
    messages += strangers
    reliability = None if consistency is None else float(np.clip(consistency, 0, 1))
    meta = {
        "origin": "user",
        "length": round(length, 2),
        "near": {key: round(value, 3) for key, value in near.items()},
        "consistency": None if consistency is None else round(consistency, 3),
        "files": [p.name for p in wanted],
        "neutral_files": [p.name for p in neutral],
        "messages": messages,
    }
    return EmotionVector(name, vector, reliability, meta)
