"""`cmet train …` and `cmet eval …`: the embedded models made anew, and measured.

Each command takes plain folders and files; what they must hold stands in the functions that they call.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmet_engine.emotions import BASIC
from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, whole_file
from cmet_engine.models.device import DEVICES, resolve
from cmet_engine.progress import Stage

Adder = Callable[..., argparse.ArgumentParser]


def add_commands(command: Adder, commands: Any) -> None:
    """Add `train` and `eval` to the command line; `command` is `cli.build_parser`'s helper."""
    train = command("train", None, "train the embedded models on your own data").add_subparsers(
        title="what", metavar="WHAT", required=True
    )
    sub = command("observe", _observe, "look at pictures and clips: the data that solver and basis learn from", train)
    sub.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="holds faces/stills, clips/*.mp4 and models/face_landmarker.task",
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for what was seen")
    sub = command("basis", _basis, "coefficients to landmark motion", train)
    _observations(sub)
    sub.add_argument(
        "--rig",
        type=Path,
        required=True,
        metavar="FILE",
        help="shapes of a rig (ict_facekit_light.npz), for what data never show",
    )
    sub = command("solver", _solver, "landmarks to coefficients", train)
    _observations(sub)
    sub.add_argument(
        "--task", type=Path, required=True, metavar="FILE", help="the teacher: MediaPipe's face_landmarker.task"
    )
    sub.add_argument("--epochs", type=int, metavar="N", help="times that all faces are shown (default: see the code)")
    sub = command("motion", _motion, "coefficients to landmark motion as the warp renderer draws it", train)
    _observations(sub)
    sub.add_argument(
        "--stills", type=Path, required=True, metavar="DIR", help="folder of the pictures that were observed"
    )
    sub.add_argument(
        "--task", type=Path, required=True, metavar="FILE", help="the reader: MediaPipe's face_landmarker.task"
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="weights to write (.safetensors)")
    sub = command(
        "refiner", _refiner, "the network that blends frames of a clip, as the fit to a clip starts from it", train
    )
    sub.add_argument("--clips", type=Path, required=True, metavar="DIR", help="videos of talking people (.mp4)")
    sub.add_argument("--test-clips", type=Path, metavar="FILE", help="names of the clips kept aside, one a line")
    sub.add_argument("--work", type=Path, required=True, metavar="DIR", help="lessons and checkpoint; a run goes on from there")  # fmt: skip
    sub.add_argument("--device", choices=DEVICES, default="cpu", help="where the network runs (default cpu)")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="weights to write (.safetensors)")
    sub = command("encoder", _encoder, "the speech encoder", train)
    _speech_arguments(sub)
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="weights, loss curves and checkpoints; an interrupted run goes on from there",
    )
    _machine(sub)
    sub.add_argument("--no-resume", action="store_true", help="begin anew instead of going on from the last checkpoint")
    sub.add_argument(
        "--embed",
        action="store_true",
        help="then make it the embedded encoder: weights, library and checksums of this copy",
    )
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
    sub = command(
        "connector",
        _connector,
        "emotion of speech to expression of faces; faces come from --pictures with --faces, from --videos, or from --codes",
        train,
    )
    _speech_folders(sub)
    _faces(sub)
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
    _machine(sub)
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
    sub = command(
        "config", _config, "write every number of a training at its default, to change and give as --config", train
    )
    sub.add_argument(
        "what", choices=("encoder", "connector", "edtalk"), help="edtalk: a connector with the paper's settings"
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="JSON to write")
    sub.add_argument("--force", action="store_true", help="replace an earlier file")
    sub = command("extract", _extract, "EDTalk's expression codes of videos, to train a connector in that space", train)
    sub.add_argument("--videos", type=Path, required=True, metavar="DIR", help="MEAD or CREMA-D videos")
    sub.add_argument("--device", choices=DEVICES, default="auto")
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="for --codes of `cmet train connector`"
    )
    sub = command(
        "pictures", _pictures, "labelled pictures scored once, for the judge and the unpaired connector", train
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
    sub = command("judge", _judge, "the judge that tells the emotion of a face", train)
    sub.add_argument(
        "--pictures",
        type=Path,
        required=True,
        metavar="DIR",
        help="labelled pictures: index.csv and mediapipe_blendshapes.npz",
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="judge to write (.safetensors)")
    sub.add_argument("--force", action="store_true", help="replace an earlier judge")
    sub.add_argument("--embed", action="store_true", help="then make it the embedded judge of this copy")

    evaluate = command("eval", None, "measure the embedded models on people they never saw").add_subparsers(
        title="what", metavar="WHAT", required=True
    )
    sub = command(
        "solver",
        _eval_solver,
        "landmarks to coefficients against the teacher, per coefficient; and the basis",
        evaluate,
    )
    _observations(sub)
    sub = command("speech", _eval_speech, "the speech encoder on speakers never heard", evaluate)
    _speech_arguments(sub)
    sub.add_argument("--weights", type=Path, metavar="FILE", help="an encoder of yours (default: the embedded one)")
    sub.add_argument(
        "--speakers",
        nargs="+",
        metavar="NAME",
        help="measure on these, or on all, for recordings that the encoder never heard (default: those that the configuration "
        "keeps from training)",
    )
    sub.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="leave every speaker out once: how well an encoder trained on this corpus hears people it never heard, without training "
        "it (listens to the corpus in other voices first, as the training does)",
    )
    sub = command(
        "emotion", _eval_emotion, "what a judge tells of real faces, edited tracks and rendered frames", evaluate
    )
    _clips(sub)
    sub.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="labelled pictures, to measure the judge itself on people kept aside",
    )
    sub.add_argument("--no-render", action="store_true", help="judge the tracks alone")
    sub.add_argument("--judge", type=Path, metavar="FILE", help="a judge of yours (default: the embedded one)")
    sub.add_argument(
        "--embed",
        action="store_true",
        help="keep the figures as what `cmet emotions` shows of each emotion in this copy",
    )
    sub = command(
        "connector",
        _eval_connector,
        "the connector against ridge and a small MLP, on people and voices kept aside",
        evaluate,
    )
    _speech_folders(sub)
    _faces(sub)
    sub.add_argument(
        "--tracks",
        type=Path,
        metavar="DIR",
        help="with --videos: keep their tracks there (training keeps them in NAME-tracks beside its output)",
    )
    sub.add_argument("--weights", type=Path, metavar="FILE", help="a connector of yours (default: the embedded one)")
    sub.add_argument("--leave-out", action="store_true", help="also train without each emotion and ask for it (long)")
    sub = command(
        "renderer", _eval_renderer, "the refined renderer against the draft, on the held-out end of each clip", evaluate
    )
    _clips(sub)
    sub.add_argument("--quality", choices=("standard", "best"), default="standard")
    sub.add_argument("--no-fit", action="store_true", help="measure the generic start, not fitted to the clip")
    sub.add_argument("--device", choices=DEVICES, default="auto")
    sub = command("edit", _eval_edit, "is the edit in the picture, and everything else still there", evaluate)
    _clips(sub)


