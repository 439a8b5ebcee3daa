"""The doctor's checks of services: their streams, consumers, dead letters and leases."""

from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec

from runtime.admin.doctor.finding import Finding, fail, ok, warn
from runtime.admin.doctor.owners import check_owners
from runtime.admin.doctor.records import check_records
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import StreamConfig, widen_stream
from runtime.nats.jetstream.domains import count_streams, name_domains, two_domains
from runtime.nats.jetstream.errors import ApiError, ErrorCode, StreamConflict
from runtime.nats.jetstream.responses import ConsumerInfo, StreamInfo
from runtime.storage.dead_letters import known_services
from runtime.storage.layout import Layouts, WrongLayout, layout_config
from runtime.storage.status import ProcessStatus, read_statuses
from runtime.storage.streams import (
    TIMERS,
    OldStream,
    dead_config,
    events_config,
    refuse_old,
    tells_config,
    turns_config,
)
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names, partition_in
from runtime.wire.tokens import readable_key

_LAG = 1000
"""Number of waiting messages from which on a consumer is reported as behind."""


_TIMERS = 10_000
"""Number of waiting timers, and of due ones, whose commands are checked. The others are younger."""


class RunningService(msgspec.Struct, frozen=True):
    """A service that answers, as discovery describes it."""

    name: str
    keyed: bool = True
    commands: bool = True
    """Whether it handles any commands. If so, it has consumers of timers and of commands by `tell`."""
    command_types: frozenset[str] = frozenset()
    """The names of the classes of its commands, former names included. Empty if they are not known."""
    sources: frozenset[str] = frozenset()
    """The services to whose events it reacts."""

    partitions: frozenset[int] = frozenset({1})
    """The numbers of partitions for which its processes are configured: one, if all agree."""

    def consumers(self, parts: Sequence[Names]) -> dict[str, list[str]]:
        """Return the names of the consumers of all partitions, by the stream without its prefix: ``orders-events``."""
        found = {f"{source}-events": [each.durable for each in parts] for source in sorted(self.sources)}
        if self.commands:
            found |= {each.turns_stream.removeprefix(each.stream_prefix): [TIMERS] for each in parts}
            found[f"{self.name}-tells"] = [each.durable for each in parts]
        if self.commands or self.sources:
            found[f"{self.name}-dead"] = [each.redrive_durable for each in parts]
        return found


async def check_services(
    jetstream: JetStream, *, namespace: str, replicas: int, running: Iterable[RunningService], probe: bool
) -> AsyncIterator[Finding]:
    """Check each service that runs or has run, and yield the findings. See `examine` for the arguments."""
    by_name = {service.name: service for service in running}
    names = sorted({*await known_services(jetstream, namespace), *by_name})
    if not names:
        yield ok("services", "no service has run here yet")
    for name in names:
        check = _ServiceCheck(jetstream, Names(name, namespace), replicas, by_name.get(name), probe)
        async for finding in check.findings():
            yield finding


