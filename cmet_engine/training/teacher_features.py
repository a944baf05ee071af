"""Features of the teacher, emotion2vec+ large, for a folder of labelled speech: what the speech encoder is trained towards."""

import logging
from pathlib import Path

import numpy as np

from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import check_writable, whole_file
from cmet_engine.media import audio
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.connector.speech import SpeechEncoder
from cmet_engine.training.corpora.speech import TEACHER, read_corpus

log = logging.getLogger(__name__)

KEEP_EVERY = 200  # recordings after which the features are written, so that an interrupted run goes on


def extract_teacher(
    corpus: str | Path, teacher: SpeechEncoder | None = None, *, progress: Progress | None = None
) -> Path:
    """Extract features of every recording of a corpus with the teacher and keep them beside it; returns the file.

    Recordings that have a feature already are skipped. One that cannot be used is left out with a warning that names it.

    Args:
        corpus: see `read_corpus`; `emotion2vec_plus_large.npz` is written there.
        teacher: None loads the published emotion2vec+ large.
        progress: called as `progress(stage, done, total)`.

    Raises:
        CmetError: the layout is unknown, the weights are missing, no recording can be used, or the folder cannot be written.
    """
    found = read_corpus(corpus)
    path = check_writable(Path(corpus) / TEACHER, force=True)
    if teacher is None:
        from cmet_engine.emotion.emotion2vec import PublishedEncoder  # brings transformers

        teacher = PublishedEncoder(device="auto")
    features = dict(found.teacher)

    def keep() -> None:
        with whole_file(path, force=True) as temporary:
            np.savez(
                temporary, paths=np.array(list(features)), features=np.stack(list(features.values())).astype(np.float16)
            )

    for number, recording in enumerate(found.recordings, 1):
        if recording.name not in features:
            try:
                wave = audio.load(recording.path)
                audio.check_speech(wave, audio.RATE, recording.name)
                features[recording.name] = teacher.utterance(wave, audio.RATE)
            except CmetError as error:
                log.warning("left out: %s", error)
            if number % KEEP_EVERY == 0 and features:
                keep()
        if progress:
            progress(Stage.CORPUS_SPEECH, number, len(found.recordings))
    if not features:
        raise InvalidInput(f"None of the recordings in {corpus} can be used; each was named above.")
    keep()
    return path
