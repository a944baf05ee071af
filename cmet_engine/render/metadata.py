"""What an edited video says about itself."""

from cmet_engine import __version__
from cmet_engine.spec import EditSpec
from cmet_engine.timeline import EmotionTimeline


def edit_description(timeline: EmotionTimeline, mode: str) -> str:
    """One line that says how a clip was edited: `happy 0.8 from 1 s to end (add)`, `happy 1 for anna, angry 1 for 2 (add)`."""
    parts = []
    for key in timeline.keys:
        end = "end" if key.end is None else f"{key.end:g} s"
        whole = key.start == 0 and key.end is None
        parts.append(f"{key.title} {key.strength:g}" + ("" if whole else f" from {key.start:g} s to {end}"))
        parts[-1] += "" if key.person is None else f" for {key.person}"
    return f"{', '.join(parts)} ({mode})"


def described(spec: EditSpec, timeline: EmotionTimeline) -> str:
    """`edit_description` of an edit, or of each person's where they differ in mode."""
    modes = {person: spec.of(person).mode for person in timeline.people()}
    if len(set(modes.values())) == 1:
        return edit_description(timeline, next(iter(modes.values())))
    return ", ".join(edit_description(timeline.of(person), mode) for person, mode in modes.items())


def video_metadata(renderer: str, description: str) -> dict[str, str]:
    """Tags of an edited video, which say that it was edited, how, and by which renderer."""
    return {
        "title": "Edited video",
        "comment": f"The facial expression in this video was edited with C-MET {__version__} "
        f"({renderer} renderer): {description}. It does not show what was filmed.",
        "cmet_version": __version__,
        "cmet_edit": description,
    }
