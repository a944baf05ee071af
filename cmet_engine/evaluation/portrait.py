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
    points = [path.points(geometry.landmarks[n], n) for n in wanted.tolist()]
    return _findings(path.size, sources, drawn[0], drawn[1], points)


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
    return [*findings, *_of_faces(size, (np.stack(sources), same, smile))]


def _of_faces(size: int, pictures: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[Finding]:
    """What the faces show in crops [N, S, S, 3] as filmed, drawn without an edit and drawn with a smile."""
    mesh, around = Mesh(follow=False), Box(size / 2, size / 2, size * FACE_SHARE)
    try:
        rows = [[mesh.find(kind[n], around) for kind in pictures] for n in range(len(pictures[0]))]
    finally:
        mesh.close()
    found = [(n, [marks for marks in row if marks is not None]) for n, row in enumerate(rows)]
    found = [(n, row) for n, row in found if len(row) == len(pictures)]
    share = len(found) / len(rows)
    findings = [Finding("share of the drawn pictures in which a face is found (all)", share, share == 1)]
    if not found:
        return findings
    marks = np.stack([row for _, row in found], 1)  # [3, K, 478, 3]
    model, columns = load_identity(), [arkit.INDEX["mouthSmileLeft"], arkit.INDEX["mouthSmileRight"]]
    own, again = (
        model.signatures(np.stack([texture(pictures[k][n], marks[k][i]) for i, (n, _) in enumerate(found)]), marks[k])
        for k in (0, 1)
    )
    apart = float(np.mean([distance(one, other[None]) for one, other in zip(again, own, strict=True)]))
    about = f"distance of identity of the face drawn without an edit (at most {MOST_APART:g})"
    findings.append(Finding(about, apart, apart <= MOST_APART))
    smiles = [float(load_solver().coefficients(marks[k])[:, columns].mean()) for k in (1, 2)]
    about = f"smile read from the drawn face beside that without an edit (at least {LEAST_SMILE:g})"
    return [*findings, Finding(about, smiles[1] - smiles[0], smiles[1] - smiles[0] >= LEAST_SMILE)]


def _enlarged(mask: np.ndarray, size: int) -> np.ndarray:
    """A bool mask of 256 pixels with another size."""
    place = np.arange(size) * len(mask) // size
    return mask[place][:, place]
