"""The actors of a test as one process: it can crash, and start again, while the process of the test goes on."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final

import msgspec

from runtime.actor.base import Actor
from runtime.errors import ActorError
from runtime.host.host import Host
from runtime.host.process import Runner, serving
from runtime.nats.connection import Connection, ConnectionOptions, NoResponders
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.lease import Lease
from runtime.telemetry import Tracing
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE
from runtime.wire.server_clock import ServerClock
from runtime.wire.subjects import Names

_EXPIRED: Final = [("Nats-Marker-Reason", "MaxAge"), ("KV-Operation", "PURGE")]
"""The headers of the server's marker of an expired entry, and one by which standbys look at once."""


_LOOK: Final = 0.02
"""Seconds of one look whether the server has noticed the end of a connection."""
_LOOKS: Final = 100
"""The number of these looks."""


class _Crashed(Exception):
    """Ends the block of `serving` without a drain."""


class Process:
    """Runs actors over a connection of their own.

    Args:
        actors: The classes of the actors.
        options: The address of the server.
        tracing: The receiver of spans and metrics.
        settings: The arguments of `serving`.
        clock: The clock of the server, which outlives the connection. None: that of the connection.
    """

    def __init__(
        self,
        actors: Sequence[type[Actor[Any]]],
        options: ConnectionOptions,
        tracing: Tracing,
        settings: dict[str, Any],
        clock: ServerClock | None,
    ) -> None:
        self.actors = actors
        self._options = options
        self._tracing = tracing
        self._settings = settings
        self._clock = clock
        self._block: AbstractAsyncContextManager[Runner] | None = None
        self._runner: Runner | None = None
        self._connection: Connection | None = None

    @property
    def alive(self) -> bool:
        """Whether the actors run."""
        return self._block is not None

    @property
    def runner(self) -> Runner:
        """The newest `Runner`."""
        assert self._runner is not None, "the process has not started"
        return self._runner

    @property
    def names(self) -> list[Names]:
        """The names of each partition of each actor."""
        return [owner.served.names for host in self.runner.hosts for owner in host.owners]

    async def start(self) -> None:
        """Start the actors, and return when they are served. Raises the errors of `serving`."""
        self._connection = connection = await Connection.connect(self._options, name="test")
        if self._clock is not None:
            connection.clock = self._clock
        block = serving(self.actors, connection, self._tracing, **self._settings)
        self._runner = await block.__aenter__()
        self._block = block

    async def crash(self, client: Connection) -> None:
        """End the actors as SIGKILL ends a process: nothing leaves it any more, and no lease is given back.

        Handlers that run are cancelled. `on_stop` does not run. The call returns when the server has noticed the end.

        Args:
            client: A connection that is not that of the actors.
        """
        if self._block is None or self._connection is None:
            return
        block, self._block = self._block, None
        for host in self.runner.hosts:
            host.hooks.stop = _nothing
            for lease in _leases(host):
                lease.end()
        await self._connection.abort()
        crashed = _Crashed()
        try:
            await block.__aexit__(_Crashed, crashed, None)
        except _Crashed as error:
            if error is not crashed:
                raise
        await _unheard(client, self._connection.inbox.replace("*", "end"))

    async def restart(self, jetstream: JetStream) -> None:
        """Start the actors again after a crash. The leases of the former owner expire now.

        Args:
            jetstream: A client that is not that of the actors.
        """
        holders = {host.holder for host in self.runner.hosts}
        for bucket in {names.lease_bucket for names in self.names}:
            await _expire(jetstream, bucket, holders)
        await self.start()

    async def __aenter__(self) -> "Process":
        try:
            await self.start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, self._block = self._block, None
        try:
            if block is not None:
                await block.__aexit__(kind, error, trace)
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


def _leases(host: Host) -> list[Lease]:
    """Return the leases that a host holds or waits for."""
    found = [owner._lease for owner in host.owners]
    return [each for each in (*found, *(serving._checkpoint_lease for serving in host.serving)) if each is not None]


async def _nothing() -> None:
    """Stand in for `on_stop` in a crash."""


async def _unheard(client: Connection, subject: str) -> None:
    """Return when the server knows of no subscription to `subject`. Until then it would route requests to a dead process."""
    for _ in range(_LOOKS):
        try:
            await client.request(subject, b"", timeout=_LOOK)
        except NoResponders:
            return
        except (ActorError, TimeoutError):
            await asyncio.sleep(0)


async def _expire(jetstream: JetStream, bucket: str, holders: set[str]) -> None:
    """Let the entries of holders expire before their time, with the marker that the server leaves."""
    stream, prefix = f"KV_{bucket}", f"$KV.{bucket}."
    info = await jetstream.find_stream(stream, subjects=f"{prefix}>")
    for subject in info.state.subjects if info is not None else ():
        stored = await jetstream.get_last(stream, subject)
        if stored is None or _holder(stored.payload) not in holders:
            continue
        expected = (header_block.EXPECTED_SEQUENCE.decode(), str(stored.sequence))
        try:
            await jetstream.publish(subject, b"", headers=header_block.encode([*_EXPIRED, expected]))
        except WrongSequence:
            continue  # A standby has it already.


def _holder(payload: bytes) -> str | None:
    """Return the holder that a lease, or the entry of a member, names."""
    try:
        return msgspec.json.decode(payload, type=dict[str, Any]).get("holder")
    except UNDECODABLE:
        return None
