"""The durable consumers of an actor on the server: created or found, checked, and their positions saved.

Two problems of a change of owners are solved here, for actors with state:

- **A deleted consumer must not start over.** The server creates a consumer at the start of its stream. Events older
  than the ids that the actor remembers would then take effect twice. The floor of each consumer is saved every few
  seconds, and a consumer that is created again continues there.
- **An event that ends its process must not do so for ever.** The reset of a consumer also resets the server's count of
  deliveries. So the position has the deaths of former owners, and the events that ran at each of them (`blame`).
"""

import logging
from collections.abc import Callable
from functools import partial
from itertools import count

import msgspec

from runtime.errors import ActorError
from runtime.intake.blame import exited, pruned, succeed, take_back
from runtime.nats.jetstream.configs import ConsumerConfig, update_consumer
from runtime.nats.jetstream.responses import ConsumerInfo
from runtime.storage.positions import ConsumerPosition, Positions
from runtime.storage.streams import StreamChanged, unless_missing
from runtime.turns.served import Served

logger = logging.getLogger("actorloom.intake")


_ownerships = count(1)
"""The numbers of the ownerships of all actors in this process."""


class Durables:
    """The consumers of one ownership, on the server.

    Args:
        served: The actor, its names and clients.
        on_stored: Called with the sequence of each message that is stored in the turns stream for a position.
    """

    def __init__(self, served: Served, on_stored: Callable[[int], None]) -> None:
        self._served = served
        self.ownership = next(_ownerships)
        """The number of this ownership in this process."""
        self.positions = Positions(served.jetstream, served.names, served.options.remember, on_stored)

        self.lag: dict[str, dict[str, int]] = {}
        """The messages that wait for each consumer or are in progress, by stream and consumer, at the last check."""

    async def ensure(self, stream: str, config: ConsumerConfig, attempts: int) -> ConsumerPosition:
        """Create or find a consumer. Return its position as this owner starts, which is saved for the next owner.

        Args:
            stream: The name of the stream.
            config: The configuration of the consumer.
            attempts: Attempts that the handlers of its events allow; if they differ, the smallest number.
        """
        served, durable = self._served, config.durable
        known = await self.positions.load(stream, durable)
        floor = 0
        if known is not None:
            # The start counts only if the consumer is created now, which means that it was deleted.
            floor = known.floor if known.stream_created == served.streams.created(stream) else 0
            config = msgspec.structs.replace(
                config, deliver_policy="by_start_sequence", opt_start_seq=floor + 1, opt_start_time=msgspec.UNSET
            )
        info = await served.jetstream.ensure_consumer(stream, config)
        if known is not None and known.created != info.created:
            logger.error("consumer %s/%s was deleted: it is created again after sequence %d", stream, durable, floor)
            # It may be somebody else's, or the server may have found the state of the deleted one.
            if floor > 0 and info.ack_floor.stream_seq <= floor:
                await served.jetstream.reset_consumer(stream, durable, floor + 1, found=info)
                info = await served.jetstream.consumer_info(stream, durable)
        self._note_lag(stream, durable, info)
        position = self._position(stream, info)
        if served.keyed:
            position = msgspec.structs.replace(position, owner=served.holder, ownership=self.ownership)
            if known is not None and known.stream_created == position.stream_created:
                position = await self._succeed(known, position, (stream, durable), info.delivered.stream_seq, attempts)
        await self._save(stream, durable, position)
        return position

    async def _succeed(
        self,
        known: ConsumerPosition,
        position: ConsumerPosition,
        consumer: tuple[str, str],
        delivered: int,
        attempts: int,
    ) -> ConsumerPosition:
        """Return `position` with the deaths of former owners."""
        survived = await self._survivals(known)
        running = await self.positions.running(*consumer) if known.owner else None
        return succeed(known, position, delivered, running, survived, attempts)

    async def _survivals(self, position: ConsumerPosition) -> Callable[[str, int], bool]:
        """Return a function that tells whether a process has survived an ownership of its own."""
        own = self._served.holder
        owners = {death.owner for death in position.deaths} | {position.owner} - {""}
        last = await self.positions.survived(owners - {own})
        return lambda owner, ownership: owner == own or last.get(owner, 0) >= ownership

    async def check(self, stream: str, config: ConsumerConfig) -> None:
        """Check that a consumer exists with its configuration, and save its position.

        Raises:
            StreamChanged: The consumer was deleted or changed.
            ApiError: The server refuses to describe the consumer.
            TimeoutError: The server does not answer.
        """
        served = self._served
        info = await unless_missing(partial(served.jetstream.consumer_info, stream, config.durable))
        if info is None:
            raise StreamChanged(f"consumer {stream}/{config.durable} was deleted")
        self._note_lag(stream, config.durable, info)
        known = self.positions.get(stream, config.durable)
        if known is not None and known.created != info.created:
            raise StreamChanged(f"consumer {stream}/{config.durable} was deleted and created again")
        # Processes that share a consumer may run different versions. The newest version has configured it.
        if served.keyed and update_consumer(config, info.config) is not None:
            raise StreamChanged(f"consumer {stream}/{config.durable} was changed: it has {info.config}")
        if known is not None:
            position = pruned(msgspec.structs.replace(known, floor=info.ack_floor.stream_seq))
            if position.deaths:
                position = pruned(take_back(position, await self._survivals(position)))
            await self._save(stream, config.durable, position)

    async def charge(self, stream: str, durable: str, sequence: int, used: int) -> None:
        """Store the attempts that an event has used which was handed on. Raises the errors of `JetStream`."""
        known = self.positions.get(stream, durable)
        if known is not None:
            await self.positions.save(stream, durable, exited(known, {sequence: used}))

    async def save_without_owner(self, stream: str, durable: str, exits: dict[int, int]) -> None:
        """Save the position of a consumer that its owner leaves by a drain. Raises the errors of `JetStream`.

        Args:
            stream: The name of the stream.
            durable: The name of the consumer.
            exits: The events that have asked for the end of the process: the attempts of each, by stream sequence.
        """
        info = await self._served.jetstream.consumer_info(stream, durable)
        position = self._position(stream, info)
        known = self.positions.get(stream, durable)
        if self._served.keyed and known is not None:
            position = msgspec.structs.replace(position, deaths=known.deaths, used=known.used, finished=known.finished)
            position = exited(position, exits)
        await self.positions.save(stream, durable, position)

    def _note_lag(self, stream: str, durable: str, info: ConsumerInfo) -> None:
        self.lag.setdefault(stream, {})[durable] = info.num_pending + info.num_ack_pending

    async def _save(self, stream: str, durable: str, position: ConsumerPosition) -> None:
        try:
            await self.positions.save(stream, durable, position)
        except (ActorError, TimeoutError) as error:
            # The stream may be full. The actor can still answer queries, so this is not a failure.
            logger.warning(
                "%s: the position of %s/%s could not be saved: %s", self._served.name, stream, durable, error
            )

    def _position(self, stream: str, info: ConsumerInfo) -> ConsumerPosition:
        return ConsumerPosition(self._served.streams.created(stream), info.created, info.ack_floor.stream_seq)
