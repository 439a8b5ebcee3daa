"""Commands: from the read loop to the lane of their key, and the reply after the commit."""

import time
from copy import copy
from typing import Any

import msgspec

from runtime.actor.call import TurnCall, check_depth, link
from runtime.actor.handler import Handler
from runtime.actor.message import Accepted, NewKey
from runtime.actor.outcome import Outcome
from runtime.actor.timer import Timer
from runtime.errors import CallCycle, CodecError, DeadlineExceeded, Forbidden, InvalidMessage, RequestError
from runtime.intake.context import Context
from runtime.intake.endpoint import Endpoint, logger
from runtime.storage.record import Handled
from runtime.telemetry import LeanSpan, semconv
from runtime.turns.work import Work
from runtime.wire.buckets import partition_of
from runtime.wire.codec import JSON, Codec, Format, encode, format_of
from runtime.wire.envelope import read
from runtime.wire.fingerprint import changed_fields, derived_fingerprint, fingerprint, is_other_run
from runtime.wire.ids import MAX_ID, accept_id, is_derived, key_for, new_id
from runtime.wire.replies import invalid_message
from runtime.wire.tokens import key_token


class CommandWork(Work, kw_only=True, eq=False):
    """A command on its way through a turn. The end of the turn sends its reply."""

    endpoint: "CommandEndpoint"
    reply: bytes
    received_ns: int
    """Unix nanoseconds at which the command was received."""
    format: Format = JSON
    payload: bytes = b""
    """The body as received."""

    @property
    def awaited(self) -> bool:
        """Whether somebody may wait for its reply."""
        return True

    def decode_again(self) -> Any:
        """Return the message as it was received. That of a long job is only stored here, and not changed."""
        handler = self.endpoint.handler
        return self.message if handler.accept else handler.codec.decode(self.payload, self.format)

    def repeats(self, handled: Handled) -> bool:
        """Return whether this is the command that was handled under its id, or a derived command that was sent again.

        A handler that runs again may send another body, with the time in it for example. Its command gets the first reply,
        for it was executed; the difference is logged and counted.
        """
        if super().repeats(handled):
            return True
        if not is_other_run(handled.fingerprint, self.fingerprint):
            return False
        self.endpoint.report_changed(self, changed_fields(handled.fingerprint, self.payload))
        return True

    def pack(self, outcome: Outcome) -> Outcome:
        """Return the outcome with the reply in the format of the command: JSON as it is, other bytes as a string of base64.

        A repeated command has the same body, and so the same format. Its reply must have the same bytes: JSON cannot tell
        a text from bytes or a time.
        """
        if self.format is JSON:
            return outcome
        reply = self.handler.result.encode_in(self.format, outcome.value)
        return msgspec.structs.replace(outcome, reply=encode(reply))

    def succeeded(self, reply: msgspec.Raw, repeated: bool) -> None:
        """Answer with the stored reply."""
        if repeated:
            self.stored = True
            if self.span.is_recording():
                self.span.add_event("turn.repeated", {"actorloom.message.id": self.id})
        self.endpoint.answer(self, bytes(reply) if self.format is JSON else _unpack(reply))

    def overrun(self, reason: str) -> Exception:
        """Return the answer if the handler is cut: nothing of it is committed."""
        return DeadlineExceeded(f"{self.endpoint.subject}: the handler was cut at {reason}", executed=False)

    async def failed(self, error: BaseException) -> None:
        """Answer with the error. A command is not retried here: its caller decides."""
        self.endpoint.answer_error(self, error)

    def abandon(self) -> None:
        """Answer that the command was not executed, or that its outcome is unknown."""
        stopping: RequestError = self.endpoint.stopping_error()
        if self.executed is not False:
            stopping = DeadlineExceeded(f"{self.endpoint.subject}: the outcome is unknown: the service is stopping")
        self.endpoint.answer_error(self, stopping)


