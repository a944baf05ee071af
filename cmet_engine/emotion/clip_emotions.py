"""The emotions of an edit and how strongly the clip's own voice carries each."""

from typing import Any

from cmet_engine.spec import EditSpec


def clip_emotions(spec: EditSpec) -> Any:
    """Timeline, vectors and intensities of an edit; see `pipeline.listen`."""
    from cmet_engine import pipeline

    return pipeline.listen(spec.clip, pipeline.settings_of(spec))
