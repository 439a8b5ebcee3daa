"""Actors that call others: a stateless gateway, and an actor whose nested command comes back to its own key."""

import asyncio
from typing import Any

import msgspec

from runtime import Actor, CallCycle, Command, Query, command, query
from tests.support.counting import Add, Count
from tests.support.handlers import RUN_COUNTS, gate


class Forward(Command[Count], actor="gateway"):
    """Adds to a counter with a nested command. The handler fails afterwards if `fail` is set."""

    name: str
    by: int = 1
    fail: bool = False


class Echo(Query[Any], actor="gateway"):
    """Returns `value`.

    The values ``fail``, ``timeout`` and ``cancel`` end the handler with an error. A value that begins with ``gate `` is
    also the name of a gate, which the handler awaits first.
    """

    value: Any = None


class GetDeadline(Query[float | None], actor="gateway"):
    """Returns the deadline of this query, in Unix seconds."""


class GetNestedDeadline(Query[float | None], actor="gateway"):
    """Returns the deadline that a nested query sees, in Unix seconds."""


class CallRounds(Command[str], actor="gateway"):
    """Sends `CallGateway` for the key `name`, and returns its reply, or the text of the `CallCycle` error."""

    name: str


class Gateway(Actor):
    """A stateless actor that forwards commands, echoes values and shows deadlines."""

    name = "gateway"

    @command
    async def forward(self, message: Forward) -> Count:
        RUN_COUNTS[f"forward {message.name}"] += 1
        count = await self.command(Add(message.name, message.by))
        if message.fail:
            raise RuntimeError("secret-4711")
        return count

    @query
    async def echo(self, message: Echo) -> Any:
        if message.value == "fail":
            raise RuntimeError("secret-4711")
        if message.value == "timeout":
            raise TimeoutError("secret-4711")
        if message.value == "cancel":
            future = asyncio.get_running_loop().create_future()
            future.cancel("secret-4711")
            await future
        if isinstance(message.value, str) and message.value.startswith("gate "):
            await gate(message.value).wait()
        return message.value

    @query
    async def get_nested_deadline(self, message: GetNestedDeadline) -> float | None:
        return await self.query(GetDeadline())

    @query
    async def get_deadline(self, message: GetDeadline) -> float | None:
        return self.deadline

    @command
    async def call_rounds(self, message: CallRounds) -> str:
        try:
            return str(await self.command(CallGateway(message.name)))
        except CallCycle as error:
            return str(error)


class CallGateway(Command[str], actor="rounds", key="name"):
    """Sends `CallRounds`, which comes back to this key: a call cycle."""

    name: str


class Round(msgspec.Struct, frozen=True):
    laps: int = 0


class Rounds(Actor[Round]):
    """A keyed actor whose only command ends in a call cycle through the gateway."""

    name = "rounds"

    @command
    async def call_gateway(self, message: CallGateway) -> str:
        return await self.command(CallRounds(message.name))