def _observations(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--observations", type=Path, required=True, metavar="DIR", help="folder that `cmet train observe` wrote"
    )
    sub.add_argument("--test-clips", type=Path, metavar="FILE", help="names of the clips kept aside, one a line")


def _speech_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="labelled speech: an index.csv, MEAD or CREMA-D as distributed",
    )
    sub.add_argument("--cache", type=Path, metavar="DIR", help="keep the acoustics there for the next run")
    sub.add_argument(
        "--config", type=Path, metavar="FILE", help="JSON with every number of the training, speakers held out included"
    )


def _machine(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--device",
        choices=DEVICES,
        default="cpu",
        help="where the network runs; cuda trains in mixed precision (default cpu)",
    )
    sub.add_argument("--workers", type=int, default=1, metavar="N", help="threads that make batches ahead (default 1)")
    sub.set_defaults(stopped="Stopped; the same command goes on from the last checkpoint.")


def _speech_folders(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--speech",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="labelled speech: an index.csv, MEAD or CREMA-D as distributed; may be given several times",
    )


def _faces(sub: argparse.ArgumentParser) -> None:
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


def _clips(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "clips",
        nargs="+",
        type=Path,
        metavar="CLIP",
        help="a video, a folder of them, or a MEAD or CREMA-D folder as distributed, of which the neutral videos are taken",
    )
    sub.add_argument(
        "--most", type=int, default=20, metavar="N", help="clips taken of a folder, spread over it (default 20)"
    )
    sub.add_argument(
        "--emotions",
        nargs="+",
        metavar="NAME",
        help="which are asked for (default: the basic ones; of `eval emotion` all)",
    )
    sub.add_argument(
        "--landmarker",
        type=Path,
        metavar="FILE",
        help="MediaPipe's face_landmarker.task, an independent reader (default: the embedded solver reads)",
    )
    sub.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="frames looked at in each clip (default 12 of `eval emotion`, else as many as the figures need)",
    )
    sub.add_argument("-o", "--output", type=Path, metavar="JSON", help="also write the figures there")
    sub.add_argument("--force", action="store_true", help="replace earlier figures")


