"""`cmet provenance`."""

import argparse
from pathlib import Path
from typing import Any

from cmet_engine.cli.options import Adder, output_argument
from cmet_engine.errors import InvalidInput
from cmet_engine.files import whole_file
from cmet_engine.provenance import identity


def add_command(command: Adder) -> None:
    """Add the command and its actions."""
    text = "where edited files come from: verify one, choose who signs, the ledger"
    actions = command("provenance", None, text).add_subparsers(title="actions", metavar="ACTION", required=True)
    sub = command("show", show, "verify a file, and say who signed it, what was done and from what", actions)
    sub.add_argument("file", type=Path, metavar="FILE", help="a file, a folder of numbered pictures, or their pattern")
    sub.add_argument("--watermark", action="store_true", help="look for the watermark in its pictures also where credentials say where it comes from")  # fmt: skip
    sub = command("use", use, "choose who signs; without arguments say who does", actions)
    add = sub.add_argument
    add("certificate", type=Path, nargs="?", metavar="CERT", help="PEM: your certificate, then its issuers")
    add("key", type=Path, nargs="?", metavar="KEY", help="its private key, PKCS#8 in PEM form, readable by you alone; it is read where it lies and never copied")  # fmt: skip
    add("--command", metavar="'PROGRAM ARGUMENTS'", help="a program that signs in place of a key (of a hardware security module): run without a shell, it reads the bytes and writes the signature")  # fmt: skip
    add("--local", action="store_true", help="go back to the local identity, for which nobody vouches")
    add("--timestamp", metavar="URL", help="a time-stamp authority (RFC 3161) to ask for every signature")
    sub = command("trust", trust, "trust what the certificates of a file vouch for, when files are verified", actions)
    sub.add_argument("certificate", type=Path, metavar="CERT", help="PEM: certificates of authorities")
    sub = command("log", log, "what was made from what: list the ledger, check it, export it", actions)
    output_argument(sub, "FILE", "write it to .csv or .json", required=False)
    sub.add_argument("--id", metavar="ID", help="only what was made under this id, such as a watermark's")
    sub.add_argument("--force", action="store_true", help="replace an earlier FILE")


def show(options: argparse.Namespace) -> Any:
    """Verify a file; the exit status is 1 where its credentials do not hold, or there are none."""
    from cmet_engine.media.formats import SCENE
    from cmet_engine.provenance.show import VALID, Verdict, examine, mark_in

    def look(verdict: Verdict) -> str | None:
        if options.file.suffix.lower() in SCENE or not (options.watermark or verdict.credentials != VALID):
            return None
        mark = mark_in(options.file, options.progress)
        if mark is None:
            verdict.say(
                "No watermark was found in its pictures. That proves nothing: it may be lost in less than 3 seconds of an edit, on small "
                "faces in fast movement, and where the face is not seen whole."
            )
        return mark

    verdict = examine(options.file, look)
    options.status = 0 if verdict.credentials == VALID else 1
    return verdict.as_json() if options.json else "\n".join(verdict.sentences)


def use(options: argparse.Namespace) -> dict[str, Any]:
    """Choose who signs."""
    if options.local and options.certificate is not None:
        raise InvalidInput("--local takes no certificate; leave one of them out.")
    if options.local or options.certificate or options.command or options.timestamp:
        if not options.local and options.certificate is None:
            raise InvalidInput("The certificate is missing; name it, or --local.")
        found = identity.use(options.certificate, options.key, options.command, options.timestamp)
    else:
        found = identity.current()
    kept = None if options.key is None else f"read from {options.key.absolute()} each time; no copy is made"
    return {"signed by": found.words, "certificate": found.name, "algorithm": found.algorithm, "key": kept, "time stamps": found.timestamp or "none"}  # fmt: skip


def trust(options: argparse.Namespace) -> dict[str, Any]:
    """Trust certificates."""
    return {"trusted": identity.trust(options.certificate)}


def log(options: argparse.Namespace) -> Any:
    """List, check or export the ledger; the exit status is 1 where its chain is broken."""
    from cmet_engine.provenance import ledger

    problems = ledger.problems()
    options.status = 1 if problems else 0
    if options.output is not None:
        text = ledger.export(options.output.suffix.lower())
        with whole_file(options.output, force=options.force) as temporary:
            temporary.write_text(text, "utf-8")
        return {"file": options.output, "entries": len(ledger.entries()), "problem": problems}
    found = [entry for entry in ledger.entries() if options.id in (None, entry.get("id"))]
    if options.json:
        return {"ledger": ledger.path(), "entries": found, "problems": problems}
    lines = [
        f"{entry.get('time')}  {entry.get('id')}  {entry.get('output')} from {entry.get('source')}: {entry.get('edit')}"
        for entry in found
    ]
    return {"ledger": ledger.path(), "entry": lines, "problem": problems}
