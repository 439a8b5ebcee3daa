"""An untyped client, for tools and gateways that have no message classes: names and bytes in, bytes out."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from runtime.bounds import check_timeout
from runtime.client.no_reply import no_reply_error
from runtime.errors import CodecError, NotDelivered, PublishError, RequestError
from runtime.nats.connection import Connection
from runtime.nats.errors import NoResponders
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import Ack
from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers
from runtime.wire.envelope import write
from runtime.wire.ids import check_id, new_id
from runtime.wire.replies import read_error
from runtime.wire.subjects import Names, check_namespace, snake_case, valid_name
from runtime.wire.tokens import NO_KEY, key_token

Headers = Sequence[tuple[str, str]]

_TRACE_RESPONSE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
"""Match the value of `traceresponse`. The trace id becomes part of the URL of Jaeger."""


class Unowned(NotDelivered):
    """Processes of the actor run, but none of them owns the key at the moment: its partition moves, or its owner has died."""


class RawReply(NamedTuple):
    """The reply to a query or command. An error of the service is a reply, too: see `error`."""

    payload: bytes
    """The body; empty for a command without a result."""
    headers: bytes | None
    """The header block, or None."""

    @property
    def error(self) -> RequestError | None:
        """The error that the service answered with, or None."""
        if header_block.get(self.headers, header_block.SERVICE_ERROR_CODE) is None:
            return None
        return read_error(self.headers or b"", self.payload)

    @property
    def trace_id(self) -> str | None:
        """The id of the trace in which the service recorded the request, or None if it records none."""
        match = _TRACE_RESPONSE(header_block.get(self.headers, header_block.TRACERESPONSE) or "")
        return match.group(1) if match is not None else None


class RawClient:
    """Sends queries, commands and events over a connection that its creator closes.

    Names are those of the message classes in either form, ``GetOrder`` or ``get_order``. A request is sent once. So it fails
    with `NotDelivered` while its key changes owners, and the caller may send it again.

    Args:
        connection: The connection.
        namespace: The namespace of the services.
        timeout: Seconds that a request may take.
    """

    def __init__(self, connection: Connection, *, namespace: str = "", timeout: float = 5.0) -> None:
        check_namespace(namespace)
        check_timeout(timeout)
        self.connection = connection
        self.namespace = namespace
        self.timeout = timeout
        self._jetstream = JetStream(connection)

    async def query(self, actor: str, name: str, payload: bytes = b"{}", *, headers: Headers = ()) -> RawReply:
        """Send a query and return the reply.

        Args:
            actor: The name of the service.
            name: The name of the query.
            payload: The body: JSON, unless `headers` contain another content type.
            headers: More headers, such as ``traceparent``.

        Raises:
            NotDelivered: No process serves the query, or owns its key, or there is no connection.
            DeadlineExceeded: No reply came in time.
            CodecError: The name of the service or query, or a header is invalid.
        """
        return await self._request("query", actor, name, payload, None, headers)

    async def command(
        self, actor: str, name: str, payload: bytes = b"{}", *, id: str | None = None, headers: Headers = ()
    ) -> RawReply:
        """Send a command and return the reply, which comes when the command is done and stored.

        Args:
            actor: The name of the service.
            name: The name of the command.
            payload: The body: JSON, unless `headers` contain another content type.
            id: The id of the command; a command with the same id takes effect once. A new one if None.
            headers: More headers, such as ``traceparent``.

        Raises:
            NotDelivered: No process serves the command, or owns its key, or there is no connection.
            DeadlineExceeded: No reply came in time. The command may have taken effect: send it again under the same id.
            CodecError: The name of the service or command, the id, or a header is invalid.
        """
        return await self._request(
            "command", actor, name, payload, new_id(self.connection.clock.now()) if id is None else id, headers
        )

    async def emit(
        self, actor: str, event: str, payload: bytes, *, key: str | None = None, id: str | None = None
    ) -> Ack:
        """Publish an event and return the acknowledgement of JetStream: stream, sequence, and whether it is a duplicate.

        Args:
            actor: The name of the service whose event it is.
            event: The name of the event class, ``OrderCreated``.
            payload: The body, as JSON.
            key: The key of the event; None for an event without a key.
            id: The id of the event; an event with the same id takes effect once. A new one if None.

        Raises:
            PublishError: The event is not stored. Its cause is `NoResponders` if the service has no stream.
            TimeoutError: It is unknown whether the event is stored: publish it again under the same id.
            CodecError: The name of the service or event, or the id is invalid, or the key is too long.
        """
        token = NO_KEY if key is None else key_token(key)
        subject = Names(actor, self.namespace).event(_checked(actor, event), token)
        event_id = new_id(self.connection.clock.now()) if id is None else check_id(id)
        block = event_headers(actor, event, event_id, token, self.connection.clock.now())
        return await self._jetstream.publish(subject, payload, headers=block, timeout=self.timeout)

    def subject(self, op: Literal["query", "command"], actor: str, name: str) -> str:
        """Return the subject of a query or command. Raises `CodecError` if a name is invalid."""
        return Names(actor, self.namespace).request(op, _checked(actor, name))

    async def _request(
        self,
        op: Literal["query", "command"],
        actor: str,
        name: str,
        payload: bytes,
        command_id: str | None,
        headers: Headers,
    ) -> RawReply:
        subject = self.subject(op, actor, name)
        deadline = int((self.connection.clock.now() + self.timeout) * 1000)
        block = write(header_block.encode_lines(headers), deadline, command_id)
        try:
            response = await self.connection.request(subject, payload, headers=block, timeout=self.timeout)
        except (NoResponders, PublishError, TimeoutError) as error:
            raise no_reply_error(subject, error) from error
        number = header_block.get(response.headers, header_block.UNSERVED)
        if number is not None:
            raise Unowned(f"{subject}: no process owns partition {number}, which has its key")
        return RawReply(response.payload, response.headers)


def _checked(actor: str, name: str) -> str:
    """Return the name of an operation or event as a token of a subject. Raises `CodecError` if it, or `actor`, is no name."""
    token = snake_case(name)
    for text, checked in ((actor, actor), (name, token)):
        if not valid_name(checked):
            raise CodecError(f"{text[:40]!r} is not the name of a service, query, command or event")
    return token
