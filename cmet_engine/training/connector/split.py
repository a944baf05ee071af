"""Which speakers, people and tracks a connector is trained on, and which are held out."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from cmet_engine.emotions import LIBRARY
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.training.connector.batches import PairedBatches, UnpairedBatches
from cmet_engine.training.connector.config import ConnectorConfig
from cmet_engine.training.connector.faces import Faces
from cmet_engine.training.connector.samplers import has_vectors
from cmet_engine.training.connector.speech import Speech
from cmet_engine.training.labelled_pictures import Pictures

log = logging.getLogger(__name__)


def split_unpaired(
    speech: Speech,
    faces: Sequence[np.ndarray],
    pictures: Pictures,
    config: ConnectorConfig,
) -> tuple[UnpairedBatches, UnpairedBatches]:
    """Batches to train with, and batches of held-out speakers, people and tracks.

    The last fifth of the tracks and the pictures' group 0 are held out. An emotion that only one speaker has (the extended
    ones) cannot be held out by speaker: every fifth of its clips is.
    """
    emotions = [e for e in LIBRARY if has_vectors(e, speech)]
    held = np.isin(speech.speaker, config.held_speakers)
    for emotion in (*emotions, "neutral"):
        rows = np.flatnonzero(speech.emotion == emotion)
        if len(rows) and (not held[rows].any() or held[rows].all()):
            held[rows] = np.arange(len(rows)) % 5 == 0
    count = max(len(faces) // 5, 1) if len(faces) > 1 else 0
    seen, new = pictures.chosen(pictures.fold != 0), pictures.chosen(pictures.fold == 0)
    known = Faces(list(faces[: len(faces) - count]), seen.coefficients, seen.emotion)
    unknown = Faces(list(faces[len(faces) - count :]) if count else list(faces), new.coefficients, new.emotion)
    present = [e for e in emotions if has_vectors(e, speech.chosen(held))]
    return (
        UnpairedBatches(speech.chosen(~held), known, config, emotions),
        UnpairedBatches(speech.chosen(held), unknown, config, present),
    )


def split_pairs(
    speech: Speech, faces: dict[tuple[str, str], list[np.ndarray]], config: ConnectorConfig
) -> tuple[PairedBatches, PairedBatches | None, list[str]]:
    """Batches of the speakers that are trained on, of the held-out ones (None: nobody), and the names of these.

    Held out are those of `config.held_speakers` that are there; where none is, every fifth speaker, unless the list is empty.

    Raises:
        CmetError: nobody is left to train on, or faces and voices do not match.
    """
    people = sorted({speaker for speaker, _ in faces})
    held = [p for p in people if p in config.held_speakers]
    if not held and config.held_speakers and len(people) > 1:
        held = people[::5]
    if len(held) == len(people):
        raise InvalidInput(
            f"Every speaker with faces is held out ({', '.join(held)}); leave some out of 'held_speakers' in the configuration."
        )

    def batches(chosen: Callable[[str], bool]) -> PairedBatches:
        voices = np.array([chosen(str(s)) for s in speech.speaker])
        return PairedBatches(speech.chosen(voices), {k: v for k, v in faces.items() if chosen(k[0])}, config)

    known = batches(lambda speaker: speaker not in held)
    try:
        held_out = batches(lambda speaker: speaker in held) if held else None
    except CmetError as error:
        log.warning("the held-out speakers cannot be measured with: %s", error)
        held_out = None
    return known, held_out, held
