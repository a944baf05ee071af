"""The add-on without a window: `python -m cmet_blender …` with the `bpy` package, `blender -b FILE --command cmet …`.

    export TRACK --rig RIG -o OUT     a track on a rig: .fbx .glb .usdc .abc .blend (or .csv .json .npz as read back)
    apply TRACK -o OUT.blend          the same, kept as a Blender file
    bake -o OUT                       performance and emotions folded into one action, then written
    read -o TRACK                     what the rig does, as a track
    match [-o MAPPING.json]           which shape takes which coefficient
    render CLIP -o VIDEO              the clip with the rig's curves, by the engine
    batch MANIFEST                    many of these: JSON lines, {"command": "export", "track": …, "rig": …, "output": …}

Results go to standard output, everything else to standard error. Exit status: 0 done, 1 the work failed (one
sentence), 2 wrong use.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, whole_file
from cmet_engine.track import CoefficientTrack

COMMANDS = ("export", "apply", "bake", "read", "match", "render")


def build_parser(prog: str = "python -m cmet_blender") -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog=prog, description="Tracks on rigs, without a window.")
    general = argparse.ArgumentParser(add_help=False)
    general.add_argument("--json", action="store_true", help="print the result as one JSON object")
    general.add_argument("-q", "--quiet", action="store_true", help="no progress")
    general.add_argument("-v", "--verbose", action="store_true", help="show where an internal fault happened")
    rig = argparse.ArgumentParser(add_help=False)
    rig.add_argument(
        "--rig", type=Path, metavar="RIG", help="character: .blend .glb .gltf .fbx .usd* (default: the open scene)"
    )
    rig.add_argument("--object", metavar="NAME", help="object of the rig (default: the one with most of the shapes)")
    rig.add_argument("--mapping", type=Path, metavar="FILE", help="saved mapping (default: match by names)")
    rig.add_argument(
        "--no-spread",
        action="store_true",
        help="leave coefficients without a shape out instead of showing them by others",
    )
    span = argparse.ArgumentParser(add_help=False)
    span.add_argument(
        "--frames", nargs=2, type=int, metavar=("FIRST", "LAST"), help="scene frames (default: what is animated)"
    )
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    output.add_argument("--force", action="store_true", help="replace an earlier file")
    keys = argparse.ArgumentParser(add_help=False)
    keys.add_argument("track", type=Path, metavar="TRACK", help=".npz, Live Link Face .csv or Audio2Face .json")
    keys.add_argument(
        "--fps",
        type=Fraction,
        metavar="F",
        help="scene rate, such as 24 or 24000/1001 (default: the scene's; the track's for imported rigs)",
    )
    keys.add_argument("--start", type=int, default=1, metavar="N", help="scene frame of the first frame (default 1)")
    keys.add_argument(
        "--simplify", type=float, default=0.0, metavar="E", help="leave out keys, error at most E (default 0: keep all)"
    )
    preset = argparse.ArgumentParser(add_help=False)
    preset.add_argument("--preset", choices=("unreal", "unity", "maya"), help="FBX as that program expects it")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "export", parents=[keys, rig, span, output, preset, general], help="a track on a rig, written as a file"
    )
    commands.add_parser("apply", parents=[keys, rig, output, general], help="a track on a rig, kept as a .blend")
    commands.add_parser(
        "bake", parents=[rig, span, output, preset, general], help="fold emotions into one action and write it"
    )
    commands.add_parser("read", parents=[rig, span, output, general], help="what the rig does, as a track")
    sub = commands.add_parser("match", parents=[rig, general], help="which shape takes which coefficient")
    sub.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the mapping, to correct and give to --mapping"
    )
    sub.add_argument("--force", action="store_true", help="replace an earlier file")
    sub = commands.add_parser("render", parents=[rig, span, output, general], help="a clip with the rig's curves")
    sub.add_argument("clip", type=Path, metavar="CLIP", help="the footage")
    sub.add_argument(
        "--source",
        type=Path,
        metavar="TRACK",
        help="the track the rig was driven from: what the rig cannot show is kept from it",
    )
    sub.add_argument("--renderer", choices=("warp", "edtalk"), default="warp")
    sub.add_argument("--engine", default="", metavar="PYTHON", help="Python program of the engine (default: found)")
    sub = commands.add_parser("batch", parents=[general], help="many rows of the other commands")
    sub.add_argument("manifest", type=Path, metavar="MANIFEST", help="JSON lines; paths are relative to it")
    sub.add_argument(
        "--log", type=Path, metavar="FILE", help="one JSON line for each row (default: MANIFEST.results.jsonl)"
    )
    sub.add_argument("--resume", action="store_true", help="skip rows that the log says are done")
    sub.add_argument("--force", action="store_true", help="replace earlier files")
    return parser


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m cmet_blender") -> int:
    """Run the command line; returns the exit status."""
    options = build_parser(prog).parse_args(arguments)
    try:
        with results_apart() as out:
            result = _batch(options) if options.command == "batch" else run(options)
            failed = result.pop("exit", 0)
            print(json.dumps(result, default=str) if options.json else _plain(result), file=out)
        return failed
    except CmetError as error:
        sentence = str(error)
    except KeyboardInterrupt:
        sentence = "Stopped; nothing half-finished was left behind."
    except Exception as error:
        if options.verbose:
            raise
        sentence = f"An internal fault stopped the work ({type(error).__name__}: {error}); add --verbose to see where."
    if options.json:
        print(json.dumps({"error": sentence}))
    print(f"cmet: {sentence}", file=sys.stderr)
    return 1


def _plain(result: dict[str, Any]) -> str:
    lines = []
    for key, value in result.items():
        if isinstance(value, list):
            lines += [f"{key}: {item}" for item in value]
        elif value is not None:
            lines.append(str(value) if key == "report" else f"{key}: {value}")
    return "\n".join(lines)


@contextlib.contextmanager
def results_apart() -> Iterator[Any]:
    """Keep standard output for results: what Blender and its importers print goes to standard error."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    out = os.fdopen(os.dup(saved), "w", encoding="utf-8")
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        yield out
    finally:
        out.close()
        sys.stdout = stdout
        os.dup2(saved, 1)
        os.close(saved)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Do one command; see the module. Returns what to print.

    Raises:
        CmetError: the work cannot be done.
    """
    return _COMMANDS[options.command](options)


def _progress(options: argparse.Namespace) -> Callable[[str, int, int | None], None]:
    shown: list[float] = [0.0]

    def progress(stage: str, done: int, total: int | None) -> None:
        if not options.quiet and not options.json and (time.monotonic() - shown[0] > 1 or done == total):
            shown[0] = time.monotonic()
            print(f"{stage} {done}/{total or '?'}", file=sys.stderr)

    return progress


def open_rig(path: Path | None, name: str | None = None) -> tuple[Any, bool]:
    """Open or import a character and choose its object; also whether it was imported into an empty scene.

    Raises:
        CmetError: the file is missing or of an unknown kind, or holds nothing that could be animated.
    """
    import bpy

    from . import rig

    imported = False
    if path is not None:
        if not path.is_file():
            raise CmetError(f"The rig {path} does not exist.")
        suffix = path.suffix.lower()
        importers: dict[str, Callable[[], Any]] = {
            ".blend": lambda: bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False),
            ".glb": lambda: bpy.ops.import_scene.gltf(filepath=str(path)),
            ".gltf": lambda: bpy.ops.import_scene.gltf(filepath=str(path)),
            ".fbx": lambda: bpy.ops.import_scene.fbx(filepath=str(path), use_anim=False),
        }
        importers |= dict.fromkeys(
            (".usd", ".usda", ".usdc", ".usdz"), lambda: bpy.ops.wm.usd_import(filepath=str(path))
        )
        if suffix not in importers:
            raise CmetError(f"{path.name}: a rig cannot be read from '{suffix}'; use one of {' '.join(importers)}.")
        imported = suffix != ".blend"
        if imported:
            bpy.ops.wm.read_homefile(use_empty=True)
            for module in ("io_scene_gltf2", "io_scene_fbx"):
                from . import export

                export._enabled(module)
        try:
            importers[suffix]()
        except RuntimeError as error:
            from . import export

            raise CmetError(f"{path.name} cannot be read: {export.reason_of(error)}") from error
    objects = bpy.context.scene.objects
    if name is not None:
        if name not in objects:
            raise CmetError(
                f"There is no object '{name}' in the scene; it has {', '.join(o.name for o in list(objects)[:8]) or 'none'}."
            )
        return objects[name], imported
    from . import mapping

    best, most = None, 0
    for obj in objects:
        if obj.type == "MESH" and rig.shape_keys(obj) is not None:
            names = [block.name for block in obj.data.shape_keys.key_blocks][1:]
            score = 100 * (52 - len(mapping.match(names).missing)) + min(len(obj.data.vertices), 99)
            if score > most and score >= 100:
                best, most = obj, score
    if best is None:
        best = next((o for o in objects if o.type == "ARMATURE" and mapping._bone_convention(rig.bone_names(o))), None)
    if best is None:
        where = path.name if path else "The scene"
        raise CmetError(f"{where} holds no mesh with face shape keys and no Rigify face; name one with --object.")
    return best, imported


def _mapping(options: argparse.Namespace, obj: Any) -> Any:
    from . import mapping

    if options.mapping is not None:
        return mapping.RigMapping.load(options.mapping)
    found = mapping.match(obj)
    return found if options.no_spread else mapping.spread(obj, found)


def _applied(options: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """The rig with the track's keys, the mapping, the Action, and the track."""
    import bpy

    from . import keyframes
    from .frames import set_rate

    check_writable(options.output, force=options.force)
    track = CoefficientTrack.load(options.track)
    obj, imported = open_rig(options.rig, options.object)
    scene = bpy.context.scene
    if options.fps is not None and options.fps <= 0:
        raise CmetError(f"--fps is {options.fps}; it must be above 0.")
    if options.fps or imported:
        set_rate(scene, options.fps or track.fps)
    mapping = _mapping(options, obj)
    action = keyframes.apply_track(obj, track, mapping, options.start, simplify=options.simplify)
    low, high = action.frame_range
    scene.frame_start, scene.frame_end = round(low), max(round(low), int(high + 1e-3))
    return obj, mapping, action, track


