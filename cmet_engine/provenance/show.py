"""What the provenance of a file is: verified, and explained in plain words."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cmet_engine.errors import CmetError, InvalidInput, NotFound
from cmet_engine.files import sha256
from cmet_engine.media.source import open_media
from cmet_engine.progress import Progress
from cmet_engine.provenance import credentials, ledger, manifest, mark_reader
from cmet_engine.provenance.certificates import LOCAL_NAME
from cmet_engine.provenance.credentials import Store, pictures_of
from cmet_engine.spec_base import SIDECAR

VALID, CHANGED, NONE, UNREADABLE = "valid", "changed", "none", "unreadable"

NO_ID = "no id"
"""What `mark_in` says of a watermark whose id is lost."""

_LONGEST = 500  # characters of what a manifest says that are shown; anyone may write one
_NAMED = 3  # pictures that a sentence names

_CONTENT = "Its content was changed after it was signed, or something was added to it."
_CREDENTIALS = "Its credentials themselves were changed after they were signed."
_FAULTS = {
    "assertion.dataHash.mismatch": _CONTENT, "assertion.bmffHash.mismatch": _CONTENT, "assertion.boxesHash.mismatch": _CONTENT,
    "assertion.collectionHash.mismatch": _CONTENT, "assertion.hashedURI.mismatch": _CREDENTIALS, "claimSignature.mismatch": _CREDENTIALS,
    credentials.SOURCE_FAULT: "The credentials of what it was made from were changed in it after it was signed.",
    "claimSignature.outsideValidity": "The certificate was not valid when it was signed, or expired since and there is no time stamp.",
    "signingCredential.expired": "The certificate was not valid when it was signed, or expired since and there is no time stamp.",
    "signingCredential.invalid": "The certificate is not one that may sign Content Credentials.",
}  # fmt: skip
"""Sentences for the codes of the C2PA specification."""


@dataclass
class Verdict:
    """What is known about where a file comes from.

    Attributes:
        file: its path.
        credentials: `valid`, `changed`, `none` or `unreadable`.
        trusted: somebody whom the user trusts vouches for the signer.
        signed_by: the signer's name, as the certificate says it.
        time: when it was signed, ISO 8601.
        time_stamped: an authority vouches for the time.
        edit: what C-MET's own assertion says; empty where another tool signed.
        sources: what it was made from, and how their own credentials stand: [{title, credentials, signed_by}].
        recorded: the entry of the user's ledger, or None.
        mark: the id that the watermark in the pictures says, `no id` where that is lost, or None.
        sentences: the same in words.
    """

    file: str
    credentials: str = NONE
    trusted: bool = False
    signed_by: str = ""
    time: str = ""
    time_stamped: bool = False
    edit: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, str]] = field(default_factory=list)
    recorded: dict[str, Any] | None = None
    mark: str | None = None
    sentences: list[str] = field(default_factory=list)

    def say(self, *sentences: str) -> None:
        """Add sentences."""
        self.sentences += sentences

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)


def examine(path: Path, look: Callable[[Verdict], str | None] | None = None) -> Verdict:
    """Verify a file and say where it comes from.

    Args:
        path: a file, a folder of numbered pictures, or their pattern.
        look: looks for the watermark in its pictures, see `mark_in`; asked once, with what its credentials say.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is itself the credentials of another file.
        MissingWeights: the library is not installed.
    """
    if not (path.is_file() or pictures_of(path)):
        raise NotFound(f"There is no file {path}, and there are no numbered pictures of that name.")
    if path.suffix == SIDECAR:
        raise InvalidInput(f"{path.name} holds the credentials of another file; give that file.")
    credentials.find_library()
    listed = _list_with(path)
    verdict = Verdict(str(path))
    try:
        store = credentials.read(listed or path)
    except (InvalidInput, OSError) as error:
        verdict.credentials = UNREADABLE
        verdict.say(str(error))
        store = None
    if store is not None:
        _explain(verdict, path, store)
    elif verdict.credentials == NONE:
        verdict.say(f"{path.name} carries no Content Credentials.")
        _tags(verdict, path)
    verdict.mark = look(verdict) if look else None
    _recorded(verdict, path, store)
    return verdict


def mark_in(path: Path, progress: Progress | None = None) -> str | None:
    """The id, 16 hexadecimal digits, that the watermark in a video or in numbered pictures says.

    `NO_ID` where there is a mark of which too little is left to read its id; None where none is found.

    Args:
        path: a file, a folder of numbered pictures, or their pattern.
        progress: called as ("tracking", frames done, frames in all).
    """
    try:
        known = [int(str(entry["id"]), 16) for entry in ledger.entries() if entry.get("watermark") == entry.get("id")]
        found = mark_reader.find(path, known, progress)
    except CmetError:  # nothing that shows a face
        return None
    if found is None:
        return None
    return NO_ID if found.number is None else f"{found.number:016x}"


def _list_with(path: Path) -> Path | None:
    """The signed list of pictures that names a picture."""
    if path.is_file():
        for place in sorted(path.parent.glob("*.sha256")):
            if place.with_suffix(SIDECAR).is_file() and path.name in _listed(place):
                return place
    return None


def _listed(place: Path) -> dict[str, str]:
    """The SHA-256 of every picture of a list, by name."""
    lines = place.read_text("utf-8", "replace").splitlines()
    return {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}


def _explain(verdict: Verdict, path: Path, store: Store) -> None:
    """Say what the credentials of a file say, and whether they hold."""
    where = "" if store.place == path else f" (in {store.place.name})"
    verdict.say(f"{path.name} carries Content Credentials{where}.")
    faults = list(dict.fromkeys(_FAULTS.get(code, f"They do not hold ({plain(code)}).") for code in store.faults))
    if store.about != path and not faults:
        faults = _differing(path, store.about)
    verdict.credentials = CHANGED if faults else VALID
    verdict.say(*(faults or ["Nothing was changed since it was signed."]))
    active = store.active
    edit = verdict.edit = manifest.edit_of(active)
    _signer(verdict, active.get("signature_info") or {}, store.state == "Trusted")
    if edit:
        verdict.say(
            f"C-MET edited it: {plain(edit.get('edit'))}; renderer {plain(edit.get('renderer') or 'none')}, quality {plain(edit.get('quality') or 'none')}."
        )
    elif done := manifest.actions_of(active):
        verdict.say(f"What was done: {plain(', '.join(done))}.")
    _sources(verdict, active)
    if edit:
        verdict.say(f"Consent: {plain(manifest.consent_of(edit))}.", f"Watermark: {plain(edit.get('watermark'))}.")


def _differing(path: Path, listed: Path) -> list[str]:
    """Sentences about pictures that are not as the signed list says."""
    known, there = _listed(listed), {picture.name: picture for picture in pictures_of(path) or [path]}
    found = {
        "changed": [name for name, picture in there.items() if name in known and sha256(picture) != known[name]],
        "missing": [] if path.is_file() else [name for name in known if name not in there],
        "added": [name for name in there if name not in known],
    }
    return [
        f"{len(names)} of {len(known)} pictures were {what} since they were signed ({', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''})."
        if what != "missing"
        else f"{len(names)} of {len(known)} pictures are missing ({', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''})."
        for what, names in found.items()
        if names
    ]  # fmt: skip


def _signer(verdict: Verdict, info: dict[str, Any], trusted: bool) -> None:
    name, organisation = plain(info.get("common_name") or "an unnamed holder"), plain(info.get("issuer") or "")
    verdict.signed_by = ", ".join(dict.fromkeys(part for part in (name, organisation) if part))
    verdict.trusted, verdict.time = trusted, plain(info.get("time") or verdict.edit.get("time") or "")
    verdict.time_stamped = bool(info.get("time"))
    if trusted:
        verdict.say(f"Signed by {verdict.signed_by}, whom you trust.")
    elif organisation == LOCAL_NAME:
        verdict.say(f"Signed by a local identity of C-MET ({name}), which does not show who signed.")
    else:
        verdict.say(
            f"Signed by {verdict.signed_by}; no authority that you trust vouches for them (cmet provenance trust CERT)."
        )
    if verdict.time:
        vouched = (
            "a time-stamp authority vouches for that"
            if verdict.time_stamped
            else "by the clock of the signer's machine"
        )
        verdict.say(f"Signed at {verdict.time[:16].replace('T', ' ')}; {vouched}.")


def _sources(verdict: Verdict, active: dict[str, Any]) -> None:
    for one in sorted(active.get("ingredients", []), key=lambda one: one.get("relationship") != "parentOf"):
        title, results = plain(one.get("title") or "an unnamed file"), one.get("validation_results")
        state = NONE if not one.get("active_manifest") else CHANGED if credentials.faults(results) else VALID
        verdict.sources.append({"title": title, "credentials": state, "relationship": plain(one.get("relationship"))})
        about = {
            NONE: "which had no credentials of its own",
            VALID: "whose own credentials were valid then and are kept in it",
            CHANGED: "whose own credentials did not fit it even then; they are kept as they were",
        }
        verdict.say(f"Made from {title}, {about[state]}.")


def _tags(verdict: Verdict, path: Path) -> None:
    """Say what the tags of a file without credentials tell."""
    try:
        with open_media(path) as container:
            tags = {name.lower().removeprefix("comment_"): value for name, value in container.metadata.items()}
    except CmetError:
        return
    if edit := tags.get("cmet_edit"):
        verdict.say(
            f"Its tags say that C-MET edited it ({plain(edit)}); its credentials were taken out, or it was never signed."
        )
    elif "edited with C-MET" in (comment := tags.get("comment", "")):
        verdict.say(
            f"A comment in it says: {plain(comment)} Another program wrote this file, and did not keep the credentials."
        )


def _recorded(verdict: Verdict, path: Path, store: Store | None) -> None:
    """Say what the user's ledger knows."""
    mine = sha256(store.about if store and store.about != store.place else path) if path.is_file() or store else ""
    try:
        by_file = ledger.of_file(mine) if mine else None
        known = by_file or (ledger.lookup(str(verdict.edit.get("id") or verdict.mark or "")))
    except CmetError as error:
        verdict.say(str(error))
        return
    if verdict.mark == NO_ID:
        verdict.say("The watermark in its pictures says that C-MET edited it. Too little of it is left to read its id.")
    elif verdict.mark:
        verdict.say(f"The watermark in its pictures says that C-MET edited it (id {verdict.mark}).")
    if known is None:
        verdict.say("Your ledger does not know it.")
        return
    verdict.recorded = known
    verdict.say(
        f"Your ledger knows it: made on {plain(known.get('time'))[:16].replace('T', ' ')} from {plain(known.get('source'))}."
    )
    if by_file is None and store is not None:
        verdict.say("It is not byte for byte the file that the ledger knows.")
    elif by_file is None:
        verdict.say("It was written anew by another program since.")


def plain(text: Any) -> str:
    """Text from a file as it may be shown: of a bounded length, without control characters."""
    return "".join(c if c.isprintable() else " " for c in str("" if text is None else text)[:_LONGEST])
