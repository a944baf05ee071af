"""A connector trained from folders: what `cmet train connector` does."""

import json
import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cmet_engine import arkit
from cmet_engine.emotion.connector import Connector
from cmet_engine.emotion.connector_weights import ConnectorSize, read_connector, save_connector
from cmet_engine.emotion.embedded_connector import CONNECTOR_FILE
from cmet_engine.emotion.speech import load_encoder
from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.files import check_writable, whole_file
from cmet_engine.models import assets, licences, registry
from cmet_engine.progress import Progress
from cmet_engine.training.connector.batches import Batches
from cmet_engine.training.connector.config import ConnectorConfig
from cmet_engine.training.connector.faces import read_codes, read_tracks, track_videos
from cmet_engine.training.connector.recipe import PARTS, train_connector
from cmet_engine.training.connector.speech import InPublishedSpace, Speech, SpeechEncoder, read_speech
from cmet_engine.training.connector.split import split_pairs, split_unpaired
from cmet_engine.training.corpora.speech import read_corpus
from cmet_engine.training.curves import write_losses
from cmet_engine.training.labelled_pictures import load_pictures

log = logging.getLogger(__name__)

Measure = Callable[[Connector, Batches, Batches], dict[str, Any]]
"""Figures of a network from batches of what it was trained on and of what was held out: `evaluation.connector.compare_models`."""

Codes = dict[tuple[str, str], list[np.ndarray]]
"""(speaker, emotion) -> expressions over time, each [n, D]."""


