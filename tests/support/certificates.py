"""Certificates for tests: a CA, and one certificate of it for 127.0.0.1, for servers and clients."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


class Certificates(NamedTuple):
    """The paths of the PEM files."""

    ca: str
    cert: str
    key: str

    @property
    def server_config(self) -> str:
        """The fields of the `tls` block of a nats-server."""
        return f'cert_file: "{self.cert}", key_file: "{self.key}"'


def make_certificates(directory: Path) -> Certificates:
    """Make a CA and a certificate with the program openssl; skip the test if there is none."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl, which makes the certificates, is not installed")
    ca, ca_key, cert, key, names = (directory / name for name in ("ca.pem", "ca.key", "cert.pem", "key.pem", "names"))
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    new = ("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    sign = ("openssl", "x509", "-req", "-days", "2", "-CAcreateserial")
    for command in (
        (*new, "-x509", "-days", "2", "-subj", "/CN=test CA", "-keyout", ca_key, "-out", ca),
        (*new, "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", directory / "request"),
        (*sign, "-in", directory / "request", "-CA", ca, "-CAkey", ca_key, "-extfile", names, "-out", cert),
    ):
        subprocess.run(command, check=True, capture_output=True)
    return Certificates(str(ca), str(cert), str(key))
