"""`cmet train connector|config|extract`: the connector, its settings, and EDTalk's codes to train it on."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmet_engine.cli.arguments import (
    Adder,
    add_device,
    add_faces,
    add_machine,
    add_speech_folders,
    check_faces,
    existing,
)
from cmet_engine.errors import InvalidInput
from cmet_engine.files import whole_file
from cmet_engine.models import device

if TYPE_CHECKING:
    from cmet_engine.training.connector.config import ConnectorConfig


def add_commands(command: Adder, train: Any) -> None:
    """Add the commands to `train`; `command` is `cli.build_parser`'s helper."""
    for add in (_add_connector, _add_config, _add_extract):
        add(command, train)


def _add_connector(command: Adder, train: Any) -> None:
    sub = command(
        "connector",
        _connector,
        "emotion of speech to expression of faces; faces come from --pictures with --faces, from --videos, or from --codes",
        train,
    )
    add_speech_folders(sub)
    add_faces(sub)
    sub.add_argument(
        "--space",
        choices=("arkit", "edtalk"),
        help="52 coefficients, or EDTalk's 10 codes with the paper's settings (default: edtalk with --codes, else arkit)",
    )
    sub.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="JSON with any number of the training's settings; `cmet train config` writes one with all",
    )
    add_machine(sub)
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="weights to write: .safetensors, or .pth with --space edtalk; loss curve (.csv, .svg) and checkpoint lie beside it, "
        "an interrupted run goes on from there",
    )
    sub.add_argument("--force", action="store_true", help="replace earlier weights")
    sub.add_argument(
        "--embed", action="store_true", help="then make it the embedded connector of this copy (52 coefficients only)"
    )


def _connector(options: argparse.Namespace) -> Any:
    from cmet_engine.evaluation.connector import compare_models
    from cmet_engine.training.connector.folders import embed_connector, train_from_folders

    _check_space(options)
    check_faces(options)
    figures = train_from_folders(
        options.output, speech=options.speech, pictures=options.pictures, tracks=[options.faces] if options.faces else [],
        videos=options.videos, codes=options.codes, config=_settings(options), measure=compare_models,
        checkpoint=options.output.with_suffix(".checkpoint"), device=device.resolve(options.device),
        workers=options.workers, force=options.force, progress=options.progress,
    )  # fmt: skip
    if options.embed:
        figures["embedded"] = str(embed_connector(options.output))
    return figures if options.json else json.dumps(figures, indent=2, default=str)


def _check_space(options: argparse.Namespace) -> None:
    """Refuse a space, a file name or --embed that does not fit the faces."""
    published = options.codes is not None
    if options.space == "edtalk" and not published:
        raise InvalidInput("No codes were given; add --codes DIR (`cmet train extract` writes them).")
    if published and options.space == "arkit":
        raise InvalidInput("--codes are of EDTalk's space; leave --space arkit out.")
    wanted = (".pth", ".pt") if published else (".safetensors",)
    if options.output.suffix not in wanted:
        raise InvalidInput(
            f"{options.output.name}: a connector of this space is written as {wanted[0]}; change the name."
        )
    if options.embed and published:
        raise InvalidInput(
            "--embed is for connectors of 52 coefficients; `cmet models convert` takes one of EDTalk's codes."
        )


def _settings(options: argparse.Namespace) -> "ConnectorConfig":
    from cmet_engine.training.connector.config import ConnectorConfig

    defaults = ConnectorConfig() if options.codes is None else ConnectorConfig.published()
    config = ConnectorConfig.load(options.config, defaults) if options.config else defaults
    if config.expression_dim != defaults.expression_dim:
        raise InvalidInput(
            f"{options.config.name}: the setting 'expression_dim' is {config.expression_dim}; these faces have "
            f"{defaults.expression_dim} numbers."
        )
    return config


def _add_config(command: Adder, train: Any) -> None:
    sub = command(
        "config", _config, "write every number of a training at its default, to change and give as --config", train
    )
    sub.add_argument(
        "what", choices=("encoder", "connector", "edtalk"), help="edtalk: a connector with the paper's settings"
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="JSON to write")
    sub.add_argument("--force", action="store_true", help="replace an earlier file")


def _config(options: argparse.Namespace) -> Any:
    from cmet_engine.training.connector.config import ConnectorConfig
    from cmet_engine.training.speech.config import TrainingConfig

    connector = ConnectorConfig.published() if options.what == "edtalk" else ConnectorConfig()
    config = TrainingConfig() if options.what == "encoder" else connector
    with whole_file(options.output, force=options.force) as temporary:
        temporary.write_text(json.dumps(asdict(config), indent=2) + "\n", "utf-8")
    return {"config": options.output}


def _add_extract(command: Adder, train: Any) -> None:
    sub = command("extract", _extract, "EDTalk's expression codes of videos, to train a connector in that space", train)
    sub.add_argument("--videos", type=Path, required=True, metavar="DIR", help="MEAD or CREMA-D videos")
    add_device(sub, "auto")
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="for --codes of `cmet train connector`"
    )


def _extract(options: argparse.Namespace) -> Any:
    from cmet_engine.training.edtalk_codes import extract_folder

    existing(options.videos)
    written = extract_folder(options.videos, options.output, device=options.device, progress=options.progress)
    return {"codes": options.output, "files": len(written)}
