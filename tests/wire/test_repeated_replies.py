"""A repeated command gets the bytes of the first reply, in either format, whatever the types in it."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest

from runtime import Actor, Command, command
from runtime.nats.server import EmbeddedServer
from runtime.wire import header_block
from tests.support.probe import Probe, running

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class Color(Enum):
    RED = "red"


class Part(msgspec.Struct, frozen=True):
    data: bytes
    at: datetime


class Mixed(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A reply with the types that the formats write in different ways."""

    raw_bytes: bytes = b""
    aware: datetime | None = None
    naive: datetime | None = None
    day: date | None = None
    span: timedelta | None = None
    price: Decimal | None = None
    ident: UUID | None = None
    color: Color | None = None
    names: frozenset[str] = frozenset()
    parts: dict[str, Part] = {}
    either: bytes | int | None = None
    text: str = ""
    number: float = 0.0
    anything: Any = None


class Get(Command[Mixed], actor="mixed", key="name"):
    name: str
    number: int


class GetPlain(Command[bytes], actor="mixed", key="name"):
    name: str


class Clear(Command[None], actor="mixed", key="name"):
    name: str


class State(msgspec.Struct, frozen=True):
    count: int = 0


def reply_of(number: int) -> Mixed:
    """Return a reply that `number` determines."""
    rng = random.Random(number)
    return Mixed(
        raw_bytes=rng.randbytes(rng.randrange(20)),
        aware=AT + timedelta(microseconds=rng.randrange(10**12)),
        naive=AT.replace(tzinfo=None) + timedelta(microseconds=rng.randrange(10**12)),
        day=date(2026, 1, 1 + rng.randrange(28)),
        span=timedelta(seconds=rng.randrange(10**6)),
        price=Decimal(rng.randrange(10**6)) / 100,
        ident=UUID(int=rng.getrandbits(128)),
        color=rng.choice([None, Color.RED]),
        names=frozenset(str(rng.random()) for _ in range(rng.randrange(6))),
        parts={str(each): Part(rng.randbytes(3), AT) for each in range(rng.randrange(3))},
        either=rng.choice([b"x", 1, None]),
        text=rng.choice(["", "AAEC", "2026-01-01T00:00:00Z"]),
        number=rng.choice([1.0, 0.5, -0.0, 1e300]),
        anything=rng.choice([None, b"bytes", AT, {"deep": [b"x", AT, 1.0]}]),
    )


class MixedActor(Actor[State]):
    name = "mixed"

    def _count(self) -> None:
        self.state = State((self.state.count if self.state else 0) + 1)

    @command
    async def get(self, message: Get) -> Mixed:
        self._count()
        return reply_of(message.number)

    @command
    async def get_plain(self, message: GetPlain) -> bytes:
        self._count()
        return b"\x00\xff"

    @command
    async def clear(self, message: Clear) -> None:
        self._count()


FORMATS = {"application/json": msgspec.json, "application/msgpack": msgspec.msgpack}


async def send(system: Probe, subject: str, body: dict[str, Any], command_id: str, content_type: str) -> bytes:
    """Send a command and return the bytes of its reply."""
    headers = header_block.encode([("Idempotency-Key", command_id), ("Content-Type", content_type)])
    payload = FORMATS[content_type].encode(body)
    return (await system.connection.request(subject, payload, headers=headers, timeout=5)).payload


@pytest.mark.parametrize("content_type", FORMATS)
async def test_a_repeated_reply_has_the_bytes_of_the_first(
    nats_server: EmbeddedServer, namespace: str, content_type: str
) -> None:
    prefix = f"{namespace}.mixed.command"
    commands = [(f"{prefix}.get", {"name": "k", "number": number}) for number in range(40)]
    commands += [(f"{prefix}.get_plain", {"name": "k"}), (f"{prefix}.clear", {"name": "k"})]
    first: list[bytes] = []
    async with running(MixedActor, url=nats_server.url, namespace=namespace) as system:
        for number, (subject, body) in enumerate(commands):
            first.append(await send(system, subject, body, f"c{number}", content_type))
            assert await send(system, subject, body, f"c{number}", content_type) == first[-1]
        decode = FORMATS[content_type].decode
        for number in range(40):
            expected = msgspec.structs.replace(reply_of(number), anything=None)
            assert msgspec.structs.replace(decode(first[number], type=Mixed), anything=None) == expected
        if content_type == "application/msgpack":
            untyped = [decode(reply)["anything"] for reply in first[:40] if "anything" in decode(reply)]
            assert {type(value) for value in untyped} >= {bytes, datetime, dict}
            assert (first[40], first[41]) == (msgspec.msgpack.encode(b"\x00\xff"), b"\xc0")
        else:
            assert first[41] == b""
    async with running(MixedActor, url=nats_server.url, namespace=namespace) as system:
        for number, (subject, body) in enumerate(commands):
            assert await send(system, subject, body, f"c{number}", content_type) == first[number]
        assert (await system.bus.command(Get("k", 0))).number == reply_of(0).number
        assert await system.state("mixed", "k") == State(43), "each command took effect once"


async def test_an_empty_body_means_one_command_in_one_format(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Loose, url=nats_server.url, namespace=namespace) as system:
        subject = f"{namespace}.loose.command.touch"

        async def touch(payload: bytes, content_type: str) -> bytes:
            headers = header_block.encode([("Idempotency-Key", "e"), ("Content-Type", content_type)])
            return (await system.connection.request(subject, payload, headers=headers, timeout=5)).payload

        assert await touch(b"", "application/json") == b"7" == await touch(b"{}", "application/json")
        assert b"IdReused" in await touch(b"", "application/msgpack")


class Touch(Command[int], actor="loose"):
    pass


class Loose(Actor):
    name = "loose"

    @command
    async def touch(self, message: Touch) -> int:
        return 7