def _existing(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.exists():
            raise CmetError(f"{path} does not exist.")


def _observe(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face_observations import observe

    _existing(options.data)
    observe(options.data, options.output, progress=options.progress)
    return {"observations": options.output}


def _basis(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face import train_basis

    _existing(options.observations, options.rig, options.test_clips)
    train_basis(options.observations, options.rig, test_clips=options.test_clips)


def _solver(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face import train_solver

    _existing(options.observations, options.task, options.test_clips)
    more = {} if options.epochs is None else {"epochs": options.epochs}
    train_solver(options.observations, options.task, test_clips=options.test_clips, **more)


def _motion(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face import read_names
    from cmet_engine.training.motion import train

    _existing(options.observations, options.stills, options.task, options.test_clips)
    with whole_file(options.output) as temporary:
        train(
            options.observations, options.stills, options.task, temporary,
            test_clips=read_names(options.test_clips), progress=options.progress,
        )  # fmt: skip
    return {"motion": options.output}


def _refiner(options: argparse.Namespace) -> Any:
    from cmet_engine.training.face import read_names
    from cmet_engine.training.refiner import train_generic

    _existing(options.clips, options.test_clips)
    options.device = resolve(options.device)
    aside = read_names(options.test_clips)
    clips = [path for path in sorted(options.clips.glob("*.mp4")) if path.stem not in aside]
    figures = train_generic(clips, options.output, options.work, device=options.device, progress=options.progress)
    return {"refiner": options.output, **figures}


def _eval_solver(options: argparse.Namespace) -> Any:
    from cmet_engine.evaluation.face import evaluate_solver

    _existing(options.observations, options.test_clips)
    figures = evaluate_solver(options.observations, test_clips=options.test_clips, show=not options.json)
    return figures if options.json else None


def _training_config(path: Path | None) -> Any:
    from cmet_engine.training.speech import TrainingConfig

    if path is None:
        return TrainingConfig()
    _existing(path)
    return TrainingConfig.from_json(path.read_text("utf-8"), path.name)


def _encoder(options: argparse.Namespace) -> Any:
    from cmet_engine.training.speech import train_folder

    options.device = resolve(options.device)
    encoder = train_folder(
        options.data, options.output, config=_training_config(options.config), device=options.device,
        workers=options.workers, resume=not options.no_resume, cache=options.cache,
        progress=options.progress if options.quiet or options.json else None,  # None: bars of its own, with the losses
    )  # fmt: skip
    if options.embed:
        from cmet_engine.evaluation.speech import embed, figures_text

        figures = embed(options.output, options.data, cache=options.cache)
        return figures if options.json else figures_text(figures)
    return {"encoder": encoder}


def _teacher(options: argparse.Namespace) -> Any:
    from cmet_engine.training.teacher_features import teach_folder

    _existing(options.data)
    return {"features": teach_folder(options.data, progress=options.progress)}


def _eval_speech(options: argparse.Namespace) -> Any:
    from dataclasses import replace

    from cmet_engine.emotion.speech import load_encoder
    from cmet_engine.evaluation.speech import cross_validate, evaluate_folder, figures_text
    from cmet_engine.training.speech import prepare, read_corpus

    progress = options.progress if options.quiet or options.json else None
    if options.folds is not None:
        if options.weights or options.speakers:
            raise CmetError("--folds fits anew and leaves everybody out once; leave --weights and --speakers out.")
        config = _training_config(options.config)
        clips = prepare(read_corpus(options.data), options.cache, config, progress=progress)
        figures = cross_validate(clips, config, options.folds, progress=progress)
        return figures if options.json else figures_text(figures)
    encoder, config = load_encoder(str(options.weights or "embedded")), _training_config(options.config)
    there = {recording.speaker for recording in read_corpus(options.data).recordings}
    if options.speakers:
        if unknown := sorted(set(options.speakers) - {*there, "all"}):
            raise CmetError(f"{options.data} holds no speaker '{unknown[0]}'; known are {', '.join(sorted(there))}.")
        chosen = there if "all" in options.speakers else set(options.speakers)
        config = replace(config, held_out=tuple(sorted(chosen)))
    elif not there & set(config.held_out):
        raise CmetError(
            f"{options.data} holds none of the speakers that the configuration keeps from training; name those that the encoder "
            "never heard with --speakers (all: everybody there)."
        )
    figures = evaluate_folder(options.data, encoder, config, cache=options.cache, progress=progress)
    return figures if options.json else figures_text(figures)


def _one_kind_of_faces(options: argparse.Namespace) -> None:
    """Check that faces are given in one way, and that every folder is there."""
    _existing(*options.speech, options.faces, options.pictures, options.videos, options.codes)
    if (options.pictures is None) != (options.faces is None):
        raise CmetError(
            "Labelled pictures and tracks of talking people belong together; give both --pictures and --faces."
        )
    given = [name for name in ("pictures", "videos", "codes") if getattr(options, name) is not None]
    if len(given) != 1:
        found = " and ".join(f"--{name}" for name in given) or "none"
        raise CmetError(
            f"Faces are wanted in one way, found {found}: give --pictures with --faces, --videos, or --codes."
        )


def _connector(options: argparse.Namespace) -> Any:
    from cmet_engine.training import connector

    if options.space == "edtalk" and options.codes is None:
        raise CmetError("No codes were given; add --codes DIR (`cmet train extract` writes them).")
    _one_kind_of_faces(options)
    options.device = resolve(options.device)
    published = options.codes is not None
    if published and options.space == "arkit":
        raise CmetError("--codes are of EDTalk's space; leave --space arkit out.")
    wanted = (".pth", ".pt") if published else (".safetensors",)
    if options.output.suffix not in wanted:
        raise CmetError(f"{options.output.name}: a connector of this space is written as {wanted[0]}; change the name.")
    if options.embed and published:
        raise CmetError(
            "--embed is for connectors of 52 coefficients; `cmet models convert` takes one of EDTalk's codes."
        )
    kind = connector.ConnectorConfig
    defaults = kind.published() if published else kind()
    config = kind.load(options.config, defaults) if options.config else defaults
    if config.expression_dim != defaults.expression_dim:
        raise CmetError(
            f"{options.config.name}: the setting 'expression_dim' is {config.expression_dim}; these faces have {defaults.expression_dim} numbers."
        )
    figures = connector.train_from_folders(
        options.output, speech=options.speech, pictures=options.pictures, tracks=[options.faces] if options.faces else [],
        videos=options.videos, codes=options.codes, config=config,
        checkpoint=options.output.with_suffix(".checkpoint"), device=options.device, workers=options.workers,
        force=options.force, progress=options.progress,
    )  # fmt: skip
    if options.embed:
        figures["embedded"] = str(connector.embed_connector(options.output))
    return figures if options.json else json.dumps(figures, indent=2, default=str)


def _config(options: argparse.Namespace) -> Any:
    from dataclasses import asdict

    from cmet_engine.training.connector import ConnectorConfig
    from cmet_engine.training.speech import TrainingConfig

    connector = ConnectorConfig.published() if options.what == "edtalk" else ConnectorConfig()
    config = TrainingConfig() if options.what == "encoder" else connector
    with whole_file(options.output, force=options.force) as temporary:
        temporary.write_text(json.dumps(asdict(config), indent=2) + "\n", "utf-8")
    return {"config": options.output}


def _extract(options: argparse.Namespace) -> Any:
    from cmet_engine.training.edtalk_codes import extract_folder

    _existing(options.videos)
    written = extract_folder(options.videos, options.output, device=options.device, progress=options.progress)
    return {"codes": options.output, "files": len(written)}


def _pictures(options: argparse.Namespace) -> Any:
    from cmet_engine.training.labelled_pictures import score_pictures

    _existing(options.data, options.landmarker)
    counts = score_pictures(
        options.data, options.output, landmarker=options.landmarker, frames=max(options.frames, 1), force=options.force,
        progress=options.progress,
    )  # fmt: skip
    return {"folder": options.output, "pictures": counts["pictures"], "left out": counts["left_out"]}


def _judge(options: argparse.Namespace) -> Any:
    from cmet_engine.emotion.expression_classifier import embed_judge, train_judge

    _existing(options.pictures)
    check_writable(options.output, force=options.force)
    judge, figures = train_judge(options.pictures)
    judge.save(options.output, force=options.force)
    if options.embed:
        embed_judge(judge)
    return (
        figures
        if options.json
        else json.dumps({name: f["accuracy"] for name, f in figures.items() if "accuracy" in f}, indent=2)
    )


def _taken(options: argparse.Namespace) -> list[Path]:
    """The clips that were given, folders taken apart; checked together with where the figures go."""
    from cmet_engine.training.corpus_clips import clips_of

    _existing(*options.clips, options.landmarker)
    if options.output is not None:
        check_writable(options.output, force=options.force)
    return clips_of(options.clips, options.most)


def _written(options: argparse.Namespace, figures: Any) -> None:
    if options.output is not None:
        with whole_file(options.output, force=options.force) as temporary:
            temporary.write_text(json.dumps(figures, indent=2, default=str) + "\n", "utf-8")


def _eval_emotion(options: argparse.Namespace) -> Any:
    from cmet_engine.emotion import expression_classifier
    from cmet_engine.training import corpus_clips

    _existing(options.pictures, options.judge)
    clips = _taken(options)
    more: dict[str, Any] = {"emotions": options.emotions} if options.emotions else {}
    if options.frames:
        more["frames"] = options.frames
    acted = [path for path in options.clips if path.is_dir() and path not in clips]
    figures = expression_classifier.evaluate_clips(
        clips, pictures=options.pictures, weights=options.judge, render=not options.no_render, landmarker=options.landmarker,
        progress=options.progress, **more,
    )  # fmt: skip
    text = []
    for folder in acted:
        if corpus_clips.is_corpus(folder):
            told = corpus_clips.judge_videos(folder, options.most, weights=options.judge, progress=options.progress)
            figures.setdefault("acted", {})[str(folder)] = told
            rates = ", ".join(
                f"{name} {share:.0%}" for name, share in told["accuracy"].items() if name not in ("all", "balanced")
            )
            text.append(
                f"acted videos in {folder}: the judge is right in {told['accuracy']['all']:.1%} of {told['videos']}, "
                f"{told['accuracy']['balanced']:.1%} mean over emotions ({rates})"
            )
    _written(options, figures)
    if options.embed:
        expression_classifier.write_reliability(figures)
    return (
        figures if options.json else "\n".join([expression_classifier.format_report(figures, figures["real"]), *text])
    )


def _eval_connector(options: argparse.Namespace) -> Any:
    from cmet_engine.training.connector import evaluate_connector

    _one_kind_of_faces(options)
    _existing(options.weights)
    figures = evaluate_connector(
        speech=options.speech, pictures=options.pictures, tracks=[options.faces] if options.faces else [],
        videos=options.videos, codes=options.codes, cache=options.tracks, file=options.weights, leave_out=options.leave_out, progress=options.progress,
    )  # fmt: skip
    return figures if options.json else json.dumps(figures, indent=2)


def _eval_edit(options: argparse.Namespace) -> Any:
    from dataclasses import asdict

    from cmet_engine.evaluation import edit

    clips = _taken(options)
    more = {"frames": options.frames} if options.frames else {}
    figures = edit.evaluate_edit(
        clips, options.emotions or BASIC, landmarker=options.landmarker, progress=options.progress, **more
    )
    _written(options, [asdict(f) for f in figures])
    return [asdict(f) for f in figures] if options.json else edit.format_figures(figures)


def _eval_renderer(options: argparse.Namespace) -> Any:
    from cmet_engine.evaluation import renderer

    clips = _taken(options)
    more = {"frames": options.frames} if options.frames else {}
    emotions = BASIC if options.emotions is None else options.emotions
    figures = []
    for number, clip in enumerate(clips):
        options.progress(Stage.MEASURE, number, len(clips))
        measured = renderer.evaluate_clip(
            clip,
            emotions,
            options.quality,
            fit=not options.no_fit,
            landmarker=options.landmarker,
            device=options.device,
            **more,
        )
        if measured is not None:
            figures.append(measured)
    _written(options, [f.as_dict() for f in figures])
    return [f.as_dict() for f in figures] if options.json else renderer.format_figures(figures)