class CommandEndpoint(Endpoint):
    """Receives the commands of one subject."""

    def __init__(self, context: Context, handler: Handler) -> None:
        super().__init__(context, handler)
        self._turn_handler = accepting(handler) if handler.accept else handler
        """The handler that runs in the turn. For a long job, it is the one that accepts the job."""
        self._clock = context.served.connection.clock
        self._changed = context.served.tracer.counter(semconv.COMMANDS_CHANGED, {})
        partitioned = context.served.names.partition.total > 1
        self._makes_own_key = partitioned and isinstance(handler.contract.key, NewKey)

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Decode a command and put it into the lane of its key. Called from the read loop; never raises."""
        if not reply.startswith(self._inboxes):
            self.drop(reply)
            return
        span = self.template.receive(block)
        received_ns = span.started if type(span) is LeanSpan else time.time_ns()
        work = CommandWork(
            self._turn_handler, None, span, block, endpoint=self, reply=reply, received_ns=received_ns, payload=payload
        )
        try:
            if self.handler.internal:
                raise Forbidden(f"{self.subject}: only timers of {self.context.served.name} send this command")
            if block is not None:
                work.deadline, work.chain, work.id, content_type = read(block)
                if work.deadline:
                    work.deadline -= self._clock.offset
                work.format = format_of(content_type)
            if not work.id:
                work.id = self._new_id()
                work.remembered = False
            elif accept_id(work.id) is None:
                raise InvalidMessage(f"{self.subject}: Idempotency-Key: at most {MAX_ID} bytes of printable text")
            work.message = self.handler.codec.decode(payload, work.format)
            self._take_fingerprint(work, payload)
            self._admit(work)
        except CodecError as error:
            self.answer_error(work, invalid_message(self.subject, str(error)))
        except RequestError as error:
            self.answer_error(work, error)
        except BaseException as error:  # noqa: BLE001 - the types of a message may run code of the application
            self.fail(work, error)

    def _new_id(self) -> str:
        """Return the id of a command that has none. A key that is made from it is in the partition of this owner."""
        made = new_id(self._clock.now())
        if self._makes_own_key:
            partition = self.context.served.names.partition
            while partition_of(key_token(key_for(made)), partition.total) != partition.number:
                made = new_id(self._clock.now())
        return made

    def _take_fingerprint(self, work: CommandWork, payload: bytes) -> None:
        """Set the fingerprint of a command.

        An empty body has the fingerprint of what it means in its format. So an id stands for a command in one format only.
        """
        if self.handler.by_id:
            work.fingerprint = self.handler.fingerprint
            return
        type_name = self.handler.type_name
        payload = payload or work.format.empty
        if work.chain and is_derived(work.id) and work.format is JSON:
            work.fingerprint = derived_fingerprint(type_name, payload, work.chain.rpartition(",")[2])
            work.payload = payload
        else:
            work.fingerprint = fingerprint(type_name, payload)

    def report_changed(self, work: CommandWork, fields: list[str]) -> None:
        """Log and count a derived command whose body differs from that of an earlier run of its sender."""
        self._changed.value += 1
        logger.warning(
            "%s: %s has sent the command %s again with another body: it gets the reply of the first one. %s",
            self.subject, work.chain.rpartition(",")[2], work.id,
            f"Fields that differ: {', '.join(fields)}" if fields else "A field is missing in it",
        )  # fmt: skip

    def _admit(self, work: CommandWork) -> None:
        """Determine the key, and put the command into its lane. Raises the errors of `Turns.admit`, and `CallCycle`."""
        handler = self.handler
        if isinstance(handler.contract.key, NewKey):
            work.key = key_for(work.id)
        elif handler.key_of is not None:
            work.key = handler.key_of(work.message)
            if not handler.keyed:
                key_token(work.key)  # the length of the key is checked here; an actor with state makes the token anyway
        if work.chain:
            self._check_chain(work)
        if handler.accept:
            work.message = _Job(work.message, _json_text(work))
        self.context.turns.admit(work)

    def _check_chain(self, work: CommandWork) -> None:
        """Raise `CallCycle` if the command waits for a key that waits for the command, or is too many calls deep."""
        check_depth(self.subject, work.chain)
        path = work.chain.split(",")
        here = link(self.context.served.names.actor, work.key)
        turns = self.context.turns
        entry = turns.keys.get(key_token(work.key)) if self.context.served.keyed and here in path else None
        if entry is not None and entry.active:
            raise CallCycle(
                f"{self.subject}: the call comes back to a key that waits for it: {' > '.join([*path, here])}"
            )


_unpack = msgspec.json.Decoder(bytes).decode


class _Job(msgspec.Struct):
    """A long job, as the handler that accepts it receives it."""

    message: Any
    body: bytes


def _json_text(work: CommandWork) -> bytes:
    """Return the body of a command as received, or nothing if a record cannot hold it: it is no JSON text."""
    try:
        if work.format is JSON and work.payload.decode():
            return work.payload
    except UnicodeDecodeError:
        pass  # In a field that the command does not have, which the decoder skips.
    return b""


def accepting(handler: Handler) -> Handler:
    """Return the handler that accepts a long job: it stores the job and replies `Accepted`.

    The job is stored as a timer that is due at once, with the body as received, and runs as one.
    """
    stored = copy(handler)

    async def accept(actor: Any, job: _Job) -> Accepted:
        call: TurnCall = actor._running
        call.remind(Timer(call.message_id, job.message, body=job.body))
        return Accepted(call.message_id, call.key)

    stored.function = stored.run = accept
    stored.result = Codec(Accepted)
    return stored
