"""The edit of a take: curves in, curves with an emotion out, without any footage."""

import time
from pathlib import Path

from cmet_engine.corrections import corrected
from cmet_engine.emotion.clip_emotions import asked_emotions
from cmet_engine.emotion.edit import edit_track
from cmet_engine.errors import InvalidInput
from cmet_engine.files import whole_folder
from cmet_engine.progress import Progress
from cmet_engine.quality import summary
from cmet_engine.quality.report import EditReport, write_report
from cmet_engine.render.metadata import edit_description
from cmet_engine.rest import at_rest
from cmet_engine.spec import EditSpec
from cmet_engine.track import CoefficientTrack


def edit_take(
    spec: EditSpec, output: Path, *, force: bool = False, progress: Progress | None = None
) -> tuple[dict[str, Path], list[str]]:
    """Edit the curves of `spec.clip`, a take: source.npz, edited.npz, edited.csv, report.html and report.json, all or nothing.

    Args:
        spec: which take and which emotions.
        output: folder for the results; made when absent.
        force: replace earlier results in `output`.
        progress: called as `progress(stage, done, total)`.

    Returns:
        The files by name, and messages worth reading.

    Raises:
        CmetError: the take cannot be read, an emotion is unknown, or a key is for a person.
    """
    started = time.perf_counter()
    loaded = CoefficientTrack.load(spec.clip)
    source = at_rest(loaded, spec.rests, calibrate=spec.calibrate)
    emotions = asked_emotions(spec)
    timeline = emotions.timeline
    if any(key.person for key in timeline.keys):
        raise InvalidInput(f"{spec.clip.name} is the take of one face; leave out the #PERSON behind the emotions.")
    messages = [*loaded.notes, *emotions.messages]
    edited = edit_track(
        source, timeline, emotions.vectors, mode=spec.mode, likeness=emotions.likeness, bearing=spec.bearing
    )
    edited = corrected(edited, spec.corrected_points)
    edited.meta["edit"] = edit_description(timeline, spec.mode)
    if progress:
        progress("edit", len(edited), len(edited))
    with whole_folder(output, force=force) as folder:
        source.save(folder / "source.npz")
        edited.save(folder / "edited.npz")
        edited.save(folder / "edited.csv")
        report = EditReport(
            clip=spec.clip.name, width=0, height=0, fps=source.fps, duration=source.duration,
            settings=summary.settings_table(spec), versions=summary.versions(), timeline=timeline.within(source.duration),
            source=source, edited=edited, faces_lost=int((~source.valid).sum()), messages=messages,
            speed=len(source) / (time.perf_counter() - started),
        )  # fmt: skip
        write_report(folder / "report.html", folder / "report.json", report)
    return {path.name: path for path in spec.outputs(output)}, messages
