"""Alarms: timers and schedules of one key each, and what the key saw of them."""

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from runtime import Actor, Command, Options, RetryPolicy, command


class Rings(Struct, frozen=True):
    """`rang`: note and lateness (seconds; negative: too early) of each ring; `ids`: the ids of the rings."""

    rang: tuple[tuple[str, float], ...] = ()
    ids: tuple[str, ...] = ()
    due: float = 0.0
    """When the last alarm that was set is due, in unix seconds."""


class SetAlarm(Command[float], actor="alarms", key="key"):
    """Ring once in `after` seconds; one that is set is replaced. The reply says when it is due, in unix seconds."""

    key: str
    after: float
    note: str = ""


class Every(Command[None], actor="alarms", key="key"):
    """Ring again and again."""

    key: str
    schedule: str
    zone: str = ""


class Cancel(Command[float], actor="alarms", key="key"):
    """Ring no more. The reply says when that was, in unix seconds."""

    key: str


class Ring(Command[None], actor="alarms", key="key"):
    key: str
    note: str
    due: float = 0.0


class Alarms(Actor[Rings]):
    """Rings."""

    name = "alarms"
    options: ClassVar[Options] = Options(handled=8, retry=RetryPolicy(attempts=1000, first=0.05, longest=0.5))

    @command
    async def set_alarm(self, message: SetAlarm) -> float:
        due = self.now + message.after
        self.remind(message.after, Ring(message.key, message.note, due), name="alarm")
        self.state = replace(self.state or Rings(), due=due)
        return due

    @command
    async def every(self, message: Every) -> None:
        self.schedule(message.schedule, Ring(message.key, "again"), name="alarm", zone=message.zone)

    @command
    async def cancel_alarm(self, message: Cancel) -> float:
        self.cancel("alarm")
        return self.now

    @command
    async def ring(self, message: Ring) -> None:
        state = self.state or Rings()
        late = self.now - message.due if message.due else 0.0
        self.state = replace(state, rang=(*state.rang, (message.note, late)), ids=(*state.ids, self.message_id))
