"""A time-stamp authority on loopback: OpenSSL's, behind an HTTP server of these tests (RFC 3161)."""

import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import Authority
from cryptography.x509.oid import ExtendedKeyUsageOID

from cmet_engine.provenance import identity, show

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl for time stamps")

CONFIG = """
[stamps]
serial = {folder}/serial
signer_cert = {certificate}
certs = {chain}
signer_key = {key}
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


@pytest.fixture
def clock(authority: Authority, tmp_path: Path) -> Iterator[str]:
    """The address of a time-stamp authority that answers."""
    certificate, key = authority.issue("Clock", use=ExtendedKeyUsageOID.TIME_STAMPING)
    (tmp_path / "serial").write_text("01")
    config = tmp_path / "stamps.cnf"
    config.write_text(CONFIG.format(folder=tmp_path, certificate=certificate, chain=authority.path, key=key))

    class Stamps(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = tmp_path / "query.tsq"
            query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            command = [
                "openssl",
                "ts",
                "-reply",
                "-config",
                str(config),
                "-section",
                "stamps",
                "-queryfile",
                str(query),
            ]
            made = subprocess.run([*command, "-out", str(tmp_path / "reply.tsr")], capture_output=True, text=True, timeout=30, check=False)  # fmt: skip
            assert made.returncode == 0, made.stderr
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write((tmp_path / "reply.tsr").read_bytes())

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stamps) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/stamp"
        server.shutdown()


def test_a_time_stamp_is_in_the_signature(clip: Path, tmp_path: Path, signed, clock: str, authority: Authority):
    path = Path(shutil.copy(clip, tmp_path / "edited.mp4"))
    identity.use(None, timestamp=clock)
    assert signed(clip, path) == []
    verdict = show.examine(path)
    assert verdict.credentials == show.VALID and verdict.time_stamped
    assert any("a time-stamp authority vouches for that" in sentence for sentence in verdict.sentences)
