"""Who is there: asks all services at once by NATS micro (ADR-32), and finds the nearest name to a wrong one."""

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
"""Seconds to wait for a first answer where nobody says that there is none."""

_QUIET = 0.1
_AS_LIKE = 0.05


class Endpoint(msgspec.Struct):
    """An operation as it is announced."""

    name: str
    subject: str
    metadata: dict[str, str] | None = None

    @property
    def op(self) -> str:
        """``query``, ``command``, or nothing where it is not ours."""
        return self.said("op")

    def said(self, key: str) -> str:
        """Return what the metadata says under `key`, or nothing."""
        return (self.metadata or {}).get(key, "")

    def schema(self, key: str) -> dict[str, Any] | None:
        """Return the JSON Schema ``request`` or ``response``, or None where it is not told."""
        return _object(self.said(key))


class Service(msgspec.Struct, dict=True):
    """One instance of a service as it announces itself."""

    name: str
    id: str
    version: str
    description: str = ""
    metadata: dict[str, str] | None = None
    endpoints: list[Endpoint] = []

    @property
    def namespace(self) -> str:
        """Its namespace, or nothing."""
        return (self.metadata or {}).get("namespace", "")

    @cached_property
    def emits(self) -> dict[str, dict[str, Any]]:
        """Its events: CloudEvents type to JSON Schema, with the field that is the key as ``x-key``."""
        return _object((self.metadata or {}).get("emits", "")) or {}

    @cached_property
    def reacts(self) -> list[str]:
        """The events that it reacts to, each with its pattern."""
        text = (self.metadata or {}).get("reacts", "")
        return msgspec.json.decode(text, type=list[str]) if text else []


async def services(connection: Connection, name: str = "", *, timeout: float = PATIENCE) -> list[Service]:
    """Return every instance that answers (of service `name`), by name; waits until no more answers come."""
    found: list[Service] = []
    async with _answers(connection, f"$SRV.INFO.{name}" if name else "$SRV.INFO") as answers:
        wait, loop = timeout, asyncio.get_running_loop()
        asked = loop.time()
        while (answer := await _next(answers, wait)) is not None:
            # Once one has come, the others are about as far away.
            wait = max(_QUIET, 2 * (loop.time() - asked)) if not found else wait
            found += _decoded(answer)
    return sorted(found, key=lambda service: (service.namespace, service.name, service.id))


async def endpoint(connection: Connection, service: str, subject: str) -> Endpoint | None:
    """Return the endpoint on `subject` as the first instance of `service` announces it, or None."""
    async with _answers(connection, f"$SRV.INFO.{service}") as answers:
        while (answer := await _next(answers, PATIENCE)) is not None:
            for found in _decoded(answer):
                for each in found.endpoints:
                    if each.subject == subject:
                        return each
    return None


async def instances(connection: Connection, names: Sequence[str], *, timeout: float) -> dict[str, int]:
    """Return how many instances of each of `names` answer a PING in time: as soon as each has one."""
    counted = dict.fromkeys(names, 0)
    async with _answers(connection, "$SRV.PING") as answers:
        until = asyncio.get_running_loop().time() + timeout
        while not names or not all(counted.values()):
            answer = await _next(answers, until - asyncio.get_running_loop().time())
            if answer is None:
                break
            for service in _decoded(answer):
                counted[service.name] = counted.get(service.name, 0) + 1
            if not names:
                break
    return counted


def nearest(target: str, found: Sequence[Service]) -> list[str]:
    """Return the operations whose names are most like `target`: one, or the two or three that are as like it."""
    known = {f"{service.name}.{endpoint.name}" for service in found for endpoint in service.endpoints}
    near = get_close_matches(target, sorted(known), 3, 0.6)
    likeness = [SequenceMatcher(None, name, target).ratio() for name in near]
    return [name for name, like in zip(near, likeness, strict=True) if like > likeness[0] - _AS_LIKE]


@asynccontextmanager
async def _answers(connection: Connection, subject: str) -> AsyncGenerator["asyncio.Queue[bytes | None]"]:
    """Ask on `subject`; the queue then has each answer, and None where nobody is there."""
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
        return []  # somebody answers who does not speak ADR-32


def _object(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
