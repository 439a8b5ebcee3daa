"""Which consumer each reaction has: the one that it shares with the other reactions of its actor, or one of its own.

The reactions of an actor's first start share one consumer for each stream, so that the events of a key come in order for all
of them. The metadata of that consumer names them. A reaction that is added later would find this consumer in the middle of
the stream. So it has a consumer of its own, ``<actor>@<reaction>``, which begins where its `since` says, as it would in a new
actor (ADR 015). The consumers of a partition are called ``<actor>@p8-3`` and ``<actor>@p8-3@<reaction>``. A reaction with another start than the first event always has a consumer of its own.

A reaction to events of any type always has a consumer of its own.

A method that reacts to several types of events is a reaction for each of them: ``on_change_order_paid``. If it reacted to this
type only before, or does so later, the reaction keeps its place, and what is stored under its other name (`Handler.alias`).

A reaction that is removed keeps its place: it leaves the shared consumer, and a consumer of its own is created at the place
of the shared one. If the reaction comes back, for example with an older version of the program, it continues there.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from runtime.actor.handler import Handler
from runtime.actor.since import FIRST, NEW
from runtime.intake.reactions import event_subject
from runtime.nats.jetstream.configs import ConsumerConfig
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.nats.jetstream.responses import ConsumerInfo, StreamInfo
from runtime.turns.served import Served

logger = logging.getLogger("actorloom.intake")

SHARED = "actorloom.reactions"
"""The metadata of a shared consumer: the subject of each reaction that shares it, by name."""
SINCE = "actorloom.since"
"""The metadata of a reaction's own consumer: the `since` with which it was created."""


_MOST_FILTERS = 512
"""Filters of a consumer. The server compares each with all others: it takes 0.2 s for so many, and 1.1 s for 1,280."""


class Assigned(NamedTuple):
    """A consumer and its reactions."""

    config: ConsumerConfig
    handlers: list[Handler]


