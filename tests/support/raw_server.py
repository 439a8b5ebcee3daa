"""A nats-server with any configuration and of any version, which the embedded server would not start."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.nats.server import find_nats_server


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
