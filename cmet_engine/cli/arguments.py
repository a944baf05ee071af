"""Arguments and checks that several commands of `cmet train` and `cmet eval` share."""

import argparse
from collections.abc import Callable
from pathlib import Path

from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.models.device import DEVICES

Adder = Callable[..., argparse.ArgumentParser]
"""`cli.build_parser`'s helper: adds a command with its name, function, help and parent."""


def add_observations(sub: argparse.ArgumentParser) -> None:
    """What `cmet train observe` wrote, and the held-out clips."""
    sub.add_argument(
        "--observations", type=Path, required=True, metavar="DIR", help="folder that `cmet train observe` wrote"
    )
    add_test_clips(sub)


def add_test_clips(sub: argparse.ArgumentParser) -> None:
    """The held-out clips."""
    sub.add_argument("--test-clips", type=Path, metavar="FILE", help="names of the held-out clips, one a line")


def add_speech(sub: argparse.ArgumentParser) -> None:
    """Folders of labelled speech, with the configuration of the encoder's training."""
    sub.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="labelled speech: an index.csv, MEAD or CREMA-D as distributed; may be given several times",
    )
    sub.add_argument("--cache", type=Path, metavar="DIR", help="keep what is prepared there for the next run")
    sub.add_argument(
        "--config", type=Path, metavar="FILE", help="JSON with every number of the training, held-out speakers included"
    )


def add_speech_folders(sub: argparse.ArgumentParser) -> None:
    """Folders of labelled speech."""
    sub.add_argument(
        "--speech",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="labelled speech: an index.csv, MEAD or CREMA-D as distributed; may be given several times",
    )


def add_faces(sub: argparse.ArgumentParser) -> None:
    """The three ways in which faces are given to the connector."""
    sub.add_argument("--faces", type=Path, metavar="DIR", help="with --pictures: tracks of talking people (.npz)")
    sub.add_argument(
        "--pictures", type=Path, metavar="DIR", help="labelled pictures: index.csv and mediapipe_blendshapes.npz"
    )
    sub.add_argument(
        "--videos",
        type=Path,
        metavar="DIR",
        help="videos of the same people as the speech: MEAD or CREMA-D as distributed",
    )
    sub.add_argument(
        "--codes",
        type=Path,
        metavar="DIR",
        help="EDTalk codes of the same people: SPEAKER/EMOTION/NAME.npy, each [n, 10]",
    )


def add_device(sub: argparse.ArgumentParser, default: str) -> None:
    """Where the network runs."""
    sub.add_argument("--device", choices=DEVICES, default=default, help=f"where the network runs (default {default})")


def add_machine(sub: argparse.ArgumentParser) -> None:
    """Device and threads of a training that can be resumed."""
    sub.add_argument(
        "--device",
        choices=DEVICES,
        default="cpu",
        help="where the network runs; cuda trains in mixed precision (default cpu)",
    )
    sub.add_argument("--workers", type=int, default=1, metavar="N", help="threads that make batches ahead (default 1)")
    sub.set_defaults(stopped="Stopped; the same command goes on from the last checkpoint.")


def existing(*paths: Path | None) -> None:
    """Refuse paths that are given and are not there.

    Raises:
        NotFound: one is not.
    """
    for path in paths:
        if path is not None and not path.exists():
            raise NotFound(f"{path} does not exist.")


def check_faces(options: argparse.Namespace) -> None:
    """Check that faces are given in one way, and that every folder is there.

    Raises:
        CmetError: they are not.
    """
    existing(*options.speech, options.faces, options.pictures, options.videos, options.codes)
    if (options.pictures is None) != (options.faces is None):
        raise InvalidInput(
            "Labelled pictures and tracks of talking people belong together; give both --pictures and --faces."
        )
    given = [name for name in ("pictures", "videos", "codes") if getattr(options, name) is not None]
    if len(given) != 1:
        found = " and ".join(f"--{name}" for name in given) or "none"
        raise InvalidInput(
            f"Faces are wanted in one way, found {found}: give --pictures with --faces, --videos, or --codes."
        )
