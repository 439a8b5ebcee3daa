"""What a served pulls: the durable consumers of its reactions, its timers, and its dead letters that are sent again.

It also looks whether they still stand, and notes how far they are. One that was deleted is made anew at its last noted place:
from the start of the stream it would bring events that are older than the ids that are remembered.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from runtime.actor.handler import Handler
from runtime.errors import ActorError
from runtime.intake.poison import PoisonCandidates
from runtime.intake.reactions import Reactions, event_subject
from runtime.intake.redrive import Redrives
from runtime.intake.timers import Timers
from runtime.nats.jetstream.configs import SECOND, ConsumerConfig, update_consumer
from runtime.nats.jetstream.delivery import Delivery
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.nats.jetstream.puller import Puller
from runtime.nats.jetstream.responses import ConsumerInfo
from runtime.storage.positions import ConsumerPosition, Positions
from runtime.storage.streams import REDRIVE, TIMERS, StreamChanged, unless_missing
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.intake")

_ACK_WAIT = 30
"""Seconds after which the server gives an event to another process, unless it is reported in progress."""
_CRASHES = 3
"""Owners that may end in a row without a word, before what the first of them had in hand is suspected."""
_OUTLIVED = 0.75
"""The share of a lease for which a pull request lasts, renewals being a quarter apart: what the server sends to an owner that
was paused, it has sent before the next one resets the consumer. Later it would be missing there, and order with it."""


class _ActiveConsumer(NamedTuple):
    stream: str
    config: ConsumerConfig
    puller: Puller


class Consumers:
    """The durable consumers that one ownership pulls from, from `start` to `stop`."""

    def __init__(self, served: Served, turns: Turns, stored: Callable[[int], None]) -> None:
        self._served = served
        self._turns = turns
        self._active: list[_ActiveConsumer] = []
        self._candidates: list[PoisonCandidates] = []
        self._check_now = asyncio.Event()
        self.positions = Positions(served.jetstream, served.names, served.options.remember, stored)
        self.reactions: list[Reactions] = []

    @property
    def pullers(self) -> list[Puller]:
        """The pullers that `start` has started, in that order."""
        return [active.puller for active in self._active]

    async def start(self) -> None:
        """Create the consumers if needed, and start to pull."""
        served, turns = self._served, self._turns
        by_stream: dict[str, list[tuple[str, str, list[Handler]]]] = {}
        handlers: list[Handler] = []
        for event, reacting in served.actor.handlers.reactions.items():
            source, name, subject = event_subject(event, served.namespace)
            by_stream.setdefault(Names(source, served.namespace).events_stream, []).append((subject, name, reacting))
            handlers += reacting
        for stream, routes in by_stream.items():
            reactions = Reactions(served, turns, stream)
            for subject, name, reacting in routes:
                reactions.add(subject, name, reacting)
            await self._pull(reactions, served.name, tuple(f"{subject}.*" for subject, _, _ in routes))
        commands = list(served.actor.handlers.commands.values())
        own = f"{served.names.prefix}{served.name}"
        if commands:
            timers = Timers(served, turns, served.names.turns_stream)
            for handler in commands:
                timers.add_command(handler)
            await self._pull(timers, TIMERS, (f"{own}.timer.>",))
        if commands or handlers:
            await self._pull(Redrives(served, turns, [*handlers, *commands]), REDRIVE, (f"{own}.redrive.*",))

    async def stop(self) -> None:
        """Pull no more; what is in hand stays there until it is finished."""
        for active in self._active:
            await active.puller.stop()
        for candidates in self._candidates:
            candidates.stop()

    async def save_positions(self) -> None:
        """Note how far all is when nothing is in hand any more: this owner has ended in order."""

        async def save(stream: str, durable: str) -> None:
            info = await self._served.jetstream.consumer_info(stream, durable)
            await self._save_position(stream, durable, self._position(stream, info))

        ended = await asyncio.gather(
            *(save(stream, config.durable) for stream, config, _ in self._active), return_exceptions=True
        )
        for error in ended:
            if error is not None:
                logger.warning("%s: how far a consumer is could not be noted: %r", self._served.name, error)

    async def wait_for_check(self, timeout: float) -> None:
        """Return after `timeout` seconds, or as soon as a consumer seems to be gone: then it is time to `check`."""
        try:
            async with asyncio.timeout(timeout):
                await self._check_now.wait()
        except TimeoutError:
            return
        self._check_now.clear()

    async def check(self) -> None:
        """Look whether the consumers stand as they were made, and how far they are.

        Raises `StreamChanged` where one does not, and what `consumer_info` raises.
        """
        served = self._served
        for stream, config, _ in self._active:
            info = await unless_missing(partial(served.jetstream.consumer_info, stream, config.durable))
            if info is None:
                raise StreamChanged(f"consumer {stream}/{config.durable} was deleted")
            known = self.positions.get(stream, config.durable)
            if known is not None and known.created != info.created:
                raise StreamChanged(f"consumer {stream}/{config.durable} was deleted, and another was made")
            # Processes that share a consumer may be of different versions: the newest has set it.
            if served.keyed and update_consumer(config, info.config) is not None:
                raise StreamChanged(f"consumer {stream}/{config.durable} was changed: it has {info.config}")
            if known is not None:
                position = msgspec.structs.replace(known, floor=info.ack_floor.stream_seq)
                if position.floor >= position.last_in_flight:
                    position = msgspec.structs.replace(position, crashes=0, last_in_flight=0)
                await self._save_position(stream, config.durable, position)

    async def _pull(self, reactions: Reactions, durable: str, filters: tuple[str, ...]) -> None:
        served, stream = self._served, reactions.stream
        config = ConsumerConfig(
            durable=durable,
            filter_subjects=filters,
            ack_wait=_ACK_WAIT * SECOND,
            max_ack_pending=served.options.in_hand + served.options.parked,
        )
        position = await self._make(stream, config)
        expires = served.lease_ttl * _OUTLIVED if served.keyed else 3.0
        puller = Puller(
            served.jetstream,
            stream,
            durable,
            self._deliver(reactions, durable, position),
            limit=served.options.in_hand,
            max_parked=served.options.parked,
            exclusive=served.keyed,
            expires=expires,
            heartbeat=expires / 3,
            on_error=self._failed,
            on_scarce=self._turns.park_slow_lanes,
            on_full=partial(self._stalled, stream),
        )
        await puller.start()
        self.reactions.append(reactions)
        self._active.append(_ActiveConsumer(stream, config, puller))

    def _deliver(self, reactions: Reactions, durable: str, position: ConsumerPosition) -> Callable[[Delivery], None]:
        """Return what the puller is to call: the reactions, or what stands before them while there may be candidates."""
        served = self._served
        if served.keyed:
            if position.crashes < max(min(_CRASHES, served.options.retry.attempts - 1), 1):
                return reactions.deliver
            logger.error(
                "%s: %d processes in a row ended with events of %s in hand: those up to %d are tried one at a time",
                served.name, position.crashes, reactions.stream, position.last_in_flight,
            )  # fmt: skip
        candidates = PoisonCandidates(reactions, self.positions, durable, position.last_in_flight, position.crashes)
        self._candidates.append(candidates)
        return candidates.deliver

    async def _make(self, stream: str, config: ConsumerConfig) -> ConsumerPosition:
        """Make a consumer, or find it; return its place, noted for whoever comes after this owner."""
        served, durable = self._served, config.durable
        await served.jetstream.ensure_consumer(stream, config)
        # Asked for: the first answer to a creation after nats-server's restart has the time of the asking as `created`.
        info = await served.jetstream.consumer_info(stream, durable)
        known = await self.positions.load(stream, durable)
        if known is not None and known.created != info.created:
            floor = known.floor if known.stream_created == served.streams.created(stream) else 0
            logger.error("consumer %s/%s was deleted, and is made anew after sequence %d", stream, durable, floor)
            if info.ack_floor.stream_seq < floor:
                await served.jetstream.reset_consumer(stream, durable, floor + 1)
                info = await served.jetstream.consumer_info(stream, durable)
            known = None
        position = self._position(stream, info)
        if served.keyed:
            position = _owned(position, served.holder, known, info)
        await self._save_position(stream, durable, position)
        return position

    async def _save_position(self, stream: str, durable: str, position: ConsumerPosition) -> None:
        try:
            await self.positions.save(stream, durable, position)
        except (ActorError, TimeoutError) as error:
            # No room, perhaps: an actor that can answer queries does.
            logger.warning("%s: how far %s/%s is could not be noted: %s", self._served.name, stream, durable, error)

    def _position(self, stream: str, info: ConsumerInfo) -> ConsumerPosition:
        return ConsumerPosition(self._served.streams.created(stream), info.created, info.ack_floor.stream_seq)

    def _stalled(self, stream: str) -> None:
        served = self._served
        served.tracer.counter("actorloom.reactions.stalled", {"messaging.destination.name": stream}).value += 1
        logger.error(
            "%s: the limit of parked events of %s is reached (parked = %d, or 64 MiB): they wait behind events that fail; until "
            "one of these is done, the subscription fetches few events or none",
            served.name, stream, served.options.parked,
        )  # fmt: skip

    def _failed(self, error: ActorError) -> None:
        logger.warning("%s: %s", self._served.name, error)
        if isinstance(error, ApiError) and error.err_code in (ErrorCode.CONSUMER_NOT_FOUND, ErrorCode.STREAM_NOT_FOUND):
            self._check_now.set()


def _owned(
    position: ConsumerPosition, owner: str, known: ConsumerPosition | None, info: ConsumerInfo
) -> ConsumerPosition:
    """Return `position` as `owner` begins: with how many have ended before it, and what they had in hand."""
    crashes, last_in_flight = 0, 0
    if known is not None and known.owner and info.delivered.stream_seq > position.floor:
        if known.owner == owner:
            crashes, last_in_flight = known.crashes, known.last_in_flight
        elif position.floor < known.last_in_flight:
            crashes, last_in_flight = known.crashes + 1, known.last_in_flight
        else:
            crashes, last_in_flight = 1, info.delivered.stream_seq
    return msgspec.structs.replace(position, owner=owner, crashes=crashes, last_in_flight=last_in_flight)
