"""Commands by `tell`, from other keys and actors, each with effect once, and in order for each key.

The sender stores it on ``<actor>.tell.<command>.<key>``, in a stream of the actor. It is handled like an event: in
the lane of its key, with retries, and as a dead letter after the last attempt. It is deleted from the stream when it is done.

A command that is not due yet is set aside as a timer of this actor, under a name that no other timer has.
"""

import logging
import math
from collections.abc import Callable

from runtime.actor.call import LONGEST_TELL
from runtime.actor.handler import Handler
from runtime.actor.message import NewKey
from runtime.clocks import YEAR
from runtime.errors import ActorError, CodecError, Forbidden, IdReused
from runtime.intake.event_work import EventWork, Trial
from runtime.intake.reactions import Reactions
from runtime.intake.timers import DeletingCompletion, JobCompletion, completion_of
from runtime.nats.jetstream.delivery import Delivery
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.schedules import told_headers, told_name
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.wire import header_block
from runtime.wire.buckets import partition_of
from runtime.wire.ids import accept_id, key_for
from runtime.wire.subjects import snake_case
from runtime.wire.tokens import NO_KEY, key_token

logger = logging.getLogger("actorloom.intake")


class Tells(Reactions):
    """Receives the commands that an actor gets by `tell`.

    Args:
        served: The actor, its names and clients.
        turns: Runs the commands.
        on_stored: Called with the sequence of each timer that is stored in the turns stream.
    """

    def __init__(self, served: Served, turns: Turns, on_stored: Callable[[int], None]) -> None:
        super().__init__(served, turns, served.names.tells_stream, served.names.durable)
        self._on_stored = on_stored
        self._clock = served.connection.clock

    def add_command(self, handler: Handler) -> None:
        """Handle a command."""
        name = handler.contract.name
        route = self.make_route(name, [handler], self.names.tell(name, "{key}"), self.durable)
        for known in (name, *map(snake_case, handler.contract.formerly)):
            self._routes[known] = route

    def deliver(self, delivery: Delivery, trial: Trial | None = None) -> None:
        """Put a command into the lane of its key. Never raises. Arguments as in `Reactions.deliver`."""
        name, _, _ = self.subject_of(delivery)[len(self.names.told("")) :].partition(".")
        route = self._routes.get(name)
        if route is None:
            self.turns.spawn(self._unknown_command(delivery, name))
            return
        route.consumed.value += 1
        handler = route.handlers[0]
        completion = completion_of(handler, delivery, self._jetstream, self.stream)
        work = self.make_work(route, handler, completion, trial)
        tell_id = accept_id(header_block.get(delivery.headers, header_block.IDEMPOTENCY_KEY) or "")
        work.id_from_delivery = tell_id is None
        work.id = tell_id or f"{self.stream}:{delivery.stream_sequence}"
        command = header_block.get(delivery.headers, header_block.TIMER_COMMAND) or handler.contract.type.__name__
        # As of a timer and of a request, so that the same command under the same id takes effect once.
        work.fingerprint = handler.fingerprint_of(f"{self.names.actor}.{command}".encode(), delivery.payload)
        if self.is_exhausted(work, trial):
            return
        try:
            if handler.internal:
                raise Forbidden(f"{self.subject_of(delivery)}: only timers of {self.names.actor} send this command")
            work.payload = delivery.payload
            work.message = handler.codec.decode(delivery.payload)
            work.key = told_key(handler, work.message, work.id)
            self._check_partition(work, delivery)
            due = self._due_time(delivery)
        except (CodecError, Forbidden) as error:
            self.turns.spawn(self.give_up(work, error))
            return
        except BaseException as error:  # noqa: BLE001 - the types of a message may run code of the application
            self.unreadable(work, error)
            return
        if due > self._clock.now() + self._clock.ahead:
            self.turns.spawn(self._set_aside(work, delivery, command, due))
        else:
            if type(completion) is JobCompletion:
                completion.begin(self.turns.jobs, work)
            self.turns.admit(work, forced=True)

    def _check_partition(self, work: EventWork, delivery: Delivery) -> None:
        """Raise `CodecError` if a command for a key of another partition was published with another key in its subject."""
        token, (total, own) = _token_of(work), self.names.partition
        if total > 1 and partition_of(token, total) != own:
            raise CodecError(
                f"{self.subject_of(delivery)}: the key of the command is {work.key!r}: publish it with {token!r}"
            )

    def _due_time(self, delivery: Delivery) -> float:
        """Return the time before which a command must not run, in Unix seconds; 0 if it has none.

        Raises `CodecError` for what is no time, and for one that the scheduler of the server cannot keep.
        """
        text = header_block.get(delivery.headers, header_block.DUE)
        if not text:
            return 0.0
        try:
            due = float(text)
        except ValueError:
            due = math.nan
        if not due - self._clock.now() - self._clock.ahead <= LONGEST_TELL + YEAR:
            raise CodecError(
                f"{self.subject_of(delivery)}: {header_block.DUE.decode()}: {text[:40]!r} is not a time in Unix seconds "
                "within the next hundred years"
            )
        return due

    async def _set_aside(self, work: EventWork, delivery: Delivery, command: str, due: float) -> None:
        """Store a command that is not due as a timer, and delete it from its stream."""
        names, name, token = self.names, told_name(work.id), _token_of(work)
        headers = told_headers(names, token, name, delivery.headers, command, work.id, due)
        try:
            try:
                ack = await self._jetstream.publish(names.schedule(token, name), delivery.payload, headers=headers)
                self._on_stored(ack.sequence)
            except WrongSequence:
                waiting = await self._jetstream.get_last(names.turns_stream, names.schedule(token, name))
                if waiting is None:
                    delivery.nak(self.options.retry.longest)  # It has fired meanwhile.
                    return
                if not self._is_same(waiting, work):
                    text = "the id was used for another message: use a new id for each command"
                    await self.give_up(work, IdReused(f"{self.subject_of(delivery)}: {text}"))
                    return
                logger.debug("%s: the command %s is set aside already", names.actor, work.id)
        except (ActorError, TimeoutError) as error:
            logger.warning(
                "%s: the command %s that is due later cannot be set aside now: %s", names.actor, work.id, error
            )
            delivery.nak(self.options.retry.longest)
            return
        finally:
            work.span.end()
        DeletingCompletion(delivery, self._jetstream, self.stream).done()

    def _is_same(self, waiting: StoredMessage, work: EventWork) -> bool:
        """Return whether the timer of a command that was set aside has the command of `work`."""
        command = header_block.get(waiting.headers, header_block.TIMER_COMMAND) or ""
        return (
            work.handler.fingerprint_of(f"{self.names.actor}.{command}".encode(), waiting.payload) == work.fingerprint
        )

    async def _unknown_command(self, delivery: Delivery, name: str) -> None:
        """Give a command back for later: a newer version of the actor may handle it."""
        logger.error(
            "%s: it is told the command %r, which this version does not handle; if the command was renamed, declare its former "
            "name with formerly=… in the class line of the new one",
            self.names.actor, name,
        )  # fmt: skip
        delivery.nak(self.options.retry.longest)


def told_key(handler: Handler, message: object, tell_id: str) -> str:
    """Return the key of a command; empty without one. Raises `CodecError` if it is no key."""
    if isinstance(handler.contract.key, NewKey):
        return key_for(tell_id)
    return handler.key_of(message) if handler.key_of is not None else ""


def _token_of(work: EventWork) -> str:
    """Return the key of a command as a subject token. A command may have an empty key, which is not the same as none."""
    return key_token(work.key) if work.key or work.handler.key_of is not None else NO_KEY
