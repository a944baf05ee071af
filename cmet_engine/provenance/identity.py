"""Who signs: the user's certificate with a key or a signing command, else a local identity that nobody vouches for.

<user folder>/provenance/identity.json    paths of the user's certificate and key, or the command; never the key itself
<user folder>/provenance/local.pem .key   the local identity, made on first use
<user folder>/provenance/trust.pem        certificates that the user trusts, see `cmet provenance trust`
"""

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmet_engine.errors import CmetError, InvalidInput, MissingWeights
from cmet_engine.files import read_json
from cmet_engine.processes import group_options, kill_group
from cmet_engine.provenance import certificates, home

COMMAND_SECONDS = 60.0
"""For one signature by a signing command; a person may have to touch a token."""

LOCAL = "a local identity, which nobody vouches for"
"""The local identity in words."""

_DIGESTS = {"es256": "SHA256", "es384": "SHA384", "es512": "SHA512", "ps256": "SHA256"}


@dataclass(frozen=True)
class Identity:
    """Who signs.

    Attributes:
        name: of the certificate's holder.
        local: it is the local identity, which nobody vouches for.
        algorithm: of its signatures, as C2PA names it.
        chain: the certificates, PEM.
        sign: the signature of some bytes, as COSE (RFC 9053) wants it.
        timestamp: address of a time-stamp authority (RFC 3161), or None.
    """

    name: str
    local: bool
    algorithm: str
    chain: bytes
    sign: Callable[[bytes], bytes]
    timestamp: str | None = None

    @property
    def words(self) -> str:
        """Who signs, in words."""
        return LOCAL if self.local else self.name


def use(
    certificate: Path | None, key: Path | None = None, command: str | None = None, timestamp: str | None = None
) -> Identity:
    """Choose who signs from now on, after all checks; the files stay where they are, and are read there each time.

    Args:
        certificate: PEM, the signer's own first, then its issuers; None is the local identity.
        key: its private key, PKCS#8 in PEM form.
        command: signs in place of a key: a program and its arguments, run without a shell. The bytes to sign come on its standard
            input, and it writes the signature.
        timestamp: address of a time-stamp authority.

    Raises:
        CmetError: something of it cannot sign Content Credentials.
    """
    if certificate is not None and (key is None) == (command is None):
        raise InvalidInput("A certificate needs its key, or a signing command (--command), and not both.")
    if timestamp is not None and not timestamp.startswith(("http://", "https://")):
        raise InvalidInput(
            f"'{timestamp}' is not the address of a time-stamp authority; it begins with http:// or https://."
        )
    chosen: dict[str, Any] = {"timestamp": timestamp}
    if certificate is not None:
        chosen["certificate"] = str(certificate.absolute())
        if key is not None:
            chosen["key"] = str(key.absolute())
        if command is not None:
            chosen["command"] = shlex.split(command, posix=os.name != "nt")
    found = _opened(chosen)
    found.sign(b"a trial")  # a token that is not there, a command that fails: now, not after a long rendering
    home.write_private(home.folder() / "identity.json", json.dumps(chosen, indent=1).encode())
    return found


def is_chosen() -> bool:
    """Whether the user chose who signs; otherwise it is the local identity."""
    return (home.place() / "identity.json").exists()


def signers() -> str:
    """What tells the choice of a signer from another, for the key of results that are kept."""
    return (home.place() / "identity.json").read_text("utf-8") if is_chosen() else ""


def current() -> Identity:
    """Who signs now.

    Raises:
        CmetError: the chosen certificate or key cannot sign any more, or the local identity cannot be made.
    """
    if not is_chosen():
        return _opened({})
    file = home.folder() / "identity.json"
    chosen = read_json(file, f"{file} cannot be read; choose anew: cmet provenance use.")
    if not isinstance(chosen, dict):
        raise InvalidInput(f"{file} does not say who signs; choose anew: cmet provenance use.")
    try:
        return _opened(chosen)
    except MissingWeights:
        raise
    except CmetError as error:
        raise InvalidInput(
            f"{str(error).removesuffix('.')}. Choose another with `cmet provenance use`, or --local."
        ) from error


