"""Counter: one state per key. Commands of a key run one after another; queries do not wait for them.

    python examples/counter.py
    actorloom run examples.counter    # or serve it, and in another terminal:
    actorloom command counter.add name=apples by=3
    nats req counter.command.add '{"name": "apples", "by": 3}' -H 'Idempotency-Key: my-id-1'
    nats req counter.query.get_count '{"name": "apples"}'

It prints::

    5
    while a slow command runs: 5
    and when it is done: 6
    the same command twice: 16 and 16
    a hundred at once: 116
    refused: apples cannot be less than 0
    no pears yet
"""

import asyncio

from msgspec import Struct

from runtime import Actor, Command, Event, NotFound, Query, Rejected, command, local, not_found, query


# The state of one key. It is frozen: a handler assigns a new one to `self.state` and never changes it in place.
class Count(Struct, frozen=True):
    name: str
    value: int = 0


# `key` names the field that selects the counter. The two messages below share a key.
class GetCount(Query[Count], actor="counter", key="name"):
    name: str


class Add(Command[Count], actor="counter", key="name"):
    name: str
    by: int = 1
    seconds: float = 0
    """Seconds the handler takes."""


class CountChanged(Event, actor="counter", key="name"):  # actorloom: ignore[unread-event] - for anyone
    name: str
    value: int


class Counter(Actor[Count]):
    """Counts things by name."""

    name = "counter"

    @query
    async def get_count(self, message: GetCount) -> Count:
        return self.state or not_found(f"nothing was counted as {message.name}")

    # State, reply and event are stored together, in one message of a stream, when the handler returns. If it raises,
    # nothing is stored. The reply is sent after that.
    @command
    async def add(self, message: Add) -> Count:
        value = (self.state.value if self.state else 0) + message.by
        if value < 0:
            raise Rejected(f"{message.name} cannot be less than 0")
        await asyncio.sleep(message.seconds)
        self.state = Count(message.name, value)
        self.emit(CountChanged(message.name, value))
        return self.state


async def main() -> None:
    async with local(Counter) as bus:
        print((await bus.command(Add("apples", 5))).value)

        # A query runs in parallel with a command of its key, on the state that was committed last.
        slow = asyncio.create_task(bus.command(Add("apples", seconds=1)))
        await asyncio.sleep(0.1)
        print(f"while a slow command runs: {(await bus.query(GetCount('apples'))).value}")
        print(f"and when it is done: {(await slow).value}")

        # A command takes effect once per id, however often it is sent; later copies get the stored reply. A caller
        # without an answer can therefore send it again, as `bus.retry` does.
        first = await bus.command(Add("apples", 10), id="order-17")
        again = await bus.command(Add("apples", 10), id="order-17")
        print(f"the same command twice: {first.value} and {again.value}")

        # Commands of a key wait in its lane, so no lock is needed.
        await asyncio.gather(*(bus.command(Add("apples")) for _ in range(100)))
        print(f"a hundred at once: {(await bus.query(GetCount('apples'))).value}")

        try:
            await bus.command(Add("apples", -1000))
        except Rejected as refusal:
            print(f"refused: {refusal}")
        try:
            await bus.query(GetCount("pears"))
        except NotFound:
            print("no pears yet")


if __name__ == "__main__":
    asyncio.run(main())
