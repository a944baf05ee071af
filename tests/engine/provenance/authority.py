"""An authority for tests: it issues certificates that can sign Content Credentials, and such that cannot."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


def name(text: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, text), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Studio")]
    )


class Authority:
    """Issues certificates; `path` is its own, to be trusted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._issue("Studio Authority", self.key.public_key(), ca=True)
        self.path = folder / "authority.pem"
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(self, who: str = "Jo", key: Any = None, form: Any = PrivateFormat.PKCS8, **how: Any) -> tuple[Path, Path]:
        """A certificate with its issuer's, and its key: the paths of both."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        leaf = self._issue(who, key.public_key(), **how)
        path, key_path = self.folder / f"{who}.pem", self.folder / f"{who}.key"
        path.write_bytes(leaf.public_bytes(Encoding.PEM) + self.certificate.public_bytes(Encoding.PEM))
        key_path.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
        key_path.chmod(0o600)
        return path, key_path

    def _issue(
        self, who: str, public: Any, *, ca: bool = False, begins: timedelta = -DAY, ends: timedelta = 90 * DAY,
        use: Any = ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ) -> Any:  # fmt: skip
        now = datetime.now(UTC)
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)  # fmt: skip
        builder = (
            x509.CertificateBuilder(name("Studio Authority"), name(who), public, x509.random_serial_number(), now + begins, now + ends)
            .add_extension(x509.BasicConstraints(ca, None), True)
            .add_extension(x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )  # fmt: skip
        if not ca:
            stamps = use == ExtendedKeyUsageOID.TIME_STAMPING  # RFC 3161, 2.3: critical there
            builder = builder.add_extension(x509.ExtendedKeyUsage([use]), stamps)
        return builder.sign(self.key, hashes.SHA256())