def _opened(chosen: dict[str, Any]) -> Identity:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingWeights(
            "Signing needs the package cryptography, which is not installed; run: pip install cryptography."
        ) from error
    local, command = "certificate" not in chosen, chosen.get("command")
    if local:
        path, key_path = _local()
    else:
        path, key_path = Path(chosen["certificate"]), Path(chosen.get("key") or "")
    chain = certificates.read_chain(path)
    certificates.check_chain(path, chain)
    public = chain[0].public_key()
    kind = certificates.algorithm(public, path)
    if command:
        make: Callable[[bytes], bytes] = _Command(command)
    else:
        key = certificates.read_key(key_path)
        certificates.check_match(public, key, key_path, path)
        make = _key_signs(key, kind)
    name = certificates.holder(chain[0])
    return Identity(name, local, kind, path.read_bytes(), _checked(make, public, kind, path), chosen.get("timestamp"))


def _local() -> tuple[Path, Path]:
    """Certificate and key of the local identity, made where they are not there."""
    path, key_path = home.folder() / "local.pem", home.folder() / "local.key"
    try:
        with home.locked(path):
            if not (path.exists() and key_path.exists()):
                chain, key = certificates.make_local()
                home.write_private(key_path, key)
                home.write_private(path, chain)
    except OSError as error:
        raise InvalidInput(f"The local identity cannot be made in {path.parent}: {error.strerror}.") from error
    return path, key_path


def _key_signs(key: Any, kind: str) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    if kind == "ed25519":
        return key.sign
    digest = getattr(hashes, _DIGESTS[kind])()
    if kind == "ps256":
        return lambda data: key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    return lambda data: key.sign(data, ec.ECDSA(digest))


@dataclass(frozen=True)
class _Command:
    """A program that signs: of a hardware security module, a smart card, a signing service."""

    arguments: Sequence[str]

    def __call__(self, data: bytes) -> bytes:
        name = Path(self.arguments[0]).name if self.arguments else ""
        try:
            process = subprocess.Popen(
                self.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **group_options()
            )
        except (OSError, IndexError, ValueError) as error:
            raise InvalidInput(
                f"The signing command {name} cannot be run: {getattr(error, 'strerror', None) or error}."
            ) from error
        try:
            signature, said = process.communicate(data, timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired as error:
            kill_group(process)
            raise InvalidInput(
                f"The signing command {name} gave no signature within {COMMAND_SECONDS:.0f} seconds."
            ) from error
        if process.returncode or not signature:
            last = (said.decode("utf-8", "replace").strip().splitlines() or ["it wrote nothing"])[-1]
            raise InvalidInput(f"The signing command {name} failed ({last[:200]}).")
        return signature


def _checked(make: Callable[[bytes], bytes], public: Any, kind: str, path: Path) -> Callable[[bytes], bytes]:
    """`make`, its signatures compared with the certificate and brought into the form of COSE."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

    def sign(data: bytes) -> bytes:
        signature = make(data)
        try:
            if kind == "ed25519":
                public.verify(signature, data)
                return signature
            digest = getattr(hashes, _DIGESTS[kind])()
            if kind == "ps256":
                public.verify(signature, data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
                return signature
            size = (public.curve.key_size + 7) // 8  # COSE: r and s one after the other; OpenSSL and most tokens: DER
            if len(signature) == 2 * size:
                signature = utils.encode_dss_signature(
                    int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
                )
            public.verify(signature, data, ec.ECDSA(digest))
            r, s = utils.decode_dss_signature(signature)
            return r.to_bytes(size) + s.to_bytes(size)
        except (InvalidSignature, ValueError) as error:
            how = {"ps256": "RSA-PSS with SHA-256 and a salt of 32 bytes"}.get(kind, kind)
            raise InvalidInput(
                f"The signature does not fit the certificate {path}; it must be by its key, as {how}."
            ) from error

    return sign


def trusted() -> str:
    """The certificates that the user trusts, PEM; empty where there are none."""
    path = home.place() / "trust.pem"
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def trust(path: Path) -> list[str]:
    """Trust what the certificates of a file vouch for; returns whose they are.

    Raises:
        CmetError: it cannot be read, holds no certificate, or the list cannot be written.
    """
    chain = certificates.read_chain(path)
    text = trusted().encode() + path.read_bytes().rstrip(b"\n") + b"\n"
    home.write_private(home.folder() / "trust.pem", text)
    return [certificates.holder(one) for one in chain]
