"""The C-MET engine: emotion edits of talking faces, from footage to coefficient tracks and edited video.

    from cmet_engine import EditSpec, edit_clip

    result = edit_clip(EditSpec(clip="take3.mp4", emotions=["happy@0-2.5"]), "take3-edited")

What this package offers is imported when it is first used, and nothing heavy before: Blender imports `arkit`, `track`,
`timeline`, `files`, `errors` and `client` from it, which need only numpy and the standard library.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "CmetError": "errors",
    "CoefficientTrack": "track",
    "EditSpec": "spec",
    "EmotionKey": "timeline",
    "EmotionTimeline": "timeline",
    "ExportSpec": "spec",
    "RenderSpec": "spec",
    "TrackSpec": "spec",
    "VectorSpec": "spec",
    "edit_clip": "pipeline",
    "execute": "jobs.execute",
    "render_clip": "pipeline",
    "track_clip": "face.clip",
}  # the module that each public name comes from; `__init__.pyi` says the same to type checkers

__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
