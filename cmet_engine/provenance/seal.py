"""The last thing that happens to a finished file: it is signed, and goes on record."""

from pathlib import Path
from typing import Any

from cmet_engine import __version__, cache, fingerprint
from cmet_engine.emotion.sound_files import sound_files
from cmet_engine.errors import CmetError, InvalidInput, MissingWeights
from cmet_engine.files import check_writable
from cmet_engine.media.formats import SCENE
from cmet_engine.provenance import consent, credentials, identity, ledger, manifest
from cmet_engine.provenance.credentials import pictures_of
from cmet_engine.provenance.identity import Identity
from cmet_engine.provenance.manifest import Made
from cmet_engine.spec import EditSpec, RenderSpec, Work
from cmet_engine.spec_base import credential_files
from cmet_engine.spec_rig import SealSpec
from cmet_engine.timeline import EmotionTimeline

_MADE_FROM = ("portrait", "clip", "track", "rig", "source", "speech", "like", "neutral", "lips")
"""Fields that name what a result is made from; a picture in `face` is one more."""
_ELSEWHERE = {
    *_MADE_FROM,
    "kind",
    "emotions",
    "keys",
    "renderer",
    "quality",
    "consent",
    "ocio",
    "mapping",
    "file",
    "force",
}
"""Fields that are no settings, or that a manifest says elsewhere."""


class Signatory:
    """Who signs the results of some work; asked before the work begins, so that a key that cannot sign is refused then.

    Args:
        spec: what will be done.

    Attributes:
        identity: who signs; None where nobody can, and `fault` says why.
        messages: sentences about consent.

    Raises:
        CmetError: the certificate or key that the user chose cannot be used, or the consent file.
    """

    def __init__(self, spec: Work | SealSpec) -> None:
        self.spec, self.fault = spec, ""
        self.identity: Identity | None = None
        asked = "consent" in type(spec).model_fields
        self.consent = consent.read(getattr(spec, "consent", None)) if asked else None
        self.messages = [self.consent.problem] if self.consent and self.consent.problem else []
        try:
            credentials.find_library()
            self.identity = identity.current()
        except CmetError as error:
            if identity.is_chosen() and not isinstance(error, MissingWeights):
                raise
            self.fault = str(error)  # the local identity cannot be made: a folder that may not be written

    def seal(self, edit: str, timeline: EmotionTimeline | None = None) -> "Seal":
        """What signs the files of the work.

        Args:
            edit: how the file is edited, in one line.
            timeline: the emotions over time.
        """
        spec, timeline = self.spec, timeline or EmotionTimeline()
        made_from = [(role, path, _checksum(path)) for role, path in _sources(spec)]
        sources = {path: checksum for _, path, checksum in made_from}
        given = spec.model_dump(exclude_defaults=True, exclude=_ELSEWHERE)
        settings = {name: _plain(value) for name, value in given.items()}
        renderer, quality = (str(getattr(spec, name, "")) for name in ("renderer", "quality"))
        parts = [(role, checksum) for role, _, checksum in made_from]
        number = ledger.new_id(parts, settings, edit, timeline.to_json(), renderer, quality)
        watermark = manifest.NO_WATERMARK
        if isinstance(spec, EditSpec | RenderSpec) and renderer != "none" and getattr(spec, "portrait", None) is None:
            watermark = number if spec.watermark else manifest.WATERMARK_OFF
        made = Made(
            spec.kind, number, sources, edit, renderer, quality, timeline, self.consent, watermark, settings
        )  # fmt: skip
        return Seal(made, self)


