"""An actor with several partitions to look into: states, timers, a recurring command, events, and dead letters."""

import msgspec

from runtime import Accepted, Actor, Command, Event, Options, Query, RetryPolicy, command, query, react

PARTITIONS = 4


class Box(msgspec.Struct, frozen=True):
    content: str = ""
    rang: tuple[str, ...] = ()


class Put(Command[str], actor="shelf", key="name"):
    """Replaces the content of a box, and emits it; an empty one deletes its state."""

    name: str
    content: str


class SetTimer(Command[None], actor="shelf", key="name"):
    """Sets a timer, or a schedule if there is a pattern."""

    name: str
    called: str
    after: float = 3600.0
    every: str = ""
    zone: str = ""


class Ring(Command[None], actor="shelf", key="name"):
    name: str
    called: str


class Dust(Command[Accepted], actor="shelf", key="name"):
    name: str = "dusty"


class Filled(Event, actor="shelf", key="name"):
    name: str
    content: str


class GetBox(Query[Box | None], actor="shelf", key="name"):
    name: str


class Shelf(Actor[Box]):
    name = "shelf"
    options = Options(partitions=PARTITIONS, handled=1, retry=RetryPolicy(attempts=1))

    @query
    async def get_box(self, message: GetBox) -> Box | None:
        return self.state

    @command
    async def put(self, message: Put) -> str:
        self.emit(Filled(message.name, message.content))
        self.state = Box(message.content, self.state.rang if self.state else ()) if message.content else None
        return message.content

    @command
    async def set_timer(self, message: SetTimer) -> None:
        ring = Ring(message.name, message.called)
        if message.every:
            self.schedule(message.every, ring, name=message.called, zone=message.zone)
        else:
            self.remind(message.after, ring, name=message.called)

    @command
    async def ring(self, message: Ring) -> None:
        box = self.state or Box()
        self.state = msgspec.structs.replace(box, rang=(*box.rang, message.called))

    @command(accept=True, every="0 0 3 1 1 *")
    async def dust(self, message: Dust) -> None:
        self.state = self.state or Box()

    @react
    async def on_filled(self, event: Filled) -> None:
        if event.content == "poison":
            raise RuntimeError("it cannot be\nhandled \x1b[31m")
