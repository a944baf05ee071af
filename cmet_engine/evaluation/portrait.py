"""Whether converted weights of LivePortrait or PerformRecast draw what they should: our own sample, unchanged and with a smile."""

from dataclasses import dataclass, replace

import numpy as np

from cmet_engine import arkit
from cmet_engine.face.blendshapes import load_solver
from cmet_engine.face.clip import track_clip
from cmet_engine.face.identity import distance, load_identity, texture
from cmet_engine.face.mesh import Box, Mesh
from cmet_engine.media.probe import part_of
from cmet_engine.media.reader import VideoReader
from cmet_engine.models.assets import ASSETS
from cmet_engine.progress import Progress, Stage
from cmet_engine.quality import metrics
from cmet_engine.render.base import Generator
from cmet_engine.render.driven import FACE_SHARE
from cmet_engine.render.edtalk.crop import SIZE as MASK
from cmet_engine.render.edtalk.paste import outline_mask
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.track import CoefficientTrack

SAMPLE = ASSETS / "sample" / "talking_head.mp4"
FRAMES = 4
PART = 16
"""Frames of the sample's beginning of which some are drawn."""
LEAST_PSNR = 28.0
MOST_APART = 0.35
"""Distance of identity between a frame and itself drawn anew."""
SMILE, LEAST_SMILE = 0.6, 0.1
"""Asked of both corners of the mouth, and the least that must be read of it in the drawn face."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: in words, what was measured, and whether it is as it should be."""

    about: str
    value: float
    passed: bool


def check(generator: Generator, *, progress: Progress | None = None) -> list[Finding]:
    """Draw some frames of the sample as they are and with a smile, and measure.

    Args:
        generator: whose pictures are looked at.
        progress: called with ("measure", done, in all).

    Raises:
        CmetError: the sample cannot be read.
    """
    footage = part_of(SAMPLE, None, f"{PART}f", 0)
    geometry, track = track_clip(footage)
    wanted = np.linspace(0, len(geometry) - 1, FRAMES).round().astype(int)
    images = {frame.index: frame.image for frame in VideoReader(footage) if frame.index in wanted}
    path, draft = generator.crops(geometry), WarpRenderer(geometry, track, smiling(track))
    sources = [path.cut(images[n], n) for n in wanted.tolist()]
    drafts = [path.cut(draft.render(images[n], n), n) for n in wanted.tolist()]
    drawn = []
    for step, driving in enumerate((sources, drafts)):
        if progress:
            progress(Stage.MEASURE, step, 2)
        drawn.append(generator.draw(sources, generator.read(sources, driving)))
    return _findings(path.size, sources, *drawn, [path.points(geometry.landmarks[n], n) for n in wanted.tolist()])


def smiling(track: CoefficientTrack) -> CoefficientTrack:
    """A track whose mouth smiles more."""
    coefficients = track.coefficients.copy()
    columns = [arkit.INDEX["mouthSmileLeft"], arkit.INDEX["mouthSmileRight"]]
    coefficients[:, columns] = np.clip(coefficients[:, columns] + SMILE, 0, 1)
    return replace(track, coefficients=coefficients)


def _findings(
    size: int, sources: list[np.ndarray], same: np.ndarray, smile: np.ndarray, points: list[np.ndarray]
) -> list[Finding]:
    """What the drawn crops [N, S, S, 3] show."""
    levels = np.concatenate([same, smile]).mean((1, 2, 3)) / 255
    worst = float(levels[np.argmax(np.abs(levels - 0.5))])
    masks = [_enlarged(outline_mask(p * (MASK / size)) > 0.5, size) for p in points]
    psnr = metrics.psnr(zip(sources, same, masks, strict=True)) or 0.0
    findings = [
        Finding(
            "mean brightness, 0 to 1, of the darkest or brightest drawn picture (0.03 to 0.97)",
            worst,
            0.03 < worst < 0.97,
        ),
        Finding(f"PSNR of the face drawn without an edit, dB (at least {LEAST_PSNR:g})", psnr, psnr >= LEAST_PSNR),
    ]
    mesh = Mesh()
    try:
        around = Box(size / 2, size / 2, size * FACE_SHARE)
        seen = [
            [_seen(mesh, picture, around) for picture in pictures] for pictures in (sources, list(same), list(smile))
        ]
    finally:
        mesh.close()
    all_seen = [row for row in zip(*seen, strict=True) if all(landmarks is not None for landmarks in row)]
    share = len(all_seen) / len(sources)
    findings.append(Finding("share of the drawn pictures in which a face is found (all)", share, share == 1))
    if not all_seen:
        return findings
    model, solver = load_identity(), load_solver()
    index = [n for n, row in enumerate(zip(*seen, strict=True)) if all(landmarks is not None for landmarks in row)]
    own, again = (
        model.signatures(np.stack([texture(pictures[n], marks[n]) for n in index]), np.stack([marks[n] for n in index]))
        for pictures, marks in ((sources, seen[0]), (same, seen[1]))
    )
    apart = float(np.mean([distance(one, other[None]) for one, other in zip(again, own, strict=True)]))
    findings.append(
        Finding(
            f"distance of identity of the face drawn without an edit (at most {MOST_APART:g})",
            apart,
            apart <= MOST_APART,
        )
    )
    columns = [arkit.INDEX["mouthSmileLeft"], arkit.INDEX["mouthSmileRight"]]
    before, after = (solver.coefficients(np.stack([row[n] for row in all_seen]))[:, columns].mean() for n in (1, 2))
    more = float(after - before)
    findings.append(
        Finding(
            f"smile read from the drawn face beside that without an edit (at least {LEAST_SMILE:g})",
            more,
            more >= LEAST_SMILE,
        )
    )
    return findings


def _seen(mesh: Mesh, picture: np.ndarray, around: Box) -> np.ndarray | None:
    mesh.forget()
    return mesh.find(picture, around)


def _enlarged(mask: np.ndarray, size: int) -> np.ndarray:
    """A bool mask of 256 pixels with another size."""
    place = np.arange(size) * len(mask) // size
    return mask[place][:, place]
