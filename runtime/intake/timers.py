"""Fired timers: commands of an actor to itself, delivered from its turns stream and deleted when they are done.

A due timer is stored on ``<actor>.timer.<key>.<name>``. From there on, it is handled like an event:
in the lane of its key, with retries, and as a dead letter after the last attempt.

A schedule may fire faster than its command runs. Of its firings, one runs and at most one waits: the newest, which is also the
one that the stream keeps.
"""

import logging
from collections.abc import Callable
from typing import Any

from runtime.actor.handler import Handler
from runtime.errors import ActorError, CodecError, PublishError
from runtime.intake.event_work import Completion, EventWork, Trial
from runtime.intake.reactions import Reactions, stored_subject
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.delivery import Delivery
from runtime.storage.dead_letters import Failure
from runtime.storage.recurring import is_recurring, recurring_commands, take_back_recurring
from runtime.storage.schedules import firing_of
from runtime.storage.streams import TIMERS
from runtime.telemetry import semconv
from runtime.turns.jobs import Jobs
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.wire import header_block
from runtime.wire.fingerprint import fingerprint
from runtime.wire.ids import accept_id
from runtime.wire.tokens import key_token, readable_key, token_key

logger = logging.getLogger("actorloom.intake")


class Timers(Reactions):
    """Receives the fired timers of an actor.

    Args:
        served: The actor, its names and clients.
        turns: Runs the commands.
        on_stored: Called with the sequence of each fired timer: the server has stored it in the turns stream, and the
            checkpoint accounts for it.
        is_owner: Returns whether this process may take a schedule back that is declared no more.
    """

    def __init__(
        self, served: Served, turns: Turns, on_stored: Callable[[int], None], is_owner: Callable[[], bool]
    ) -> None:
        super().__init__(served, turns, served.names.turns_stream)
        self._on_stored = on_stored
        self._is_owner = is_owner
        self._clock = served.connection.clock
        found = recurring_commands(served.actor.handlers, served.options, served.names)
        self._recurring = {(each.token, each.name) for each in found}
        self._superseded = served.tracer.counter(semconv.TIMERS_SUPERSEDED, {})

    def deliver(self, delivery: Delivery, trial: Trial | None = None) -> None:
        """Put a fired timer into the lane of its key. Never raises. Arguments as in `Reactions.deliver`."""
        self._on_stored(delivery.stream_sequence)
        tokens = self.subject_of(delivery)[len(self.names.own) + 1 :].split(".")[1:]  # <actor>.timer.<key>.<name>
        if is_recurring(tokens) and (tokens[0], tokens[1]) not in self._recurring:
            self.turns.spawn(self._undeclared(delivery, tokens))
            return
        command = header_block.get(delivery.headers, header_block.TIMER_COMMAND) or ""
        route = self._routes.get(command)
        if route is None:
            self.turns.spawn(self._unknown_command(delivery, command, tokens))
            return
        route.consumed.value += 1
        completion = completion_of(route.handlers[0], delivery, self._jetstream, self.stream)
        work = self.make_work(route, route.handlers[0], completion, trial)
        timer_id = accept_id(header_block.get(delivery.headers, header_block.IDEMPOTENCY_KEY) or "")
        recurring = header_block.get(delivery.headers, header_block.TIMER_RECURRING)
        work.fired_at = time = delivery.time + self._clock.ahead
        if recurring is not None or timer_id is None:
            work.id_from_delivery = True
            firing = firing_of(self.names, timer_id, delivery.stream_sequence, time, recurring or "")
            timer_id, work.fired_at = firing
        work.id = timer_id
        work.timer = "".join(map(readable_key, tokens[1:2]))
        # By the name that the timer was stored with, so that a renamed command is the same use of the id.
        work.fingerprint = fingerprint(f"{self.names.actor}.{command}".encode(), delivery.payload)
        if self.is_exhausted(work, trial):
            return
        try:
            work.payload = delivery.payload
            work.message = work.handler.codec.decode(delivery.payload)
            work.key = timer_key(work.handler, work.message, tokens[:1])
            if not (recurring is not None and trial is None and self._supersede(work)):
                if type(completion) is JobCompletion:
                    completion.begin(self.turns.jobs, work)
                self.turns.admit(work, forced=True)
        except CodecError as error:
            self.turns.spawn(self.give_up(work, error))
        except BaseException as error:  # noqa: BLE001 - the types of a message may run code of the application
            self.unreadable(work, error)

    def subject_of(self, delivery: Delivery) -> str:
        """Return the subject of a timer, under which it is stored."""
        return stored_subject(delivery)

    def add_command(self, handler: Handler) -> None:
        """Handle the timers that send the command of `handler`."""
        name = handler.contract.name
        route = self.make_route(name, [handler], self.names.timer("{key}", "{name}"), TIMERS, command=name)
        for type_name in (handler.contract.type.__name__, *handler.contract.formerly):
            self._routes[type_name] = route

    async def _undeclared(self, delivery: Delivery, tokens: list[str]) -> None:
        """Drop a firing of a recurring command that is declared no more, or paused, and take its schedule back.

        Of an actor without state, an older version may run beside a newer one, and only the one that stores the schedules
        takes them back.
        """
        key, name = readable_key(tokens[0]), tokens[1]
        if not self._is_owner():
            delivery.nak(self.options.retry.longest)
            return
        try:
            await take_back_recurring(self._jetstream, self.names, tokens[0], name)
        except (ActorError, TimeoutError) as error:
            logger.info(
                "%s: the schedule %s of key %r cannot be taken back now: %s", self.names.actor, name, key, error
            )
            delivery.nak(self.options.retry.longest)
            return
        logger.info("%s: %s of key %r recurs no more: its schedule is taken back", self.names.actor, name[1:], key)
        DeletingCompletion(delivery, self._jetstream, self.stream).done()

    def _supersede(self, work: EventWork) -> bool:
        """Let a firing of a schedule take the place of an earlier one that waits. Return whether there is one.

        The earlier one is not in the stream any more, which keeps the newest firing only. If it ran instead of this one, and
        the process died before, nothing of both would be left.
        """
        lane = self.turns.keys.get(key_token(work.key)) if self.keyed else None
        if lane is None:
            return False
        for waiting in lane.waiting or ():
            if (
                type(waiting) is EventWork
                and waiting.id_from_delivery
                and waiting.timer == work.timer
                and isinstance(waiting.completion, DeletingCompletion)
                and waiting.completion.delivery.stream_sequence < work.completion.delivery.stream_sequence
                and (waiting.fired_at or 0.0) <= (work.fired_at or 0.0)
            ):
                self._superseded.value += 1
                waiting.take_over(work)
                if isinstance(waiting.completion, JobCompletion):
                    waiting.completion.begin(self.turns.jobs, waiting)
                if lane.blocked_until:
                    waiting.park()
                return True
        return False

    async def _unknown_command(self, delivery: Delivery, command: str, tokens: list[str]) -> None:
        """Give a timer back for later: a newer version of the actor may handle its command.

        A message that names no command is no timer of this package, and becomes a dead letter.
        """
        if not command:
            reason = "the message names no command"
            failure = Failure(reason, delivery.delivered, *self.origin(delivery), reaction="", id="")
            if await self.letters.store(self.stream, delivery, "unknown", failure):
                logger.error("%s: %s is a dead letter: %s", self.names.actor, failure.subject, reason)
                self.count_dead_letter()
                DeletingCompletion(delivery, self._jetstream, self.stream).dead_lettered("dead letter: no command")
                return
        key, name = (*map(readable_key, tokens), "", "")[:2]
        logger.error(
            "%s: timer %r of key %r sends the command %r, which this version does not handle; if the command was renamed, "
            "declare formerly=%r in the class line of the new one",
            *(self.names.actor, name, key, command, command),
        )
        delivery.nak(self.options.retry.longest)


