"""Certificates and keys: what can sign Content Credentials and what cannot, in sentences; and the local identity's own."""

import itertools
import os
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmet_engine.errors import InvalidInput

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

LOCAL_NAME = "C-MET local identity (untrusted)"
"""What the certificate of the local identity says instead of a name."""

_LOCAL_YEARS = 20  # without a time stamp a signature is worth nothing once its certificate has expired
_CLAIM_SIGNING = "1.3.6.1.4.1.62558.2.1"  # extended key usages that the C2PA specification (14.5.1) takes
_EMAIL, _DOCUMENTS = "1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.36"
_PKCS8, _OTHER_KEYS = b"-----BEGIN PRIVATE KEY-----", b"PRIVATE KEY-----"


def read_chain(path: Path) -> "list[Certificate]":
    """The certificates of a PEM file, the signer's own first.

    Raises:
        InvalidInput: it cannot be read or holds none.
    """
    from cryptography import x509

    data = _read(path, "certificate")
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise InvalidInput(
            f"{path} holds no certificate in PEM form (BEGIN CERTIFICATE); convert it: openssl x509 -inform der."
        )
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise InvalidInput(f"{path} holds a damaged certificate ({error}).") from error


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"The {what} {path} cannot be read: {error.strerror}.") from error


def check_chain(path: Path, chain: "list[Certificate]", now: datetime | None = None) -> None:
    """Refuse a certificate that cannot sign Content Credentials now.

    Args:
        path: of the file, for the message.
        chain: see `read_chain`.
        now: the moment that the validity is compared with; None is now.

    Raises:
        InvalidInput: it has expired or is not valid yet, is for another use, signs itself, or its chain does not hold.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    now, leaf = now or datetime.now(UTC), chain[0]
    for certificate in chain:
        if now > certificate.not_valid_after_utc:
            raise InvalidInput(
                f"{path}: the certificate of {holder(certificate)} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; get a new one."
            )
        if now < certificate.not_valid_before_utc:
            raise InvalidInput(
                f"{path}: the certificate of {holder(certificate)} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} on, but this machine's clock says {now:%Y-%m-%d}; set the clock, or wait."
            )
    if leaf.issuer == leaf.subject:
        raise InvalidInput(
            f"{path}: the certificate signs itself; C2PA asks for one that another certificate issued, followed by that."
        )
    if _extension(leaf, x509.BasicConstraints, lambda e: e.ca, False):
        raise InvalidInput(
            f"{path}: the first certificate is an authority's; put the signer's own first, then its issuers."
        )
    uses = _extension(leaf, x509.ExtendedKeyUsage, lambda e: {use.dotted_string for use in e}, set())
    signs = _extension(leaf, x509.KeyUsage, lambda e: e.digital_signature, True)
    if not signs or not uses & {_CLAIM_SIGNING, _EMAIL, _DOCUMENTS}:
        raise InvalidInput(
            f"{path}: the certificate is not for signing documents (its key usage says something else); get one for C2PA claim signing."
        )
    for certificate, issuer in itertools.pairwise(chain):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise InvalidInput(
                f"{path}: {holder(issuer)} did not issue the certificate of {holder(certificate)}; put the issuers in their order."
            ) from error


def _extension(certificate: Any, kind: Any, read: Any, absent: Any) -> Any:
    from cryptography import x509

    try:
        return read(certificate.extensions.get_extension_for_class(kind).value)
    except x509.ExtensionNotFound:
        return absent


def holder(certificate: "Certificate") -> str:
    """Whose certificate it is: the common name and the organisation, as far as they are there."""
    from cryptography.x509.oid import NameOID

    names = [
        certificate.subject.get_attributes_for_oid(oid) for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    ]
    return ", ".join(str(found[0].value) for found in names if found) or "an unnamed holder"


def read_key(path: Path) -> Any:
    """A private key of a file that only its owner may read.

    Raises:
        InvalidInput: it cannot be read, others may read it, or it is no unencrypted PKCS#8 key in PEM form.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path, "key")
    if sys.platform != "win32" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise InvalidInput(f"Others may read the key {path}; make it yours alone: chmod 600 '{path}'")
    if _PKCS8 not in data:
        if b"BEGIN ENCRYPTED PRIVATE KEY" in data:
            raise InvalidInput(
                f"The key {path} is encrypted; give a signing command (--command) that asks for its password, or an unencrypted copy."
            )
        kind = "is no PKCS#8 key" if _OTHER_KEYS in data else "holds no private key in PEM form"
        raise InvalidInput(
            f"{path} {kind} (BEGIN PRIVATE KEY); convert it: openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW.pem"
        )
    try:
        return load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"The key {path} is damaged or of an unknown kind ({error}).") from error


def algorithm(key: Any, path: Path) -> str:
    """The name that C2PA gives to the signatures of a public key: es256, es384, es512, ps256 or ed25519.

    Raises:
        InvalidInput: keys of that kind cannot sign Content Credentials.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return "ps256"
    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in curves:
        return curves[key.curve.name]
    raise InvalidInput(
        f"{path}: a key of this kind cannot sign Content Credentials; use P-256, P-384, P-521, Ed25519, or RSA of 2048 bits and more."
    )


def check_match(public: Any, key: Any, key_path: Path, path: Path) -> None:
    """Refuse a private key that is not that of the certificate.

    Raises:
        InvalidInput: they do not belong together.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    def plain(one: Any) -> bytes:
        return one.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    if plain(key.public_key()) != plain(public):
        raise InvalidInput(
            f"The key {key_path} is not that of the certificate {path}; give the two that belong together."
        )


def make_local() -> tuple[bytes, bytes]:
    """A certificate chain and key (PEM) of a new local identity; the key of its issuer is thrown away at once."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    authority, key, begin = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
        datetime.now(UTC) - timedelta(days=1),
    )
    mark = os.urandom(4).hex()  # tells one machine's identity from another's, and says nothing of the machine

    def certificate(name: str, public: Any, ca: bool) -> Any:
        subject, issuer = (
            x509.Name(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, text),
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, LOCAL_NAME),
                ]
            )
            for text in (name, f"Local issuer {mark}")
        )
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        builder = x509.CertificateBuilder(
            issuer, subject, public, x509.random_serial_number(), begin, begin + timedelta(days=365 * _LOCAL_YEARS)
        )
        builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
        builder = builder.add_extension(
            x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), True
        )
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False
        )
        if not ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(_EMAIL)]), False)
        return builder.sign(authority, hashes.SHA256())

    chain = [
        certificate(f"Local identity {mark}", key.public_key(), False),
        certificate(f"Local issuer {mark}", authority.public_key(), True),
    ]
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return b"".join(one.public_bytes(pem) for one in chain), private
