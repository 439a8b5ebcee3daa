"""The NATS servers of the suite: one, or a cluster of three on the loopback interface."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec

from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from tests.support.ports import free_ports

START_TIMEOUT = 120.0
"""Seconds within which a server must load its streams. Two million messages take half a minute on busy cores."""


class Servers:
    """One server or a cluster. As a context manager it runs them; their data stays in `directory`."""

    def __init__(self, directory: Path, nodes: int = 1) -> None:
        self.directory = directory
        routes = free_ports(nodes) if nodes > 1 else []
        self.nodes = [
            EmbeddedServer(
                port=0,
                store_dir=directory / f"nats-{n}",
                config=_cluster(n, routes) if routes else "",
                start_timeout=START_TIMEOUT,
            )
            for n in range(nodes)
        ]

    @property
    def url(self) -> str:
        """URLs of all nodes, separated by commas."""
        return ",".join(node.url for node in self.nodes)

    @property
    def replicas(self) -> int:
        return len(self.nodes)

    async def __aenter__(self) -> "Servers":
        await asyncio.gather(*(node.start() for node in self.nodes))
        if len(self.nodes) > 1:
            await self._wait_for_meta_leader()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            self.resume(node)
            node.kill()

    async def restart(self, node: EmbeddedServer) -> None:
        """Kill a node with SIGKILL, and start it again with its data."""
        node.kill()
        await node.start()

    def pause(self, node: EmbeddedServer) -> None:
        """Stop a node with SIGSTOP."""
        os.kill(node.pid, signal.SIGSTOP)

    def resume(self, node: EmbeddedServer) -> None:
        """Continue a node with SIGCONT, if it runs."""
        if node._process is not None:
            os.kill(node.pid, signal.SIGCONT)

    async def lame_duck(self, node: EmbeddedServer) -> None:
        """Put a node into lame duck mode, wait until it has ended, and start it again."""
        process = node._process
        assert process is not None
        os.kill(node.pid, signal.SIGUSR2)
        async with asyncio.timeout(60):
            while process.poll() is None:
                await asyncio.sleep(0.05)
        await self.restart(node)

    async def leader(self, connection: Connection, stream: str) -> EmbeddedServer:
        """Return the node that is the leader of a stream.

        Raises:
            TimeoutError: There is no leader within 30 s.
        """
        async with asyncio.timeout(30):
            while True:
                try:
                    response = await connection.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=2)
                    name = msgspec.json.decode(response.payload)["cluster"]["leader"]
                    return self.nodes[int(name.removeprefix("n"))]
                except (TimeoutError, KeyError, ValueError):
                    await asyncio.sleep(0.1)

    async def healthy(self, connection: Connection, streams: list[str]) -> None:
        """Return once every stream has a leader, and all its followers are current.

        Raises:
            TimeoutError: This is not so within 60 s.
        """
        async with asyncio.timeout(60):
            for stream in streams:
                while not await self._is_current(connection, stream):
                    await asyncio.sleep(0.1)

    async def _is_current(self, connection: Connection, stream: str) -> bool:
        try:
            response = await connection.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=2)
        except TimeoutError:
            return False
        info: dict[str, Any] = msgspec.json.decode(response.payload)
        cluster = info.get("cluster") or {}
        replicas: list[dict[str, Any]] = cluster.get("replicas") or []
        return (
            bool(cluster.get("leader"))
            and len(replicas) == len(self.nodes) - 1
            and all(replica.get("current") and not replica.get("offline") for replica in replicas)
        )

    async def _wait_for_meta_leader(self) -> None:
        """Wait until the cluster can create streams."""
        connection = await Connection.connect(ConnectionOptions(url=self.url), name="chaos")
        async with connection, asyncio.timeout(30):
            while True:
                try:
                    response = await connection.request("$JS.API.INFO", b"", timeout=1)
                    if "error" not in msgspec.json.decode(response.payload):
                        return
                except Exception as error:  # noqa: BLE001 - any error means that the cluster is not ready yet
                    del error
                await asyncio.sleep(0.1)


def _cluster(number: int, routes: list[int]) -> str:
    others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    return (
        f"server_name: n{number}\n"
        f'cluster {{ name: chaos, listen: "127.0.0.1:{routes[number]}", routes: [{others}] }}\n'
        'lame_duck_duration: "30s"\nlame_duck_grace_period: "1s"'
    )
