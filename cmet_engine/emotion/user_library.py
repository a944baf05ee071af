"""The user's own emotions: one JSON file each in the user's folder. Nothing here imports torch."""

import json
from pathlib import Path

import numpy as np

from cmet_engine import emotions, files
from cmet_engine.emotion.embedded_library import embedded_emotions
from cmet_engine.emotion.vector import VECTOR_SIZE, EmotionVector
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import check_writable, read_json, whole_file

FORMAT = "cmet-emotion/2"
"""What the field `format` of a file says."""

_RESERVED = frozenset("auto voice like con prn aux nul".split()) | {
    f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)
}
"""`auto`, `voice` and `like` are what the timeline calls what is heard in the clip, and the references of `--speech` and `--like`; the others are device names on Windows."""


def user_folder() -> Path:
    """The folder of the user's own emotions."""
    return files.user_folder() / "emotions"


def user_files() -> list[Path]:
    """The files of the user's library, by name."""
    folder = user_folder()
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def check_name(name: str) -> str:
    """Check a name for a new emotion; returns it.

    Raises:
        InvalidInput: it is not a plain word, is taken by an embedded emotion, or has a meaning of its own.
    """
    if not emotions.NAME.fullmatch(name):
        raise InvalidInput(
            f"'{name}' cannot name an emotion; use up to 40 letters, digits, '_' and '-', beginning with a letter."
        )
    if name.lower() in embedded_emotions():
        raise InvalidInput(f"'{name}' is an emotion of the embedded library; choose another name.")
    if name.lower() in _RESERVED:
        raise InvalidInput(f"'{name}' is reserved; choose another name.")
    return name


def check_new(name: str, *, force: bool = False) -> Path:
    """Check that an emotion of this name can be added to the user's library; returns the file it will be.

    Raises:
        InvalidInput: the name cannot be used, it exists and `force` is off, or the folder cannot be written.
    """
    check_name(name)
    folder = user_folder()
    path = folder / f"{name}.json"
    known = next((file.stem for file in user_files() if file.stem.lower() == name.lower()), None)
    if known is not None and (not force or known != name):
        advice = "choose another name" if known != name else "choose another name or add --force to replace it"
        raise InvalidInput(f"Your library holds '{known}' already; {advice}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"Cannot make the folder of your emotions {folder}: {error.strerror}; change its permissions or set CMET_HOME."
        ) from error
    return check_writable(path, force=force)


def save_user_vector(vector: EmotionVector, *, force: bool = False) -> Path:
    """Add an emotion to the user's library; returns the file.

    Raises:
        CmetError: see `check_new`.
    """
    path = check_new(vector.name, force=force)
    document = {
        "format": FORMAT,
        "name": vector.name,
        "reliability": vector.reliability,
        "meta": vector.meta,
        "vector": [round(float(value), 6) for value in vector.vector],
    }
    with whole_file(path, force=force) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return path


def read_vector(path: str | Path) -> EmotionVector:
    """Read one file of the user's library.

    Raises:
        InvalidInput: it cannot be read or is not an emotion; the message names the file and the field.
    """
    path = Path(path)
    document = read_json(path)
    if isinstance(document, dict) and document.get("format") == "cmet-emotion/1":
        raise InvalidInput(
            f"{path.name}: made with an earlier speech encoder; make it again from its recordings with `cmet vector`."
        )
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidInput(f'{path.name}: not an emotion; it needs "format": "{FORMAT}".')
    name = document.get("name")
    if name != path.stem or not isinstance(name, str) or not emotions.NAME.fullmatch(name):
        raise InvalidInput(f'{path.name}: the field "name" must be the file\'s own name.')
    try:
        vector = np.asarray(document["vector"], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f'{path.name}: the field "vector" must be a list of {VECTOR_SIZE} numbers.') from error
    if vector.shape != (VECTOR_SIZE,) or not np.isfinite(vector).all():
        raise InvalidInput(f'{path.name}: the field "vector" must be a list of {VECTOR_SIZE} numbers.')
    reliability, meta = document.get("reliability"), document.get("meta", {})
    if not (reliability is None or isinstance(reliability, int | float)) or not isinstance(meta, dict):
        raise InvalidInput(f'{path.name}: the fields "reliability" and "meta" must be a number and a table.')
    return EmotionVector(name, vector, None if reliability is None else float(reliability), meta)


def user_problems() -> list[str]:
    """One sentence for every file of the user's library that cannot be used."""
    problems = []
    for path in user_files():
        try:
            read_vector(path)
        except CmetError as error:
            problems.append(str(error))
    return problems
