"""The consumers of an actor for another layout: each begins where those of the former partitions are.

A consumer of a new partition begins at the first event that one of the former consumers of its keys has not finished. The
floor of a consumer lags behind if few events are of its keys, so that event is looked up in the stream. If partitions are
joined, some events behind it are finished. The position of the new consumer tells which (`ConsumerPosition.finished`).

A consumer that somebody has deleted has a position, after which its owner would create it again. So the owners of the new
partitions get such positions.

The position of a consumer keeps the deaths of former owners (ADR 012). A process that died as the owner is one more of them.
Its event is watched for at the next death; which events ran at this one is not carried over.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from runtime.admin.refusal import Refused
from runtime.errors import ConfigurationError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import ConsumerConfig
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.nats.jetstream.responses import ConsumerInfo, StreamInfo
from runtime.storage.leftovers import durables, event_streams, positions
from runtime.storage.positions import ConsumerPosition, Death, Positions
from runtime.storage.record_streams import sharing
from runtime.storage.streams import refuse_old
from runtime.wire.buckets import BUCKETS, partition_of
from runtime.wire.subjects import Names

_KEPT: Final = ("ack_wait", "max_deliver", "max_ack_pending", "inactive_threshold", "num_replicas", "mem_storage")
"""The settings that a new consumer has from a former one, besides its filters and its metadata."""


class _Former(NamedTuple):
    """The consumer of a former partition."""

    names: Names
    info: ConsumerInfo | None
    """None if somebody has deleted it. There is a position then."""
    position: ConsumerPosition | None
    floor: int
    """The sequence up to which all of its events are finished."""


class Consumers:
    """Creates the consumers of the new layout of one actor.

    Args:
        jetstream: The client.
        names: The names of the actor, as one whole.
        before: The number of partitions of the old layout.
        after: The number of partitions of the new one.
        require: Raises if the lease of the caller is lost; called before each change.
    """

    def __init__(
        self,
        jetstream: JetStream,
        names: Names,
        before: int,
        after: int,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        self._jetstream = jetstream
        self._require = require
        self._names = names
        self._old = names.partitions(before)
        self._new = names.partitions(after)

    async def find(self) -> list[tuple[str, str]]:
        """Return the stream, and the rest of the name after that of the partition, of each consumer that is not deleted."""
        found: set[tuple[str, str]] = set()
        for stream in await event_streams(self._jetstream, self._old, self._names):
            for durable in await durables(self._jetstream, stream):
                suffixes = [old.consumer_suffix(stream, durable) for old in self._old]
                found |= {(stream, suffix) for suffix in suffixes if suffix is not None}
        return sorted(found)

    async def _find_all(self) -> list[tuple[str, str]]:
        """Return what `find` does, and those of which only a position is left."""
        found = set(await self.find())
        for old in self._old:
            async for stream, durable in positions(self._jetstream, old):
                suffix = old.consumer_suffix(stream, durable)
                found |= {(stream, suffix)} if suffix is not None else set()
        return sorted(found)

    async def refuse_old(self) -> None:
        """Raise `OldStream` if an earlier version has created one of the streams: its events have no buckets."""
        names = self._names
        for stream in {names.events_stream, names.dead_stream, *dict(await self.find())}:
            found = await self._jetstream.find_stream(stream)
            if found is not None:
                refuse_old(found.config, stream.removeprefix(names.stream_prefix).rpartition("-")[0])

    async def create(self) -> int:
        """Create all consumers, and store their positions. Those that an earlier attempt has left are deleted first.

        Return the number of consumers.

        Raises:
            Refused: A former partition has no consumer, so it is not known where the new one begins.
            ActorError, TimeoutError: The server refuses it, or does not answer.
        """
        await self.remove()
        created = 0
        for stream, suffix in await self._find_all():
            info = await self._jetstream.find_stream(stream)
            if info is None:
                continue  # It was deleted. A position is good for one stream only.
            former = [await self._former(old, stream, suffix, info) for old in self._old]
            for new in self._new:
                sources = [former[number] for number in sharing(new.partition, len(self._old))]
                known = [each for each in sources if each is not None]
                if len(known) == len(sources):
                    await self._create(new, stream, suffix, known, info.created)
                    created += 1
                elif known:
                    missing = sources.index(None) * len(self._new) + new.partition.number
                    raise Refused(
                        f"partition {missing} of {self._names.actor} has no consumer of {stream}, and others have: start the "
                        f"actor with {len(self._old)} partitions, and stop it again"
                    )
        return created

    async def remove(self) -> None:
        """Delete all consumers of the new layout."""
        for stream in await event_streams(self._jetstream, self._old, self._names):
            for durable in await durables(self._jetstream, stream):
                if any(new.consumer_suffix(stream, durable) is not None for new in self._new):
                    self._require()
                    await self._jetstream.delete_consumer(stream, durable)

    async def _former(self, old: Names, stream: str, suffix: str, found: StreamInfo) -> _Former | None:
        """Return the consumer of a former partition; None if it has none, and no position that counts."""
        durable, last = _durable(old, stream, suffix), found.state.last_seq
        position = await Positions(self._jetstream, old, 1, lambda sequence: None).load(stream, durable)
        try:
            info = await self._jetstream.consumer_info(stream, durable)
        except ApiError as error:
            if error.err_code != ErrorCode.CONSUMER_NOT_FOUND:
                raise
            if position is None or position.stream_created != found.created:
                return None
            return _Former(old, None, position, position.floor)
        floor = info.ack_floor.stream_seq
        if len(self._old) > len(self._new):
            floor = await self._finished(stream, _filters(info), floor, last)
        return _Former(old, info, position, floor)

    async def _finished(self, stream: str, filters: list[str], floor: int, last: int) -> int:
        """Return the sequence in front of the first event that a consumer has not finished; `last` if there is none."""
        first = last + 1
        for each in filters:
            stored = await self._jetstream.get_next(stream, each, floor + 1)
            first = min(first, stored.sequence) if stored is not None else first
        return first - 1

    async def _create(self, new: Names, stream: str, suffix: str, former: list[_Former], created: str) -> None:
        """Create a consumer, and store its position. If none of the former ones is left, only the position is stored."""
        floor = min(each.floor for each in former)
        model = next((each.info for each in former if each.info is not None), None)
        made = "" if model is None else await self._create_like(model, new, stream, suffix, floor)
        deaths, used = await self._blame(new, stream, former, created)
        finished = _finished_by_bucket(new, former, created)
        if max(finished) <= floor:
            finished = ()
        position = ConsumerPosition(created, made, floor, deaths=deaths, used=used, finished=finished)
        self._require()
        subject = new.position(stream, _durable(new, stream, suffix))
        await self._jetstream.publish(subject, msgspec.json.encode(position))

    async def _create_like(self, model: ConsumerInfo, new: Names, stream: str, suffix: str, floor: int) -> str:
        """Create a consumer behind `floor` with the settings of a former one. Return its creation time."""
        have = model.config
        heads = dict.fromkeys(each.rsplit(".", 2)[0] for each in _filters(model))
        kept: dict[str, Any] = {field: have[field] for field in _KEPT if have.get(field)}
        metadata = {name: text for name, text in (have.get("metadata") or {}).items() if not name.startswith("_nats.")}
        config = ConsumerConfig(
            durable=_durable(new, stream, suffix),
            filter_subjects=tuple(subject for head in heads for subject in new.filters(head)),
            deliver_policy="by_start_sequence",
            opt_start_seq=floor + 1,
            **({"metadata": metadata} if metadata else {}),
            **kept,
        )
        self._require()
        return (await self._jetstream.ensure_consumer(stream, config)).created

    async def _blame(
        self, new: Names, stream: str, former: list[_Former], created: str
    ) -> tuple[tuple[Death, ...], tuple[tuple[int, int], ...]]:
        """Return the deaths of former owners, and the attempts that events of this partition have used otherwise."""
        deaths: list[Death] = []
        used: list[tuple[int, int]] = []
        for names, info, position, floor in former:
            if position is None or position.stream_created != created:
                continue
            survived = await self._survivals(names, position)
            for death in position.deaths:
                if survived(death.owner, death.ownership):
                    continue
                charged = await self._own(new, stream, death.charged)
                deaths.append(msgspec.structs.replace(death, charged=charged))
            used += await self._own(new, stream, position.used)
            delivered = 0 if info is None else info.delivered.stream_seq
            if position.owner and delivered > floor and not survived(position.owner, position.ownership):
                deaths.append(Death(position.owner, position.ownership, delivered))
        return tuple(deaths), tuple(used)

    async def _own(self, new: Names, stream: str, attempts: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """Return those of some events, by sequence, that belong to a new partition."""
        own: list[tuple[int, int]] = []
        for sequence, count in attempts:
            stored = await self._jetstream.get(stream, sequence)
            if stored is not None:
                token = stored.subject.rpartition(".")[2]
                if partition_of(token, new.partition.total) == new.partition.number:
                    own.append((sequence, count))
        return tuple(own)

    async def _survivals(self, names: Names, position: ConsumerPosition) -> Callable[[str, int], bool]:
        """Return a function that tells whether a process has survived an ownership of a former partition.

        The stream of one partition tells nothing about another one, so survivals are not copied: they count here.
        """
        owners = {death.owner for death in position.deaths} | {position.owner} - {""}
        last = await Positions(self._jetstream, names, 1, lambda sequence: None).survived(owners)
        return lambda owner, ownership: last.get(owner, 0) >= ownership


def _finished_by_bucket(new: Names, former: list[_Former], created: str) -> tuple[int, ...]:
    """Return the sequence up to which the events of each bucket are finished; 0 for a bucket of another partition."""
    finished = [0] * BUCKETS
    for names, _, position, floor in former:
        known = position.finished if position is not None and position.stream_created == created else ()
        for bucket in set(names.partition.buckets) & set(new.partition.buckets):
            finished[bucket] = max(floor, known[bucket] if known else 0)
    return tuple(finished)


def _durable(names: Names, stream: str, suffix: str) -> str:
    return (names.redrive_durable if stream == names.dead_stream else names.durable) + suffix


def _filters(info: ConsumerInfo) -> list[str]:
    """Return the filters of a consumer. Raises `ConfigurationError` if it has none: it is not one of this package."""
    single = info.config.get("filter_subject")
    filters: list[str] = [single] if single else info.config.get("filter_subjects") or []
    if not filters:
        raise ConfigurationError(
            f"consumer {info.stream_name}/{info.name} has no filter: no version of this package made it"
        )
    return filters
