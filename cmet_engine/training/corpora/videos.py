"""Labelled videos of MEAD and CREMA-D as distributed."""

from collections import Counter
from pathlib import Path

from cmet_engine.errors import InvalidInput
from cmet_engine.training.corpora.layouts import (
    CREMA_EMOTIONS,
    CREMA_VIDEO,
    MEAD_EMOTIONS,
    MEAD_VIDEO,
    layout_hint,
    warn_unknown_labels,
)


def find_videos(folder: str | Path) -> list[tuple[Path, str, str]]:
    """Labelled videos of MEAD (`SPEAKER/video/front/EMOTION/level_N/NNN.mp4`) or CREMA-D
    (`VideoFlash/1001_DFA_ANG_XX.flv`) as distributed: (path, speaker, emotion), speakers named as `read_corpus` does.

    Raises:
        CmetError: the folder has neither layout.
    """  # fmt: skip
    folder = Path(folder)
    found = []
    unknown: Counter[str] = Counter()
    for path in sorted(folder.glob(MEAD_VIDEO)):
        speaker, _, _, emotion = path.relative_to(folder).parts[:4]
        if emotion in MEAD_EMOTIONS:
            found.append((path, f"mead_{speaker}", MEAD_EMOTIONS[emotion]))
        else:
            unknown[emotion] += 1
    warn_unknown_labels(folder, unknown, list(MEAD_EMOTIONS))
    unknown = Counter()
    for path in sorted(folder.glob(CREMA_VIDEO)):
        parts = path.stem.split("_")
        if len(parts) == 4 and parts[2] in CREMA_EMOTIONS:
            found.append((path, f"crema_{parts[0]}", CREMA_EMOTIONS[parts[2]]))
        else:
            unknown[parts[2] if len(parts) == 4 else path.stem] += 1
    warn_unknown_labels(folder, unknown, list(CREMA_EMOTIONS))
    if not found:
        raise InvalidInput(
            f"{folder} holds no videos of a known layout: MEAD's SPEAKER/video/front/EMOTION/level_N/NNN.mp4 or "
            f"CREMA-D's VideoFlash/1001_DFA_ANG_XX.flv{layout_hint(folder)}."
        )
    return found
