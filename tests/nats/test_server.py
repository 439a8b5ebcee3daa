"""The embedded nats-server: its port, its data, its binary, and its end."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import nats
import pytest

from runtime.nats.server import EmbeddedServer, ServerError, find_nats_server

ORPHAN_MAKER = """
import asyncio, os, signal
from runtime.nats.server import EmbeddedServer

async def main():
    server = EmbeddedServer(port=0)
    await server.start()
    print(server.pid, server.port, server.store_dir, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_server_provides_jetstream_and_ends_with_its_block() -> None:
    async with EmbeddedServer(port=0) as server:
        pid, store = server.pid, server.store_dir
        assert store is not None and store.is_dir()
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="S", subjects=["s"])
        await client.close()
        assert os.getpgid(pid) == pid  # Ctrl-C in our terminal does not reach the server
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not store.exists()
    await server.stop()  # a second stop does nothing


async def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        wished = taken.getsockname()[1]
        taken.listen()
        async with EmbeddedServer(port=wished) as server:
            assert server.port not in (0, wished)
            await (await nats.connect(server.url)).close()
    async with EmbeddedServer(port=wished) as server:
        assert server.port == wished


async def test_the_server_restarts_after_a_crash_on_the_same_port_and_data(tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path, sync_always=True) as server:
        port = server.port
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="S", subjects=["s"])
        await client.jetstream().publish("s", b"kept")
        await client.close()
        server.kill()
        with pytest.raises(ServerError, match="not running"):
            _ = server.pid
        await server.start()
        assert server.port == port
        client = await nats.connect(server.url)
        assert (await client.jetstream().get_last_msg("S", "s")).data == b"kept"
        await client.close()
    assert tmp_path.is_dir()  # a given directory is kept


async def test_one_directory_has_one_server(tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path):
        with pytest.raises(ServerError, match=f"another nats-server already uses {tmp_path}"):
            await EmbeddedServer(port=0, store_dir=tmp_path).start()


async def test_a_failed_start_reports_the_reason(tmp_path: Path) -> None:
    server = EmbeddedServer(port=0, store_dir=tmp_path, config="max_payload: nonsense")
    with pytest.raises(ServerError, match=r"ended with code 1\n  nats-server: .*nats-server\.conf:\d"):
        await server.start()
    with pytest.raises(ServerError, match="without JetStream"):
        await EmbeddedServer(port=0, store_dir=tmp_path, config="jetstream: false").start()


async def test_a_server_that_never_becomes_ready_is_killed(tmp_path: Path) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o700)
    server = EmbeddedServer(port=0, store_dir=tmp_path, binary=sleeper, start_timeout=0.2)
    with pytest.raises(ServerError, match=r"not ready in 0\.2 s"):
        await server.start()
    with pytest.raises(ServerError, match="not running"):
        _ = server.pid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_sigkill_of_the_parent_leaves_no_orphan() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", ORPHAN_MAKER, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid, port, store = (await parent.stdout.readline()).split()
    os.kill(int(pid), 0)
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    async with asyncio.timeout(30):
        while await accepts(int(port)):
            await asyncio.sleep(0.01)
    async with EmbeddedServer(port=0, store_dir=store.decode()):  # the lock of the killed server is released
        pass


def test_the_binary_is_found_by_argument_then_variable_then_beside_python_then_on_the_path(tmp_path: Path) -> None:
    beside = Path(sys.executable).parent / "nats-server"
    other = tmp_path / "nats-server"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o700)
    variable = {"ACTORLOOM_NATS_SERVER": str(other)}
    assert find_nats_server(beside, variable) == beside
    assert find_nats_server(None, variable) == other
    assert find_nats_server(None, {"PATH": str(tmp_path)}) == beside


def test_a_missing_binary_is_named_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerError, match="--nats-server: not an executable file: /nowhere/nats-server"):
        find_nats_server("/nowhere/nats-server", {})
    with pytest.raises(ServerError, match="ACTORLOOM_NATS_SERVER: not an executable file: /nowhere"):
        find_nats_server(None, {"ACTORLOOM_NATS_SERVER": "/nowhere"})
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    with pytest.raises(ServerError, match=r"pip install actorloom\[server\]"):
        find_nats_server(None, {"PATH": ""})
    on_path = tmp_path / "bin" / "nats-server"
    on_path.parent.mkdir()
    on_path.write_text("#!/bin/sh\n")
    on_path.chmod(0o700)
    assert find_nats_server(None, {"PATH": str(on_path.parent)}) == on_path


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
