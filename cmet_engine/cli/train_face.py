"""`cmet train observe|animate|basis|solver|motion|refiner|identity|occlusion`: the models of faces and pictures."""

import argparse
from pathlib import Path
from typing import Any

from cmet_engine.cli.arguments import Adder, add_device, add_machine, add_observations, add_test_clips, existing
from cmet_engine.files import check_writable, whole_file
from cmet_engine.models import device


def add_commands(command: Adder, train: Any) -> None:
    """Add the commands to `train`; `command` is `cli.build_parser`'s helper."""
    for add in (
        _add_observe, _add_animate, _add_basis, _add_solver, _add_motion, _add_refiner, _add_identity, _add_occlusion,
    ):  # fmt: skip
        add(command, train)


def _add_observe(command: Adder, train: Any) -> None:
    sub = command("observe", _observe, "observe pictures and clips: the data that solver and basis learn from", train)
    sub.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="holds faces/stills, clips/*.mp4 and models/face_landmarker.task",
    )
    sub.add_argument("--variants", type=int, metavar="N", help="bent copies of every picture (default 2)")
    sub.add_argument(
        "--take",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="recorded coefficients, which some of the copies show; several times",
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the observations")


def _observe(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face.observe import VARIANTS, observe

    existing(options.data, *options.take)
    variants = VARIANTS if options.variants is None else options.variants
    observe(options.data, options.output, variants=variants, takes=options.take, progress=options.progress)
    return {"observations": options.output}


def _add_animate(command: Adder, train: Any) -> None:
    sub = command(
        "animate", _animate, "move the faces of observed pictures as takes say: clips where there are none", train
    )
    sub.add_argument(
        "--observations", type=Path, required=True, metavar="DIR", help="folder that `cmet train observe` wrote"
    )
    sub.add_argument(
        "--take", type=Path, action="append", required=True, metavar="FILE", help="recorded coefficients; several times"
    )
    sub.add_argument(
        "--task", type=Path, required=True, metavar="FILE", help="the teacher: MediaPipe's face_landmarker.task"
    )
    sub.add_argument("--tracks", type=Path, metavar="DIR", help="also write tracks, for `cmet train connector --faces`")


def _animate(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face.animate import animate

    existing(options.observations, options.task, *options.take)
    made = animate(options.observations, options.take, options.task, tracks=options.tracks, progress=options.progress)
    return {"clips": made}


def _add_basis(command: Adder, train: Any) -> None:
    sub = command("basis", _basis, "coefficients to landmark motion", train)
    add_observations(sub)
    sub.add_argument(
        "--rig",
        type=Path,
        required=True,
        metavar="FILE",
        help="shapes of a rig (ict_facekit_light.npz), for what data never show",
    )


def _basis(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face.basis import train_basis

    existing(options.observations, options.rig, options.test_clips)
    return {"basis": train_basis(options.observations, options.rig, test_clips=options.test_clips)}


def _add_solver(command: Adder, train: Any) -> None:
    sub = command("solver", _solver, "landmarks to coefficients", train)
    add_observations(sub)
    sub.add_argument(
        "--task", type=Path, required=True, metavar="FILE", help="the teacher: MediaPipe's face_landmarker.task"
    )
    sub.add_argument("--epochs", type=int, metavar="N", help="times that all faces are shown (default 12)")


def _solver(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face.solver import SOLVER_EPOCHS, train_solver

    existing(options.observations, options.task, options.test_clips)
    epochs = SOLVER_EPOCHS if options.epochs is None else options.epochs
    solver = train_solver(
        options.observations, options.task, test_clips=options.test_clips, epochs=epochs, progress=options.progress
    )
    return {"solver": solver}


def _add_motion(command: Adder, train: Any) -> None:
    sub = command("motion", _motion, "coefficients to landmark motion as the warp renderer draws it", train)
    add_observations(sub)
    sub.add_argument(
        "--stills", type=Path, required=True, metavar="DIR", help="folder of the pictures that were observed"
    )
    sub.add_argument(
        "--task",
        type=Path,
        required=True,
        metavar="FILE",
        help="MediaPipe's face_landmarker.task, which scores warped faces",
    )
    sub.add_argument("--afresh", action="store_true", help="start from the basis, not from the embedded model")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="weights to write (.safetensors)")


def _motion(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face.samples import read_names
    from cmet_engine.training.motion.recipe import train_from_observations

    existing(options.observations, options.stills, options.task, options.test_clips)
    with whole_file(options.output) as temporary:
        train_from_observations(
            options.observations, options.stills, options.task, temporary,
            test_clips=read_names(options.test_clips), afresh=options.afresh, progress=options.progress,
        )  # fmt: skip
    return {"motion": options.output}


def _add_refiner(command: Adder, train: Any) -> None:
    sub = command("refiner", _refiner, "the network that refines the draft, as the fit to a clip starts from it", train)
    sub.add_argument("--clips", type=Path, required=True, metavar="DIR", help="videos of talking people (.mp4)")
    add_test_clips(sub)
    sub.add_argument(
        "--work",
        type=Path,
        required=True,
        metavar="DIR",
        help="training pairs and checkpoint; an interrupted run goes on from there",
    )
    add_device(sub, "cpu")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="weights to write (.safetensors)")


def _refiner(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face.samples import read_names
    from cmet_engine.training.refiner import train_generic

    existing(options.clips, options.test_clips)
    check_writable(options.output)
    where = device.resolve(options.device)
    held_out = read_names(options.test_clips)
    clips = [path for path in sorted(options.clips.glob("*.mp4")) if path.stem not in held_out]
    figures = train_generic(clips, options.output, options.work, device=where, progress=options.progress)
    return {"refiner": options.output, **figures}


def _add_identity(command: Adder, train: Any) -> None:
    sub = command("identity", _identity, "the signatures that tell people's faces apart", train)
    sub.add_argument(
        "--pictures", type=Path, required=True, metavar="FILE", help="a table of pictures (columns path and person)"
    )
    sub.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="folder for bent pictures, which are made once"
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="weights to write (.safetensors)")


def _identity(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face.identity import train_identity

    existing(options.pictures)
    counts = train_identity(options.pictures, options.output, options.work, progress=options.progress)
    return {"identity": options.output, **counts}


def _add_occlusion(command: Adder, train: Any) -> None:
    sub = command("occlusion", _occlusion, "the network that sees what lies before a face", train)
    sub.add_argument(
        "--pictures",
        type=Path,
        required=True,
        metavar="FILE",
        help="a table of faces (columns path, person and, where something covers one, mask)",
    )
    sub.add_argument("--config", type=Path, metavar="FILE", help="JSON with every number of the training")
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="weights, figures, loss curves and checkpoint"
    )
    add_machine(sub)


def _occlusion(options: argparse.Namespace) -> Any:
    from cmet_engine.training.occlusion.recipe import WEIGHTS, OcclusionConfig, train_occlusion

    existing(options.pictures, options.config)
    config = OcclusionConfig()
    if options.config is not None:
        config = OcclusionConfig.from_json(options.config.read_text("utf-8"), options.config.name)
    figures = train_occlusion(
        options.pictures, options.output, config=config, device=device.resolve(options.device), workers=options.workers,
        progress=options.progress,
    )  # fmt: skip
    return {"occlusion": options.output / WEIGHTS, **figures}