def _summary(options: argparse.Namespace, obj: Any, mapping: Any, **more: Any) -> dict[str, Any]:
    return {
        "file": options.output,
        "object": obj.name,
        "matched": len(mapping.matched),
        "guessed": mapping.guessed,
        "spread": mapping.spread,
        "missing": mapping.missing,
        **more,
    }


def _export(options: argparse.Namespace) -> dict[str, Any]:
    from . import export, keyframes

    if options.output.suffix.lower() not in export.WRITERS:
        raise CmetError(
            f"{options.output.name}: cannot export to '{options.output.suffix}'; use one of {' '.join(export.WRITERS)}."
        )
    obj, mapping, action, track = _applied(options)
    span = tuple(options.frames) if options.frames else None
    export.write(obj, options.output, span, preset=options.preset, mapping=mapping, force=options.force)
    return _summary(options, obj, mapping, frames=len(track), notes=keyframes.notes_of(action))


def _apply(options: argparse.Namespace) -> dict[str, Any]:
    from . import export, keyframes

    if options.output.suffix.lower() != ".blend":
        raise CmetError(f"{options.output.name}: `apply` writes a .blend; use `export` for other formats.")
    obj, mapping, action, track = _applied(options)
    export.blend(obj, options.output, force=options.force)
    return _summary(options, obj, mapping, frames=len(track), action=action.name, notes=keyframes.notes_of(action))


