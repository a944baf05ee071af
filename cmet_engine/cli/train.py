"""`cmet train …`: the models made anew from plain folders and files.

Each command takes folders and files; what they must hold stands in the functions that it calls.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from cmet_engine.cli import train_connector, train_face, train_speech
from cmet_engine.cli.arguments import Adder, existing
from cmet_engine.files import check_writable


def add_commands(command: Adder, commands: Any) -> None:
    """Add `train` and its commands to the command line.

    Args:
        command: `cli.build_parser`'s helper.
        commands: the parsers of the top level, which the helper adds to.
    """
    train = command("train", None, "train the embedded models on your own data").add_subparsers(
        title="what", metavar="WHAT", required=True
    )
    train_face.add_commands(command, train)
    train_speech.add_commands(command, train)
    train_connector.add_commands(command, train)
    _add_pictures(command, train)
    _add_classifier(command, train)


def _add_pictures(command: Adder, train: Any) -> None:
    sub = command(
        "pictures", _pictures, "labelled pictures scored once, for the classifier and the unpaired connector", train
    )
    sub.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="pictures with an index.csv (path, person, emotion) beside them, or MEAD's or CREMA-D's videos as distributed",
    )
    sub.add_argument(
        "--landmarker",
        type=Path,
        metavar="FILE",
        help="MediaPipe's face_landmarker.task, which scores (default: the embedded solver does)",
    )
    sub.add_argument("--frames", type=int, default=3, metavar="N", help="pictures taken of each video (default 3)")
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="for --pictures of other trainings"
    )
    sub.add_argument("--force", action="store_true", help="replace earlier scores")


def _pictures(options: argparse.Namespace) -> Any:
    from cmet_engine.training.labelled_pictures import score_pictures

    existing(options.data, options.landmarker)
    counts = score_pictures(
        options.data, options.output, landmarker=options.landmarker, frames=max(options.frames, 1), force=options.force,
        progress=options.progress,
    )  # fmt: skip
    return {"folder": options.output, "pictures": counts["pictures"], "left out": counts["left_out"]}


def _add_classifier(command: Adder, train: Any) -> None:
    sub = command("classifier", _classifier, "the expression classifier, which measures edits", train)
    sub.add_argument(
        "--pictures",
        type=Path,
        required=True,
        metavar="DIR",
        help="labelled pictures: index.csv and mediapipe_blendshapes.npz",
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="weights to write (.safetensors)")
    sub.add_argument("--force", action="store_true", help="replace earlier weights")
    sub.add_argument("--embed", action="store_true", help="then make it the embedded classifier of this copy")


def _classifier(options: argparse.Namespace) -> Any:
    from cmet_engine.training.expression_classifier import embed_classifier, train_classifier

    existing(options.pictures)
    check_writable(options.output, force=options.force)
    classifier, figures = train_classifier(options.pictures)
    classifier.save(options.output, force=options.force)
    if options.embed:
        embed_classifier(classifier)
    if options.json:
        return figures
    return json.dumps({name: f["accuracy"] for name, f in figures.items() if "accuracy" in f}, indent=2)
