"""The CPU of a turn on a cluster of three nodes, which store each message three times. The rate on one machine shows nothing."""

import asyncio
import contextlib
import socket
import tempfile

from bench.process import cpu_of
from bench.suite import Suite, exchange
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer

NODES = 3
SETTING, CONTENDER = "turns, 3 nodes", "1 process, 8 partitions, 3 replicas"
_KEYS = 64
_PAUSE = 0.2
"""Seconds between two questions whether the cluster has a leader."""


async def run(suite: Suite) -> None:
    """Measure cheap turns: the CPU of the actor, and of all three nodes together."""
    task = suite.progress.add_task("scale, 3 nodes", total=1)
    async with contextlib.AsyncExitStack() as stack:
        nodes = await _nodes(stack)
        spec = {"url": ",".join(node.url for node in nodes), "namespace": "nodes"}
        actor = await suite.side("actorloom.scale:accounts", partitions=8, replicas=NODES, **spec)
        caller = await suite.side("actorloom.scale:caller", **spec)
        await caller.call("fill", first=0, count=_KEYS)
        before = sum(cpu_of(node.pid) for node in nodes)
        sample = await exchange(caller, actor, "deposits", in_flight=_KEYS, keys=_KEYS, seconds=8 * suite.seconds)()
        count = sample["rate"] * 8 * suite.seconds
        server = (sum(cpu_of(node.pid) for node in nodes) - before) * 1e6 / count
        suite.add_figures("scale", SETTING, CONTENDER, **{**sample, "server": server})
        await caller.stop()
        await actor.stop(30.0)
    suite.progress.advance(task)


async def _nodes(stack: contextlib.AsyncExitStack) -> list[EmbeddedServer]:
    """Start the nodes, and wait until they have a leader."""
    routes = _free_ports(NODES)
    addresses = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    nodes = []
    for number, port in enumerate(routes):
        store = stack.enter_context(tempfile.TemporaryDirectory(prefix="actorloom-bench-", ignore_cleanup_errors=True))
        config = (
            f'server_name: n{number}\ncluster {{ name: bench, listen: "127.0.0.1:{port}", routes: [{addresses}] }}\n'
        )
        nodes.append(EmbeddedServer(port=0, store_dir=store, config=config))
    await asyncio.gather(*(node.start() for node in nodes))
    for node in nodes:
        stack.push_async_callback(node.stop)
    async with (
        asyncio.timeout(60),
        await Connection.connect(ConnectionOptions(url=nodes[0].url), name="bench") as connection,
    ):
        answer = b""
        while not answer or b'"error"' in answer:
            with contextlib.suppress(TimeoutError):
                answer = (await connection.request("$JS.API.INFO", b"", timeout=1.0)).payload
            await asyncio.sleep(_PAUSE)
    return nodes


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