class Assignment:
    """The consumers of one stream for the reactions of an actor.

    Args:
        served: The actor, its names and clients.
        stream: The name of the stream.
        source: The name of the actor whose events it has.
        handlers: The reactions to events of the stream.
    """

    def __init__(self, served: Served, stream: str, source: str, handlers: Sequence[Handler]) -> None:
        self.warnings: list[str] = []
        """The reactions whose `since` has changed, which has no effect."""
        self._served = served
        self._stream = stream
        self._handlers = {handler.name: handler for handler in handlers}
        self._subjects = {
            name: event_subject(each.contract, served.namespace, source)[1] for name, each in self._handlers.items()
        }

    async def make(self, found: StreamInfo, waited_since: float | None) -> list[Assigned]:
        """Return the consumers, the shared one first. None of them is created, but for those of removed reactions.

        Args:
            found: The stream.
            waited_since: The Unix time since which the reactions have waited for the stream; None if it was there.
        """
        shared = await self._find(self._served.names.durable)
        if shared is None:
            sharing = [name for name, each in self._handlers.items() if each.since == FIRST and not each.takes_all]
            # If somebody has deleted the shared consumer, some of these have a consumer of their own.
            sharing = [name for name in sharing if (await self._find_own(self._handlers[name]))[1] is None]
            covered = {name: self._subjects[name] for name in sharing}
        else:
            covered = self._renamed(self._covered(shared))
            sharing = [name for name, subject in covered.items() if self._subjects.get(name) == subject]
            if sharing:
                await self._keep_places(shared, covered)
        assigned: list[Assigned] = []
        if sharing:
            assigned.append(self._shared(shared, sharing))
            self._compare(sharing)
        for name, handler in self._handlers.items():
            if name not in sharing:
                assigned.append(await self._separate(handler, found, waited_since))
        return assigned

    def _covered(self, shared: ConsumerInfo) -> dict[str, str]:
        """Return the subjects of the reactions that share a consumer, by name. Without metadata, its filters decide."""
        stored = shared.config.get("metadata", {}).get(SHARED)
        if stored is not None:
            try:
                return msgspec.json.decode(stored, type=dict[str, str])
            except msgspec.DecodeError:
                logger.error("%s/%s: its metadata %s is unreadable", self._stream, shared.name, SHARED)
        filters = filters_of(shared)
        own = self._served.names.filters
        return {name: subject for name, subject in self._subjects.items() if not filters or own(subject)[0] in filters}

    def _renamed(self, covered: dict[str, str]) -> dict[str, str]:
        """Return the subjects that `_covered` returns, with the names that the reactions have now."""
        now = {
            handler.alias: name
            for name, handler in self._handlers.items()
            if handler.alias not in self._handlers
            and name not in covered
            and covered.get(handler.alias) == self._subjects[name]
        }
        return {now.get(name, name): subject for name, subject in covered.items()}

    async def _keep_places(self, shared: ConsumerInfo, covered: dict[str, str]) -> None:
        """Give each reaction that was removed a consumer of its own, at the place of the shared one."""
        for name, subject in covered.items():
            if self._subjects.get(name) == subject:
                continue
            if name in self._handlers:  # The method reacts to another type of events now.
                name = f"{name}_{subject.rpartition('.')[2]}"
            logger.warning(
                "%s: the reaction %s to %s is removed: its place is kept by the consumer %s",
                self._served.name, name, subject, self._own(name),
            )  # fmt: skip
            await self._served.jetstream.ensure_consumer(
                self._stream,
                ConsumerConfig(
                    durable=self._own(name),
                    filter_subjects=self._served.names.filters(subject),
                    deliver_policy="by_start_sequence",
                    opt_start_seq=shared.ack_floor.stream_seq + 1,
                    metadata={SINCE: FIRST},
                ),
            )

    def _shared(self, shared: ConsumerInfo | None, sharing: list[str]) -> Assigned:
        handlers = [self._handlers[name] for name in sharing]
        subjects = dict.fromkeys(self._subjects[name] for name in sharing)
        config = ConsumerConfig(durable=self._served.names.durable, filter_subjects=self._filters(subjects))
        if shared is None or SHARED in shared.config.get("metadata", {}):
            names = msgspec.json.encode({name: self._subjects[name] for name in sorted(sharing)}).decode()
            config = msgspec.structs.replace(config, metadata={SHARED: names})
        return Assigned(config, handlers)

    def _filters(self, subjects: Iterable[str]) -> tuple[str, ...]:
        """Return the filters for the events of some subjects. If they are too many, the consumer gets events of all types."""
        names = self._served.names
        filters = tuple(each for subject in subjects for each in names.filters(subject))
        if len(filters) <= _MOST_FILTERS:
            return filters
        head, _, _ = filters[0].rpartition(".event.")
        return names.filters(f"{head}.event.*")

    async def _separate(self, handler: Handler, found: StreamInfo, waited_since: float | None) -> Assigned:
        durable, own = await self._find_own(handler)
        config = ConsumerConfig(
            durable=durable,
            filter_subjects=self._served.names.filters(self._subjects[handler.name]),
        )
        if own is None:
            config = _started(config, handler.since, found, waited_since)
        else:
            self._warn(handler, own.config.get("metadata", {}).get(SINCE, handler.since))
        return Assigned(config, [handler])

    def _compare(self, sharing: list[str]) -> None:
        for name in sharing:
            self._warn(self._handlers[name], FIRST)

    def _warn(self, handler: Handler, began: str) -> None:
        if handler.since != began:
            text = f'{handler.name}: since="{handler.since}" has no effect: it has begun with since="{began}"'
            logger.warning("%s: %s", self._served.name, text)
            self.warnings.append(text)

    def _own(self, name: str) -> str:
        # No name of an actor has this character, so it is the consumer of no other actor.
        return f"{self._served.names.durable}@{name}"

    async def _find_own(self, handler: Handler) -> tuple[str, ConsumerInfo | None]:
        """Return the name of the consumer that a reaction has for itself, and the consumer, if it exists.

        It is under the name of the reaction or under its alias. One that is for another type of events is not touched.
        """
        free: list[str] = []
        for name in (handler.name, handler.alias):
            if name == handler.alias and name in self._handlers:
                continue
            own = await self._find(self._own(name))
            if own is None:
                free.append(self._own(name))
            elif all(each.rpartition(".event.")[2].startswith(f"{handler.contract.name}.") for each in filters_of(own)):
                return own.name, own
        return free[0] if free else self._own(handler.name), None

    async def _find(self, durable: str) -> ConsumerInfo | None:
        try:
            return await self._served.jetstream.consumer_info(self._stream, durable)
        except ApiError as error:
            if error.err_code == ErrorCode.CONSUMER_NOT_FOUND:
                return None
            raise


def filters_of(consumer: ConsumerInfo) -> set[str]:
    """Return the filters of a consumer, of which the server reports one alone in another field."""
    single = consumer.config.get("filter_subject")
    return {single} if single else set(consumer.config.get("filter_subjects") or ())


def _started(config: ConsumerConfig, since: str, found: StreamInfo, waited_since: float | None) -> ConsumerConfig:
    """Return `config` with the start of a reaction that has not run yet."""
    started = msgspec.structs.replace(config, metadata={SINCE: since})
    if since == FIRST:
        return started
    if since != NEW:
        return msgspec.structs.replace(started, deliver_policy="by_start_time", opt_start_time=since)
    if waited_since is not None:  # The reaction is older than the stream, or than its access to it.
        time = datetime.fromtimestamp(waited_since, UTC).replace(tzinfo=None).isoformat() + "Z"
        return msgspec.structs.replace(started, deliver_policy="by_start_time", opt_start_time=time)
    return msgspec.structs.replace(started, deliver_policy="by_start_sequence", opt_start_seq=found.state.last_seq + 1)
