"""EDTalk's expression codes of many videos, to train a connector in that space (`cmet train extract`)."""

import logging
from pathlib import Path

import numpy as np

from cmet_engine.errors import CmetError
from cmet_engine.files import whole_file
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.edtalk.encoding import extract_codes
from cmet_engine.render.edtalk.networks import Networks
from cmet_engine.training.corpora.videos import find_videos

log = logging.getLogger(__name__)


def extract_folder(
    videos: str | Path,
    output: str | Path,
    *,
    networks: Networks | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Path]:
    """Write the expression codes of every video of a MEAD or CREMA-D folder.

    Args:
        videos: the folder; its paths name speaker and emotion.
        output: `SPEAKER/EMOTION/NAME.npy` is written there, float32 [n, 10], 25 a second; for a clip with several
            shots `NAME_2.npy` and so on too. What is there already is not made again, so an interrupted run goes on.
        networks: to read codes with; None loads the published weights.
        device: `cpu`, `cuda` or `auto`.
        progress: called as ("extract", videos done, videos in all).

    Returns:
        The files, those of earlier runs included.

    Raises:
        CmetError: the folder holds no videos, weights are missing, or the output cannot be written.
    """
    videos, output = Path(videos), Path(output)
    found = find_videos(videos)
    networks = networks or Networks.load(voice=False)
    written: list[Path] = []
    for number, (path, speaker, emotion) in enumerate(found, 1):
        name = "_".join(path.relative_to(videos).with_suffix("").parts)
        folder = output / speaker / emotion
        first = folder / f"{name}.npy"
        if first.exists():
            written += [first, *sorted(folder.glob(f"{name}_[0-9].npy"))]
        else:
            try:
                shots = extract_codes(path, networks=networks, device=device)
            except CmetError as error:
                log.warning("left out: %s", error)
                shots = []
            if shots:
                folder.mkdir(parents=True, exist_ok=True)
            # the first file comes last: where it is, the others are
            for shot, codes in reversed(list(enumerate(shots, 1))):
                target = first if shot == 1 else folder / f"{name}_{shot}.npy"
                with whole_file(target, force=True) as temporary:
                    np.save(temporary, codes.expression)
                written.append(target)
        if progress:
            progress(Stage.EXTRACT, number, len(found))
    return written
