"""The durable consumers of an actor on the server: created or found, checked, and their positions saved.

Two problems of a change of owners are solved here, for actors with state:

- **A deleted consumer must not start over.** The server creates a consumer at the start of its stream. Events older
  than the ids that the actor remembers would then take effect twice. The floor of each consumer is saved every few
  seconds, and a consumer that is created again continues there.
- **An event that crashes its process must not do so for ever.** The reset of a consumer also resets the server's count
  of deliveries. So the position counts the owners in a row that crashed while the same events were in flight.
"""

import logging
from collections.abc import Callable
from functools import partial

import msgspec

from runtime.errors import ActorError
from runtime.nats.jetstream.configs import ConsumerConfig, update_consumer
from runtime.nats.jetstream.responses import ConsumerInfo
from runtime.storage.positions import ConsumerPosition, Positions
from runtime.storage.streams import StreamChanged, unless_missing
from runtime.turns.served import Served

logger = logging.getLogger("actorloom.intake")


class Durables:
    """The consumers of one ownership, on the server.

    Args:
        served: The actor, its names and clients.
        on_stored: Called with the sequence of each message that is stored in the turns stream for a position.
    """

    def __init__(self, served: Served, on_stored: Callable[[int], None]) -> None:
        self._served = served
        self.positions = Positions(served.jetstream, served.names, served.options.remember, on_stored)

    async def ensure(self, stream: str, config: ConsumerConfig) -> ConsumerPosition:
        """Create or find a consumer. Return its position as this owner starts, which is saved for the next owner."""
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
                await served.jetstream.reset_consumer(stream, durable, floor + 1)
                info = await served.jetstream.consumer_info(stream, durable)
            known = None
        position = self._position(stream, info)
        if served.keyed:
            position = _owned(position, served.holder, known, info)
        await self._save(stream, durable, position)
        return position

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
        known = self.positions.get(stream, config.durable)
        if known is not None and known.created != info.created:
            raise StreamChanged(f"consumer {stream}/{config.durable} was deleted and created again")
        # Processes that share a consumer may run different versions. The newest version has configured it.
        if served.keyed and update_consumer(config, info.config) is not None:
            raise StreamChanged(f"consumer {stream}/{config.durable} was changed: it has {info.config}")
        if known is not None:
            position = msgspec.structs.replace(known, floor=info.ack_floor.stream_seq)
            if position.floor >= position.last_in_flight:
                position = msgspec.structs.replace(position, crashes=0, last_in_flight=0)
            await self._save(stream, config.durable, position)

    async def save_without_owner(self, stream: str, durable: str) -> None:
        """Save the position of a consumer that its owner leaves cleanly. Raises the errors of `JetStream`."""
        info = await self._served.jetstream.consumer_info(stream, durable)
        await self._save(stream, durable, self._position(stream, info))

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


def _owned(
    position: ConsumerPosition, owner: str, known: ConsumerPosition | None, info: ConsumerInfo
) -> ConsumerPosition:
    """Return the position of a consumer as `owner` starts: with its name and the crashes before it.

    A saved position that still has an owner was not saved by a clean shutdown. If events were in flight then, its owner
    crashed on them, perhaps because of one of them. The first crash fixes the last event that was in flight. A later
    crash counts as one more in a row if the floor is still below that event; otherwise the events of the first crash
    are done, and counting starts again.

    Args:
        position: The current position.
        owner: The name of this process.
        known: The saved position; None if there is none for this consumer.
        info: The state of the consumer before its reset.
    """
    crashes, last_in_flight = 0, 0
    if known is not None and known.owner and info.delivered.stream_seq > position.floor:
        if known.owner == owner:  # Another ownership of the same process: it did not crash.
            crashes, last_in_flight = known.crashes, known.last_in_flight
        elif position.floor < known.last_in_flight:
            crashes, last_in_flight = known.crashes + 1, known.last_in_flight
        else:
            crashes, last_in_flight = 1, info.delivered.stream_seq
    return msgspec.structs.replace(position, owner=owner, crashes=crashes, last_in_flight=last_in_flight)
