"""Do what a specification says: the one place where command line, batch, HTTP jobs and scripts meet the work itself."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from cmet_engine import pipeline, take_formats
from cmet_engine.cleanup import cleaned, read_strengths
from cmet_engine.edit_take import edit_take
from cmet_engine.emotion.hearing import Hearing
from cmet_engine.emotion.library import describe_vector, load_library
from cmet_engine.emotion.make_vector import emotion_vector
from cmet_engine.emotion.speech import load_encoder
from cmet_engine.emotion.user_library import check_new, save_user_vector, user_folder
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.face.clip import track_clip
from cmet_engine.face.people import find_people, give_names, label, write_people
from cmet_engine.files import check_writable, inputs_kept, whole_file
from cmet_engine.media.formats import SCENE, TRACK
from cmet_engine.media.output import files_read
from cmet_engine.media.probe import measure, part_of
from cmet_engine.media.source import Source
from cmet_engine.pipeline import Preview
from cmet_engine.processes import keep_freed_memory, release_freed_memory
from cmet_engine.progress import Progress
from cmet_engine.provenance.seal import CHARACTER, Signatory
from cmet_engine.rest import CALIBRATION, at_rest
from cmet_engine.resume import Segments
from cmet_engine.spec import (
    ApplySpec,
    BakeSpec,
    EditSpec,
    ExportSpec,
    FacesSpec,
    HearSpec,
    RenderSpec,
    RigWork,
    TrackSpec,
    VectorSpec,
    Work,
)
from cmet_engine.spec_base import credential_files
from cmet_engine.track import CoefficientTrack

POSITIONAL = {"export": "track", "apply": "track", "render_rig": "clip"}
"""Fields that `python -m cmet_blender KIND` takes without an option's name."""


@dataclass
class Result:
    """What some work made: `files` by name, measured `figures`, and `messages` worth reading."""

    files: dict[str, Path] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Options:
    """How to work; see `execute`."""

    force: bool
    progress: Progress | None
    pieces: Segments | None
    preview: Preview | None


def execute(
    spec: Work,
    output: Path | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    pieces: Segments | None = None,
    preview: Preview | None = None,
) -> Result:
    """Do what a specification says.

    Args:
        spec: what to do.
        output: where the result goes: a folder for an edit and for faces, else a file, whose suffix chooses the format. A vector
            goes into the user's library and needs none; nor does a list of faces without pictures, nor hearing.
        force: replace earlier results; of an emotion `VectorSpec.replace` says that.
        progress: called as `progress(stage, done, total)`; an exception raised in it cancels the work.
        pieces: where finished segments are kept; work that was interrupted goes on from them.
        preview: called with every edited frame, uint8 [H, W, 3].

    Raises:
        CmetError: the work cannot be done; one sentence.
    """
    # frames are drawn side by side; OpenCV's own threads would spin while they wait for each other
    cv2.setNumThreads(1)
    keep_freed_memory()
    try:
        with inputs_kept(files_read(spec)):
            return _execute(spec, output, _Options(force, progress, pieces, preview))
    finally:
        release_freed_memory()  # a worker that waits for work holds no more than it needs


def _execute(spec: Work, output: Path | None, options: _Options) -> Result:
    if isinstance(spec, VectorSpec):
        return _vector(spec, options)
    if isinstance(spec, FacesSpec):
        return _faces(spec, output, options)
    if isinstance(spec, HearSpec):
        return _hear(spec, output, options)
    if output is None:
        raise InvalidInput("The output is missing; say where the result goes.")
    if isinstance(spec, TrackSpec):
        return _track(spec, output, options)
    if isinstance(spec, EditSpec) and spec.is_take:
        files, messages = edit_take(spec, output, force=options.force, progress=options.progress)
        return Result(files, messages=messages)
    if isinstance(spec, EditSpec):
        edited = pipeline.edit_clip(spec, output, **vars(options))
        return Result(edited.files, edited.figures, edited.messages)
    if isinstance(spec, RenderSpec):
        rendered = pipeline.render_clip(spec, output, **vars(options))
        return Result(rendered.files, rendered.figures, rendered.messages)
    if isinstance(spec, ExportSpec) and spec.rig is None:
        return _convert(spec, output, options)
    return _in_blender(spec, output, options)


def _faces(spec: FacesSpec, output: Path | None, options: _Options) -> Result:
    """Everyone in a clip; with an output also their pictures."""
    clip = Source.of(spec.clip, spec.space)
    people = find_people(clip, options.progress)
    if spec.names:
        named = [name.partition("=") for name in spec.names]
        give_names(clip, {name: int(number) for number, _, name in named})
        people = find_people(clip)
    files = {} if output is None else write_people(people, output, force=options.force)
    rows = [
        {
            "id": p.number, "name": p.name, "first": round(p.first, 3), "last": round(p.last, 3), "share": round(p.share, 4),
            "size": round(p.size, 1), "picture": f"{label(p)}.png" if output else None,
        }
        for p in people
    ]  # fmt: skip
    return Result(files, {"people": rows})