class _ServiceCheck:
    """Checks one service."""

    def __init__(
        self, jetstream: JetStream, names: Names, replicas: int, running: RunningService | None, probe: bool
    ) -> None:
        self._jetstream = jetstream
        self._names = names
        self._replicas = replicas
        self._running = running
        self._probe = probe
        self._name = names.actor
        self._parts = [names]
        """The names of all partitions."""

    async def findings(self) -> AsyncIterator[Finding]:
        """Yield the findings about streams, records, consumers, dead letters and the owner of the keys."""
        healthy = True
        try:
            layout, _ = await Layouts(self._jetstream, self._names).find()
        except WrongLayout as error:
            yield fail(self._name, str(error))
            return
        self._parts = self._names.partitions(layout.partitions)
        configs = [turns_config(each, self._replicas) for each in self._parts]
        if layout.partitions > 1:
            configs.append(layout_config(self._names, self._replicas))
        configs += [events_config(self._names, self._replicas), dead_config(self._names, self._replicas)]
        if self._running is None or self._running.commands:
            configs.append(tells_config(self._names, self._replicas))
        for config in configs:
            async for finding in self._stream(config):
                healthy = False
                yield finding
        for finding in await check_records(self._jetstream, self._parts):
            healthy = False
            yield finding
        statuses = await read_statuses(self._jetstream, self._names)
        for finding in self._reports(statuses):
            healthy = False
            yield finding
        async for finding in self._consumers(statuses):
            healthy = False
            yield finding
        for findings in (self._timers(), self._letters()):
            async for finding in findings:
                healthy = False
                yield finding
        if (finding := await self._domains()) is not None:
            healthy = False
            yield finding
        owned = False
        async for finding in self._owners():
            owned = True
            yield finding
        if healthy and not owned:
            yield ok(self._name, "not running; its streams are in order")

    async def _stream(self, config: StreamConfig) -> AsyncIterator[Finding]:
        info = await self._jetstream.find_stream(config.name)
        if info is None:
            if self._running is not None:
                yield fail(self._name, f"stream {config.name} is missing", "it was deleted: see docs/operations.md")
            elif config.name in (each.turns_stream for each in self._parts):
                yield fail(self._name, f"stream {config.name} is missing", "its state was deleted: restore it")
            return
        try:
            changes = widen_stream(config, info.config)
        except StreamConflict as conflict:
            yield self._conflict(config, info, conflict)
        else:
            if changes is not None:
                fields = {key: info.config.get(key) for key in changes if changes[key] != info.config.get(key)}
                todo = "the service restores it when it starts, or by itself while it runs"
                yield warn(self._name, f"stream {config.name} was changed: it has {fields}", todo)
        for finding in (*self._room(config.name, info), *self._copies(config.name, info)):
            yield finding

    def _conflict(self, config: StreamConfig, info: StreamInfo, conflict: StreamConflict) -> Finding:
        if config.subject_transform:
            try:
                refuse_old(info.config, self._name)
            except OldStream as old:
                return fail(self._name, str(old))
        return fail(self._name, str(conflict))

    def _room(self, stream: str, info: StreamInfo) -> list[Finding]:
        most = info.config.get("max_bytes", -1)
        if most > 0 and info.state.bytes > 0.8 * most:
            todo = "raise its limit: if it is full, further messages wait or are refused"
            return [warn(self._name, f"stream {stream} is {info.state.bytes * 100 // most} % full", todo)]
        return []

    def _copies(self, stream: str, info: StreamInfo) -> list[Finding]:
        cluster = info.cluster
        if cluster is None or not cluster.name:
            return []
        found: list[Finding] = []
        if not cluster.leader:
            found.append(fail(self._name, f"stream {stream} has no leader", "most of its servers are down"))
        for peer in cluster.replicas:
            if peer.offline or not peer.current:
                state = "is offline" if peer.offline else f"is {peer.lag} behind"
                found.append(warn(self._name, f"stream {stream}: the copy on {peer.name} {state}"))
        if info.config.get("num_replicas", 1) == 1:
            todo = "`--replicas 3`, or by hand: `nats stream update --replicas 3`"
            found.append(warn(self._name, f"stream {stream} has one copy in a cluster", todo))
        return found

    def _reports(self, statuses: list[ProcessStatus]) -> list[Finding]:
        """Return what the processes of the service have reported themselves."""
        found: list[Finding] = []
        for status in statuses:
            process = f"process {status.pid} on {status.host}"
            found += [fail(self._name, f"{process} is not ready: {text}", "see its log") for text in status.problems]
            found += [warn(self._name, f"{process}: {text}") for text in status.warnings]
        return found

    async def _consumers(self, statuses: list[ProcessStatus]) -> AsyncIterator[Finding]:
        running = self._running
        if running is None:
            return
        for stream, durables in running.consumers(self._parts).items():
            full = f"{self._names.stream_prefix}{stream}"
            try:
                found = await self._jetstream.consumers(full)
            except ApiError as error:
                if error.err_code != ErrorCode.STREAM_NOT_FOUND:
                    yield fail(self._name, f"the consumers of {full} cannot be listed: {error}")
                elif not any(full in text for status in statuses for text in status.warnings):
                    todo = "start the service that creates it, or compare the namespaces and accounts"
                    yield warn(self._name, f"its reactions wait: there is no stream {full}", todo)
                continue
            for durable in durables:
                # A reaction that was added later, or that does not begin with the first event, has a consumer of its own.
                own = [each for each in found if _reaction_of(each.name, durable) is not None]
                if not own:
                    yield fail(self._name, f"consumer {full}/{durable} is missing", f"restart {self._name}")
                for info in own:
                    for finding in self._consumer(full, info, durable):
                        yield finding
            for finding in self._left_consumers(full, found, durables):
                yield finding

    def _consumer(self, stream: str, info: ConsumerInfo, durable: str) -> list[Finding]:
        label = f"consumer {stream}/{info.name}"
        if info.paused:
            return [warn(self._name, f"{label} is paused", f"`nats consumer resume {stream} {info.name}`")]
        if info.name != durable and info.num_pending and not info.num_waiting:
            text = f"{label} is not read: {info.num_pending} events wait for a reaction that was removed"
            return [warn(self._name, text, f"if it does not come back: `nats consumer rm {stream} {info.name}`")]
        if info.num_pending > _LAG:
            text = f"{label} is behind: {info.num_pending} messages wait, {info.num_ack_pending} are in progress"
            return [warn(self._name, text, "the service is slow or fails: see its log and /metrics")]
        return []

    def _left_consumers(self, stream: str, found: list[ConsumerInfo], durables: list[str]) -> list[Finding]:
        """Return a warning for the consumers of partitions that the service no longer has."""
        base = durables[0].partition("@")[0]
        left = [
            each.name
            for each in found
            if each.name.partition("@")[0] == base
            and all(_reaction_of(each.name, durable) is None for durable in durables)
        ]
        if not left:
            return []
        text = f"consumers of {stream} belong to another number of partitions: {', '.join(left[:3])}"
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        return [
            warn(self._name, text + more, f"once no repartition is under way: `nats consumer rm {stream} {left[0]}`")
        ]

    async def _timers(self) -> AsyncIterator[Finding]:
        """Yield a warning for each command that timers or `tell` send and the running service does not handle."""
        known = self._running.command_types if self._running is not None else frozenset[str]()
        if not known:
            return
        found: dict[str, list[str]] = {}
        for names in self._parts:
            for subjects in (names.timer("*", "*"), names.schedule("*", "*")):
                remaining = _TIMERS // len(self._parts)
                async for stored in self._jetstream.read(names.turns_stream, subjects):
                    remaining -= 1
                    if remaining < 0:
                        break
                    command = header_block.get(stored.headers, header_block.TIMER_COMMAND)
                    if command is not None and command not in known:
                        key, name = map(readable_key, stored.subject.rsplit(".", 2)[1:])
                        found.setdefault(command, []).append(f"{name!r} of key {key!r}")
        if await self._jetstream.find_stream(self._names.tells_stream) is not None:
            remaining = _TIMERS
            async for stored in self._jetstream.read(self._names.tells_stream, f"{self._names.told()}.*.*"):
                remaining -= 1
                if remaining < 0:
                    break
                command = header_block.get(stored.headers, header_block.TIMER_COMMAND)
                if command is not None and command not in known:
                    found.setdefault(command, []).append(
                        f"that of sequence {stored.sequence} in {self._names.tells_stream}"
                    )
        for command, timers in found.items():
            text = f"{len(timers)} timers or tells send {command!r}, which it does not handle; the first one is {timers[0]}"
            todo = f'if the command was renamed: formerly="{command}" in the class line of the new one'
            yield warn(self._name, text, todo)

    async def _letters(self) -> AsyncIterator[Finding]:
        subjects = self._names.dead("*")
        info = await self._jetstream.find_stream(self._names.dead_stream, subjects=subjects)
        if info is not None and (counts := info.state.subjects):
            prefix = self._names.dead("")
            letters = ", ".join(f"{count} {subject.removeprefix(prefix)}" for subject, count in sorted(counts.items()))
            todo = f"`actorloom dlq ls --service {self._name}`, then redrive or drop"
            yield warn(self._name, f"dead letters: {letters}", todo)

    async def _domains(self) -> Finding | None:
        connection, names = self._jetstream.connection, self._parts[0]
        if await count_streams(connection, names.turn("probe")) < 2:
            return None
        domains: list[str] = []
        if self._probe:
            domains = await name_domains(connection, names.dedup_entry("probe", new_id()))
        todo = f"delete the streams of {self._name} in the wrong domain (`nats --js-domain`)"
        return fail(self._name, two_domains(names.turn("*"), domains), todo)

    async def _owners(self) -> AsyncIterator[Finding]:
        running = self._running
        if running is not None and not running.keyed:
            yield ok(self._name, "running; it has no state, so its keys need no owner")
            return
        configured = running.partitions if running is not None else frozenset[int]()
        async for finding in check_owners(self._jetstream, self._names, configured):
            yield finding


def _reaction_of(consumer: str, durable: str) -> str | None:
    """Return the reaction that has a consumer of its own, "" for the consumer `durable` itself, or None for another one.

    ``orders@on_paid`` is that of a reaction of ``orders``; ``orders@p8-3`` is that of a partition.
    """
    if consumer == durable:
        return ""
    name = consumer.removeprefix(f"{durable}@")
    return None if name == consumer or partition_in(name.partition("@")[0]) is not None else name
