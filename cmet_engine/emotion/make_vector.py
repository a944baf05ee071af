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
from cmet_engine.emotion.vector import EmotionVector
from cmet_engine.emotions import LIBRARY
from cmet_engine.errors import InvalidInput
from cmet_engine.progress import Progress, Stage

_AUDIBLE_SHARE = 0.1  # probability from which an emotion counts as heard
_CLOSE = 0.5  # share of the likeliest emotion's probability from which the second one is worth a word


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
        neutral_paths: recordings of the same speaker speaking neutrally; None or empty: each recording is taken alone, which
            is less sure.
        name: what to call it; not checked against the library (see `user_library.check_name`).
        encoder: what `load_encoder` gives.
        progress: called as `progress(stage, done, total)`.

    Returns:
        The vector with what is known of it in `meta`: its length, the emotions that were heard and how probable each is, how
        consistent the recordings are with each other, and messages that the user should see. It points to what was heard;
        its length is how far the recordings lie from neutral.

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
    each, shares = _differences(pool, rest, encoder, same_speaker=not other_speakers)
    vector, heard = each.mean(0).astype(np.float32), {}
    if vector.sum() > 0:  # otherwise calmer than the neutral ones: the vector points back
        vector = (np.linalg.norm(vector) * shares / np.linalg.norm(shares)).astype(np.float32)
        likeliest = (-shares).argsort()[:3]
        heard = {LIBRARY[n]: round(float(shares[n]), 2) for n in likeliest if shares[n] >= _AUDIBLE_SHARE}
    consistency = pairwise_cosine(each)
    messages = [recording.message for recording in recordings if recording.message]
    messages += _size_messages(len(pool), len(rest), float(np.linalg.norm(vector)))
    if consistency is not None:
        messages += consistency_messages(pool, each, consistency)
    messages += exchanged_messages(pool, rest) if rest else []
    messages += other_speakers + _doubt_messages(heard)
    meta = {
        "origin": "user",
        "length": round(float(np.linalg.norm(vector)), 2),
        "heard": heard,
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
    """Difference of each recording of the pool from neutral [N, 13], and the probability of each emotion over the pool [13]."""
    neutral = [r.statistics for r in rest]
    if rest and not same_speaker:  # neutral speech of another speaker does not show how this voice departs from its own
        heard = encoder.predict_pools([r.statistics for r in pool], [])
        still = encoder.predict(np.stack(neutral)).features
    else:
        heard = encoder.predict_pools([r.statistics for r in pool], neutral)
        still = heard.neutral
    return heard.wanted - (still.mean(0) if rest else neutral_mean()), heard.shares


def _doubt_messages(heard: dict[str, float]) -> list[str]:
    """A sentence when a second emotion, or none, is about as probable as the likeliest one."""
    if not heard:
        return ["No emotion stands out in the recordings; name one with --emotion if you know it."]
    (first, share), *others = heard.items()
    if others and others[0][1] > _CLOSE * share:
        second, less = others[0]
        return [
            f"It sounds {first} ({share:.1f}) or {second} ({less:.1f}): if it is {second}, ask for --emotion {second} instead."
        ]
    return []


def _size_messages(count: int, neutral_count: int, length: float) -> list[str]:
    """Sentences on how many recordings there are and how far from neutral they lie."""
    messages = []
    if not neutral_count:
        messages.append(
            "No neutral recordings were given: each recording is compared with other people's neutral speech, which is less "
            "sure; a few neutral sentences of the same voice make it surer."
        )
    if count == 1:
        messages.append("Made from a single recording: whether another one agrees is unknown; ten make it steady.")
    elif neutral_count == 1:
        messages.append("The neutral pool is a single recording; ten make it steady.")
    if length < WEAK_LENGTH:
        messages.append(f"It lies only {length:.1f} from neutral (at most 10): the recordings sound almost neutral.")
    return messages
