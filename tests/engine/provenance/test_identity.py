"""Who signs: certificates and keys that can, and a sentence for each that cannot."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from authority import DAY, Authority
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.provenance import certificates, identity


def test_without_a_choice_a_local_identity_signs_and_says_that_nobody_vouches(home: Path):
    first, again = identity.current(), identity.current()
    assert first.local and first.chain == again.chain and first.words == "a local identity, which nobody vouches for"
    assert (home / "local.key").stat().st_mode & 0o077 == 0 and home.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "es384"),
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
        (rsa.generate_private_key(65537, 2048), "ps256"),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_the_users_key_signs_from_where_it_lies(authority: Authority, home: Path, key, algorithm: str):
    path, key_path = authority.issue("Jo", key)
    identity.use(path, key_path)
    found = identity.current()
    assert (found.algorithm, found.local, found.words) == (algorithm, False, "Jo, Studio")
    assert key_path.read_bytes() not in [file.read_bytes() for file in home.iterdir()]
    assert identity.use(None).local  # and back


def test_certificates_that_cannot_sign(authority: Authority, clip: Path, tmp_path: Path):
    def refused(match: str, path: Path, key: Path) -> None:
        with pytest.raises(InvalidInput, match=match):
            identity.use(path, key)

    good, key = authority.issue("Jo")
    refused("expired on", *authority.issue("Old", begins=-9 * DAY, ends=-DAY))
    refused("this machine's clock says", *authority.issue("Young", begins=3 * DAY))
    refused("not for signing documents", *authority.issue("Web", use=ExtendedKeyUsageOID.SERVER_AUTH))
    refused(
        "cannot sign Content Credentials; use P-256",
        *authority.issue("Koblitz", ec.generate_private_key(ec.SECP256K1())),
    )
    refused("cannot sign Content Credentials", *authority.issue("Old kind", dsa.generate_private_key(2048)))
    refused("is not that of the certificate", good, authority.issue("Other")[1])
    refused("no PKCS#8 key.*openssl pkcs8", *authority.issue("Plain", form=PrivateFormat.TraditionalOpenSSL))
    refused("signs itself", authority.path, key)
    refused("holds no certificate", clip, key)
    refused("cannot be read: No such file", tmp_path / "none.pem", key)
    refused("cannot be read: No such file", good, tmp_path / "none.key")
    mixed = tmp_path / "mixed.pem"
    other = tmp_path / "other"
    other.mkdir()
    mixed.write_bytes(good.read_bytes().split(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----\n" + Authority(other).path.read_bytes())  # fmt: skip
    refused("did not issue the certificate", mixed, key)
    if sys.platform != "win32":
        key.chmod(0o644)
        refused("Others may read the key.*chmod 600", good, key)
    assert identity.current().local, "a refusal changes nothing"


def test_a_certificate_that_expires_is_refused_before_the_work_with_the_way_out(authority: Authority):
    path, key = authority.issue("Jo")
    identity.use(path, key)
    key.unlink()
    with pytest.raises(InvalidInput, match=r"cannot be read: No such file.*`cmet provenance use`, or --local"):
        identity.current()
    with pytest.raises(InvalidInput, match="expired on"):
        certificates.check_chain(path, certificates.read_chain(path), datetime.now(UTC) + timedelta(days=100))


SIGN = """
import sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = serialization.load_pem_private_key(open(sys.argv[1], "rb").read(), None)
sys.stdout.buffer.write(key.sign(sys.stdin.buffer.read(), ec.ECDSA(hashes.SHA256())))
"""


def test_a_command_signs_in_place_of_a_key(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, key = authority.issue("Jo")
    (tmp_path / "signing.py").write_text(SIGN)

    def use(command: str) -> identity.Identity:
        return identity.use(path, command=f"'{sys.executable}' {command}")

    assert len(use(f"'{tmp_path / 'signing.py'}' '{key}'").sign(b"bytes")) == 64  # r and s, as COSE wants them
    with pytest.raises(CmetError, match="does not fit the certificate"):
        use(f"'{tmp_path / 'signing.py'}' '{authority.issue('Other')[1]}'")
    with pytest.raises(CmetError, match=r"failed \(no token\)"):
        use("-c \"raise SystemExit('no token')\"")
    with pytest.raises(CmetError, match="cannot be run: No such file"):
        identity.use(path, command="/no/such/program")
    monkeypatch.setattr(identity, "COMMAND_SECONDS", 0.3)
    with pytest.raises(CmetError, match="gave no signature within"):
        use("-c 'import time; time.sleep(60)'")
