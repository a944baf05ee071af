"""The `cmet` command. Progress goes to standard error, results to standard output.

Exit status: 0 done, 1 the work failed (one sentence on standard error), 2 wrong use.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cmet_engine import __version__
from cmet_engine.cli import training
from cmet_engine.errors import CmetError
from cmet_engine.jobs import batch
from cmet_engine.models.device import DEVICES
from cmet_engine.progress import label_of, unit_of


class ProgressBar:
    """Draws `progress(stage, done, total)` calls as bars with an estimate on standard error."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._stage: str | None = None
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` (None: unknown) is finished in `stage`."""
        if not self._enabled:
            return
        from tqdm import tqdm

        if stage != self._stage:
            self.close()
            self._stage = stage
            self._bar = tqdm(
                desc=label_of(stage),
                total=total,
                unit=unit_of(stage),
                dynamic_ncols=True,
                file=sys.stderr,
            )
        if total is not None and self._bar.total != total:
            self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the bar that is being drawn."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class BatchTable:
    """Shows a batch on standard error: a line for every finished row, and on a terminal below them what is being done now."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._live = shown and sys.stderr.isatty()
        self._lock = threading.Lock()
        self._now: dict[int, str] = {}
        self._summary = ""
        self._drawn, self._drawn_at = 0, 0.0
        self._worked = 0

    def watch(self, row: batch.Row, stage: str, done: int, total: int | None) -> None:
        """Take the progress of a row."""
        part = f"{done}/{total} {done / total:4.0%}" if total else f"{done}"
        with self._lock:
            self._now[row.number] = f"  {Path(row.values['clip']).name[:40]:<40} {label_of(stage):<24} {part}"
            if time.monotonic() - self._drawn_at > 0.2:
                self._draw()

    def report(self, row: batch.Row, line: dict[str, Any], summary: batch.Summary, rows: int) -> None:
        """Take a finished row."""
        if not self._shown:
            return
        finished = summary.done + summary.failed + summary.skipped
        self._worked += line["seconds"] > 0  # what failed before it was begun says nothing of the pace
        pace = f", {summary.seconds / self._worked * (rows - finished) / 60:.1f} min left" if self._worked else ""
        outcome = "done" if line["state"] == "done" else f"FAILED: {line['error']}"
        with self._lock:
            self._now.pop(row.number, None)
            self._summary = f"{finished} of {rows}, {summary.failed} failed{pace if finished < rows else ''}"
            self._draw(f"[{finished}/{rows}] {Path(line['clip']).name} {line['seconds']:.1f} s {outcome}")

    def _draw(self, finished: str | None = None) -> None:
        if not self._live:
            if finished:
                print(f"{finished} ({self._summary})", file=sys.stderr)
            return
        width = shutil.get_terminal_size().columns
        table = [line[: width - 1] for line in (*self._now.values(), self._summary)]
        above = [finished] if finished else []
        print(
            f"\x1b[{self._drawn}F\x1b[J" * bool(self._drawn) + "\n".join([*above, *table]), file=sys.stderr, flush=True
        )
        self._drawn, self._drawn_at = len(table), time.monotonic()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    options = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        stream=sys.stderr,
        format="%(levelname)s: %(message)s",
    )
    bar = ProgressBar(enabled=not (options.quiet or options.json))
    options.progress = bar
    options.stopped = getattr(options, "stopped", "Stopped; nothing half-finished was left behind.")
    try:
        result = options.run(options)
        bar.close()
        if isinstance(result, int):
            return result
        if result is not None:
            _print_result(result, options.json)
        return 0
    except CmetError as error:
        bar.close()
        return _fail(str(error), options.json)
    except KeyboardInterrupt:
        bar.close()
        return _fail(options.stopped, options.json)
    except MemoryError:
        bar.close()
        return _fail("The machine ran out of memory; close other programs or work on a shorter clip.", options.json)
    except BrokenPipeError:
        # the reader of our output went away (`cmet ... | head`): nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if options.verbose:
            raise
        bar.close()
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}.", options.json)
    except Exception as error:
        if options.verbose:
            raise
        bar.close()
        return _fail(
            f"An internal fault stopped the work ({type(error).__name__}: {error}); add --verbose to see where.",
            options.json,
        )


def _joined(arguments: Sequence[str]) -> list[str]:
    """The arguments, an emotion that begins with a minus (the opposite) joined to its `--emotion`: argparse would take it for
    an option."""
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] == "--emotion" and argument.startswith("-") and not argument.startswith("--"):
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result


def _fail(sentence: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": sentence}))
    print(f"cmet: {sentence}", file=sys.stderr)
    return 1


def _print_result(result: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, default=str))
    elif isinstance(result, dict):
        for key, value in result.items():
            if isinstance(value, list):
                for item in value:
                    print(f"{key}: {item}")
            elif value is not None:
                print(f"{key}: {value}")
    else:
        print(result)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("general")
    group.add_argument("--json", action="store_true", help="print the result as one JSON object, no progress")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress")
    group.add_argument("-v", "--verbose", action="store_true", help="say more; show where an internal fault happened")

    parser = argparse.ArgumentParser(
        prog="cmet", description="Edit the emotion of a talking face: same person, same words, another feeling."
    )
    parser.add_argument("--version", action="version", version=f"cmet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], Any] | None, text: str, into: Any = commands
    ) -> argparse.ArgumentParser:
        sub = into.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common])
        sub.set_defaults(run=run)
        return sub

    sub = command("track", _track, "footage to coefficients")
    _clip_arguments(sub)
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="TRACK",
        help="track to write: .npz, .csv (Live Link Face) or .json (Audio2Face)",
    )

    sub = command("edit", _edit, "edit the emotion of a clip")
    _clip_arguments(sub)
    sub.add_argument("--emotion", action="append", default=[], metavar="NAME[=STRENGTH][@T0-T1]", help="an emotion, its strength (1 = as learned) and its time in seconds; may be given several times; a blend like 0.7*happy+0.3*fear is a NAME too")  # fmt: skip
    sub.add_argument(
        "--speech",
        type=Path,
        metavar="PATH",
        help="a recording that sounds like the wanted emotion, or a folder of them",
    )
    sub.add_argument(
        "--neutral",
        type=Path,
        metavar="PATH",
        help="the same voice without the emotion (default: the clip's own sound)",
    )
    sub.add_argument("--keys", type=Path, metavar="FILE", help="an emotion timeline (.json)")
    sub.add_argument("--strength", type=float, default=1.0, metavar="S", help="multiplies all strengths (default 1)")
    sub.add_argument(
        "--mode",
        choices=("add", "replace"),
        default="add",
        help="keep the actor's own expression underneath, or remove it first (default add)",
    )
    sub.add_argument(
        "--renderer",
        choices=("warp", "edtalk", "none"),
        default="warp",
        help="how the video is made; none writes the tracks alone",
    )
    _quality_argument(sub)
    sub.add_argument(
        "--lips", type=Path, metavar="FILE", help="a recording that the lips shall speak (with --renderer edtalk)"
    )
    sub.add_argument(
        "--portrait",
        type=Path,
        metavar="FILE",
        help="a picture that shall speak; CLIP gives its head motion and expression (with --renderer edtalk)",
    )
    sub.add_argument(
        "--format",
        default=".mp4",
        choices=(".mp4", ".mov", ".mkv", ".png", ".exr"),
        help="H.264 .mp4 or .mkv, ProRes .mov, or numbered .png or .exr pictures (default .mp4)",
    )
    _device_argument(sub)
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the video, the tracks and the report",
    )

    sub = command("render", _render, "render a clip with the curves of a track")
    _clip_arguments(sub)
    sub.add_argument("--track", type=Path, required=True, metavar="EDITED", help="the wanted curves")
    sub.add_argument(
        "--source",
        type=Path,
        metavar="SOURCE",
        help="the clip's own curves that EDITED was made from (default: tracked anew)",
    )
    sub.add_argument("--renderer", choices=("warp", "edtalk"), default="warp", help="how the video is made")
    _quality_argument(sub)
    _device_argument(sub)
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="VIDEO",
        help="video to write; the suffix chooses the format",
    )

    sub = command("vector", _vector, "add an emotion to your library, from how voices sound")
    sub.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="recordings with the emotion, or folders of them"
    )
    sub.add_argument(
        "--neutral",
        type=Path,
        nargs="+",
        action="extend",
        metavar="PATH",
        help="recordings of the same voices without it, or folders of them, after those with it (default: the library's "
        "neutral, which leaves the speaker in)",
    )
    sub.add_argument("--name", required=True, help="name of the new emotion")
    sub.add_argument("--force", action="store_true", help="replace an emotion of the same name")

    sub = command("record", _record, "record a voice from the microphone")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".wav file to write")
    sub.add_argument("--seconds", type=float, default=5.0, metavar="S", help="how long (default 5, at most 600)")
    sub.add_argument("--microphone", metavar="NAME", help="part of its name (default: the system's choice)")
    sub.add_argument("--force", action="store_true", help="replace an earlier file")

    command("emotions", _emotions, "what the library holds, and how far each emotion can be trusted")

    sub = command("export", _export, "write a track in another format, or onto a rig")
    sub.add_argument("track", type=Path, metavar="TRACK", help=".npz, .csv or .json")
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help=".csv .json .npz; with --rig .fbx .glb .usdc .abc .blend",
    )
    sub.add_argument(
        "--rig", type=Path, metavar="RIG", help="character to put the track on: .blend, .glb, .gltf or .fbx"
    )
    sub.add_argument("--force", action="store_true", help="replace an earlier file")

    models = command("models", _models_list, "published weights: list, pull, convert")
    actions = models.add_subparsers(title="actions", metavar="ACTION")
    command("list", _models_list, "what is there, where it came from, how large it is, its licence", actions)
    sub = command("pull", _models_pull, "download weights, check them, convert them once to safetensors", actions)
    sub.add_argument("name", metavar="NAME", help="cmet (connector, EDTalk renderer, Audio2Lip) or emotion2vec")
    sub.add_argument(
        "--accept-licence", action="store_true", help="you have read the licence and accept it (needed once)"
    )
    sub.add_argument("--force", action="store_true", help="download again what is there")
    sub = command("convert", _models_convert, "convert published weights that were fetched by hand", actions)
    sub.add_argument(
        "file", type=Path, metavar="FILE", help="a checkpoint, or the folder with EDTalk's expression presets"
    )
    sub.add_argument("--force", action="store_true", help="replace weights of the same network")

    sub = command("serve", _serve, "the engine process that Blender and scripts talk to")
    sub.add_argument(
        "--root", type=Path, metavar="DIR", help="folder for jobs and uploads (default: in your data folder)"
    )
    sub.add_argument(
        "--allow",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder whose files clients may use; may be given several times (default: your home folder)",
    )
    sub.add_argument("--port", type=int, default=0, help="port on loopback (default: a free one)")
    sub.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="write address and token there, readable by you alone (default: print them)",
    )
    sub.add_argument("--parent", type=int, metavar="PID", help="end when this process ends")
    sub.add_argument(
        "--slots",
        type=int,
        default=1,
        metavar="N",
        help="edits and renders at the same time (default 1); tracking and listening go on beside them",
    )

    sub = command("batch", _batch, "many clips, resumable")
    sub.formatter_class, sub.epilog = argparse.RawDescriptionHelpFormatter, batch.__doc__
    sub.add_argument("manifest", type=Path, metavar="MANIFEST", help=".csv or .jsonl; its columns are described below")
    sub.add_argument("--init", type=Path, metavar="FOLDER", help="write MANIFEST from the clips below FOLDER, and stop")
    sub.add_argument("--emotions", default="happy", help="with --init: the emotions column (default happy)")
    sub.add_argument(
        "--workers", type=int, default=1, metavar="N", help="clips at the same time on this machine (default 1)"
    )
    sub.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster: its address, auto, or local")
    sub.add_argument("--resume", action="store_true", help="skip rows that were done or failed before")
    sub.add_argument("--retry", action="store_true", help="skip rows that were done before, try failed ones again")
    sub.add_argument("--force", action="store_true", help="replace earlier outputs")

    training.add_commands(command, commands)
    sub = command("cache", _cache, "how much is kept from earlier work; empty it")
    sub.add_argument("--clear", action="store_true", help="remove all of it")
    command("doctor", _doctor, "what works on this machine, and what is missing")
    return parser


def _clip_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("clip", type=Path, metavar="CLIP", help="video with a talking face")
    sub.add_argument(
        "--face",
        type=int,
        default=0,
        metavar="N",
        help="which face when there are several: 0 is the largest (default 0)",
    )
    sub.add_argument("--force", action="store_true", help="replace earlier results")


def _quality_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--quality",
        choices=("auto", "draft", "standard", "best"),
        default="auto",
        help="draft moves the frame's own pixels; standard refines with a network fitted to the clip; best takes longer; "
        "auto is standard on a GPU, else draft (default auto)",
    )


def _device_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="where the networks run (default: a GPU when there is one)",
    )


def _track(options: argparse.Namespace) -> dict[str, Any]:
    from cmet_engine import pipeline
    from cmet_engine.files import check_writable

    check_writable(options.output, force=options.force)
    _, track = pipeline.track_clip(options.clip, face=options.face, progress=options.progress)
    track.save(options.output, force=options.force)
    return {
        "track": options.output,
        "frames": len(track),
        "fps": str(track.fps),
        "frames with a face": int(track.valid.sum()),
    }


def _edit(options: argparse.Namespace) -> dict[str, Any]:
    from cmet_engine import pipeline
    from cmet_engine.timeline import EmotionTimeline

    timeline = EmotionTimeline.load(options.keys) if options.keys else EmotionTimeline()
    timeline = EmotionTimeline([*timeline.keys, *EmotionTimeline.parse(options.emotion).keys])
    video_name = "edited" + options.format if options.format not in (".png", ".exr") else f"frames/%06d{options.format}"
    settings = pipeline.EditSettings(
        timeline,
        options.strength,
        options.speech,
        options.neutral,
        options.mode,
        options.renderer,
        options.face,
        options.device,
        video_name,
        options.lips,
        options.portrait,
        options.quality,
    )
    started = time.perf_counter()
    result = pipeline.edit_clip(options.clip, settings, options.output, force=options.force, progress=options.progress)
    seconds = time.perf_counter() - started
    return {
        "result": result.folder,
        **result.files,
        **result.figures,
        "note": result.messages,
        "seconds": round(seconds, 1),
    }


def _render(options: argparse.Namespace) -> dict[str, Any]:
    from cmet_engine import pipeline
    from cmet_engine.track import CoefficientTrack

    edited = CoefficientTrack.load(options.track)
    source = CoefficientTrack.load(options.source) if options.source else None
    output = options.output / "edited.mp4" if options.output.is_dir() else options.output
    notes: list[str] = []
    output = pipeline.render_clip(
        options.clip, edited, output, source=source, renderer=options.renderer, face=options.face,
        quality=options.quality, device=options.device, force=options.force, progress=options.progress, notes=notes,
    )  # fmt: skip
    return {"video": output, "note": notes}


def _vector(options: argparse.Namespace) -> dict[str, Any]:
    from cmet_engine.emotion import library
    from cmet_engine.emotion.speech import load_encoder

    library.check_new(options.name, force=options.force)  # before listening, which takes long
    vector = library.emotion_vector(
        options.paths, options.neutral, options.name, load_encoder(), progress=options.progress
    )
    path = library.save_user_vector(vector, force=options.force)
    result = {"emotion": options.name, "stored": path, "about": library.describe_vector(vector)}
    return {**result, "reliability": vector.reliability, **vector.meta} if options.json else result


def _record(options: argparse.Namespace) -> dict[str, Any]:
    from cmet_engine.media.record import record

    shown = False

    def level(seconds: float, peak: float) -> None:
        nonlocal shown
        if options.json:  # for a program that shows the level while the result is not there yet
            print(json.dumps({"seconds": round(seconds, 2), "level": round(peak, 1)}), file=sys.stderr, flush=True)
        elif not options.quiet:
            shown = True
            bar = "#" * max(0, round((peak + 60) / 2))
            print(f"\r{seconds:5.1f} s {peak:6.1f} dB {bar:<30}", end="", file=sys.stderr, flush=True)

    try:
        return record(options.output, options.seconds, device=options.microphone, force=options.force, level=level)
    finally:
        if shown:
            print(file=sys.stderr)


def _emotions(options: argparse.Namespace) -> Any:
    from cmet_engine.emotion import library

    known = list(library.load_library().values())
    for problem in library.user_problems():
        print(f"cmet: {problem}", file=sys.stderr)
    if options.json:
        return [{"name": v.name, "reliability": v.reliability, **v.meta} for v in known]
    width = max(len("emotion"), *(len(vector.name) for vector in known)) + 2
    print(f"{'emotion':<{width}}{'seen':<18}{'heard':<16}origin")
    for vector in known:
        print(
            f"{vector.name:<{width}}{_seen(vector):<18}{_trust(vector.reliability):<16}{vector.meta.get('origin', '')}"
        )
    print(
        "\nseen:  share of edited clips of strangers in which a judge of real faces named the emotion; of one that it has no word for, "
        "what it looks like to it.\nheard: how far the same emotion is found in voices never trained on; of your own emotions, how "
        "far the recordings agree with each other (a single\n       one cannot tell). It counts for --speech and `cmet vector`; an "
        "emotion asked for by name is the teacher's own vector.\nhigh from 70%, fair from 40%."
    )
    return None


def _trust(share: float | None) -> str:
    """A share of 1 in words: `80% high`."""
    if share is None:
        return "not measured"
    return f"{share:>4.0%} {'high' if share >= 0.7 else 'fair' if share >= 0.4 else 'low'}"


def _seen(vector: Any) -> str:
    """What a judge of faces makes of an emotion, in words."""
    if vector.meta.get("recognised") is not None:
        return _trust(vector.meta["recognised"])
    return f"like {vector.meta['taken_for']}" if vector.meta.get("taken_for") else "not measured"


def _export(options: argparse.Namespace) -> Any:
    from cmet_engine.files import check_writable
    from cmet_engine.track import CoefficientTrack

    check_writable(options.output, force=options.force)
    suffix = options.output.suffix.lower()
    if suffix in (".npz", ".csv", ".json"):
        track = CoefficientTrack.load(options.track)
        track.save(options.output, force=options.force)
        return {"file": options.output, "frames": len(track), "fps": str(track.fps)}
    if options.rig is None:
        raise CmetError(
            f"{options.output.name}: a track alone can be written as .npz, .csv or .json; for '{suffix}' add --rig with a character."
        )
    import subprocess

    command = [
        sys.executable,
        "-m",
        "cmet_blender",
        "export",
        str(options.track),
        "--rig",
        str(options.rig),
        "-o",
        str(options.output),
    ]
    return subprocess.run(command + (["--force"] if options.force else []), check=False).returncode


def _models_list(options: argparse.Namespace) -> Any:
    from cmet_engine.models import registry

    rows = list(registry.describe())
    if options.json:
        return rows
    for row in rows:
        state = f"here, {row['size'] / 1e6:.0f} MB" if row["here"] else f"not here; cmet models pull {row['package']}"
        print(f"{row['name']:<24} {state}\n{'':<24} {row['about']}; {row['licence']}, from {row['source']}")
    return None


def _models_pull(options: argparse.Namespace) -> Any:
    from cmet_engine.models import registry, store

    if (
        options.name in registry.PACKAGES
        and not (options.accept_licence or registry.accepted(options.name))
        and sys.stdin.isatty()
    ):
        licence = registry.PACKAGES[options.name].licence
        print(f"The weights of {options.name} are under the {licence.name}: {licence.url}", file=sys.stderr)
        options.accept_licence = input("Have you read it, and do you accept it? [y/N] ").strip().lower() in ("y", "yes")
    pulled = store.pull(
        options.name, accept_licence=options.accept_licence, force=options.force, progress=options.progress
    )
    return {"weights": [weights.path for weights in pulled]}


def _models_convert(options: argparse.Namespace) -> Any:
    from cmet_engine.models import store

    return {"weights": [weights.path for weights in store.convert(options.file, force=options.force)]}


def _serve(options: argparse.Namespace) -> int:
    from cmet_engine.files import user_folder
    from cmet_engine.serve.server import serve

    root = options.root or user_folder() / "engine"
    allow = options.allow or [Path.home()]
    return serve(
        root, allow=allow, port=options.port, token_file=options.token_file, parent=options.parent, slots=options.slots
    )


def _batch(options: argparse.Namespace) -> int:
    if options.init is not None:
        rows = batch.write_manifest(options.init, options.manifest, emotions=options.emotions, force=options.force)
        _print_result({"manifest": options.manifest, "rows": rows}, options.json)
        return 0

    table = BatchTable(shown=not options.quiet)
    summary = batch.run_batch(
        options.manifest, workers=options.workers, ray_address=options.ray, resume=options.resume, retry=options.retry,
        force=options.force, report=table.report, watch=table.watch,
    )  # fmt: skip
    result = {
        "done": summary.done,
        "failed": summary.failed,
        "skipped": summary.skipped,
        "seconds": round(summary.seconds, 1),
        "results": summary.results,
    }
    _print_result(result, options.json)
    return 1 if summary.failed else 0


def _cache(options: argparse.Namespace) -> dict[str, Any]:
    from cmet_engine import cache

    freed = cache.shrink(0) if options.clear else 0
    return {"folder": cache.folder(), "bytes": cache.size(), "limit": cache.limit(), "freed": freed}


def _doctor(options: argparse.Namespace) -> int:
    from cmet_engine.cli.doctor import examine

    findings = list(examine())
    if options.json:
        print(json.dumps([vars(finding) for finding in findings]))
    else:
        for finding in findings:
            mark = {True: "ok", False: "BROKEN", None: "absent"}[finding.ok]
            print(
                f"{mark:>7}  {finding.name:<18} {finding.detail}"
                + (f"\n{'':>27} {finding.advice}" if finding.advice else "")
            )
    return 1 if any(finding.ok is False for finding in findings) else 0
