"""How MEAD and CREMA-D lay out their files and name their emotions."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cmet_engine.emotions import BASIC, NEUTRAL

log = logging.getLogger(__name__)

MEAD_EMOTIONS = {e: e for e in (*BASIC, NEUTRAL)}
CREMA_EMOTIONS = {"ANG": "angry", "DIS": "disgusted", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}

MEAD_VIDEO = "*/video/front/*/level_*/*.mp4"
CREMA_VIDEO = "VideoFlash/*.flv"


def warn_unknown_labels(folder: Path, found: Counter[str], known: Sequence[str]) -> None:
    """Warn of labels of a corpus that are no emotion, with how many files are left out for each."""
    for label, count in sorted(found.items()):
        log.warning(
            "left out: %d file%s labelled '%s' in %s; known labels are %s.",
            count, "s" * (count != 1), label, folder, ", ".join(known),
        )  # fmt: skip


def layout_hint(folder: Path) -> str:
    """What is probably wrong with a corpus folder of no known layout: a clause to end a sentence with, or nothing."""
    if next(folder.glob("*/*.tar"), None) or next(folder.glob("*.tar"), None):
        return "; unpack the .tar files there first"
    if (folder / "audio").is_dir() or (folder / "video").is_dir() or folder.name in ("AudioWAV", "VideoFlash"):
        return f"; give the folder above it, {folder.resolve().parent}"
    return ""
