"""Rules: reactions that select events by a pattern over their content.

    python examples/rules.py
    actorloom run examples.rules    # or serve it, and in another terminal:
    actorloom command sensors.record room=cellar celsius=-3
    nats req watch.query.get_alarms '{"room": "cellar"}'

It prints::

    cellar, 6 measured: frost at -3.0, frost at -8.5, heat at 41.0, damp
    kitchen, 2 measured: heat at 55.0
"""

import asyncio

from msgspec import Struct

from runtime import Actor, Command, Event, Query, command, local, query, react


class Record(Command[None], actor="sensors"):
    room: str
    celsius: float
    tags: tuple[str, ...] = ()
    battery_low: bool = False


class Measured(Event, actor="sensors", key="room", rename="camel"):
    room: str
    celsius: float
    tags: tuple[str, ...] = ()
    battery_low: bool = False


class Sensors(Actor):
    """Emits measurements."""

    name = "sensors"

    @command
    async def record(self, message: Record) -> None:
        self.emit(Measured.of(message))


class Alarms(Struct, frozen=True):
    texts: tuple[str, ...] = ()
    measured: int = 0


class GetAlarms(Query[Alarms], actor="watch", key="room"):
    room: str


class Watch(Actor[Alarms]):
    """Raises alarms and counts measurements."""

    name = "watch"

    # A pattern is checked when the class is created. It is applied to the JSON of the event, so it uses the names on the
    # wire (batteryLow, not battery_low). All fields must match, each with one of its listed values; a list in the event
    # matches if one of its elements does. The operators are those of Amazon EventBridge: numeric, prefix, suffix, wildcard,
    # anything-but, exists, equals-ignore-case, cidr, and $or between patterns.
    @react(where={"celsius": [{"numeric": ["<", 0]}], "room": [{"anything-but": {"prefix": "freezer"}}]})
    async def on_frost(self, event: Measured) -> None:
        self._alarm(f"frost at {event.celsius}")

    @react(
        where={
            "$or": [{"celsius": [{"numeric": [">", 50]}]}, {"celsius": [{"numeric": [">", 40]}], "room": ["cellar"]}]
        }
    )
    async def on_heat(self, event: Measured) -> None:
        self._alarm(f"heat at {event.celsius}")

    @react(where={"tags": ["damp", "wet"], "batteryLow": [False]})
    async def on_damp(self, event: Measured) -> None:
        self._alarm("damp")

    # Several reactions to one event run one after another, each in a turn of its own. This one matches every event.
    @react
    async def on_measured(self, event: Measured) -> None:
        alarms = self.state or Alarms()
        self.state = Alarms(alarms.texts, alarms.measured + 1)

    @query
    async def get_alarms(self, message: GetAlarms) -> Alarms:
        return self.state or Alarms()

    def _alarm(self, text: str) -> None:
        alarms = self.state or Alarms()
        self.state = Alarms((*alarms.texts, text), alarms.measured)


MEASURED = [
    Record("cellar", 12),
    Record("cellar", -3),
    Record("freezer-1", -18),
    Record("kitchen", 41),
    Record("cellar", -8.5),
    Record("kitchen", 55),
    Record("cellar", 41),
    Record("cellar", 9, tags=("wet", "dark")),
    Record("cellar", 9, tags=("wet",), battery_low=True),
]


async def main() -> None:
    async with local(Sensors, Watch) as bus:
        for record in MEASURED:
            await bus.command(record)
        for room in ("cellar", "kitchen"):
            expected = sum(record.room == room for record in MEASURED)
            while (alarms := await bus.query(GetAlarms(room))).measured < expected:
                await asyncio.sleep(0.01)
            print(f"{room}, {alarms.measured} measured: {', '.join(alarms.texts)}")


if __name__ == "__main__":
    asyncio.run(main())
