"""Alarms: an actor with one timer or schedule per key, which records each time that it fires."""

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from runtime import Actor, Command, Options, RetryPolicy, command


class Rings(Struct, frozen=True):
    """The rings of one key: note and lateness of each (seconds, negative if too early), and their message ids."""

    rang: tuple[tuple[str, float], ...] = ()
    ids: tuple[str, ...] = ()
    due: float = 0.0
    """Time at which the latest alarm is due, in Unix seconds."""


class SetAlarm(Command[float], actor="alarms", key="key"):
    """Sets or replaces the alarm, which rings once after `after` seconds. The reply is its time, in Unix seconds."""

    key: str
    after: float
    note: str = ""


class Every(Command[None], actor="alarms", key="key"):
    """Sets a schedule in place of the alarm."""

    key: str
    schedule: str
    zone: str = ""


class Cancel(Command[float], actor="alarms", key="key"):
    """Cancels the alarm or schedule. The reply is the time of the cancellation, in Unix seconds."""

    key: str


class Ring(Command[None], actor="alarms", key="key"):
    key: str
    note: str
    due: float = 0.0


class Alarms(Actor[Rings]):
    """Sets alarms and records their rings."""

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
