"""The commands: each takes the parsed options and returns what to print."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from cmet_engine.cleanup import cleaned, read_strengths
from cmet_engine.client import video_of
from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.files import check_writable, whole_file
from cmet_engine.progress import Progress, label_of
from cmet_engine.track import CoefficientTrack

from .. import emotion_strips, export, keyframes, sealing
from ..engine import Engine
from ..frames import scene_fps, set_rate
from ..mapping import RigMapping
from ..shot import open_shot
from .rigs import mapping_of, open_rig
from .stills import stills

VIDEO_FORMATS = ("mp4", "m4v", "mov", "mkv", "webm", "mxf")


def _progress(options: argparse.Namespace) -> Progress:
    shown: list[float] = [0.0]

    def progress(stage: str, done: int, total: int | None) -> None:
        if not options.quiet and not options.json and (time.monotonic() - shown[0] > 1 or done == total):
            shown[0] = time.monotonic()
            print(f"{label_of(stage)} {done}/{total or '?'}", file=sys.stderr)

    return progress


def _applied(options: argparse.Namespace) -> tuple[Any, RigMapping, Any, CoefficientTrack]:
    """The rig with the track's keys, the mapping, the Action, and the track.

    The scene of a .blend keeps its rate, unless it is sampled to be exported and nothing else in it moves: then it takes the
    track's, so that every key is on a frame.
    """
    check_writable(options.output, force=options.force)
    track = cleaned(CoefficientTrack.load(options.track), read_strengths(options.steady), mirror=options.mirror)
    obj, imported = open_rig(options.rig, options.object)
    scene = bpy.context.scene
    if options.fps is not None and options.fps <= 0:
        raise InvalidInput(f"--fps is {options.fps}; it must be above 0.")
    if options.fps or imported:
        set_rate(scene, options.fps or track.fps)
    mapping = mapping_of(options, obj)
    action = keyframes.apply_track(obj, track, mapping, options.start, simplify=options.simplify)
    free = not (options.fps or getattr(options, "frames", None) or export.animated_apart(obj, action))
    if free and options.output.suffix.lower() != ".blend" and scene_fps(scene) != track.fps:
        bpy.data.actions.remove(action)
        set_rate(scene, track.fps)
        action = keyframes.apply_track(obj, track, mapping, options.start, simplify=options.simplify)
    low, high = action.frame_range
    scene.frame_start, scene.frame_end = round(low), max(round(low), int(high + 1e-3))
    return obj, mapping, action, track


def _summary(options: argparse.Namespace, obj: Any, mapping: RigMapping, **more: Any) -> dict[str, Any]:
    return {
        "file": options.output,
        "object": obj.name,
        "matched": len(mapping.matched),
        "guessed": mapping.guessed,
        "spread": mapping.spread,
        "missing": mapping.missing,
        **more,
    }


def _signing(options: argparse.Namespace, obj: Any) -> list[str]:
    """Have the written file signed, unless whoever calls does that; returns sentences."""
    if options.unsigned:
        return []
    track = getattr(options, "track", "")
    return sealing.signed(obj, options.output, options.consent or "", track, replaced=options.force)


def _export(options: argparse.Namespace) -> dict[str, Any]:
    if options.output.suffix.lower() not in export.WRITERS:
        raise InvalidInput(
            f"{options.output.name}: cannot export to '{options.output.suffix}'; use one of {' '.join(export.WRITERS)}."
        )
    obj, mapping, action, track = _applied(options)
    span = tuple(options.frames) if options.frames else export.frame_span(obj)
    export.write(obj, options.output, span, preset=options.preset, mapping=mapping, force=options.force)
    whole = (
        options.output.suffix.lower() == ".blend"
    )  # holds the keys themselves, the others a sample for every scene frame
    notes = [*track.notes, *keyframes.notes_of(action), *export.sampling_notes(obj, options.output)]
    notes += _signing(options, obj)
    return _summary(
        options, obj, mapping, frames=len(track) if whole else span[1] - span[0] + 1,
        fps=str(scene_fps(bpy.context.scene)), notes=notes,
    )  # fmt: skip


def _apply(options: argparse.Namespace) -> dict[str, Any]:
    if options.output.suffix.lower() != ".blend":
        raise InvalidInput(f"{options.output.name}: `apply` writes a .blend; use `export` for other formats.")
    obj, mapping, action, track = _applied(options)
    export.blend(obj, options.output, force=options.force)
    notes = [*track.notes, *keyframes.notes_of(action), *_signing(options, obj)]
    return _summary(options, obj, mapping, frames=len(track), action=action.name, notes=notes)


def _bake(options: argparse.Namespace) -> dict[str, Any]:
    check_writable(options.output, force=options.force)
    obj, _ = open_rig(options.rig, options.object)
    span = tuple(options.frames) if options.frames else export.frame_span(obj)
    emotions = list(emotion_strips.strips(obj))
    notes = export.sampling_notes(obj, options.output.with_suffix(""))
    action = emotion_strips.bake(obj, span, progress=_progress(options))
    mapping = mapping_of(options, obj)
    export.write(obj, options.output, span, preset=options.preset, mapping=mapping, force=options.force)
    return {
        "file": options.output,
        "object": obj.name,
        "action": action.name,
        "emotions": emotions,
        "frames": span[1] - span[0] + 1,
        "notes": [*notes, *_signing(options, obj)],
    }


def _read(options: argparse.Namespace) -> dict[str, Any]:
    obj, _ = open_rig(options.rig, options.object)
    mapping = mapping_of(options, obj)
    span = tuple(options.frames) if options.frames else None
    export.track(obj, options.output, span, mapping=mapping, force=options.force, progress=_progress(options))
    return _summary(options, obj, mapping, notes=export.sampling_notes(obj, options.output))


def _match(options: argparse.Namespace) -> dict[str, Any]:
    obj, _ = open_rig(options.rig, options.object)
    mapping = mapping_of(options, obj)
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
    check_writable(options.output, force=options.force)
    if not options.clip.is_file():
        raise NotFound(f"The clip {options.clip} does not exist.")
    suffix = options.output.suffix.lstrip(".").lower()
    if suffix not in VIDEO_FORMATS:
        wanted = " ".join(f".{name}" for name in VIDEO_FORMATS)
        raise InvalidInput(f"{options.output.name}: a video cannot be written as '.{suffix}'; use one of {wanted}.")
    obj, _ = open_rig(options.rig, options.object)
    mapping = mapping_of(options, obj)
    source = CoefficientTrack.load(options.source) if options.source else None
    span = tuple(options.frames) if options.frames else export.frame_span(obj)
    timing: dict[str, Any] = (
        {"fps": source.fps, "times": source.times, "reference": source} if source is not None else {}
    )
    progress = _progress(options)
    track = keyframes.read_track(obj, span, mapping, progress=progress, **timing)
    clip = options.clip.resolve()
    request = {
        "kind": "render",
        "clip": str(clip),
        "face": options.face,
        "renderer": options.renderer,
        "quality": options.quality,
        "format": suffix,
    }
    request |= {"device": options.device, "codec": options.codec, "rate_factor": options.rate_factor}
    allow, consent = [clip.parent], options.consent
    if consent and consent.lower().endswith(".json"):
        consent = str(Path(consent).resolve())
        allow.append(Path(consent).parent)
    request["consent"] = consent
    with tempfile.TemporaryDirectory(prefix="cmet-") as name:
        folder = Path(name)
        request["track"] = str(track.save(folder / "edited.npz"))
        if source is not None:
            request["source"] = str(source.save(folder / "source.npz"))
        engine = Engine(options.engine, folder=folder / "engine", allow=[*allow, folder])
        try:
            state = engine.run(request, progress)
            video, credentials = video_of(state["files"])
            targets = {video: options.output} | (
                {credentials: options.output.with_suffix(".c2pa")} if credentials else {}
            )
            for made, target in targets.items():
                with whole_file(target, force=options.force) as temporary:
                    shutil.copyfile(state["files"][made], temporary)
        finally:
            engine.stop()
    notes = state["result"].get("messages", [])
    return {"file": options.output, "object": obj.name, "frames": len(track), "notes": notes}


def _shot(options: argparse.Namespace) -> dict[str, Any]:
    if options.output.suffix.lower() != ".blend":
        raise InvalidInput(f"{options.output.name}: a shot is kept as a .blend.")
    check_writable(options.output, force=options.force)
    answer = open_shot(options.shot)
    export.blend(bpy.data.objects[answer["object"]], options.output, force=options.force)
    return {"file": options.output, **answer}


COMMANDS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "export": _export, "apply": _apply, "bake": _bake, "read": _read, "match": _match, "render": _render,
    "shot": _shot, "stills": stills,
}  # fmt: skip