def _bake(options: argparse.Namespace) -> dict[str, Any]:
    from . import emotion_strips, export

    check_writable(options.output, force=options.force)
    obj, _ = open_rig(options.rig, options.object)
    span = tuple(options.frames) if options.frames else export.frame_span(obj)
    emotions = list(emotion_strips.strips(obj))
    action = emotion_strips.bake(obj, span, progress=_progress(options))
    mapping = _mapping(options, obj)
    export.write(obj, options.output, span, preset=options.preset, mapping=mapping, force=options.force)
    return {
        "file": options.output,
        "object": obj.name,
        "action": action.name,
        "emotions": emotions,
        "frames": span[1] - span[0] + 1,
    }


def _read(options: argparse.Namespace) -> dict[str, Any]:
    from . import export

    obj, _ = open_rig(options.rig, options.object)
    mapping = _mapping(options, obj)
    span = tuple(options.frames) if options.frames else None
    export.track(obj, options.output, span, mapping=mapping, force=options.force, progress=_progress(options))
    return _summary(options, obj, mapping)


def _match(options: argparse.Namespace) -> dict[str, Any]:
    obj, _ = open_rig(options.rig, options.object)
    mapping = _mapping(options, obj)
    if options.output is not None:
        mapping.save(options.output, force=options.force)
    counts = {
        "matched": len(mapping.matched),
        "guessed": mapping.guessed,
        "spread": mapping.spread,
        "missing": mapping.missing,
        "unused": list(mapping.unused),
    }
    return (
        {"object": obj.name, **counts, "table": mapping.table()}
        if options.json
        else {"report": f"{obj.name}: {mapping.report()}", "file": options.output}
    )


