"""The router of a partitioned actor: receives requests on the plain subjects, and passes each to the owner of its key.

Anybody may send a request to ``orders.command.create_order``. One of the processes of the actor receives it, decodes it as far
as the key, and handles it if it owns the partition of the key. If not, it sends the request on to
``orders.command.create_order.<partition>`` with an inbox of its own, and relays the reply. So a caller is answered at once if
no process owns the partition: nothing was executed. (With the reply subject of the caller, it would get no answer.)

The reply says in how many partitions the keys are. A bus then sends to the subject of the partition itself.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from runtime.actor.handler import Handler
from runtime.actor.message import NewKey
from runtime.errors import CodecError, DeadlineExceeded, NotDelivered, PublishError, RequestError
from runtime.intake.commands import CommandEndpoint
from runtime.intake.endpoint import INBOXES
from runtime.intake.queries import QueryEndpoint
from runtime.nats.connection import NoResponders, Response, Subscription
from runtime.turns.served import Served
from runtime.wire import header_block
from runtime.wire.buckets import partition_of
from runtime.wire.codec import UNDECODABLE, format_of
from runtime.wire.envelope import read
from runtime.wire.ids import key_for, new_id
from runtime.wire.replies import error_body, error_reply
from runtime.wire.subjects import QUEUE, key_token

logger = logging.getLogger("actorloom.intake")

_TIMEOUT = 60.0
"""Seconds for which the reply to a request without a deadline is awaited."""


class Router:
    """Receives the requests of one partitioned actor in one process, from `start` to `stop`.

    Args:
        served: The actor, as one whole.
        local: Returns the endpoint of a subject for the owner of a partition in this process; None if that is elsewhere.
    """

    def __init__(self, served: Served, local: Callable[[int, str], QueryEndpoint | CommandEndpoint | None]) -> None:
        self._served = served
        self._local = local
        self._subscriptions: list[Subscription] = []
        handlers = served.actor.handlers
        self._routes = [
            _Route(served, handler) for group in (handlers.queries, handlers.commands) for handler in group.values()
        ]

    async def start(self) -> None:
        """Receive requests. Raises the errors of `Connection.subscribe`."""
        connection = self._served.connection
        for route in self._routes:
            receive = partial(self._receive, route)
            self._subscriptions.append(await connection.subscribe(route.subject, receive, queue=QUEUE))
        await connection.flush()

    async def stop(self) -> None:
        """Receive no more requests. Those that the server has already sent here are still passed on."""
        for subscription in self._subscriptions:
            await subscription.drain()
        self._subscriptions.clear()

    def _receive(self, route: "_Route", subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        if not reply.startswith(INBOXES):
            return
        try:
            number, block, deadline = route.read(block, payload)
        except (CodecError, *UNDECODABLE):
            number, deadline = 0, 0.0  # The owner of a partition answers with the error.
        endpoint = self._local(number, route.subject)
        if endpoint is not None:
            endpoint.receive(subject, reply, block, payload)
            return
        self._pass_on(route, number, reply, block, payload, deadline)

    def _pass_on(
        self, route: "_Route", number: int, reply: bytes, block: bytes | None, payload: bytes, deadline: float
    ) -> None:
        """Send a request to the owner of a partition elsewhere, and relay its reply."""
        connection = self._served.connection
        timeout = deadline - connection.clock.now() if deadline else _TIMEOUT
        expires_at = asyncio.get_running_loop().time() + timeout
        try:
            answer = connection.request_nowait(route.subjects[number], payload, block, expires_at)
        except PublishError as error:
            self._refuse(reply, NotDelivered(f"{route.subject}: partition {number} cannot be reached: {error}"))
            return
        answer.add_done_callback(partial(self._relay, route, number, reply))

    def _relay(self, route: "_Route", number: int, reply: bytes, answer: "asyncio.Future[Response]") -> None:
        if answer.cancelled():
            return
        error = answer.exception()
        if error is None:
            block, payload = answer.result()
            self._respond(reply, payload, block)
        elif isinstance(error, NoResponders):
            unserved = header_block.line(header_block.UNSERVED, b"%d" % number)
            self._refuse(reply, NotDelivered(f"{route.subject}: no process owns partition {number}"), unserved)
        elif not isinstance(error, TimeoutError):
            self._refuse(reply, DeadlineExceeded(f"{route.subject}: the outcome is unknown: {error}"))

    def _refuse(self, reply: bytes, error: RequestError, lines: bytes = b"") -> None:
        block, payload = error_reply(error_body(error, ""), lines)
        self._respond(reply, payload, block)

    def _respond(self, reply: bytes, payload: bytes, block: bytes | None) -> None:
        line = header_block.line(header_block.PARTITIONS, b"%d" % self._served.options.partitions)
        head = header_block.START if block is None else block[: -len(header_block.END)]
        try:
            self._served.connection.respond(reply, payload, head + line + header_block.END)
        except PublishError as error:
            logger.warning("%s: a reply could not be relayed: %s", self._served.name, error)


class _Route:
    """The plain subject of one query or command, and how to find the key of its requests."""

    def __init__(self, served: Served, handler: Handler) -> None:
        names, contract = served.names, handler.contract
        total = served.options.partitions
        self.subject = names.request(contract.op, contract.name)
        self.subjects = [f"{self.subject}.{number}".encode() for number in range(total)]
        self._handler = handler
        self._partitions = total
        self._makes_key = isinstance(contract.key, NewKey)
        self._clock = served.connection.clock

    def read(self, block: bytes | None, payload: bytes) -> tuple[int, bytes | None, float]:
        """Return the partition of a request, its header block, which gets an id if the key depends on it, and its deadline.

        Raises:
            CodecError: The request cannot be decoded.
        """
        deadline, _, message_id, content_type = (0.0, "", "", None) if block is None else read(block)
        if self._makes_key:
            if not message_id:
                message_id = new_id(self._clock.now())
                line = header_block.line(header_block.IDEMPOTENCY_KEY, message_id.encode())
                head = header_block.START if block is None else block[: -len(header_block.END)]
                block = head + line + header_block.END
            token = key_token(key_for(message_id))
        elif self._handler.key_of is None:
            token = key_token("")  # A query without a key may run in any partition.
        else:
            message = self._handler.codec.decode(payload, format_of(content_type))
            token = key_token(self._handler.key_of(message))
        return partition_of(token, self._partitions), block, deadline