def train_from_folders(
    output: str | Path,
    *,
    speech: Sequence[str | Path],
    pictures: str | Path | None = None,
    tracks: Sequence[str | Path] = (),
    videos: str | Path | None = None,
    codes: str | Path | None = None,
    config: ConnectorConfig | None = None,
    encoder: SpeechEncoder | None = None,
    measure: Measure | None = None,
    checkpoint: Path | None = None,
    device: str = "cpu",
    workers: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a connector from folders and write it with its figures; one of three kinds of faces is given.

    - `pictures` and `tracks`: data that is not paired (D = 52), as the embedded connector is trained;
    - `videos`: MEAD or CREMA-D as distributed, tracked first (D = 52, pairs of the same actor);
    - `codes`: EDTalk codes, `SPEAKER/EMOTION/NAME.npy` (D = 10, the paper's settings unless `config` says otherwise).

    Args:
        output: safetensors file for D = 52, a checkpoint in the published form (`state_dict`) for D = 10.
        speech, encoder: corpus folders, and what encodes them; see `read_pairs`.
        measure: measures the network on held-out speakers, people and tracks; None measures nothing.
        config, checkpoint, device, workers, progress: see `train_connector`; `force` replaces earlier weights.

    Returns:
        The figures of the run. Its loss curve lies beside `output` as `.csv` and `.svg`.

    Raises:
        CmetError: data is missing or of an unknown layout, or the output cannot be written.
    """  # fmt: skip
    output = check_writable(output, force=force)
    check_one_kind(pictures, videos, codes)
    config = config or (ConnectorConfig() if codes is None else ConnectorConfig.published())
    known: Batches
    held_out: Batches | None
    if pictures is not None:
        labelled, talking = load_pictures(pictures), read_tracks(tracks)  # read before the speech, which takes long
        voices = read_speech(speech, encoder or load_encoder(), progress)
        known, held_out = split_unpaired(voices, talking, labelled.reviewed(), config)
        figures: dict[str, Any] = {"speech_clips": len(voices.emotion), "held_speakers": list(config.held_speakers)}
    else:
        cache = output.parent / f"{output.stem}-tracks"
        voices, paired = read_pairs(
            speech, videos, codes, encoder=encoder, device=device, cache=cache, progress=progress
        )
        known, held_out, held = split_pairs(voices, paired, config)
        figures = {"pairs": len(paired), "held_speakers": held}
    run: dict[str, Any] = {"checkpoint": checkpoint, "device": device, "workers": workers, "progress": progress}
    network, losses = train_connector(known, config, **run)
    figures["losses"] = dict(zip(("step", *PARTS), losses[-1], strict=True))
    if measure is not None and held_out is not None:
        figures["held_out"] = measure(network.cpu(), known, held_out)
    (save_connector if codes is None else _save_published)(network.cpu(), asdict(config), output, figures, force=force)
    write_losses(output.parent, PARTS, losses, output.stem)
    return figures


def check_one_kind(pictures: str | Path | None, videos: str | Path | None, codes: str | Path | None) -> None:
    """Refuse faces that are given in no way, or in several.

    Raises:
        InvalidInput: they are.
    """
    if (pictures is not None) + (videos is not None) + (codes is not None) != 1:
        raise InvalidInput(
            "Give one kind of faces: labelled pictures with tracks, a folder of videos, or a folder of codes."
        )


def read_pairs(
    speech: Sequence[str | Path],
    videos: str | Path | None,
    codes: str | Path | None,
    *,
    encoder: SpeechEncoder | None = None,
    device: str = "cpu",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Speech, Codes]:
    """Speech and faces of the same people, from folders.

    Args:
        speech: corpus folders, see `read_speech`.
        videos, codes: one of the two folders.
        encoder: encodes the speech; None: the embedded encoder, or, with `codes`, emotion2vec+ large for recordings that have
            no such features yet, if its weights are on this machine.
        device: where emotion2vec+ large runs.
        cache: folder in which the tracks of `videos` are kept.
        progress: called as `progress(stage, done, total)`.

    Raises:
        CmetError: data is missing or of an unknown layout.
    """
    corpora = [read_corpus(folder) for folder in speech]  # a wrong folder is refused before the videos are tracked
    if codes is None:
        assert videos is not None
        faces = track_videos(videos, cache, progress)
        return read_speech(speech, encoder or load_encoder(), progress), faces
    faces = read_codes(codes)
    if encoder is None and registry.is_here("emotion2vec_plus_large"):
        from cmet_engine.emotion.emotion2vec import PublishedEncoder  # brings transformers

        encoder = PublishedEncoder(device=device)
    elif encoder is None:
        encoder = InPublishedSpace(load_encoder())
        if any(len(corpus.teacher) < len(corpus.recordings) for corpus in corpora):
            log.warning(
                "recordings without features of emotion2vec+ large are encoded by the embedded encoder, which only comes near "
                "what the published connector was trained with; `cmet models pull emotion2vec` brings that here."
            )
    return read_speech(speech, encoder, progress, teacher=True), faces


def embed_connector(path: str | Path) -> Path:
    """Make a trained connector of 52 coefficients the embedded one of this copy: weights and checksum; returns the file.

    Raises:
        CmetError: it is not such a connector, or the installation cannot be written.
    """
    network, _, _ = read_connector(path)
    if network.expression_dim != arkit.COUNT:
        raise InvalidInput(
            f"{path} works on {network.expression_dim} numbers a frame; the embedded connector on {arkit.COUNT}."
        )
    embedded = assets.ASSETS / licences.place(CONNECTOR_FILE)
    with whole_file(embedded, force=True) as temporary:
        temporary.write_bytes(Path(path).read_bytes())
    assets.record(CONNECTOR_FILE)
    return embedded


def read_trained(path: str | Path) -> tuple[Connector, ConnectorConfig, dict[str, Any]]:
    """A connector in evaluation mode, the settings it was trained with, and its figures.

    Args:
        path: what `cmet train connector` wrote: `.safetensors`, or `.pth` in the published form. The published checkpoint
            itself holds no settings and no figures: then the settings are the paper's.

    Raises:
        CmetError: the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    if path.suffix in (".pth", ".pt"):
        return _read_published(path)
    network, settings, figures = read_connector(path)
    try:
        return network, ConnectorConfig(**settings), figures
    except TypeError as error:
        raise InvalidInput(f"{path.name} is not a connector that `cmet train connector` wrote.") from error


def _save_published(
    network: Connector, settings: dict[str, Any], output: Path, figures: dict[str, Any], *, force: bool
) -> None:
    """Write a connector in the published form, with its settings and figures beside the weights."""
    content = {
        "state_dict": network.state_dict(), "config": json.dumps(settings), "figures": json.dumps(figures),
    }  # fmt: skip
    with whole_file(output, force=force) as temporary:
        torch.save(content, temporary)


def _read_published(path: Path) -> tuple[Connector, ConnectorConfig, dict[str, Any]]:
    """`read_trained` of a checkpoint in the published form."""
    if not path.is_file():
        raise NotFound(f"The connector {path} is missing.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        config = (
            ConnectorConfig(**json.loads(content["config"])) if "config" in content else ConnectorConfig.published()
        )
        network = ConnectorSize.of(asdict(config)).build()
        network.load_state_dict(content["state_dict"])
        return network.eval(), config, json.loads(content.get("figures", "{}"))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InvalidInput(f"{path.name} is not a connector that `cmet train connector` wrote.") from error
