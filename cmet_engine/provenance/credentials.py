"""Content Credentials in files: where they are, how they are read, and how they are signed, by the library `c2pa-python`.

    .mp4 .m4v .mov .png .jpg .tif …   in the file itself
    numbered pictures                 NAME.c2pa over NAME.sha256, a list of the SHA-256 of every picture (`sha256sum -c` reads it)
    other movies                      edited.mkv has edited.c2pa, where other tools look for it
    .fbx .glb .usdc .abc .blend       take.fbx has take.fbx.c2pa, since one folder often holds a take in several formats

Everything works offline: neither credentials nor lists of revoked certificates are fetched. Only a time-stamp authority that the
user named is asked, and not waited for longer than `TIMESTAMP_SECONDS`.
"""

import contextlib
import importlib.util
import io
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmet_engine.errors import CmetError, InvalidInput, MissingWeights
from cmet_engine.files import sha256, whole_file
from cmet_engine.media.sequences import find_pattern, is_pattern, numbered, output_pattern
from cmet_engine.provenance import identity as identities
from cmet_engine.provenance.identity import Identity
from cmet_engine.spec_base import EMBEDDED, LIST, SIDECAR, credential_files

if TYPE_CHECKING:
    import c2pa

TIMESTAMP_SECONDS = 15.0

_ANY = "application/octet-stream"  # of what the library hashes as a whole, for credentials beside it


@dataclass(frozen=True)
class Store:
    """The credentials of a file, verified.

    Attributes:
        content: the library's JSON: `active_manifest`, `manifests`, `validation_results`.
        state: `Trusted`, `Valid` or `Invalid`.
        data: the manifests as they are beside a file; empty where they are in it.
        place: the file that holds them.
        about: the file that they are about: of numbered pictures their list.
    """

    content: dict[str, Any]
    state: str
    data: bytes
    place: Path
    about: Path

    @property
    def active(self) -> dict[str, Any]:
        """The newest manifest."""
        return dict(self.content.get("manifests", {}).get(self.content.get("active_manifest"), {}))

    @property
    def faults(self) -> list[str]:
        """Codes of what is wrong with the newest manifest, as the C2PA specification names them (15.2.2)."""
        results = self.content.get("validation_results") or {}
        sources = [
            fault for one in results.get("ingredientDeltas") or [] for fault in one["validationDeltas"]["failure"]
        ]
        return faults(results) + [SOURCE_FAULT] * bool(sources)


SOURCE_FAULT = "ingredient.changed"
"""Our own code for credentials of a source that were changed after they were taken over."""


def faults(results: Any) -> list[str]:
    """The codes of failures in the library's validation results, but for trust, which is told apart."""
    found = ((results or {}).get("activeManifest") or {}).get("failure") or []
    return [str(one.get("code")) for one in found if one.get("code") != "signingCredential.untrusted"]


_ABSENT = "Content Credentials need the package c2pa-python, which is not installed; run: pip install c2pa-python."


def find_library() -> None:
    """Find the library without loading it.

    Raises:
        MissingWeights: it is not installed.
    """
    if importlib.util.find_spec("c2pa") is None:
        raise MissingWeights(_ABSENT)


def library() -> Any:
    """The library.

    Raises:
        MissingWeights: it is not installed, or does not load.
    """
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingWeights(_ABSENT) from error
    return c2pa


def _context() -> "c2pa.Context":
    settings: dict[str, Any] = {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "builder": {
            "thumbnail": {"enabled": False}
        },  # a picture of the person does not belong in every copy of the manifest
    }
    if anchors := identities.trusted():
        settings["trust"] = {"user_anchors": anchors}
    try:
        return library().Context.from_dict(settings)
    except library().C2paError as error:
        raise InvalidInput(
            f"The certificates that you trust cannot be used ({error}); see `cmet provenance trust`."
        ) from error


def is_made(output: Path) -> bool:
    """Whether an output was made: one that holds credentials is not there where nobody could sign."""
    return output.suffix not in (SIDECAR, LIST) or output.exists()


