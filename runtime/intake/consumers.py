"""The durable consumers of one actor: created, pulled from, checked, and their positions saved.

An actor has a consumer on the events stream of each actor that it reacts to, one for its timers, one for its commands by
`tell`, and one for its redriven dead letters. Each consumer has a `Puller`, which delivers to `Reactions` or to one of its subclasses. `Sources`
finds the streams of other actors, and `Durables` the consumers on the server. Two problems of a change of owners are
solved here, for actors with state:

- **A paused owner must not receive events that its successor needs.** The successor resets the consumer and then
  expects every event from there on (ADR 005). A pull request of the old owner that is still open would take events
  away. So a request expires on the server before the lease of its owner does: see `_REQUEST_EXPIRY`.
- **An event that ends its process must not do so for ever.** The position of a consumer has the deaths of former owners.
  After a death, `Watch` stores which events run, and runs those alone that ran at another death (ADR 012).
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from runtime.actor.handler import Handler
from runtime.errors import ActorError
from runtime.intake.assignment import Assignment
from runtime.intake.blame import used_attempts
from runtime.intake.durables import Durables
from runtime.intake.finished import unfinished
from runtime.intake.poison import PoisonCandidates
from runtime.intake.reactions import Reactions, event_subject
from runtime.intake.redrive import Redrives
from runtime.intake.sources import Sources
from runtime.intake.tells import Tells
from runtime.intake.timers import Timers
from runtime.intake.watch import Watch
from runtime.nats.jetstream.configs import SECOND, ConsumerConfig
from runtime.nats.jetstream.delivery import Delivery
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.nats.jetstream.puller import Puller
from runtime.nats.jetstream.responses import StreamInfo
from runtime.storage.positions import ConsumerPosition
from runtime.storage.streams import TIMERS
from runtime.telemetry import semconv
from runtime.turns.served import Served
from runtime.turns.turn import Turns

if TYPE_CHECKING:
    from runtime.intake.hand_on import HandOn

logger = logging.getLogger("actorloom.intake")

_ACK_WAIT = 30
"""Seconds after which the server delivers an unacknowledged event again, unless it is reported as in progress."""
_REQUEST_EXPIRY = 0.75
"""The fraction of a lease after which a pull request of its owner expires.

