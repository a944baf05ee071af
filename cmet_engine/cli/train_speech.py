"""`cmet train teacher|encoder`: the speech encoder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmet_engine.cli.arguments import Adder, add_machine, add_speech, existing
from cmet_engine.models import device

if TYPE_CHECKING:
    from cmet_engine.training.speech.config import TrainingConfig


def add_commands(command: Adder, train: Any) -> None:
    """Add the commands to `train`; `command` is `cli.build_parser`'s helper."""
    _add_encoder(command, train)
    _add_teacher(command, train)


def _add_encoder(command: Adder, train: Any) -> None:
    sub = command("encoder", _encoder, "the speech encoder", train)
    add_speech(sub)
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="weights, loss curves and checkpoints; an interrupted run goes on from there",
    )
    add_machine(sub)
    sub.add_argument("--no-resume", action="store_true", help="begin anew instead of going on from the last checkpoint")
    sub.add_argument(
        "--embed",
        action="store_true",
        help="then make it the embedded encoder: weights, library and checksums of this copy",
    )


def _encoder(options: argparse.Namespace) -> Any:
    from cmet_engine.training.speech.recipe import train_folder

    encoder = train_folder(
        options.data, options.output, config=training_config(options.config), device=device.resolve(options.device),
        workers=options.workers, resume=not options.no_resume, cache=options.cache, progress=options.progress,
    )  # fmt: skip
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
        "teacher", _teacher, "features of emotion2vec+ large for labelled speech, which the encoder learns from", train
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
