"""The endpoint of lists: tells other processes which keys of one partition belong to a page, and their states.

It receives on ``<actor>.list.<partition>``, an internal subject. `runtime.intake.lists` asks there. An answer that would be
larger than a message of NATS has as many positions and states as fit, and the asker asks for the other states. An index is
named by its fields: in a rolling deployment, two versions of an actor may number their indexes in other ways.
"""

import asyncio
import logging
from typing import Any, Final

import msgspec
from opentelemetry.trace import Span, SpanKind

from runtime.errors import CodecError, NotDelivered, Overloaded, PublishError, RequestError
from runtime.faults import log_fault
from runtime.intake.endpoint import inboxes
from runtime.nats.connection import Subscription
from runtime.nats.jetstream.errors import ApiError
from runtime.storage.index import Indexes
from runtime.storage.listing import MAX_PAGE, Position, Selection, StoredGroup, StoredPosition, index_over
from runtime.telemetry import finish, semconv
from runtime.turns.latest import latest_states
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.wire.codec import UNDECODABLE, encode, explain
from runtime.wire.envelope import read
from runtime.wire.replies import error_body, error_reply

logger = logging.getLogger("actorloom.intake")

_MOST: Final = 256
"""Requests that are answered at the same time at most. They wait for no worker: handlers that list would wait for each other."""
_ROOM: Final = 512
"""Bytes of a message that an answer leaves free, for its other parts."""


class ListRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Asks for the first positions of a page and the states of some of them, or for the states of some keys."""

    partitions: int
    """The number of partitions of the actor, as the asker knows it."""
    fields: tuple[str, ...] = ()
    """The fields by which the index is filtered."""
    order: str | None = None
    """The field that orders it."""
    group: StoredGroup = []
    """The values of the filters."""
    descending: bool = False
    after: StoredPosition | None = None
    count: int = 0
    """The most positions of the answer."""
    states: int = 0
    """The most states of the answer."""
    keys: list[str] | None = None
    """The tokens of keys, whose states are asked for."""


class ListAnswer(msgspec.Struct, frozen=True):
    """The positions, and the states of the first of them; or the states of the first of the keys."""

    version: int
    """The version of the states."""
    cut: bool
    """Whether there are more positions, for which the message has no room."""
    positions: list[StoredPosition]
    states: list[msgspec.Raw]
    """The JSON of each state; ``null`` for a key without a state, or with an unreadable one."""


_decode_request = msgspec.json.Decoder(ListRequest).decode


class ListEndpoint:
    """The lists of one partition, from `start` to `stop`; for handlers of this process, before and after that, too.

    Args:
        served: The actor and its names.
        turns: Tells whether the keys are owned, and has the keys in memory.
        indexes: The indexes over the keys.
    """

    def __init__(self, served: Served, turns: Turns, indexes: Indexes) -> None:
        self._served = served
        self._turns = turns
        self._indexes = indexes
        self._subject = served.names.owner("list")
        self._inboxes = inboxes(served.connection)
        attributes = semconv.rpc_attributes(f"{served.name}/list", served.connection.server_address)
        self._template = served.tracer.template(f"{served.name}/list", SpanKind.SERVER, attributes)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> Subscription:
        """Receive requests. The caller drains the subscription. Raises the errors of `Connection.subscribe`.

        It is in no queue group. A former owner that is paused would get half of the requests, and answer none in time.
        """
        return await self._served.connection.subscribe(self._subject, self._receive)

    async def stop(self) -> None:
        """Answer the requests in hand that the service is stopping."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def positions(self, selection: Selection, count: int) -> list[Position]:
        """Return the first positions of a selection, at most `count`, as they are at one moment after the call.

        Raises:
            NotDelivered: The keys are not owned any more, or the stream does not answer.
        """
        try:
            positions = await self._indexes.positions(selection, count)
        except (TimeoutError, PublishError, ApiError) as error:
            raise NotDelivered(f"{self._subject}: the records cannot be read now") from error
        self._check_owned()
        return positions

    async def states(self, tokens: list[str]) -> list[Any]:
        """Return the committed states of keys, not copied; None for a key without a state, or with an unreadable one.

        Raises:
            NotDelivered: The keys are not owned any more, a key is in another partition, or the stream does not answer.
            CodecError: A token is not that of a key.
        """
        states = await latest_states(self._turns, tokens)
        self._check_owned()
        return states

    def _check_owned(self) -> None:
        """Raise `NotDelivered` if the keys are not owned. If they are owned now, they were when they were read."""
        if not self._turns.owns():
            raise NotDelivered(f"{self._subject}: the service is stopping")

    def _receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        if not reply.startswith(self._inboxes):
            return
        span = self._template.receive(block)
        clock = self._served.connection.clock
        try:
            deadline = 0.0 if block is None else read(block)[0]
            if deadline and clock.now() > deadline:
                raise NotDelivered(f"{self._subject}: the deadline has passed")
            request = _decode_request(payload)
            if len(self._tasks) >= _MOST:
                raise Overloaded(f"{self._subject}: {_MOST} requests are in hand")
        except RequestError as error:
            self._refuse(reply, span, error)
        except (CodecError, *UNDECODABLE) as error:
            self._refuse(reply, span, NotDelivered(f"{self._subject}: {explain(error)}"))
        else:
            task = asyncio.get_running_loop().create_task(self._answer(request, reply, span))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: ListRequest, reply: bytes, span: Span) -> None:
        """Answer a request. Never raises, except for a cancellation."""
        try:
            payload = await self._payload(request)
        except asyncio.CancelledError:
            self._refuse(reply, span, NotDelivered(f"{self._subject}: the service is stopping"))
            raise
        except (CodecError, ValueError) as error:
            self._refuse(reply, span, NotDelivered(f"{self._subject}: the request has another form: {error}"))
        except Exception as error:  # noqa: BLE001 - a state may have code of the application
            if not isinstance(error, RequestError):
                log_fault(logger, "%s failed", self._subject, error=error)
            self._refuse(reply, span, error)
        else:
            self._respond(reply, payload, None)
            span.end()

    async def _payload(self, request: ListRequest) -> bytes:
        """Return the answer to a request.

        Raises:
            NotDelivered: It cannot be answered here or now. The text says why.
            CodecError, ValueError: It does not have the form that this version of the actor sends.
        """
        declared, partition = self._indexes.declared, self._served.names.partition
        if request.partitions != partition.total:
            raise NotDelivered(
                f"{self._subject}: the keys are in {partition.total} partitions, not in {request.partitions}"
            )
        room = self._served.connection.max_payload - _ROOM
        if request.keys is not None:
            states = _fitting(await self._states(request.keys[: MAX_PAGE + 1]), room)
            return _encode_answer(self._served.actor.state_version, False, [], states)
        wanted = index_over(request.fields, request.order)
        number = declared.find(wanted)
        if number is None:
            raise NotDelivered(f"{self._subject}: its owner runs a version of the actor without {wanted!r}")
        after = None if request.after is None else declared.load(number, request.after)
        group = declared.load_group(number, request.group)
        count = max(0, min(request.count, MAX_PAGE + 1))
        found = await self.positions(Selection(number, group, request.descending, count, after), count)
        positions = _fitting([encode(declared.store(number, each)) for each in found], room)
        wanted_states = [token for _, _, token in found[: max(0, min(len(positions), request.states))]]
        states = _fitting(await self._states(wanted_states), room - sum(map(len, positions)) - len(positions), least=0)
        return _encode_answer(self._served.actor.state_version, len(positions) < len(found), positions, states)

    async def _states(self, tokens: list[str]) -> list[bytes]:
        return [encode(state) for state in await self.states(tokens)]

    def _refuse(self, reply: bytes, span: Span, error: BaseException) -> None:
        body = error_body(error, self._subject)
        finish(span, body.code, body.kind, body.message)
        block, payload = error_reply(body)
        self._respond(reply, payload, block)

    def _respond(self, reply: bytes, payload: bytes, block: bytes | None) -> None:
        """Send an answer. If it cannot be sent, whoever asked waits for its deadline, or asks again."""
        try:
            self._served.connection.respond(reply, payload, block)
        except PublishError as unsent:
            logger.warning("%s: a reply could not be sent: %s", self._subject, unsent)


def _fitting(parts: list[bytes], room: int, least: int = 1) -> list[bytes]:
    """Return the first of some parts that have room in a message with commas between them, and at least `least` of them."""
    for count, part in enumerate(parts):
        room -= len(part) + 1
        if room < 0 and count >= least:
            return parts[:count]
    return parts


def _encode_answer(version: int, cut: bool, positions: list[bytes], states: list[bytes]) -> bytes:
    """Return the JSON of a `ListAnswer`, given that of its parts."""
    head = b'{"version":%d,"cut":%b' % (version, b"true" if cut else b"false")
    return b'%b,"positions":[%b],"states":[%b]}' % (head, b",".join(positions), b",".join(states))
