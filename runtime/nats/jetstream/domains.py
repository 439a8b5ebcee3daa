"""JetStream domains: how many streams take a subject, over all servers that leaf nodes join.

A stream lives in one domain, but a message goes to every server of the account. If two domains have a stream for a subject,
both store the message and both acknowledge it.
"""

import asyncio
from typing import Final

import msgspec

from runtime.nats.connection import Connection, PermissionDenied, Response
from runtime.nats.jetstream.responses import Ack
from runtime.wire import header_block
from runtime.wire.ids import new_id

_FIRST_REPLY: Final = 1.0
"""Seconds to wait for the first reply. If no stream takes the subject, the server says so at once."""
_NEAR: Final = 0.1
_FAR: Final = 0.5
"""Seconds to wait for further replies. A server with a domain probably has leaf nodes, which may be far away."""

_REFUSED_BY_EACH: Final = header_block.encode([("Nats-Expected-Stream", "-")])


async def count_streams(connection: Connection, subject: str) -> int:
    """Return how many streams take `subject`, over all domains. Nothing is stored.

    Raises:
        NotConnected: There is no connection now.
    """
    return len(await _replies(connection, subject, _REFUSED_BY_EACH))


async def name_domains(connection: Connection, subject: str) -> list[str]:
    """Return the domains that have a stream for `subject`, as far as they reply; "" for one without a name.

    The probe is an empty message that expires within a second, so `subject` must be one that nothing reads.
    """
    headers = header_block.encode([(header_block.TTL.decode(), "1s")])
    found: list[str] = []
    for response in await _replies(connection, subject, headers):
        try:
            ack = msgspec.json.decode(response.payload, type=Ack)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if ack.stream:
            found.append(ack.domain)
    return sorted(found)


async def _replies(connection: Connection, subject: str, headers: bytes) -> list[Response]:
    replies: list[Response] = []
    first = asyncio.Event()

    def receive(_: bytes, __: bytes, block: bytes | None, payload: bytes) -> None:
        if not header_block.status(block):
            replies.append(Response(block, payload))
        first.set()

    def refused(error: Exception) -> None:
        if isinstance(error, PermissionDenied):
            first.set()

    inbox = f"{connection.options.inbox_prefix}.{new_id()}"
    subscription = await connection.subscribe(inbox, receive)
    connection.on_error.append(refused)
    try:
        connection.publish(subject, b"", reply=inbox.encode(), headers=headers)
        await asyncio.wait_for(first.wait(), _FIRST_REPLY)
        if replies:
            await asyncio.sleep(_FAR if connection.domain else _NEAR)
    except TimeoutError:
        return []
    finally:
        connection.on_error.remove(refused)
        subscription.unsubscribe()
    return replies


def two_domains(subject: str, domains: list[str]) -> str:
    """Return the text of the fault."""
    named = f" ({', '.join(domain or 'one without a name' for domain in domains)})" if len(domains) > 1 else ""
    return f"more than one JetStream domain{named} stores the messages of {subject}"