class Seal:
    """Signs the files of some work, each when it is whole and has not got its name yet; called by their writer.

    Attributes:
        work: what was done.
        signed: SHA-256 of the signed files by the paths that they will have.
    """

    def __init__(self, work: Made, signatory: Signatory) -> None:
        self.work, self._who, self._fault = work, signatory.identity, signatory.fault
        self.signed: dict[Path, str] = {}

    def __call__(self, place: Path, final: Path) -> list[str]:
        """Sign a file, or numbered pictures.

        Args:
            place: where it lies: a file, or a pattern.
            final: the file or pattern that it will be.

        Returns:
            Sentences for the user; one says so where it could not be signed.
        """
        if self._who is None:
            return [f"{final.name} carries no Content Credentials: {self._fault}"]
        try:
            said = manifest.definition(self.work, final.name)
            checksum, notes = credentials.sign(place, final, said, list(self.work.sources), self._who)
        except (CmetError, OSError) as error:
            self._fault = str(error)
            return [f"{final.name} carries no Content Credentials: {error}"]
        self.signed[final] = checksum
        return notes

    @property
    def mark(self) -> int | None:
        """The id that a watermark carries into the pictures; None where they get none."""
        return int(self.work.id, 16) if self.work.watermark == self.work.id else None

    def words(self) -> dict[str, str]:
        """What the credentials say, for the report; nothing where there was nothing to sign."""
        if self.signed and self._who:
            return {"signed by": self._who.words, **manifest.words(self.work)}
        return {"signed by": f"not signed. {self._fault}", **manifest.words(self.work)} if self._fault else {}

    def record(self, result: Path) -> list[str]:
        """Put the work on record, once its files have their names; returns sentences about what is wrong with the ledger.

        Args:
            result: the file or pattern that the work made.
        """
        work, first = self.work, next(iter(self.work.sources), None)
        checksum = next(iter(self.signed.values()), None)
        if checksum is None and result.is_file():
            checksum = cache.content(result)
        entry: dict[str, Any] = {
            "id": work.id, "kind": work.kind, "tool": f"C-MET {__version__}",
            "source": first and str(first.absolute()), "source_sha256": first and work.sources[first],
            "sources": [{"path": str(path.absolute()), "sha256": checksum} for path, checksum in work.sources.items()],
            "output": str(result.absolute()), "output_sha256": checksum,
            "edit": work.edit, "renderer": work.renderer, "quality": work.quality, "settings": work.settings,
            "consent": work.consent.text if work.consent else None, "watermark": work.watermark,
            "signed_by": self._who.words if self._who and self.signed else None,
        }  # fmt: skip
        return ledger.append(entry)


CHARACTER = "the curves of a performance, put on a character"
"""How the animation of a character is edited, in one line."""


def seal_export(spec: SealSpec) -> list[str]:
    """Sign an export that is there already, and put it on record; returns sentences for the user.

    Raises:
        CmetError: it is no animation of a character, credentials lie beside it already, or nobody can sign; it is as it was.
    """
    if spec.file.suffix.lower() not in SCENE:
        raise InvalidInput(
            f"{spec.file.name} is not one of {', '.join(SCENE)}; other files are signed when they are made."
        )
    for path in credential_files(spec.file):
        check_writable(path, force=spec.force)
    signatory = Signatory(spec)
    seal = signatory.seal(f"{CHARACTER}, with {', '.join(spec.emotions)}" if spec.emotions else CHARACTER)
    return [*signatory.messages, *seal(spec.file, spec.file), *seal.record(spec.file)]


def _checksum(path: Path) -> str:
    pictures = pictures_of(path)
    return fingerprint.data([cache.content(picture) for picture in pictures]) if pictures else cache.content(path)


def _sources(spec: Work | SealSpec) -> list[tuple[str, Path]]:
    """What the pictures and curves of some work are made from, with the field that names it: first what it opens, which a portrait
    is, too; of everyone, and of a folder of recordings every one."""
    given = list(spec.input_paths())
    named = [(role, path) for role in (*_MADE_FROM, "face") for field, path in given if field == role]
    return [(role, file) for role, path in named for file in _files(role, path)]


def _files(role: str, path: Path) -> list[Path]:
    """The recordings that a field means, or the file or pictures; nothing where there are none."""
    if role in ("speech", "neutral") and path.is_dir():
        return sound_files([path])
    return [path] if path.is_file() or pictures_of(path) else []


def _plain(value: object) -> object:
    """A setting as JSON knows it; of a path its name alone, for a manifest is read by everybody."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return (
        value.name if isinstance(value, Path) else value if isinstance(value, str | int | float | None) else str(value)
    )
