"""`cmet models`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cmet_engine.choices import PORTRAITS
from cmet_engine.cli.options import Adder, device_argument
from cmet_engine.errors import InvalidInput
from cmet_engine.models import licences
from cmet_engine.models.assets import OWN
from cmet_engine.models.networks import NETWORKS


def add_command(command: Adder) -> None:
    """Add the command and its actions."""
    actions = command("models", list_models, "published weights: list, pull, convert, check").add_subparsers(
        title="actions", metavar="ACTION"
    )
    sub = command("list", list_models, "what is there, where it came from, how large it is, its licence", actions)
    sub.add_argument("--licences", action="store_true", help="instead, what each embedded weight was made from")
    sub = command("pull", pull, "download weights, check them, convert them once to safetensors", actions)
    sub.add_argument(
        "name", metavar="NAME", help="cmet (connector, EDTalk renderer, Audio2Lip), liveportrait or emotion2vec"
    )
    sub.add_argument(
        "--accept-licence", action="store_true", help="you have read the licence and accept it (needed once)"
    )
    sub.add_argument("--force", action="store_true", help="download again what is there")
    sub = command("convert", convert, "convert published weights that were fetched by hand", actions)
    sub.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="a checkpoint, or the folder with EDTalk's expression presets",
    )
    sub.add_argument(
        "--network", metavar="NAME", help="what the file holds, where two networks look alike (see `cmet models list`)"
    )
    sub.add_argument(
        "--accept-licence", action="store_true", help="you have read the licence and accept it (performrecast, once)"
    )
    sub.add_argument("--force", action="store_true", help="replace weights of the same network")
    sub = command("train", train, "train a variant of an embedded model that cannot be embedded", actions)
    sub.add_argument(
        "variant",
        choices=("research",),
        help="the speech encoder, with research-only speech beside the rest, and, given faces, the connector",
    )
    sub.add_argument(
        "--data", type=Path, action="append", required=True, metavar="DIR",
        help="labelled speech: CREMA-D, EMO-DB, RAVDESS and MEAD (`docs/training.md`); may be given several times",
    )  # fmt: skip
    sub.add_argument("--cache", type=Path, metavar="DIR", help="keep what is prepared there for the next run")
    sub.add_argument(
        "--pictures", type=Path, metavar="DIR", help="also train the connector, on labelled pictures of faces,"
    )
    sub.add_argument(
        "--faces", type=Path, metavar="DIR", help="and on tracks of talking people that `cmet track` wrote"
    )
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"folder for the weights; {OWN}=DIR then uses them",
    )
    sub = command(
        "check", check, "draw a sample with downloaded weights and say whether it is as it should be", actions
    )
    sub.add_argument("name", choices=PORTRAITS, metavar="NAME", help="liveportrait or performrecast")
    device_argument(sub)


def list_models(options: argparse.Namespace) -> Any:
    """List the published weights, or what the embedded ones were made from."""
    if getattr(options, "licences", False):
        return licences.rows() if options.json else print(licences.text())
    from cmet_engine.models import registry  # brings numpy

    rows = list(registry.describe())
    if options.json:
        return rows
    for row in rows:
        state = f"here, {row['size'] / 1e6:.0f} MB" if row["here"] else f"not here; cmet models pull {row['package']}"
        print(f"{row['name']:<24} {state}\n{'':<24} {row['about']}; {row['licence']}, from {row['source']}")
    return None


def pull(options: argparse.Namespace) -> Any:
    """Download published weights; on a terminal the licence may be accepted on the way."""
    from cmet_engine.models import registry, store  # bring numpy

    accepted = options.accept_licence
    if options.name in registry.PACKAGES and not (accepted or registry.accepted(options.name)) and sys.stdin.isatty():
        licence = registry.PACKAGES[options.name].licence
        print(f"The weights of {options.name} are under the {licence.name}: {licence.url}", file=sys.stderr)
        accepted = input("Have you read it, and do you accept it? [y/N] ").strip().lower() in ("y", "yes")
    pulled = store.pull(options.name, accept_licence=accepted, force=options.force, progress=options.progress)
    return {"weights": [weights.path for weights in pulled]}


def convert(options: argparse.Namespace) -> Any:
    """Convert weights that were fetched by hand."""
    from cmet_engine.models import store  # brings numpy

    if options.network is not None and options.network not in NETWORKS:
        raise InvalidInput(f"--network is '{options.network}', not one of {', '.join(NETWORKS)}.")
    how = {"expected": options.network, "accept_licence": options.accept_licence, "force": options.force}
    return {"weights": [weights.path for file in options.files for weights in store.convert(file, **how)]}


def train(options: argparse.Namespace) -> Any:
    """Train the research variant of the speech encoder and, where there are faces, of the connector."""
    from cmet_engine.emotion.embedded_connector import CONNECTOR_FILE
    from cmet_engine.emotion.predictions import ENCODER_FILES
    from cmet_engine.emotion.speech import load_encoder
    from cmet_engine.training.connector.folders import train_from_folders as train_connector
    from cmet_engine.training.speech.config import TrainingConfig
    from cmet_engine.training.speech.recipe import train_folders

    if (options.pictures is None) != (options.faces is None):
        raise InvalidInput("The connector is trained on --pictures and --faces; give both or neither.")
    weights = options.output / ENCODER_FILES[0]
    config = TrainingConfig.research()
    made = train_folders(options.data, options.output, config=config, cache=options.cache, progress=options.progress)
    made.replace(weights)
    result: dict[str, Any] = {"encoder": weights}
    if options.pictures is not None:
        result["connector"] = options.output / CONNECTOR_FILE
        train_connector(
            result["connector"], speech=options.data, pictures=options.pictures, tracks=[options.faces],
            encoder=load_encoder(str(weights)), checkpoint=options.output / "connector.checkpoint", force=True,
            progress=options.progress,
        )  # fmt: skip
    note = f"{OWN}={options.output} uses it; cmet eval speech --data … --weights {weights} --config {options.output / 'config.json'} measures it."
    return {**result, "note": [note]}


def check(options: argparse.Namespace) -> Any:
    """Draw our sample with downloaded weights and measure."""
    from cmet_engine.evaluation import portrait
    from cmet_engine.render.liveportrait.generator import PortraitGenerator

    messages: list[str] = []
    generator = PortraitGenerator(name=options.name, device=getattr(options, "device", "auto"), warn=messages.append)
    findings = portrait.check(generator, progress=options.progress)
    options.progress.close()
    options.status = 0 if all(finding.passed for finding in findings) else 1
    if options.json:
        return {"passed": options.status == 0, "findings": [vars(finding) for finding in findings], "note": messages}
    for finding in findings:
        print(f"{'ok' if finding.passed else 'WRONG':>6}  {finding.value:7.3f}  {finding.about}")
    verdict = "pass" if options.status == 0 else f"{options.name} does not draw as it should; see WRONG above"
    return {"result": verdict, "note": messages}
