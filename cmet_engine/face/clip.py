"""Footage to coefficients: face geometry and coefficient track of a clip, both cached by the clip's content."""

import contextlib
from pathlib import Path

from cmet_engine import cache, fingerprint
from cmet_engine.choices import GUESSED, InputSpace
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.face.blendshapes import BASIS_FILE, SOLVER_FILE, load_solver
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.pose import TEMPLATE_FILE
from cmet_engine.face.tracker import track
from cmet_engine.media.display import space_key
from cmet_engine.models import assets
from cmet_engine.progress import Progress
from cmet_engine.resume import Segments
from cmet_engine.track import CoefficientTrack

COEFFICIENTS = "coefficients.npz"


def track_clip(
    clip: Path,
    *,
    face: int = 0,
    space: InputSpace = GUESSED,
    progress: Progress | None = None,
    pieces: Segments | None = None,
) -> tuple[FaceGeometry, CoefficientTrack]:
    """Find the face in every frame of a clip and read its coefficients.

    Both are cached by the clip's content. `space` says in which colours it is, `pieces` is where finished segments of the tracking are kept.

    Returns:
        The geometry (landmarks, pose) and the coefficient track, one entry for every frame of the clip.

    Raises:
        CmetError: the clip cannot be read, or no frame shows a face.
    """
    name = _geometry_key(clip, face, space) if clip.is_file() else None
    geometry = _cached_geometry(name)
    if geometry is None:
        folder = (
            pieces.stage("tracking", fingerprint.code("cmet_engine.face.tracker"), clip, face, *space_key(space))
            if pieces and name
            else None
        )
        geometry = track(clip, face=face, space=space, progress=progress, pieces=folder)
        if name:
            cache.put(name, geometry.save)
    if name:
        code = fingerprint.code("cmet_engine.face.tracker", "cmet_engine.face.blendshapes")
        name = cache.key(
            "coefficients",
            clip,
            code,
            face,
            *space_key(space),
            assets.checksums(SOLVER_FILE, BASIS_FILE, TEMPLATE_FILE),
        )
    if name and (entry := cache.get(name)):
        with contextlib.suppress(OSError, CmetError):
            return geometry, CoefficientTrack.load(entry / COEFFICIENTS)
    source = load_solver().track(geometry, progress)
    if name:
        cache.put(name, lambda folder: source.save(folder / COEFFICIENTS))
    return geometry, source


def tracked(clip: Path, *, face: int = 0, space: InputSpace = GUESSED) -> tuple[FaceGeometry, CoefficientTrack]:
    """The result of an earlier `track_clip`, from the cache.

    Raises:
        InvalidInput: the clip was not tracked before.
    """
    if _cached_geometry(_geometry_key(clip, face, space)) is None:
        raise InvalidInput(f"The clip {clip.name} was not tracked yet; track or edit it first.")
    return track_clip(clip, face=face, space=space)


def _geometry_key(clip: Path, face: int, space: InputSpace) -> str:
    return cache.key("geometry", clip, fingerprint.code("cmet_engine.face.tracker"), face, *space_key(space))


def _cached_geometry(name: str | None) -> FaceGeometry | None:
    if name and (entry := cache.get(name)):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return FaceGeometry.load(entry)
    return None