def pictures_of(path: Path) -> list[Path]:
    """The pictures that a folder or a pattern stands for; empty for a file."""
    if path.is_dir():
        return numbered(path, find_pattern(path))
    return numbered(*output_pattern(path)) if is_pattern(path) else []


def read(path: Path) -> Store | None:
    """The credentials of a file, of numbered pictures, or beside them; None where there are none.

    Raises:
        CmetError: they cannot be read at all, the file is missing, or the library is.
    """
    if pictures_of(path):
        pattern = path / find_pattern(path) if path.is_dir() else path
        listed, place = credential_files(pattern)
        return _beside(listed, place) if listed.is_file() and place.is_file() else None
    kind = EMBEDDED.get(path.suffix.lower())
    if kind is not None:
        with path.open("rb") as file:
            found = _read(kind, file, None, path, path)
        if found is not None:
            return found
    for place in (*credential_files(path), path.with_suffix(SIDECAR), path.with_name(path.name + SIDECAR)):
        if place.is_file():
            return _beside(path, place)
    return None


def _beside(about: Path, place: Path) -> Store | None:
    with about.open("rb") as file:
        return _read(_ANY, file, place.read_bytes(), place, about)


def _read(kind: str, file: Any, data: bytes | None, place: Path, about: Path) -> Store | None:
    c2pa = library()
    try:
        with c2pa.Reader(kind, file, data, context=_context()) as reader:
            return Store(json.loads(reader.json()), str(reader.get_validation_state()), data or b"", place, about)
    except c2pa.C2paError.ManifestNotFound:
        return None
    except (c2pa.C2paError, ValueError) as error:
        raise InvalidInput(
            f"The Content Credentials of {place.name} cannot be read ({str(error)[:200]}); they are damaged."
        ) from error


def sign(
    place: Path, final: Path, definition: dict[str, Any], sources: list[Path], who: Identity
) -> tuple[str, list[str]]:
    """Sign a finished file that has not got its name yet.

    Args:
        place: where it lies: a file, or the pattern of numbered pictures.
        final: what it will be called, from which the names of files beside it follow.
        definition: of the manifest, as the library takes it, without ingredients.
        sources: what it was made from, the first one the clip that was opened.
        who: signs.

    Returns:
        The SHA-256 of what was signed, the file as it is now or the list of pictures, and sentences for the user.

    Raises:
        CmetError: it cannot be signed; the file is as it was.
    """
    notes: list[str] = []
    ingredients = [_Ingredient.of(path, number, notes) for number, path in enumerate(sources)]
    if final.suffix.lower() in EMBEDDED and not is_pattern(final):
        signed = place.with_name(f".{place.name}.signed")
        try:
            notes += _sign(place, EMBEDDED[final.suffix.lower()], definition, ingredients, who, signed)
            signed.replace(place)
        finally:
            signed.unlink(missing_ok=True)
        return sha256(place), notes
    about, beside = place, [place.with_name(path.name) for path in credential_files(final)]
    if len(beside) == 2:
        about = beside[0]
        lines = [f"{sha256(picture)}  {picture.name}\n" for picture in numbered(*output_pattern(place))]
        with whole_file(about, force=True) as temporary:
            temporary.write_text("".join(lines), "utf-8")
    with whole_file(beside[-1], force=True) as temporary:
        notes += _sign(about, _ANY, definition, ingredients, who, temporary)
    return sha256(about), notes