An owner renews its lease every quarter of the lease. If it is paused right after a pull request, its last renewal is at
most a quarter old, and the lease lasts for three quarters more. So the request has expired when a successor takes over.
With a later expiry, the server could still deliver an event to the paused owner, and the successor would miss it.
"""
_END_TIMEOUT = 2.0
"""Seconds that the positions may take at the end of a start that was cut short. The lease is released after that."""
_SHARED_REQUEST_EXPIRY = 3.0
"""Seconds after which a pull request of an actor without state expires. Its processes share their consumers."""


class _ActiveConsumer(NamedTuple):
    stream: str
    config: ConsumerConfig
    puller: Puller


class Consumers:
    """The durable consumers that one ownership pulls from, from `start` to `stop`.

    Args:
        served: The actor, its names and clients.
        turns: The turns that run the handlers.
        on_stored: Called with the sequence of each message that is stored in the turns stream for a position.
        is_owner: Returns whether this process owns the keys; for an actor without state, the checkpoint.
    """

    def __init__(
        self, served: Served, turns: Turns, on_stored: Callable[[int], None], is_owner: Callable[[], bool]
    ) -> None:
        self._served = served
        self._turns = turns
        self._on_stored = on_stored
        self._is_owner = is_owner
        self._active: list[_ActiveConsumer] = []
        self._candidates: list[PoisonCandidates] = []
        self._watches: dict[tuple[str, str], Watch] = {}
        self._left = True
        """False from the first position that names this owner until a drain has saved the positions."""
        self._check_now = asyncio.Event()
        self._since_warnings: list[str] = []
        self._durables = Durables(served, on_stored)
        self.positions = self._durables.positions
        self._hand_on = self._make_hand_on() if served.names.partition.total > 1 else None
        self.sources = Sources(served, self._react)
        """The streams of the actors whose events this one reacts to."""
        self.reactions: list[Reactions] = []
        """The receivers of the consumers, in the order of `pullers`."""

    def _make_hand_on(self) -> "HandOn":
        """Return what hands events on. An actor that is one whole starts without its modules."""
        from runtime.intake.hand_on import HandOn

        return HandOn(self._served, self._turns, self._durables.charge)

    @property
    def warnings(self) -> list[str]:
        """The reactions that wait, with the reason, and those whose `since` has changed without an effect."""
        return [*self.sources.waiting.values(), *self._since_warnings]

    @property
    def lag(self) -> dict[str, int]:
        """The messages that wait for the consumers of each stream or are in progress, at the last check."""
        return {stream: sum(tuple(waiting.values())) for stream, waiting in tuple(self._durables.lag.items())}

    @property
    def ownership(self) -> int:
        """The number of this ownership in this process."""
        return self._durables.ownership

    @property
    def pullers(self) -> list[Puller]:
        """The pullers of the consumers, in the order of their start."""
        return [active.puller for active in self._active]

    async def start(self) -> None:
        """Create the consumers that do not exist, and start pulling.

        Raises:
            ActorError: A consumer cannot be created or used.
            TimeoutError: The server does not answer.
        """
        served, turns = self._served, self._turns
        await self.sources.start()
        commands = list(served.actor.handlers.commands.values())
        names = served.names
        if commands:
            timers = Timers(served, turns, self._on_stored, self._is_owner)
            for handler in commands:
                timers.add_command(handler)
            await self._pull(timers, ConsumerConfig(durable=TIMERS, filter_subjects=(f"{names.own}.timer.>",)))
            served.consumes(names.tells_stream)
            tells = Tells(served, turns, self._on_stored)
            for handler in commands:
                tells.add_command(handler)
            await self._pull(tells, ConsumerConfig(durable=names.durable, filter_subjects=names.filters(names.told())))
        reacting = served.actor.handlers.all_reactions()
        if commands or reacting:
            redrives = Redrives(served, turns, [*reacting, *commands])
            filters = names.filters(names.redriven())
            await self._pull(redrives, ConsumerConfig(durable=names.redrive_durable, filter_subjects=filters))

    async def stop(self) -> None:
        """Stop pulling. Deliveries in hand stay in hand until their turns end."""
        if self._hand_on is not None:
            self._hand_on.stop()
        await self.sources.stop()
        await asyncio.gather(*(active.puller.stop() for active in self._active))
        for receiver in (*self._candidates, *self._watches.values()):
            receiver.stop()

    async def save_positions(self) -> None:
        """Save the position of every consumer without an owner: this owner shuts down cleanly.

        The caller has waited until nothing is in hand. A position that cannot be saved is logged.
        """
        results = await asyncio.gather(
            *(
                self._durables.save_without_owner(stream, config.durable, reactions.exits)
                for (stream, config, _), reactions in zip(self._active, self.reactions, strict=True)
            ),
            return_exceptions=True,
        )
        errors = [error for error in results if error is not None]
        for error in errors:
            logger.warning("%s: the position of a consumer could not be saved: %r", self._served.name, error)
        self._left = not errors

    async def end(self) -> None:
        """Store that this process lives, for the next owner, unless a drain has shown it. Called when no handler runs.

        Without it, the next owner would take the end of this ownership for the death of the process.
        """
        owns = self._turns.owns() and not self._turns.handed_over
        if any(reactions.exits for reactions in self.reactions) and owns and not self._left:
            # A start that was cut short is not drained.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_TIMEOUT):
                    await self.save_positions()
        for candidates in self._candidates:
            candidates.survived()
        if self._served.keyed and not self._left:
            self.positions.report_survival(self._served.holder, self._durables.ownership)

    async def wait_for_check(self, timeout: float) -> None:
        """Wait until the next `check` is due: after `timeout` seconds, or as soon as a consumer seems to be deleted."""
        try:
            async with asyncio.timeout(timeout):
                await self._check_now.wait()
        except TimeoutError:
            return
        self._check_now.clear()

    async def check(self) -> None:
        """Check that the consumers exist with their configuration, and save their positions.

        Raises:
            StreamChanged: A consumer was deleted or changed.
            ApiError: The server refuses to describe a consumer.
            TimeoutError: The server does not answer.
        """
        for stream, config, _ in tuple(self._active):
            await self._durables.check(stream, config)
            watch = self._watches.get((stream, config.durable))
            if watch is not None and (position := self.positions.get(stream, config.durable)) is not None:
                watch.update(position)

    async def _react(self, found: StreamInfo, source: str, handlers: list[Handler], waited_since: float | None) -> None:
        """Create the consumers of a source, and pull from them. Those that have started before stay as they are."""
        served, stream = self._served, found.config["name"]
        assignment = Assignment(served, stream, source, handlers)
        served.consumes(stream)
        started = {active.config.durable for active in self._active if active.stream == stream}
        for config, group in await assignment.make(found, waited_since):
            if config.durable in started:
                continue
            reactions = Reactions(served, self._turns, stream, config.durable)
            reactions.add_all([handler for handler in group if handler.takes_all])
            for contract in dict.fromkeys(handler.contract for handler in group if not handler.takes_all):
                name, subject = event_subject(contract, served.namespace, source)
                reactions.add(subject, name, [handler for handler in group if handler.contract is contract])
            await self._pull(reactions, config)
        self._since_warnings += assignment.warnings

    async def _pull(self, reactions: Reactions, config: ConsumerConfig) -> None:
        """Create a consumer if needed, and pull from it for `reactions`."""
        served, stream, durable = self._served, reactions.stream, config.durable
        config = msgspec.structs.replace(
            config, ack_wait=_ACK_WAIT * SECOND, max_ack_pending=served.options.in_hand + served.options.parked
        )
        self._left = False
        reactions.hand_on = self._hand_on
        position = await self._durables.ensure(stream, config, reactions.attempts()[0])
        expires = served.lease_ttl * _REQUEST_EXPIRY if served.keyed else _SHARED_REQUEST_EXPIRY
        puller = Puller(
            served.jetstream,
            stream,
            durable,
            unfinished(position, self._receiver(reactions, durable, position)),
            limit=served.options.in_hand,
            max_parked=served.options.parked,
            exclusive=served.keyed,
            expires=expires,
            heartbeat=expires / 3,
            on_error=self._on_error,
            on_scarce=self._park_slow_lanes,
            on_full=partial(self._on_full, stream),
        )
        await puller.start()
        self.reactions.append(reactions)
        self._active.append(_ActiveConsumer(stream, config, puller))

    def _receiver(self, reactions: Reactions, durable: str, position: ConsumerPosition) -> Callable[[Delivery], None]:
        """Return the function that receives deliveries: the reactions, or in front of them a `Watch` or `PoisonCandidates`.

        An actor with state needs a watch only after a death. For an actor without state, the server's count of deliveries
        shows a candidate, which may come at any time.
        """
        served = self._served
        if not served.keyed:
            candidates = PoisonCandidates(reactions, self._durables.positions, durable)
            self._candidates.append(candidates)
            return candidates.deliver
        suspects = used_attempts(position)
        if not suspects and not position.deaths:
            return reactions.deliver
        if suspects:
            logger.error(
                "%s: %d events of %s ran when a process ended: they run one at a time (sequences %s)",
                served.name, len(suspects), reactions.stream, ", ".join(map(str, sorted(suspects)[:10])),
            )  # fmt: skip
        else:
            logger.warning(
                "%s: %s ended with events of %s in hand: those up to %d are watched",
                served.name, position.deaths[-1].owner, reactions.stream, position.last_in_hand,
            )  # fmt: skip
        watch = self._watches[reactions.stream, durable] = Watch(reactions, self.positions, durable, position)
        return watch.deliver

    def _park_slow_lanes(self) -> None:
        self._turns.park_slow_lanes()
        if self._hand_on is not None:
            self._hand_on.park()

    def _on_full(self, stream: str) -> None:
        served = self._served
        served.tracer.counter(semconv.REACTIONS_STALLED, {semconv.STREAM_NAME: stream}).value += 1
        logger.error(
            "%s: the limit of parked events of %s is reached (parked = %d, or 64 MiB): they wait behind failing events. "
            "Few or no other events are fetched until one of these is done",
            served.name, stream, served.options.parked,
        )  # fmt: skip

    def _on_error(self, error: ActorError) -> None:
        logger.warning("%s: %s", self._served.name, error)
        if isinstance(error, ApiError) and error.err_code in (ErrorCode.CONSUMER_NOT_FOUND, ErrorCode.STREAM_NOT_FOUND):
            self._check_now.set()
