"""`cmet train teacher|encoder`: the speech encoder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmet_engine.cli.arguments import Adder, add_speech, existing

if TYPE_CHECKING:
    from cmet_engine.training.speech.config import TrainingConfig


def add_commands(command: Adder, train: Any) -> None:
    """Add the commands to `train`; `command` is `cli.build_parser`'s helper."""
    _add_encoder(command, train)
    _add_teacher(command, train)


def _add_encoder(command: Adder, train: Any) -> None:
    sub = command("encoder", _encoder, "the speech encoder", train)
    add_speech(sub)
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="weights and their configuration")
    sub.add_argument(
        "--embed",
        action="store_true",
        help="then make it the embedded encoder: weights, library and checksums of this copy",
    )
    sub.set_defaults(stopped="Stopped; the same command goes on with the copy of the recordings that it was preparing.")


def _encoder(options: argparse.Namespace) -> Any:
    from cmet_engine.training.speech.recipe import train_folders

    encoder = train_folders(
        options.data,
        options.output,
        config=training_config(options.config),
        cache=options.cache,
        progress=options.progress,
    )
    if options.embed:
        from cmet_engine.evaluation.library import embed
        from cmet_engine.evaluation.speech import figures_text

        figures = embed(options.output, options.data, cache=options.cache)
        return figures if options.json else figures_text(figures)
    return {"encoder": encoder}


def training_config(path: Path | None) -> "TrainingConfig":
    """The configuration in a file; None: the defaults.

    Raises:
        CmetError: the file is missing, or a field is not as it must be.
    """
    from cmet_engine.training.speech.config import TrainingConfig

    if path is None:
        return TrainingConfig()
    existing(path)
    return TrainingConfig.from_json(path.read_text("utf-8"), path.name)


def _add_teacher(command: Adder, train: Any) -> None:
    sub = command(
        "teacher",
        _teacher,
        "features of emotion2vec+ large for labelled speech, to train a connector for EDTalk's codes",
        train,
    )
    sub.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="labelled speech: an index.csv, MEAD or CREMA-D as distributed; the features are kept there, too",
    )
    sub.set_defaults(stopped="Stopped; the same command goes on from the recordings that were kept.")


def _teacher(options: argparse.Namespace) -> Any:
    from cmet_engine.training.teacher_features import extract_teacher

    existing(options.data)
    return {"features": extract_teacher(options.data, progress=options.progress)}
