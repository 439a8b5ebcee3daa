"""A nats-server with any configuration and of any version, which the embedded server would not start."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.nats.server import find_nats_server


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def raw_server(directory: Path, config: str, binary: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a nats-server for the duration of the block. Clients wait for it by connecting again."""
    directory.mkdir(exist_ok=True)
    path = directory / "server.conf"
    path.write_text(config)
    with (directory / "server.log").open("ab") as log:
        process = subprocess.Popen([binary or find_nats_server(), "-c", path], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