@dataclass(frozen=True)
class _Ingredient:
    """What a file was made from, as the library takes it.

    Attributes:
        about: its description.
        path, kind: where the library reads its credentials itself; None where they lie beside it, or there are none.
        data: the credentials that lie beside it.
    """

    about: dict[str, Any]
    path: Path | None
    kind: str
    data: bytes

    @classmethod
    def of(cls, path: Path, number: int, notes: list[str]) -> "_Ingredient":
        kind = EMBEDDED.get(path.suffix.lower(), _ANY)
        about: dict[str, Any] = {"title": path.name, "format": kind, "relationship": "inputTo"}
        if number == 0:  # what was opened; the action names it by its label
            about |= {"relationship": "parentOf", "label": "source"}
        try:
            store = read(path)
        except (CmetError, OSError) as error:
            notes.append(f"{path.name} is kept as a source without its credentials: {error}")
            return cls(about, None, kind, b"")
        if store is None:
            return cls(about, None, kind, b"")
        if store.faults:
            notes.append(
                f"The Content Credentials of {path.name} do not fit it ({store.faults[0]}); they are kept as they are, marked as broken."
            )
        if not store.data:
            return cls(about, path, kind, b"")
        results = {"activeManifest": store.content["validation_results"]["activeManifest"]}
        about |= {"active_manifest": store.content["active_manifest"], "validation_results": results}
        about["manifest_data"] = {"format": "application/c2pa", "identifier": f"{number}-{path.name}"}
        return cls(about, None, kind, store.data)


def _sign(
    about: Path, kind: str, definition: dict[str, Any], ingredients: list[_Ingredient], who: Identity, target: Path
) -> list[str]:
    """Sign, with a time stamp where one is wanted and to be had; returns sentences for the user."""
    if who.timestamp is None:
        _sign_once(about, kind, definition, ingredients, who, target, None)
        return []
    stamped, fault = target.with_name(f"{target.name}.stamped"), ["no answer"]

    def attempt() -> None:
        try:
            _sign_once(about, kind, definition, ingredients, who, stamped, who.timestamp)
            fault.clear()
        except Exception as error:
            fault[:] = [str(error)]

    # the library has no time limit of its own, and a thread that waits for a dead server ends with the process
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(TIMESTAMP_SECONDS)
    if not thread.is_alive() and not fault:
        stamped.replace(target)
        return []
    with contextlib.suppress(OSError):
        stamped.unlink()
    _sign_once(about, kind, definition, ingredients, who, target, None)
    return [
        f"The time-stamp authority {who.timestamp} gave no time stamp; the signature carries this machine's time alone."
    ]


def _sign_once(
    about: Path,
    kind: str,
    definition: dict[str, Any],
    ingredients: list[_Ingredient],
    who: Identity,
    target: Path,
    stamp: str | None,
) -> None:
    c2pa = library()
    refusals: list[CmetError] = []

    def signature(data: bytes) -> bytes:
        try:
            return who.sign(data)
        except CmetError as error:
            refusals.append(error)
            return b""

    ready = [one.about for one in ingredients if one.path is None]
    try:
        builder = c2pa.Builder({**definition, "ingredients": ready}, context=_context())
        for one in ingredients:
            if one.data:
                builder.add_resource(one.about["manifest_data"]["identifier"], io.BytesIO(one.data))
            if one.path is not None:
                with one.path.open("rb") as stream:
                    builder.add_ingredient(one.about, one.kind, stream)
        if kind == _ANY:
            builder.set_no_embed()
        algorithm = getattr(c2pa.C2paSigningAlg, who.algorithm.upper())
        with (
            c2pa.Signer.from_callback(signature, algorithm, who.chain.decode(), stamp) as signer,
            about.open("rb") as source,
        ):
            if kind == _ANY:
                target.write_bytes(builder.sign(signer, kind, source, _Nowhere()))
            else:
                with target.open("w+b") as signed:
                    builder.sign(signer, kind, source, signed)
    except (c2pa.C2paError, OSError) as error:
        raise refusals[0] if refusals else CmetError(f"{about.name} cannot be signed ({str(error)[:200]}).") from error


class _Nowhere(io.RawIOBase):
    """Takes the copy of the file that the library writes also where the credentials lie beside it."""

    def __init__(self) -> None:
        super().__init__()
        self._at = self._end = 0

    def write(self, data: Any) -> int:
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
