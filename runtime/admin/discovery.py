"""Discovery: finds running services by NATS micro (ADR-32), and suggests names for misspelled ones."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from difflib import SequenceMatcher, get_close_matches

import msgspec

from runtime.actor.metadata import OperationMetadata, ServiceMetadata
from runtime.actor.metadata_texts import read_operation, read_service
from runtime.nats.connection import Connection
from runtime.wire import header_block

PATIENCE = 1.0
"""Seconds to wait for a first answer. If no service listens, the server reports that at once."""

_MIN_PAUSE = 0.1
"""Seconds without an answer, at the least, after which no more answers are expected."""
_SIMILAR = 0.05
"""Names whose similarity differs by less than this are equally good suggestions."""


class Endpoint(msgspec.Struct, frozen=True):
    """An operation as its service announces it."""

    name: str
    subject: str
    metadata: OperationMetadata


class Service(msgspec.Struct, frozen=True):
    """One instance of a service, as it announces itself."""

    name: str
    id: str
    version: str
    description: str
    metadata: ServiceMetadata
    endpoints: list[Endpoint]


class Counters(msgspec.Struct, frozen=True):
    """What the endpoint of an operation has counted since its start."""

    name: str
    num_requests: int = 0
    num_errors: int = 0
    processing_time: int = 0
    """Nanoseconds from receipt to reply, of all requests."""


class Statistics(msgspec.Struct, frozen=True):
    """The statistics of one instance of a service."""

    name: str
    id: str
    version: str
    metadata: ServiceMetadata
    operations: list[Counters]
    data: dict[str, int]
    """The figures of the instance: ``waiting`` and ``blocked``. Empty for a service of another framework."""


async def statistics(connection: Connection, *, timeout: float = PATIENCE) -> list[Statistics]:
    """Return the statistics of the running instances of all services. The arguments are those of `services`."""
    return [each async for answer in _all(connection, "$SRV.STATS", timeout) for each in _statistics(answer)]


async def services(connection: Connection, name: str = "", *, timeout: float = PATIENCE) -> list[Service]:
    """Return the running instances of all services, or of the service `name`, sorted by namespace and name.

    The call collects answers until none has come for about twice the time of the first one.

    Args:
        connection: The connection to ask on.
        name: The name of a service; empty for all.
        timeout: Seconds to wait for the first answer.
    """
    subject = f"$SRV.INFO.{name}" if name else "$SRV.INFO"
    found = [service async for answer in _all(connection, subject, timeout) for service in _decoded(answer)]
    return sorted(found, key=lambda service: (service.metadata.namespace, service.name, service.id))


async def endpoint(connection: Connection, service: str, subject: str) -> Endpoint | None:
    """Return the endpoint on `subject` from the first instance of `service` that answers, or None."""
    async with _answers(connection, f"$SRV.INFO.{service}") as answers:
        while (answer := await _next(answers, PATIENCE)) is not None:
            for found in _decoded(answer):
                for each in found.endpoints:
                    if each.subject == subject:
                        return each
    return None


async def instances(
    connection: Connection, names: Sequence[str], *, namespace: str | None = None, timeout: float
) -> dict[str, int]:
    """Ping services and return the number of answers by name, as soon as each of `names` has one.

    Args:
        connection: The connection to ask on.
        namespace: The namespace of the services that count, empty for those without one; None for all.
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
                if namespace is None or service.metadata.namespace == namespace:
                    counted[service.name] = counted.get(service.name, 0) + 1
            if not names and counted:
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


async def _all(connection: Connection, subject: str, timeout: float) -> AsyncGenerator[bytes]:
    """Yield the answers of all instances, until none has come for about twice the time of the first one."""
    async with _answers(connection, subject) as answers:
        wait, loop = timeout, asyncio.get_running_loop()
        started, first = loop.time(), True
        while (answer := await _next(answers, wait)) is not None:
            if first:
                # The other instances are about as far away as the first one.
                wait, first = max(_MIN_PAUSE, 2 * (loop.time() - started)), False
            yield answer


async def _next(answers: "asyncio.Queue[bytes | None]", timeout: float) -> bytes | None:
    try:
        async with asyncio.timeout(max(timeout, 0)):
            return await answers.get()
    except TimeoutError:
        return None


class _EndpointInfo(msgspec.Struct):
    """An endpoint in an INFO response of ADR-32."""

    name: str
    subject: str
    metadata: dict[str, str] | None = None


class _Info(msgspec.Struct):
    """An INFO response of ADR-32, or a PING response, which has fewer fields."""

    name: str
    id: str
    version: str
    description: str = ""
    metadata: dict[str, str] | None = None
    endpoints: list[_EndpointInfo] = []


def _decoded(answer: bytes) -> list[Service]:
    """Return the service that has sent an answer; an empty list if the answer is not one of ADR-32."""
    try:
        info = msgspec.json.decode(answer, type=_Info)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    endpoints = [Endpoint(each.name, each.subject, read_operation(each.metadata or {})) for each in info.endpoints]
    return [Service(info.name, info.id, info.version, info.description, read_service(info.metadata or {}), endpoints)]


class _Stats(msgspec.Struct):
    """A STATS response of ADR-32."""

    name: str
    id: str
    version: str
    metadata: dict[str, str] | None = None
    endpoints: list[Counters] = []
    data: msgspec.Raw = msgspec.Raw(b"{}")


def _statistics(answer: bytes) -> list[Statistics]:
    """Return the statistics in an answer; an empty list if the answer is not one of ADR-32."""
    try:
        found = msgspec.json.decode(answer, type=_Stats)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    try:
        data = msgspec.json.decode(found.data, type=dict[str, int])
    except (msgspec.DecodeError, UnicodeDecodeError):
        data = {}  # Another framework has figures of its own.
    return [Statistics(found.name, found.id, found.version, read_service(found.metadata or {}), found.endpoints, data)]