def _render(options: argparse.Namespace) -> dict[str, Any]:
    from . import engine, export, keyframes

    check_writable(options.output, force=options.force)
    if not options.clip.is_file():
        raise CmetError(f"The clip {options.clip} does not exist.")
    obj, _ = open_rig(options.rig, options.object)
    mapping = _mapping(options, obj)
    source = CoefficientTrack.load(options.source) if options.source else None
    span = tuple(options.frames) if options.frames else export.frame_span(obj)
    timing: dict[str, Any] = (
        {"fps": source.fps, "times": source.times, "reference": source} if source is not None else {}
    )
    progress = _progress(options)
    track = keyframes.read_track(obj, span, mapping, progress=progress, **timing)
    with tempfile.TemporaryDirectory(prefix="cmet-") as folder:
        curves = track.save(Path(folder) / "edited.npz")
        worker = engine.Engine(
            options.engine, folder=Path(folder) / "engine", allow=[options.clip.resolve().parent, Path(folder)]
        )
        try:
            parameters: dict[str, Any] = {
                "renderer": options.renderer,
                "format": options.output.suffix.lstrip(".").lower(),
            }
            if options.source:
                parameters["source"] = str(source.save(Path(folder) / "source.npz"))  # type: ignore[union-attr]
            state = worker.run("render", options.clip.resolve(), curves, progress=progress, **parameters)
            made = next(Path(p) for p in state["files"].values())
            with whole_file(options.output, force=options.force) as temporary:
                temporary.write_bytes(made.read_bytes())
        finally:
            worker.stop()
    return {"file": options.output, "object": obj.name, "frames": len(track)}


_COMMANDS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "export": _export, "apply": _apply, "bake": _bake, "read": _read, "match": _match, "render": _render,
}  # fmt: skip


def _batch(options: argparse.Namespace) -> dict[str, Any]:
    """Run every row of a manifest; one that fails does not stop the others."""
    try:
        lines = options.manifest.read_text("utf-8").splitlines()
    except OSError as error:
        raise CmetError(f"Cannot read {options.manifest}: {error.strerror}.") from error
    rows = [_row(options.manifest, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    log = options.log or options.manifest.with_name(options.manifest.name + ".results.jsonl")
    known: set[str] = set()
    if options.resume and log.is_file():
        known = {
            entry["row"]
            for entry in map(json.loads, log.read_text("utf-8").splitlines())
            if entry.get("state") == "done"
        }
    counts = {"done": 0, "failed": 0, "skipped": 0}
    with log.open("a" if options.resume else "w", encoding="utf-8") as file:
        for number, (text, arguments) in enumerate(rows, 1):
            if text in known:
                counts["skipped"] += 1
                continue
            entry: dict[str, Any] = {"row": text}
            try:
                row_options = _row_parser().parse_args([*arguments, *(["--force"] if options.force else []), "--quiet"])
                entry |= {"state": "done", "result": run(row_options)}
                counts["done"] += 1
            except (CmetError, _UsageError) as error:
                entry |= {"state": "failed", "error": str(error)}
                counts["failed"] += 1
            except Exception as error:  # a fault in one row must not cost the others
                entry |= {
                    "state": "failed",
                    "error": f"An internal fault stopped the row ({type(error).__name__}: {error}).",
                }
                counts["failed"] += 1
            file.write(json.dumps(entry, default=str) + "\n")
            file.flush()
            if not options.quiet:
                print(
                    f"[{number}/{len(rows)}] {entry['state']}{': ' + entry['error'] if 'error' in entry else ''}",
                    file=sys.stderr,
                )
    return {**counts, "log": log, "exit": 1 if counts["failed"] else 0}


class _UsageError(Exception):
    """A row of a manifest that the command line would refuse."""


def _row_parser() -> argparse.ArgumentParser:
    parser = build_parser()

    def refuse(message: str) -> Any:
        raise _UsageError(f"The row is wrong: {message}.")

    for one in [parser, *parser._subparsers._group_actions[0].choices.values()]:  # type: ignore[union-attr, arg-type]
        one.error = refuse  # type: ignore[method-assign]
    return parser


_POSITIONAL = {"export": "track", "apply": "track", "render": "clip"}
_PATHS = ("track", "clip", "rig", "output", "mapping", "source")


def _row(manifest: Path, number: int, line: str) -> tuple[str, list[str]]:
    """A manifest's line as arguments of the command line."""
    try:
        values = json.loads(line)
    except ValueError as error:
        raise CmetError(f"{manifest.name}: line {number} is not valid JSON.") from error
    if not isinstance(values, dict) or values.get("command") not in COMMANDS:
        raise CmetError(f'{manifest.name}: line {number} needs "command", one of {", ".join(COMMANDS)}.')
    values = dict(values)
    command = values.pop("command")
    arguments = [command]
    for key, value in values.items():
        if key in _PATHS:
            value = str(manifest.resolve().parent / str(value))
        if key == _POSITIONAL.get(command):
            arguments.insert(1, str(value))
        elif isinstance(value, bool):
            arguments += [f"--{key.replace('_', '-')}"] if value else []
        elif isinstance(value, list):
            arguments += [f"--{key.replace('_', '-')}", *map(str, value)]
        else:
            arguments += [f"--{key.replace('_', '-')}={value}"]
    return json.dumps({"command": command, **values}, sort_keys=True), arguments