def timer_key(handler: Handler, message: Any, tokens: list[str]) -> str:
    """Return the key under which a fired timer runs: that of its command.

    Args:
        handler: The handler of the command.
        message: The command.
        tokens: The token of the key that set the timer. It is the key of a long job whose command creates its key.

    Raises:
        CodecError: The command has no key, or the actor has a state and the subject no token.
    """
    if handler.key_of is not None:
        return handler.key_of(message)
    if not handler.keyed:
        return ""
    if not tokens:
        raise CodecError("the subject of the timer has no key")
    return token_key(tokens[0])


class DeletingCompletion(Completion):
    """Finishes the delivery of a timer or a command by `tell`, and deletes the message from the stream.

    The stream has no limit of age, and no other consumer reads it: a finished message would stay there forever.
    """

    __slots__ = ("_jetstream", "_stream")

    def __init__(self, delivery: Delivery, jetstream: JetStream, stream: str) -> None:
        super().__init__(delivery, 1)
        self._jetstream = jetstream
        self._stream = stream

    def done(self) -> None:
        """Finish a message that was handled."""
        super().done()
        self._delete()

    def dead_lettered(self, reason: str) -> None:
        """Finish a message that became a dead letter."""
        super().dead_lettered(reason)
        self._delete()

    def _delete(self) -> None:
        try:
            self._jetstream.delete_message_nowait(self._stream, self.delivery.stream_sequence)
        except PublishError as error:
            # Its acknowledgement was not sent either. So it is delivered again, and deleted then.
            logger.info("a message that is done is still stored: %s", error)


class EndOfJob(Completion):
    """The part of a completion that answers the cancellation of a long job. A subclass has the slots `_jobs` and `_work`."""

    __slots__ = ()

    _jobs: Jobs | None
    """None until the job enters the lane of its key."""
    _work: EventWork

    def begin(self, jobs: Jobs, work: EventWork) -> None:
        """Take note of the job, which is about to enter the lane of its key."""
        self._jobs, self._work = jobs, work
        jobs.add(work, key_token(work.key), {work.id, work.timer} - {""})

    def done(self) -> None:
        """Finish a job that was handled."""
        super().done()
        if self._jobs is not None:
            self._jobs.ended(self._work)

    def dead_lettered(self, reason: str) -> None:
        """Finish a job that became a dead letter."""
        super().dead_lettered(reason)
        if self._jobs is not None:
            self._jobs.ended(self._work)

    def give_back(self) -> None:
        """Give a job back."""
        super().give_back()
        if self._jobs is not None:
            self._jobs.ended(self._work, given_back=True)


class JobCompletion(EndOfJob, DeletingCompletion):
    """Finishes the delivery of a long job, and answers its cancellation."""

    __slots__ = ("_jobs", "_work")

    def __init__(self, delivery: Delivery, jetstream: JetStream, stream: str) -> None:
        super().__init__(delivery, jetstream, stream)
        self._jobs = None


def completion_of(handler: Handler, delivery: Delivery, jetstream: JetStream, stream: str) -> DeletingCompletion:
    """Return the completion of a command that was delivered from a stream."""
    kind = JobCompletion if handler.accept else DeletingCompletion
    return kind(delivery, jetstream, stream)
