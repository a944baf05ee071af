"""`cmet eval …`: the models measured on people that they were not trained on."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cmet_engine.cli.arguments import (
    Adder,
    add_device,
    add_faces,
    add_observations,
    add_speech,
    add_speech_folders,
    check_faces,
    existing,
)
from cmet_engine.cli.train_speech import training_config
from cmet_engine.emotions import BASIC, LIBRARY
from cmet_engine.errors import InvalidInput
from cmet_engine.files import check_writable, whole_file
from cmet_engine.progress import Stage

EMOTION_FRAMES = 12  # measured in each clip by `eval emotion`


def add_commands(command: Adder, commands: Any) -> None:
    """Add `eval` and its commands to the command line.

    Args:
        command: `cli.build_parser`'s helper.
        commands: the parsers of the top level, which the helper adds to.
    """
    evaluate = command("eval", None, "measure the embedded models on held-out people").add_subparsers(
        title="what", metavar="WHAT", required=True
    )
    for add in (
        _add_solver,
        _add_speech,
        _add_emotion,
        _add_rigs,
        _add_connector,
        _add_renderer,
        _add_edit,
        _add_identity,
    ):
        add(command, evaluate)


def _add_solver(command: Adder, evaluate: Any) -> None:
    sub = command(
        "solver", _solver, "landmarks to coefficients against the teacher, per coefficient; and the basis", evaluate
    )
    add_observations(sub)


def _solver(options: argparse.Namespace) -> Any:
    from cmet_engine.evaluation.face import evaluate_solver

    existing(options.observations, options.test_clips)
    figures = evaluate_solver(options.observations, test_clips=options.test_clips, show=not options.json)
    return figures if options.json else None


def _add_speech(command: Adder, evaluate: Any) -> None:
    sub = command("speech", _speech, "the speech encoder on held-out speakers", evaluate)
    add_speech(sub)
    sub.add_argument("--weights", type=Path, metavar="FILE", help="an encoder of yours (default: the embedded one)")
    sub.add_argument(
        "--speakers",
        nargs="+",
        metavar="NAME",
        help="measure on these, or on all, for recordings that the encoder was not trained on (default: the speakers that the "
        "configuration holds out, and datasets that it does not train on)",
    )
    sub.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="cross-validate over speakers: how well an encoder trained on this corpus recognises other speakers, without training "
        "it (prepares the corpus first, as the training does)",
    )

    sub.add_argument(
        "--protocol",
        choices=("emobox",),
        help="fit a classifier to the backbone on each of EmoBox's public folds of EMO-DB, RAVDESS, CREMA-D and MEAD, and test it "
        "there: figures beside its published table",
    )
    sub.add_argument(
        "--splits", type=Path, metavar="DIR", help="with --protocol emobox: the folder data of its repository"
    )


def _speech(options: argparse.Namespace) -> Any:
    from cmet_engine.emotion.speech import load_encoder
    from cmet_engine.evaluation.emobox import emobox_text, evaluate_emobox
    from cmet_engine.evaluation.speech import cross_validate, evaluate_folders, figures_text
    from cmet_engine.training.corpora.speech import read_corpora
    from cmet_engine.training.speech.clips import prepare

    config = training_config(options.config)
    if options.protocol:
        if options.splits is None:
            raise InvalidInput("--protocol emobox needs --splits, the folder data of EmoBox's repository.")
        found = evaluate_emobox(options.data, options.splits, config, cache=options.cache, progress=options.progress)
        return found if options.json else emobox_text(found)
    if options.folds is not None:
        if options.weights or options.speakers:
            raise InvalidInput("--folds fits anew and leaves everybody out once; leave --weights and --speakers out.")
        recordings = [r for r in read_corpora(options.data) if r.dataset in config.datasets]
        clips = prepare(recordings, options.cache, config, progress=options.progress)
        figures = cross_validate(clips, config, options.folds, progress=options.progress)
        return figures if options.json else figures_text(figures)
    figures = evaluate_folders(
        options.data, load_encoder(str(options.weights or "embedded")), config, speakers=options.speakers,
        cache=options.cache, progress=options.progress,
    )  # fmt: skip
    return figures if options.json else figures_text(figures)


def _add_emotion(command: Adder, evaluate: Any) -> None:
    sub = command(
        "emotion",
        _emotion,
        "which emotion the classifier recognises in real faces, edited tracks and rendered frames",
        evaluate,
    )
    _add_clips(sub)
    sub.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="labelled pictures, to find which coefficients MediaPipe reports at all (default: as stored with the classifier)",
    )
    sub.add_argument("--no-render", action="store_true", help="classify the tracks alone")
    sub.add_argument(
        "--classifier", type=Path, metavar="FILE", help="a classifier of yours (default: the embedded one)"
    )
    sub.add_argument(
        "--embed",
        action="store_true",
        help="keep the figures as what `cmet emotions` shows of each emotion in this copy",
    )


def _emotion(options: argparse.Namespace) -> Any:
    from cmet_engine.evaluation import clips as corpus
    from cmet_engine.evaluation import emotion

    existing(options.pictures, options.classifier)
    clips = _clips(options)
    acted = [path for path in options.clips if path.is_dir() and path not in clips]
    figures = emotion.evaluate_clips(
        clips, emotions=options.emotions or LIBRARY, pictures=options.pictures, weights=options.classifier,
        render=not options.no_render, landmarker=options.landmarker, frames=options.frames or EMOTION_FRAMES,
        progress=options.progress,
    )  # fmt: skip
    text = [emotion.format_report(figures, figures["real"])]
    for folder in acted:
        if corpus.is_corpus(folder):
            videos = corpus.acted_videos(folder, options.most)
            measured = emotion.classify_videos(videos, weights=options.classifier, progress=options.progress)
            figures.setdefault("acted", {})[str(folder)] = measured
            text.append(_acted(folder, measured))
    _write(options, figures)
    if options.embed:
        emotion.write_reliability(figures)
    return figures if options.json else "\n".join(text)


def _acted(folder: Path, measured: dict[str, Any]) -> str:
    """The figures of acted videos in one line."""
    shares = measured["accuracy"]
    each = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if name not in ("all", "balanced"))
    return (
        f"acted videos in {folder}: the classifier is right in {shares['all']:.1%} of {measured['videos']}, "
        f"{shares['balanced']:.1%} mean over emotions ({each})"
    )


def _add_rigs(command: Adder, evaluate: Any) -> None:
    sub = command("rigs", _rigs, "what independent judges read in the emotions of rendered characters", evaluate)
    sub.add_argument("rigs", nargs="+", type=Path, metavar="RIG", help="characters: .blend .glb .gltf .fbx .usd*")
    sub.add_argument(
        "--tracks", nargs="+", type=Path, required=True, metavar="TRACK", help="performances to put on them"
    )
    sub.add_argument(
        "--emotions", nargs="+", metavar="NAME", help="which are asked for (default: those that the judges know)"
    )
    sub.add_argument("--strength", type=float, default=1.0, metavar="S", help="of the emotions (default 1)")
    sub.add_argument(
        "--landmarker", type=Path, metavar="FILE", help="MediaPipe's face_landmarker.task, to find the faces"
    )
    sub.add_argument("--frames", type=int, default=3, metavar="N", help="pictures of each edit (default 3)")
    sub.add_argument("--pictures", type=Path, metavar="DIR", help="keep the pictures there")
    sub.add_argument("-o", "--output", type=Path, metavar="JSON", help="also write the figures there")
    sub.add_argument("--force", action="store_true", help="replace earlier figures")


def _rigs(options: argparse.Namespace) -> Any:
    from cmet_engine.evaluation.judges import JUDGED
    from cmet_engine.evaluation.rigs import evaluate_rigs, rigs_report

    existing(*options.rigs, *options.tracks, options.landmarker)
    if options.output is not None:
        check_writable(options.output, force=options.force)
    figures = evaluate_rigs(
        options.rigs, options.tracks, emotions=options.emotions or JUDGED, strength=options.strength,
        frames=options.frames, landmarker=options.landmarker, pictures=options.pictures, progress=options.progress,
    )  # fmt: skip
    _write(options, figures)
    return figures if options.json else rigs_report(figures)


def _add_connector(command: Adder, evaluate: Any) -> None:
    sub = command(
        "connector",
        _connector,
        "the connector against ridge and a small MLP, on held-out people and speakers",
        evaluate,
    )
    add_speech_folders(sub)
    add_faces(sub)
    sub.add_argument(
        "--tracks",
        type=Path,
        metavar="DIR",
        help="with --videos: keep their tracks there (training keeps them in NAME-tracks beside its output)",
    )
    sub.add_argument("--weights", type=Path, metavar="FILE", help="a connector of yours (default: the embedded one)")
    sub.add_argument("--leave-out", action="store_true", help="also train without each emotion and ask for it (long)")


def _connector(options: argparse.Namespace) -> Any:
    from cmet_engine.evaluation.connector import evaluate_connector

    check_faces(options)
    existing(options.weights)
    figures = evaluate_connector(
        speech=options.speech, pictures=options.pictures, tracks=[options.faces] if options.faces else [],
        videos=options.videos, codes=options.codes, cache=options.tracks, file=options.weights,
        leave_out=options.leave_out, progress=options.progress,
    )  # fmt: skip
    return figures if options.json else json.dumps(figures, indent=2)


def _add_renderer(command: Adder, evaluate: Any) -> None:
    sub = command(
        "renderer",
        _renderer,
        "the refined renderer against the draft, on the held-out end of each clip",
        evaluate,
    )
    _add_clips(sub)
    sub.add_argument("--quality", choices=("standard", "best"), default="standard")
    sub.add_argument("--no-fit", action="store_true", help="measure best, too, without a fit to the clip")
    add_device(sub, "auto")


def _renderer(options: argparse.Namespace) -> Any:
    from cmet_engine.evaluation import renderer

    clips = _clips(options)
    more = {"frames": options.frames} if options.frames else {}
    emotions: Sequence[str] = BASIC if options.emotions is None else options.emotions
    figures = []
    for number, clip in enumerate(clips):
        options.progress(Stage.MEASURE, number, len(clips))
        measured = renderer.evaluate_clip(
            clip, emotions, options.quality, fit=not options.no_fit, landmarker=options.landmarker,
            device=options.device, **more,
        )  # fmt: skip
        if measured is not None:
            figures.append(measured)
    _write(options, [f.as_dict() for f in figures])
    return [f.as_dict() for f in figures] if options.json else renderer.format_figures(figures)


def _add_edit(command: Adder, evaluate: Any) -> None:
    sub = command("edit", _edit, "is the edit in the picture, and everything else still there", evaluate)
    _add_clips(sub)


def _edit(options: argparse.Namespace) -> Any:
    from cmet_engine.evaluation import edit

    clips = _clips(options)
    more = {"frames": options.frames} if options.frames else {}
    figures = edit.evaluate_edit(
        clips, options.emotions or BASIC, landmarker=options.landmarker, progress=options.progress, **more
    )
    _write(options, [asdict(f) for f in figures])
    return [asdict(f) for f in figures] if options.json else edit.format_figures(figures)


def _add_clips(sub: argparse.ArgumentParser) -> None:
    """The clips to edit and measure, and where the figures go."""
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
        help="MediaPipe's face_landmarker.task, an independent estimator (default: the embedded solver)",
    )
    sub.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help=f"frames measured in each clip (default {EMOTION_FRAMES} of `eval emotion`, else as many as the figures need)",
    )
    sub.add_argument("-o", "--output", type=Path, metavar="JSON", help="also write the figures there")
    sub.add_argument("--force", action="store_true", help="replace earlier figures")


def _clips(options: argparse.Namespace) -> list[Path]:
    """The clips that were given, those in folders included; checked together with where the figures go."""
    from cmet_engine.evaluation.clips import clips_of

    existing(*options.clips, options.landmarker)
    if options.output is not None:
        check_writable(options.output, force=options.force)
    return clips_of(options.clips, options.most)


def _write(options: argparse.Namespace, figures: Any) -> None:
    if options.output is not None:
        with whole_file(options.output, force=options.force) as temporary:
            temporary.write_text(json.dumps(figures, indent=2, default=str) + "\n", "utf-8")


def _add_identity(command: Adder, evaluate: Any) -> None:
    sub = command(
        "identity", _identity, "the signatures: one person's face against others', equal error rates", evaluate
    )
    sub.add_argument("--clips", type=Path, required=True, metavar="DIR", help="videos that show one person each")
    sub.add_argument(
        "--people", type=Path, metavar="FILE", help="a table (path, person) of clips that show the same person"
    )


def _identity(options: argparse.Namespace) -> Any:
    from cmet_engine.evaluation.identity import evaluate_identity

    existing(options.clips, options.people)
    return evaluate_identity(options.clips, people=options.people, progress=options.progress)
