"""Footage to coefficients: face geometry and coefficient track of a clip, both cached by the clip's content."""

import contextlib
from pathlib import Path

from cmet_engine import cache, fingerprint
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.face.blendshapes import BASIS_FILE, SOLVER_FILE, load_solver
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.identity import IDENTITY_FILE
from cmet_engine.face.people import number_of, signatures_of
from cmet_engine.face.pose import TEMPLATE_FILE
from cmet_engine.face.tracker import track
from cmet_engine.models import assets
from cmet_engine.progress import Progress
from cmet_engine.resume import Segments
from cmet_engine.track import CoefficientTrack

COEFFICIENTS = "coefficients.npz"
FILES = (SOLVER_FILE, BASIS_FILE, TEMPLATE_FILE)


def track_clip(
    clip: Path, *, face: int | str | Path = 0, progress: Progress | None = None, pieces: Segments | None = None
) -> tuple[FaceGeometry, CoefficientTrack]:
    """Find the face in every frame of a clip and read its coefficients.

    Both are cached by the clip's content. `face` says whose, see `spec.Face`; `pieces` is where finished segments of the tracking
    are kept.

    Returns:
        The geometry (landmarks, pose) and the coefficient track, one entry for every frame of the clip.

    Raises:
        CmetError: the clip cannot be read, no frame shows a face, or there is no such person.
    """
    face = _without_name(clip, face, progress)
    name = _geometry_key(clip, face) if clip.is_file() else None
    geometry = _cached_geometry(name)
    if geometry is None:
        folder = pieces.stage("tracking", *_code_and_weights(face), clip, face) if pieces and name else None
        rank, person = (face, None) if isinstance(face, int) else (0, signatures_of(clip, face, progress))
        geometry = track(clip, face=rank, person=person, progress=progress, pieces=folder)
        if name:
            cache.put(name, geometry.save)
    if name:
        code = fingerprint.code("cmet_engine.face.tracker", "cmet_engine.face.blendshapes")
        name = cache.key("coefficients", clip, code, _key_of(face), assets.checksums(*FILES))
    if name and (entry := cache.get(name)):
        with contextlib.suppress(OSError, CmetError):
            return geometry, CoefficientTrack.load(entry / COEFFICIENTS)
    source = load_solver().track(geometry, progress)
    if name:
        cache.put(name, lambda folder: source.save(folder / COEFFICIENTS))
    return geometry, source


def tracked(clip: Path, *, face: int | str | Path = 0) -> tuple[FaceGeometry, CoefficientTrack]:
    """The result of an earlier `track_clip`, from the cache.

    Raises:
        InvalidInput: the clip was not tracked before.
    """
    face = _without_name(clip, face)
    if _cached_geometry(_geometry_key(clip, face)) is None:
        raise InvalidInput(f"The clip {clip.name} was not tracked yet; track or edit it first.")
    return track_clip(clip, face=face)


def _without_name(clip: Path, face: int | str | Path, progress: Progress | None = None) -> int | str | Path:
    """`face` with a person's number in the place of a name, which may be given to somebody else later."""
    return f"#{number_of(clip, face[1:], progress)}" if isinstance(face, str) else face


def face_key(clip: Path, face: int | str | Path) -> int | str:
    """What stands for `face` in the name of a cached result: a person's number in place of a name, a picture's content."""
    return _key_of(_without_name(clip, face))


def _key_of(face: int | str | Path) -> int | str:
    return f"picture {cache.content(face)}" if isinstance(face, Path) and face.is_file() else face  # type: ignore[return-value]


def _geometry_key(clip: Path, face: int | str | Path) -> str:
    return cache.key("geometry", clip, *_code_and_weights(face), _key_of(face))


def _code_and_weights(face: int | str | Path) -> tuple[str, tuple[str, ...]]:
    """What decides a geometry beside the clip: code (of the list of people, too, where `face` is one of them) and weights."""
    modules = ("cmet_engine.face.tracker", *([] if isinstance(face, int) else ["cmet_engine.face.people"]))
    return fingerprint.code(*modules), assets.checksums(IDENTITY_FILE, *FILES)


def _cached_geometry(name: str | None) -> FaceGeometry | None:
    if name and (entry := cache.get(name)):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return FaceGeometry.load(entry)
    return None
