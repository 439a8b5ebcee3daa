"""Discovery: finds running services by NATS micro (ADR-32), and suggests names for misspelled ones."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from difflib import SequenceMatcher, get_close_matches
from functools import cached_property
from typing import Any

import msgspec

from runtime.nats.connection import Connection
from runtime.wire import header_block

PATIENCE = 1.0
"""Seconds to wait for a first answer. If no service listens, the server reports that at once."""

_MIN_PAUSE = 0.1
"""Seconds without an answer, at the least, after which no more answers are expected."""
_SIMILAR = 0.05
"""Names whose similarity differs by less than this are equally good suggestions."""


class Endpoint(msgspec.Struct):
    """An operation as its service announces it."""

    name: str
    subject: str
    metadata: dict[str, str] | None = None

    @property
    def op(self) -> str:
        """``query`` or ``command``; empty for an endpoint of another framework."""
        return self.metadata_value("op")

    def metadata_value(self, key: str) -> str:
        """Return a value of the metadata; empty if it is missing."""
        return (self.metadata or {}).get(key, "")

    def schema(self, key: str) -> dict[str, Any] | None:
        """Return the JSON Schema ``request`` or ``response``, or None if the service does not announce it."""
        return _object(self.metadata_value(key))


class Service(msgspec.Struct, dict=True):
    """One instance of a service, as it announces itself."""

    name: str
    id: str
    version: str
    description: str = ""
    metadata: dict[str, str] | None = None
    endpoints: list[Endpoint] = []

    @property
    def namespace(self) -> str:
        """The namespace of the service; empty if it has none."""
        return (self.metadata or {}).get("namespace", "")

    @cached_property
    def emits(self) -> dict[str, dict[str, Any]]:
        """The events of the service: a JSON Schema by CloudEvents type. ``x-key`` in a schema names the field of the key."""
        return _object((self.metadata or {}).get("emits", "")) or {}

    @cached_property
    def reacts(self) -> list[str]:
        """The events that the service reacts to, each with its pattern: ``orders.OrderModified where {…}``."""
        text = (self.metadata or {}).get("reacts", "")
        return msgspec.json.decode(text, type=list[str]) if text else []


async def services(connection: Connection, name: str = "", *, timeout: float = PATIENCE) -> list[Service]:
    """Return the running instances of all services, or of the service `name`, sorted by namespace and name.

    The call collects answers until none has come for about twice the time of the first one.

    Args:
        connection: The connection to ask on.
        name: The name of a service; empty for all.
        timeout: Seconds to wait for the first answer.
    """
    found: list[Service] = []
    async with _answers(connection, f"$SRV.INFO.{name}" if name else "$SRV.INFO") as answers:
        wait, loop = timeout, asyncio.get_running_loop()
        started = loop.time()
        while (answer := await _next(answers, wait)) is not None:
            # The other instances are about as far away as the first one.
            wait = max(_MIN_PAUSE, 2 * (loop.time() - started)) if not found else wait
            found += _decoded(answer)
    return sorted(found, key=lambda service: (service.namespace, service.name, service.id))


async def endpoint(connection: Connection, service: str, subject: str) -> Endpoint | None:
    """Return the endpoint on `subject` from the first instance of `service` that answers, or None."""
    async with _answers(connection, f"$SRV.INFO.{service}") as answers:
        while (answer := await _next(answers, PATIENCE)) is not None:
            for found in _decoded(answer):
                for each in found.endpoints:
                    if each.subject == subject:
                        return each
    return None


async def instances(connection: Connection, names: Sequence[str], *, timeout: float) -> dict[str, int]:
    """Ping services and return the number of answers by name, as soon as each of `names` has one.

    Args:
        connection: The connection to ask on.
        names: The names of services. If it is empty, the first answer of any service ends the call.
        timeout: Seconds after which services without an answer count 0.
    """
    counted = dict.fromkeys(names, 0)
    async with _answers(connection, "$SRV.PING") as answers:
        deadline = asyncio.get_running_loop().time() + timeout
        while not names or not all(counted.values()):
            answer = await _next(answers, deadline - asyncio.get_running_loop().time())
            if answer is None:
                break
            for service in _decoded(answer):
                counted[service.name] = counted.get(service.name, 0) + 1
            if not names:
                break
    return counted


def nearest(target: str, found: Sequence[Service]) -> list[str]:
    """Return the operation with the name most similar to `target`; up to three if they are equally similar."""
    known = {f"{service.name}.{endpoint.name}" for service in found for endpoint in service.endpoints}
    matches = get_close_matches(target, sorted(known), 3, 0.6)
    ratios = [SequenceMatcher(None, name, target).ratio() for name in matches]
    return [name for name, ratio in zip(matches, ratios, strict=True) if ratio > ratios[0] - _SIMILAR]


@asynccontextmanager
async def _answers(connection: Connection, subject: str) -> AsyncGenerator["asyncio.Queue[bytes | None]"]:
    """Publish a request on `subject` and yield the queue of its answers. None in the queue: no service listens."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(10_000)
    inbox = f"{connection.options.inbox_prefix}.{secrets.token_hex(11)}"

    def receive(_: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        if not queue.full():
            queue.put_nowait(None if header_block.status(block) else payload)

    subscription = await connection.subscribe(inbox, receive)
    try:
        connection.publish(subject, reply=inbox.encode())
        yield queue
    finally:
        subscription.unsubscribe()


async def _next(answers: "asyncio.Queue[bytes | None]", timeout: float) -> bytes | None:
    try:
        async with asyncio.timeout(max(timeout, 0)):
            return await answers.get()
    except TimeoutError:
        return None


def _decoded(answer: bytes) -> list[Service]:
    try:
        return [msgspec.json.decode(answer, type=Service)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []  # not an answer of ADR-32


def _object(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
