"""Timers and schedules: commands that an actor sends to itself later."""

import msgspec

from runtime.actor.message import Command, Message, contract_of
from runtime.actor.schedules import schedule_fault
from runtime.clocks import YEAR, is_duration
from runtime.errors import DeclarationError
from runtime.wire.tokens import key_token

_LONGEST = 100 * YEAR
"""The most seconds until a timer is due: a hundred years."""


class Timer(msgspec.Struct):
    """A timer, a schedule, or the cancellation of one of them."""

    name: str
    """The name, unique for the key."""
    message: Message | None
    """The command; None for a cancellation."""
    after: float = 0.0
    """Seconds from the commit."""
    schedule: str = ""
    """``@every 1m``, ``@daily``, or a cron expression; empty for a timer that fires once."""
    zone: str = ""
    """The time zone of a cron expression; empty for UTC."""
    cancel: bool = False
    body: bytes = b""
    """The body of the command in JSON, if it was received; empty to encode the command."""

    def check(self, actor: str) -> None:
        """Check that the server accepts the timer of an actor.

        Raises:
            DeclarationError: The time, schedule, zone or message is invalid.
            CodecError: The name is too long.
        """
        key_token(self.name)
        if not is_duration(self.after, 0.0, _LONGEST):
            raise DeclarationError(f"{actor}: a timer is due in 0 s to a hundred years, not in {self.after!r} s")
        if self.schedule and (fault := schedule_fault(self.schedule, self.zone)) is not None:
            raise DeclarationError(f"{actor}: {fault}")
        if self.message is not None:
            contract = contract_of(self.message)
            if not isinstance(self.message, Command) or contract.actor != actor:
                raise DeclarationError(
                    f"{type(self.message).__name__} is no command of {actor!r}: a timer is a command to oneself"
                )
