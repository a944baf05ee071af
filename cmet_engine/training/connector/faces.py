"""The faces that a connector is trained on: tracks and pictures, tracked videos, or EDTalk's codes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmet_engine.emotion.embedded_connector import FRAME_RATE, WINDOW, resampled
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.face.clip import track_clip
from cmet_engine.progress import Progress, Stage
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.corpora.videos import find_videos

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Faces:
    """The other side: what faces do.

    Attributes:
        tracks: coefficient tracks [n, 52] of talking people at `FRAME_RATE`.
        pictures: [N, 52] coefficients of labelled pictures.
        emotion: [N] their labels.
    """

    tracks: list[np.ndarray]
    pictures: np.ndarray
    emotion: np.ndarray

    def __post_init__(self) -> None:
        if not any(len(t) >= 2 * WINDOW for t in self.tracks):
            raise InvalidInput(f"No track is {2 * WINDOW} frames long; the connector learns from pairs of windows.")


def read_tracks(paths: Sequence[str | Path]) -> list[np.ndarray]:
    """Coefficient tracks (files, or folders of `.npz` tracks that `cmet track` wrote) at `FRAME_RATE`: list of [n, 52].

    Raises:
        CmetError: a file is damaged, or a folder holds no track.
    """
    tracks = []
    for path in map(Path, paths):
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not files:
            raise InvalidInput(f"{path} holds no .npz track; make some with: cmet track CLIP -o {path}/CLIP.npz")
        for file in files:
            tracks += _at_frame_rate(CoefficientTrack.load(file))
    return tracks


def _at_frame_rate(track: CoefficientTrack) -> list[np.ndarray]:
    """The frames with a face [n, 52] at `FRAME_RATE`; none where there are too few of them for a pair of windows."""
    seen = track.valid
    if seen.sum() < 2 * WINDOW:
        return []
    return [resampled(track.coefficients[seen], track.times[seen], FRAME_RATE)[0]]


def track_videos(
    folder: str | Path, cache: Path | None, progress: Progress | None = None
) -> dict[tuple[str, str], list[np.ndarray]]:
    """Faces of a MEAD or CREMA-D folder as `PairedBatches` takes them.

    A video that cannot be read or shows no face is left out with a warning that names it.

    Args:
        folder: see `find_videos`.
        cache: folder in which the tracks are kept for the next run; None uses the program's own cache, as `cmet track` does.
        progress: called as `progress(stage, done, total)`.

    Raises:
        CmetError: the folder has no known layout, or not one video can be used.
    """
    videos = find_videos(folder)
    codes: dict[tuple[str, str], list[np.ndarray]] = {}
    for number, (path, speaker, emotion) in enumerate(videos):
        stored = None if cache is None else cache / f"{'_'.join(path.relative_to(folder).with_suffix('').parts)}.npz"
        try:
            if stored is not None and stored.exists():
                track = CoefficientTrack.load(stored)
            else:
                track = track_clip(path)[1]
                if stored is not None:
                    stored.parent.mkdir(parents=True, exist_ok=True)
                    track.save(stored)
            codes.setdefault((speaker, emotion), []).extend(_at_frame_rate(track))
        except CmetError as error:
            log.warning("left out: %s", error)
        if progress:
            progress(Stage.CORPUS_TRACKING, number + 1, len(videos))
    if not any(codes.values()):
        raise InvalidInput(f"Not one of the {len(videos)} videos in {folder} shows a face that can be tracked.")
    return codes


def read_codes(folder: str | Path) -> dict[tuple[str, str], list[np.ndarray]]:
    """EDTalk codes for the published settings: `SPEAKER/EMOTION/NAME.npy`, each [n, 10], speakers as in the speech index.

    Raises:
        CmetError: the folder holds none, or a file is damaged.
    """
    folder = Path(folder)
    codes: dict[tuple[str, str], list[np.ndarray]] = {}
    for path in sorted(folder.glob("*/*/*.npy")):
        try:
            values = np.load(path, allow_pickle=False).astype(np.float32)
        except (OSError, ValueError, EOFError) as error:
            raise InvalidInput(f"{path} is not a file of codes; make it again.") from error
        if not np.isfinite(values).all():
            raise InvalidInput(f"{path} holds values that are not numbers; make it again.")
        codes.setdefault((path.parts[-3], path.parts[-2]), []).append(values)
    if not codes:
        raise InvalidInput(f"{folder} holds no codes; the layout is SPEAKER/EMOTION/NAME.npy.")
    return codes
