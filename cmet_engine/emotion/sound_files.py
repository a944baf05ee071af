"""The recordings that paths name. Nothing here imports torch."""

from collections.abc import Sequence
from pathlib import Path

from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.files import is_hidden
from cmet_engine.media.formats import SOUND


def sound_files(paths: Sequence[str | Path]) -> list[Path]:
    """The recordings that `paths` mean: files as they are, folders by the sound files in them, sorted by name.

    Raises:
        NotFound: a path does not exist.
        InvalidInput: a folder holds no recordings; the message says where they might be instead.
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            inside = sorted(p for p in path.iterdir() if _is_recording(p))
            if not inside:
                deeper = sorted({p.parent for p in path.rglob("*") if _is_recording(p)})
                hint = f"; its folder {deeper[0].relative_to(path)} does, give that" if deeper else ""
                raise InvalidInput(f"The folder {path} holds no recordings (.wav, .flac, .mp3, .mp4, …){hint}.")
            found += inside
        else:
            raise NotFound(f"{path} does not exist; give a recording or a folder of recordings.")
    return list(dict.fromkeys(found))


def _is_recording(path: Path) -> bool:
    return path.suffix.lower() in SOUND and not is_hidden(path) and path.is_file()
