"""Cancellations of long jobs: requests on ``<actor>.cancel.<command>``, with the command and its id.

The command has the key of the job. Its id is the one under which the job was accepted, or told.
"""

import time

import msgspec
from opentelemetry.trace import Span

from runtime.actor.handler import Handler
from runtime.actor.message import NewKey
from runtime.errors import ActorError, CodecError, InvalidMessage, NotFound, Rejected, RequestError
from runtime.intake.context import Context
from runtime.intake.endpoint import Endpoint
from runtime.storage.record import TIMER
from runtime.storage.schedules import timer_token, told_name
from runtime.telemetry import LeanSpan
from runtime.turns.work import storage_error
from runtime.wire import header_block
from runtime.wire.codec import JSON, Format, format_of
from runtime.wire.envelope import read
from runtime.wire.ids import accept_id, key_for
from runtime.wire.replies import invalid_message
from runtime.wire.tokens import key_token

CANCEL = "cancel"
"""The kind of the subjects."""


class Cancellation(msgspec.Struct, eq=False):
    """A request to cancel a job, from its receipt to its reply."""

    span: Span
    reply: bytes
    received_ns: int
    """Unix nanoseconds at which it was received."""
    format: Format = JSON
    executed: bool | None = False


class CancelEndpoint(Endpoint):
    """Receives the cancellations of the jobs of one command."""

    announced = False

    def __init__(self, context: Context, handler: Handler) -> None:
        super().__init__(context, handler, CANCEL)

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Cancel a job, and reply whether this has ended it. Called from the read loop; never raises."""
        if not reply.startswith(self._inboxes):
            self.drop(reply)
            return
        span = self.template.receive(block)
        request = Cancellation(span, reply, span.started if type(span) is LeanSpan else time.time_ns())
        try:
            _, _, job_id, content_type = (0.0, "", "", None) if block is None else read(block)
            request.format = format_of(content_type)
            if not self.context.served.keyed:
                raise NotFound(f"{self.subject}: jobs of an actor without state cannot be cancelled")
            if accept_id(job_id) is None:
                raise InvalidMessage(f"{self.subject}: Idempotency-Key: the id of the job is missing, or is not valid")
            message = self.handler.codec.decode(payload, request.format)
            makes_key = isinstance(self.handler.contract.key, NewKey)
            key = key_for(job_id) if makes_key or self.handler.key_of is None else self.handler.key_of(message)
            self.context.turns.spawn(self._cancel(request, key_token(key), job_id))
        except CodecError as error:
            self.answer_error(request, invalid_message(self.subject, str(error)))
        except RequestError as error:
            self.answer_error(request, error)
        except BaseException as error:  # noqa: BLE001 - the types of a message may run code of the application
            self.fail(request, error)

    async def _cancel(self, request: Cancellation, token: str, job_id: str) -> None:
        served = self.context.served
        names, jetstream = served.names, served.jetstream

        async def waits() -> bool:
            """Return whether the job is stored, and is not delivered yet."""
            key = self.context.turns.keys.get(token)
            outbox = key.outbox if key is not None else None
            if any(entry.kind is TIMER and entry.timer == job_id for entry, _ in outbox or ()):
                return True
            for name in (timer_token(job_id), told_name(job_id)):
                if await jetstream.get_last(names.turns_stream, names.timer(token, name)) is not None:
                    return True
            told = f"{names.told(self.handler.contract.name)}.*.{token}"
            async for stored in jetstream.read(names.tells_stream, told):
                if header_block.get(stored.headers, header_block.IDEMPOTENCY_KEY) == job_id:
                    return True
            return False

        try:
            if await jetstream.get_last(names.turns_stream, names.schedule(token, told_name(job_id))) is not None:
                raise Rejected(f"{self.subject}: the job {job_id} is told for later: cancel it when it is due")
            ended = await self.context.turns.jobs.cancel(token, job_id, waits)
        except RequestError as error:
            self.answer_error(request, error)
        except (ActorError, TimeoutError) as error:
            self.answer_error(request, storage_error(served.name, error))
        else:
            request.executed = ended
            self.answer(request, request.format.encode(ended))
