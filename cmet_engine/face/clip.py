"""Footage to coefficients: face geometry and coefficient track of a clip, both cached by the clip's content."""

import contextlib
from pathlib import Path

import numpy as np

from cmet_engine import cache, fingerprint
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.face.blendshapes import BASIS_FILE, SOLVER_FILE, load_solver
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.glimpses import Glimpses
from cmet_engine.face.identity import IDENTITY_FILE
from cmet_engine.face.landmarks import LEFT_EYE_CORNERS, OUTER_LIP_CORNERS, RIGHT_EYE_CORNERS
from cmet_engine.face.people import number_of, signatures_of
from cmet_engine.face.pose import TEMPLATE_FILE
from cmet_engine.face.tracker import track
from cmet_engine.media.probe import measure
from cmet_engine.media.source import Source
from cmet_engine.models import assets
from cmet_engine.progress import Progress
from cmet_engine.resume import Segments
from cmet_engine.timecode import Timecode
from cmet_engine.track import FACE_PLACE, START_SECONDS, TIMECODE, CoefficientTrack

COEFFICIENTS = "coefficients.npz"
FILES = (SOLVER_FILE, BASIS_FILE, TEMPLATE_FILE)

PLACE_FRAMES = 50  # frames that tell where the face is in the picture as a rule


def track_clip(
    clip: Path | Source,
    *,
    face: int | str | Path = 0,
    progress: Progress | None = None,
    pieces: Segments | None = None,
    glimpses: bool = False,
) -> tuple[FaceGeometry, CoefficientTrack]:
    """Find the face in every frame of a clip and read its coefficients.

    Both are cached by the clip's content. `face` says whose, see `spec.Face`; `pieces` is where finished segments of the tracking
    are kept.

    Args:
        clip: the footage; of a `Source` the part that it stands for.
        face, progress, pieces: see `face.tracker.track`.
        glimpses: the face will be looked at next: parts of the frames are kept for that if the clip is tracked now.

    Returns:
        The geometry (landmarks, pose) and the coefficient track, one entry for every frame of the clip.

    Raises:
        CmetError: the clip cannot be read, no frame shows a face, or there is no such person.
    """
    footage = Source.of(clip)
    file = footage.path if footage.path.is_file() else None
    face = _without_name(footage, face, progress)
    name = _geometry_key(footage, face) if file else None
    geometry = _cached_geometry(name)
    if geometry is None:
        folder = None
        if pieces and file:
            folder = pieces.stage("tracking", *_code_and_weights(face), file, face, footage.reading)
        rank, person = (face, None) if isinstance(face, int) else (0, signatures_of(footage, face, progress))
        kept = Glimpses() if glimpses else None
        geometry = track(footage, face=rank, person=person, progress=progress, pieces=folder, glimpses=kept)
        if name:
            cache.put(name, geometry.save)
    if file:
        code = fingerprint.code("cmet_engine.face.tracker", "cmet_engine.face.blendshapes")
        name = cache.key("coefficients", file, code, _key_of(face), assets.checksums(*FILES), footage.reading)
    if name and (entry := cache.get(name)):
        with contextlib.suppress(OSError, CmetError):
            return geometry, _labelled(CoefficientTrack.load(entry / COEFFICIENTS), footage, geometry)
    source = load_solver().track(geometry, progress)
    if name:
        cache.put(name, lambda folder: source.save(folder / COEFFICIENTS))
    return geometry, _labelled(source, footage, geometry)


def tracked(clip: Path | Source, *, face: int | str | Path = 0) -> tuple[FaceGeometry, CoefficientTrack]:
    """The result of an earlier `track_clip`, from the cache.

    Raises:
        InvalidInput: the clip was not tracked before.
    """
    footage = Source.of(clip)
    face = _without_name(footage, face)
    if _cached_geometry(_geometry_key(footage, face)) is None:
        raise InvalidInput(f"The clip {footage.path.name} was not tracked yet; track or edit it first.")
    return track_clip(footage, face=face)


def _labelled(track: CoefficientTrack, footage: Source, geometry: FaceGeometry) -> CoefficientTrack:
    """The track with where the face is in the picture, and the timecode of its first frame, where the footage has one."""
    track.meta[FACE_PLACE] = _face_place(geometry)
    info = measure(footage)
    if info.timecode:
        track.meta[TIMECODE] = info.timecode
        track.meta[START_SECONDS] = float(Timecode.parse(info.timecode, info.fps).seconds)
    return track


def _face_place(geometry: FaceGeometry) -> list[list[float]]:
    """Eyes and mouth in parts of the picture: the median of a few frames."""
    seen = np.flatnonzero(geometry.valid)
    few = seen[np.linspace(0, len(seen) - 1, min(len(seen), PLACE_FRAMES)).astype(int)]
    points = np.stack([geometry.landmarks[int(frame)] for frame in few])[:, :, :2] / np.array(geometry.size)
    middles = [
        np.median(points[:, ids].mean(1), axis=0) for ids in (RIGHT_EYE_CORNERS + LEFT_EYE_CORNERS, OUTER_LIP_CORNERS)
    ]
    return [[round(float(value), 4) for value in middle] for middle in middles]


def _without_name(clip: Path | Source, face: int | str | Path, progress: Progress | None = None) -> int | str | Path:
    """`face` with a person's number in the place of a name, which may be given to somebody else later."""
    return f"#{number_of(clip, face[1:], progress)}" if isinstance(face, str) else face


def face_key(clip: Path | Source, face: int | str | Path) -> int | str:
    """What stands for `face` in the name of a cached result: a person's number in place of a name, a picture's content."""
    return _key_of(_without_name(clip, face))


def _key_of(face: int | str | Path) -> int | str:
    return f"picture {cache.content(face)}" if isinstance(face, Path) and face.is_file() else face  # type: ignore[return-value]


def _geometry_key(footage: Source, face: int | str | Path) -> str:
    return cache.key("geometry", footage.path, *_code_and_weights(face), _key_of(face), footage.reading)


def _code_and_weights(face: int | str | Path) -> tuple[str, tuple[str, ...]]:
    """What decides a geometry beside the clip: code (of the list of people, too, where `face` is one of them) and weights."""
    modules = ("cmet_engine.face.tracker", *([] if isinstance(face, int) else ["cmet_engine.face.people"]))
    return fingerprint.code(*modules), assets.checksums(IDENTITY_FILE, *FILES)


def _cached_geometry(name: str | None) -> FaceGeometry | None:
    if name and (entry := cache.get(name)):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return FaceGeometry.load(entry)
    return None
