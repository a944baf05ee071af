"""The same edit by every renderer that is installed, side by side on one page, with the same measures."""

import html
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.errors import CmetError
from cmet_engine.face.clip import track_clip
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.identity import clearly_seen, distance, load_identity, texture
from cmet_engine.face.mesh import Mesh, box_of
from cmet_engine.files import whole_folder
from cmet_engine.media.probe import part_of
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter
from cmet_engine.pipeline import edit_clip
from cmet_engine.progress import Progress, Stage
from cmet_engine.quality import metrics
from cmet_engine.quality.alignment import neighbours
from cmet_engine.quality.regions import face_regions
from cmet_engine.render.choose import check_weights, installed
from cmet_engine.spec import EditSpec

LOOKED_AT = 8
"""Frames whose identity and sharpness are measured, evenly spread."""
RUN = 16
"""Neighbouring frames whose flicker is measured."""

MEASURES = {
    "edit_realised": "edit realised (1: as asked)",
    "identity": "distance of identity (0: the same)",
    "lip_correlation": "lips follow the speech (1: as filmed)",
    "flicker": "flicker (1: as filmed)",
    "sharpness": "fine detail of the face (1: as filmed)",
    "seconds": "seconds a frame",
}
"""What is measured of each renderer, in words."""


def compare(
    clip: Path,
    emotions: Sequence[str],
    output: Path,
    *,
    seconds: float = 2.0,
    device: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Edit the beginning of a clip with each installed renderer, and write one page.

    Args:
        clip: the footage.
        emotions: keys in text form.
        output: folder for the page, the numbers (compare.json) and the clips.
        seconds: how much of the clip.
        device: where networks run.
        force: replace an earlier comparison.
        progress: as `edit_clip` calls it.

    Returns:
        For each renderer its name and measures, and sentences for the user.

    Raises:
        CmetError: the clip cannot be edited by any of them.
    """
    rows: list[dict[str, Any]] = []
    failed: dict[str, CmetError] = {}
    with whole_folder(output, force=force) as folder:
        footage = part_of(clip, None, f"{seconds:g}", 0)
        geometry, _ = track_clip(footage, progress=progress)
        filmed = _written(footage, folder / "source.mp4")
        for name in installed():
            clock = _Clock(progress)
            try:
                check_weights(name, emotions=True)
                values = {
                    "clip": clip,
                    "emotions": list(emotions),
                    "renderer": name,
                    "device": device,
                    "range_to": f"{seconds:g}",
                }
                result = edit_clip(EditSpec.read(values), folder / name, progress=clock)
            except CmetError as error:
                failed[name] = error
                continue
            shown = [frame.image for frame in VideoReader(folder / name / "edited.mp4")]
            figures = {key: result.figures.get(key) for key in ("edit_realised", "lip_correlation")}
            rows.append({"renderer": name, **figures, **_measured(filmed, shown, geometry), "seconds": clock.per_frame})
        if not rows:
            raise next(iter(failed.values()))
        messages = [f"{name} is left out: {error}" for name, error in failed.items()]
        (folder / "compare.json").write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
        (folder / "compare.html").write_text(page(clip.name, emotions, rows, messages), "utf-8")
    return rows, messages


class _Clock:
    """Measures the time from the first rendered frame to the last."""

    def __init__(self, progress: Progress | None):
        self._progress, self._times = progress, (0.0, 0.0)
        self._frames = 0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage == Stage.RENDER:
            now = time.perf_counter()
            self._times, self._frames = (now if done == 1 else self._times[0], now), done
        if self._progress:
            self._progress(stage, done, total)

    @property
    def per_frame(self) -> float | None:
        """Seconds; None where fewer than two frames were rendered."""
        return round((self._times[1] - self._times[0]) / (self._frames - 1), 3) if self._frames > 1 else None


def _written(footage: Any, path: Path) -> list[np.ndarray]:
    """The frames of a part of a clip, which are written to a file that a browser shows, too."""
    reader = VideoReader(footage)
    frames = []
    with VideoWriter(path, reader.info.width, reader.info.height, reader.info.fps) as writer:
        for frame in reader:
            writer.write(frame.image)
            frames.append(frame.image)
    return frames


def _measured(filmed: list[np.ndarray], shown: list[np.ndarray], geometry: FaceGeometry) -> dict[str, float | None]:
    """Identity, flicker and sharpness of rendered frames beside the filmed ones."""
    count = min(len(filmed), len(shown), len(geometry))
    usable = np.flatnonzero(geometry.valid[:count])
    picks = usable[np.unique(np.linspace(0, len(usable) - 1, min(LOOKED_AT, len(usable))).astype(int))]
    signatures: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    mesh, model, detail = Mesh(follow=False), load_identity(), []
    try:
        for n in picks.tolist():
            landmarks = geometry.landmarks[n]
            detail.append((filmed[n], shown[n], face_regions(landmarks, filmed[n].shape)["face"]))
            for kept, image in zip(signatures, (filmed[n], shown[n]), strict=True):
                seen = mesh.find(image, box_of(landmarks))
                if seen is not None and clearly_seen(seen):
                    kept.append(model.signatures(texture(image, seen)[None], seen[None])[0])
    finally:
        mesh.close()
    apart = None
    if signatures[0] and signatures[1]:
        apart = float(np.mean([distance(one, np.stack(signatures[0])) for one in signatures[1]]))
    run = usable[: RUN + 1].tolist()
    places = [geometry.landmarks[n] for n in run]
    flicker = metrics.flicker(*(neighbours([frames[n] for n in run], places) for frames in (filmed, shown)))
    found = {"identity": apart, "flicker": flicker, "sharpness": metrics.detail_kept(detail)}
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def page(clip: str, emotions: Sequence[str], rows: Sequence[dict[str, Any]], messages: Sequence[str]) -> str:
    """The page as HTML; the clips lie beside it."""
    films = [("source.mp4", "as filmed"), *((f"{row['renderer']}/edited.mp4", row["renderer"]) for row in rows)]
    figures = "".join(
        f'<figure><video src="{html.escape(path)}" controls loop muted></video><figcaption>{html.escape(name)}</figcaption></figure>'
        for path, name in films
    )
    head = "".join(f"<th>{html.escape(row['renderer'])}</th>" for row in rows)
    lines = "".join(
        f"<tr><th>{html.escape(words)}</th>"
        + "".join(f"<td>{'–' if row[key] is None else row[key]}</td>" for row in rows)
        + "</tr>"
        for key, words in MEASURES.items()
    )
    said = "".join(f"<p>{html.escape(message)}</p>" for message in messages)
    title = html.escape(f"{clip}: {', '.join(emotions)}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:15px sans-serif;margin:2em}main{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0;flex:1 1 300px}"
        "video{width:100%}td,th{padding:.3em .8em;text-align:left}</style>"
        f"<h1>{title}</h1><main>{figures}</main><table><tr><th></th>{head}</tr>{lines}</table>{said}"
        "<p><button onclick=\"document.querySelectorAll('video').forEach(v=>{v.currentTime=0;v.play()})\">Play all</button></p>\n"
    )
