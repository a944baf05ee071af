"""The library of emotions: those that ship with the project and the user's own.

An emotion vector is the difference of a pool of emotional speech from a pool of neutral speech (C-MET, arXiv 2604.07786,
section 3.1), here in the embedded encoder's space, which has an axis for each emotion. The embedded vectors are the ends
of the axes; `make_vector` computes new ones from recordings.

Listing the library imports neither torch nor scipy.
"""

import difflib
from collections.abc import Iterable, Mapping

import numpy as np

from cmet_engine.emotion.embedded_library import embedded_emotions, nearest_emotions
from cmet_engine.emotion.user_library import read_vector, user_files
from cmet_engine.emotion.vector import EmotionVector
from cmet_engine.errors import CmetError, InvalidInput

WEAK_LENGTH = 3.0
"""A vector shorter than this is mostly heard as neutral; the longest measure 10."""


def load_library() -> dict[str, EmotionVector]:
    """Every emotion that can be asked for: the embedded ones, then the user's, by name.

    A damaged file in the user's library does not hide the others: it is left out, and `user_library.user_problems`
    names it.

    Raises:
        CmetError: the embedded library is missing or damaged.
    """
    library = dict(embedded_emotions())
    for path in user_files():
        try:
            vector = read_vector(path)
        except CmetError:
            continue
        library.setdefault(vector.name, vector)
    return library


def find_emotions(names: Iterable[str], library: Mapping[str, EmotionVector]) -> dict[str, EmotionVector]:
    """The vectors of `names`; upper and lower case count as the same where no name matches exactly.

    Raises:
        InvalidInput: one is unknown; the message gives the nearest spelling and the known ones.
    """
    found = {}
    for name in names:
        match = name if name in library else next((known for known in library if known.lower() == name.lower()), None)
        if match is None:
            raise unknown_emotion(name, library)
        found[name] = library[match]
    return found


def unknown_emotion(name: str, known: Iterable[str]) -> InvalidInput:
    """The error for an emotion that is not among the `known` ones; it gives the nearest spelling and all of them."""
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, 1, 0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return InvalidInput(f"The emotion '{name}' is unknown.{hint} Known are {', '.join(sorted(names))}.")


def describe_vector(vector: EmotionVector) -> str:
    """What is known of an emotion, as a few lines of text."""
    meta = vector.meta
    length = float(meta.get("length", np.linalg.norm(vector.vector)))
    lines = [f"{vector.name}: {length:.1f} from neutral ({_strength_word(length)})"]
    near = sorted((meta.get("near") or nearest_emotions(vector.vector)).items(), key=lambda item: -item[1])
    near = [(key, value) for key, value in near if key != vector.name]
    if length > 1e-3:
        close = [f"{key} {value:.2f}" for key, value in near[:3] if value > 0.2]
        lines.append("near: " + (", ".join(close) if close else "no known emotion") + " (cosine)")
    if meta.get("heard"):
        lines.append(
            "heard: " + ", ".join(f"{key} {value:.2f}" for key, value in meta["heard"].items()) + " (probability)"
        )
    if meta.get("files"):
        pool, neutral = len(meta["files"]), len(meta.get("neutral_files") or [])
        against = f"{neutral} neutral" if neutral else "the library's neutral"
        lines.append(f"made from {pool} recording{'s' * (pool != 1)} against {against}")
    if meta.get("consistency") is not None:
        lines.append(f"recordings agree with each other: {meta['consistency']:.2f} (mean cosine)")
    if vector.reliability is not None:
        lines.append(f"reliability: {vector.reliability:.2f}")
    lines += [f"note: {message}" for message in meta.get("messages", [])]
    return "\n".join(lines)


def _strength_word(length: float) -> str:
    limits = ((1e-3, "neutral itself"), (WEAK_LENGTH, "hardly audible"), (6.0, "moderate"))
    for limit, word in limits:
        if length < limit:
            return word
    return "strong"