def _hear(spec: HearSpec, output: Path | None, options: _Options) -> Result:
    """What is felt in a recording, when and how strongly; with an output also the file of the timeline."""
    if output is not None:
        check_writable(output, force=options.force)
    hearing = Hearing.of(spec.clip, spec.neutral, options.progress)
    timeline = hearing.timeline()
    if output is not None:
        with whole_file(output, force=options.force) as temporary:
            temporary.write_text(timeline.to_json(), "utf-8")
    figures = {"seconds": round(hearing.seconds, 3), "keys": json.loads(timeline.to_json())["keys"]}
    return Result({} if output is None else {output.name: output}, figures, hearing.messages(spec.neutral))


def _track(spec: TrackSpec, output: Path, options: _Options) -> Result:
    """Footage to coefficients."""
    check_writable(output, force=options.force)
    footage = part_of(spec.clip, *spec.part, spec.space)
    _, track = track_clip(footage, face=spec.face, progress=options.progress, pieces=options.pieces)
    figures: dict[str, Any] = {"frames": len(track), "fps": str(track.fps), "frames_with_face": int(track.valid.sum())}
    track = at_rest(track, spec.rests, calibrate=spec.calibrate)
    figures |= {CALIBRATION: track.meta[CALIBRATION]} if CALIBRATION in track.meta else {}
    track.save(output, force=options.force)
    return Result({output.name: output}, figures, list(measure(footage).warnings))


def _vector(spec: VectorSpec, options: _Options) -> Result:
    """An emotion from recordings, into the user's library."""
    if options.pieces is None:  # otherwise an attempt that was killed may have stored it
        check_new(spec.name, force=spec.replace)
    encoder = load_encoder()
    vector = emotion_vector(spec.paths, spec.neutral or None, spec.name, encoder, progress=options.progress)
    held = load_library().get(vector.name)
    if options.pieces is None or held is None or abs(held.vector - vector.vector).max() > 1e-5:
        save_user_vector(vector, force=spec.replace)
    path = user_folder() / f"{vector.name}.json"
    figures = {"about": describe_vector(vector), "reliability": vector.reliability, **vector.meta}
    return Result({path.name: path}, figures)


def _convert(spec: ExportSpec, output: Path, options: _Options) -> Result:
    """A track in another format."""
    suffix = output.suffix.lower()
    if suffix not in (*TRACK, ".txt"):
        need = f"'{suffix}' needs a rig, the file of a character" if suffix in SCENE else f"'{suffix}' is unknown"
        raise InvalidInput(f"{output.name}: a track alone can be written as {', '.join(TRACK)}; {need}.")
    check_writable(output, force=options.force)
    track = cleaned(CoefficientTrack.load(spec.track), read_strengths(spec.steady), mirror=spec.mirror, fps=spec.fps)
    take_formats.save(track, output, spec.take_format, force=options.force)
    left_out = [take_formats.FORMATS[spec.take_format].leaves_out] if spec.take_format else []
    return Result(
        {output.name: output}, {"frames": len(track), "fps": str(track.fps)}, [*track.notes, *filter(None, left_out)]
    )


def _in_blender(spec: RigWork, output: Path, options: _Options) -> Result:
    """Work on a character, by `python -m cmet_blender` in a process of its own."""
    check_writable(output, force=options.force)
    beside, signatory = credential_files(output), None
    if isinstance(spec, ExportSpec | ApplySpec | BakeSpec) and output.suffix.lower() in SCENE:
        signatory = Signatory(spec)
        for path in beside:
            check_writable(path, force=options.force)
    command = [sys.executable, "-m", "cmet_blender", *blender_arguments(spec, output, force=options.force), "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = dict(json.loads(finished.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        answer = {}
    if finished.returncode or not answer:
        lines = finished.stderr.strip().splitlines() or ["Blender ended without a message."]
        raise CmetError(answer.get("error") or lines[-1].removeprefix("cmet: "))
    messages = answer.pop("notes", None) or []
    answer.pop("file", None)
    files = {output.name: output}
    if signatory is not None:
        seal = signatory.seal(CHARACTER)
        messages += [*signatory.messages, *seal(output, output), *seal.record(output)]
        files |= {path.name: path for path in beside if path.exists()}
    return Result(files, answer, messages)


def blender_arguments(spec: RigWork, output: Path, *, force: bool = False) -> list[str]:
    """The arguments of `python -m cmet_blender` for some work on a character."""
    arguments: list[str] = ["render" if spec.kind == "render_rig" else spec.kind]
    left = {"consent", "format"} if spec.kind != "render_rig" else set()  # for whoever signs, and in the output's name
    for name, value in spec.model_dump(mode="json", exclude_defaults=True, exclude=left).items():
        if name == POSITIONAL.get(spec.kind):
            arguments.insert(1, str(value))
        elif isinstance(value, bool):
            arguments.append("--no-spread" if name == "spread" else f"--{name}")
        else:
            option = f"--{name.replace('_', '-')}"
            arguments += [option, *map(str, value)] if isinstance(value, list) else [f"{option}={value}"]
    if spec.kind == "render_rig":
        arguments += ["--engine", sys.executable]
    if isinstance(spec, ExportSpec | ApplySpec | BakeSpec):
        arguments.append("--unsigned")
    return [*arguments, "--output", str(output), *(["--force"] if force else [])]
