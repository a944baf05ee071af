"""Names of the files that a specification makes."""

from pathlib import Path

from cmet_engine.choices import MATTE_CHANNEL, PICTURES
from cmet_engine.spec_base import AUTO


def beside(video: Path) -> Path:
    """The folder in which a video lies, or the folder of its pictures."""
    return video.parent.parent if "%" in video.name else video.parent


def matte_files(matte: str | None) -> list[str]:
    """The file or pattern of a matte, where it is one."""
    return [] if matte in (None, MATTE_CHANNEL) else [str(matte)]


def shot_file(name: str | None, video: Path, folder: Path) -> Path | None:
    """The JSON file of shot data, by the name that is asked for or after the video; None where they are not asked for."""
    if name == AUTO:  # edited.mp4 has edited.shot.json, frames/%06d.png has frames.shot.json
        name = f"{video.parent.name if '%' in video.name else video.stem}.shot.json"
    return None if name is None else folder / name


def with_otio(file: Path | None) -> list[Path]:
    """A file of shot data and the OpenTimelineIO file beside it."""
    return [] if file is None else [file, file.with_suffix(".otio")]


def video_name(kind: str) -> str:
    """Name of an edited video in a folder of results, by its format."""
    return f"frames/%06d.{kind}" if kind in PICTURES else f"edited.{kind}"
