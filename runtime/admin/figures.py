"""The figures of running services: rates by the difference of two looks, lag, dead letters and owners."""

import asyncio
from collections.abc import Iterable

import msgspec

from runtime.admin.discovery import Counters, Statistics, statistics
from runtime.admin.ownership import Ownership, read_ownership
from runtime.errors import ActorError
from runtime.nats.connection import Connection
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import ConsumerInfo
from runtime.wire.subjects import Names

_KEPT = 10
"""Looks for which the counters of an instance are kept that does not answer."""


class Rate(msgspec.Struct, frozen=True):
    """The requests that were answered between two looks."""

    name: str
    """The name of the operation; that of the service for all of its operations."""
    requests: float
    """Requests a second, those with an error included."""
    errors: float
    """Errors a second."""
    latency: float | None
    """Mean seconds from receipt to reply; None if there was no request."""


class Figures(msgspec.Struct, frozen=True):
    """The figures of a service, over all of its instances."""

    name: str
    namespace: str
    version: str
    instances: int
    total: Rate
    operations: list[Rate]
    """Each operation, the one with the most requests first."""
    waiting: int
    """Messages that wait to run in the memory of its processes: the mailboxes."""
    blocked: int
    """Keys whose first message waits for another attempt."""
    lag: int | None
    """Events that wait for its reactions in a stream, or are in progress; None if that cannot be read."""
    dead: int | None
    """Dead letters; None if they cannot be read."""
    keyed: bool
    ownership: Ownership | None
    """Who owns its keys; None for a service without state, or if that cannot be read."""


class _Seen(msgspec.Struct):
    """The counters of an instance at the last look that it has answered."""

    counters: dict[str, Counters]
    time: float
    look: int


class Watch:
    """Looks at the services again and again.

    Args:
        connection: The connection.
        namespace: The namespace of the services; empty for those of all namespaces.
    """

    def __init__(self, connection: Connection, namespace: str = "") -> None:
        self._connection = connection
        self._jetstream = JetStream(connection)
        self._namespace = namespace
        self._seen: dict[str, _Seen] = {}
        self._look = 0
        self._time = 0.0

    async def look(self) -> list[Figures]:
        """Return the figures of all services, sorted by namespace and name. The rates are those since the last look.

        At the first look, the rates are 0.

        Raises:
            PublishError: There is no connection.
        """
        self._look += 1
        groups: dict[tuple[str, str], list[Statistics]] = {}
        for instance in await statistics(self._connection):
            if not self._namespace or instance.metadata.namespace == self._namespace:
                groups.setdefault((instance.metadata.namespace, instance.name), []).append(instance)
        now = asyncio.get_running_loop().time()
        rates = {key: self._rates(key[1], instances, now) for key, instances in groups.items()}
        for identity in [each for each, seen in self._seen.items() if seen.look < self._look - _KEPT]:
            del self._seen[identity]
        self._time = now
        consumers: dict[str, list[ConsumerInfo] | None] = {}
        return [await self._figures(key, groups[key], *rates[key], consumers) for key in sorted(groups)]

    def _rates(self, name: str, instances: Iterable[Statistics], now: float) -> tuple[Rate, list[Rate]]:
        """Return the rates of a service and those of its operations, and keep the counters for the next look."""
        sums: dict[str, list[float]] = {}
        for instance in instances:
            seen = self._seen.get(instance.id)
            # An instance that was not there at the last look has started since then.
            since = seen.time if seen is not None else self._time
            for each in instance.operations:
                entry = sums.setdefault(each.name, [0.0, 0.0, 0.0])
                before = Counters(each.name) if seen is None else seen.counters.get(each.name, Counters(each.name))
                if self._look > 1 and now > since:
                    entry[0] += max(each.num_requests - before.num_requests, 0) / (now - since)
                    entry[1] += max(each.num_errors - before.num_errors, 0) / (now - since)
                    entry[2] += max(each.processing_time - before.processing_time, 0) / 1e9 / (now - since)
            self._seen[instance.id] = _Seen({each.name: each for each in instance.operations}, now, self._look)
        operations = [_rate(operation, *entry) for operation, entry in sums.items()]
        operations.sort(key=lambda each: (-each.requests, each.name))
        return _rate(name, *(sum(entry[place] for entry in sums.values()) for place in range(3))), operations

    async def _figures(
        self,
        key: tuple[str, str],
        instances: list[Statistics],
        total: Rate,
        operations: list[Rate],
        consumers: dict[str, list[ConsumerInfo] | None],
    ) -> Figures:
        namespace, name = key
        metadata = instances[0].metadata
        ownership = None
        if metadata.keyed:
            try:
                ownership = await read_ownership(self._jetstream, Names(name, namespace))
            except (ActorError, TimeoutError):
                ownership = None
        return Figures(
            name,
            namespace,
            max(each.version for each in instances),
            len(instances),
            total,
            operations,
            sum(each.data.get("waiting", 0) for each in instances),
            sum(each.data.get("blocked", 0) for each in instances),
            await self._lag(instances, namespace, consumers),
            await self._dead(Names(name, namespace)) if metadata.streams else None,
            metadata.keyed,
            ownership,
        )

    async def _lag(
        self, instances: list[Statistics], namespace: str, consumers: dict[str, list[ConsumerInfo] | None]
    ) -> int | None:
        """Return how many events wait for the reactions of a service. `consumers` has the consumers of each stream that is known."""
        names, lag = Names(instances[0].name, namespace), 0
        parts = names.partitions(instances[0].metadata.partitions)
        for stream in {reaction.stream for each in instances for reaction in each.metadata.reacts}:
            if stream not in consumers:
                try:
                    consumers[stream] = await self._jetstream.consumers(stream)
                except (ActorError, TimeoutError):
                    consumers[stream] = None
            found = consumers[stream]
            if found is None:
                return None
            for info in found:
                if any(part.consumer_suffix(stream, info.name) is not None for part in parts):
                    lag += info.num_pending + info.num_ack_pending
        return lag

    async def _dead(self, names: Names) -> int | None:
        try:
            info = await self._jetstream.find_stream(names.dead_stream, subjects=names.dead("*"))
        except (ActorError, TimeoutError):
            return None
        return None if info is None else sum(info.state.subjects.values())


def _rate(name: str, requests: float, errors: float, seconds: float) -> Rate:
    return Rate(name, requests, errors, seconds / requests if requests else None)
