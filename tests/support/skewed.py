"""A process that is run on a machine with a wrong clock: ``python -m tests.support.wall_clock SECONDS tests.support.skewed …``.

Its arguments are the URL of the server and a namespace.

It serves the actor `Clockwork`. Each line of its input is a JSON list of namespaces, whose `Clockwork` it calls, one after
another. It prints a line of JSON with its findings.
"""

import asyncio
import json
import sys
from typing import Any

import msgspec

from runtime import Actor, Bus, Command, Event, Query, RequestError, command, query
from runtime.nats.connection import Connection
from runtime.testing import running
from runtime.wire import header_block
from runtime.wire.envelope import write

AFTER = 0.3
"""Seconds until a timer is due."""


class Wind(Command[float], actor="clockwork", key="key"):
    """Sets a timer. The reply is the time that the handler sees."""

    key: str


class Strike(Command[None], actor="clockwork", key="key"):
    """The command of the timer."""

    key: str


class GetTimes(Query[tuple[float, float]], actor="clockwork", key="key"):
    """Returns the time and the deadline that the handler sees."""

    key: str


class ClockStarted(Event, actor="clockwork", key="key"):
    key: str
    at: float
    message_id: str


class ClockStopped(Event, actor="clockwork", key="key"):
    key: str
    at: float


class Clock(msgspec.Struct, frozen=True):
    started: int = 0
    stopped: int = 0


class Clockwork(Actor[Clock]):
    """An actor with a timer."""

    name = "clockwork"

    @command
    async def wind(self, message: Wind) -> float:
        state = self.state or Clock()
        self.state = msgspec.structs.replace(state, started=state.started + 1)
        self.emit(ClockStarted(message.key, self.now, self.message_id))
        self.remind(AFTER, Strike(message.key), name="strike")
        return self.now

    @command
    async def strike(self, message: Strike) -> None:
        state = self.state or Clock()
        self.state = msgspec.structs.replace(state, stopped=state.stopped + 1)
        self.emit(ClockStopped(message.key, self.now))

    @query
    async def get_times(self, message: GetTimes) -> tuple[float, float]:
        return self.now, self.deadline or 0.0


async def call(connection: Connection, bus: Bus, key: str) -> dict[str, Any]:
    """Call the `Clockwork` of the namespace of `bus` in each way, and return the outcomes."""
    seen: dict[str, Any] = {}
    clock = connection.clock
    for name, message in {"query": bus.query(GetTimes(key)), "command": bus.command(Wind(key))}.items():
        try:
            seen[name] = await message
        except RequestError as error:
            seen[name] = str(error)
    for name, block in {
        "without": None,
        "in time": write(b"", int((clock.now() + 5) * 1000)),
        "late": write(b"", int((clock.now() - 0.1) * 1000)),
    }.items():
        for op, kind in (("query", "get_times"), ("command", "wind")):
            subject = f"{bus.namespace}.clockwork.{op}.{kind}"
            body = msgspec.json.encode({"key": f"{key}-{name.replace(' ', '-')}"})
            reply = await connection.request(subject, body, headers=block, timeout=5)
            code = header_block.get(reply.headers, b"Nats-Service-Error-Code")
            seen[f"{op} {name}"] = int(code) if code else 200
    return seen


async def main(url: str, namespace: str) -> None:
    """Serve and call until the end of the input."""
    async with running(Clockwork, url=url, namespace=namespace) as system:
        clock = system.connection.clock
        print(
            json.dumps({"skew": clock.skew, "bound": clock.bound, "fault": system.connection.clock_fault}), flush=True
        )
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            seen = {}
            for other in json.loads(line):
                bus = Bus(system.connection, system.tracing.service("caller"), namespace=other)
                seen[other] = await call(system.connection, bus, f"from-{namespace}")
            print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
