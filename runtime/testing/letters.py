"""The dead letters of actors under test, and messages that are sent again: redriven letters and replayed events."""

import asyncio
from collections.abc import Callable

import msgspec

from runtime.admin.replay import Request, Runner, ToReaction, begin, prepare
from runtime.nats.jetstream.client import JetStream
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.replays import Mode
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names

_POLL = 0.005
"""Seconds between two looks whether all messages are handled."""
_RATE = 1_000_000.0
"""Events a second of a replay: no pause between them."""


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that an actor has given up."""

    id: str
    """The name that `actorloom dlq` has for it: ``orders:17``."""
    name: str
    """The event or command, in its form in subjects: ``order_paid``."""
    key: str | None
    """The key of the message; None if it has none, or is of a foreign publisher."""
    handler: str
    """The name of the method that failed."""
    reason: str
    """The class name and the text of the last error."""
    attempts: int


class Letters:
    """Lists dead letters, and sends messages again.

    Args:
        jetstream: A client that is not that of the actors.
        is_served: Returns whether the actor of some names runs.
    """

    def __init__(self, jetstream: JetStream, is_served: Callable[[Names], bool]) -> None:
        self._jetstream = jetstream
        self._is_served = is_served

    async def read(self, names: Names) -> list[DeadLetter]:
        """Return the dead letters of an actor. See `System.dead_letters`."""
        return [
            DeadLetter(
                id=each.id,
                name=each.name,
                key=each.key,
                handler=each.failure.reaction,
                reason=each.failure.reason,
                attempts=each.failure.attempts,
            )
            async for each in DeadLetters(self._jetstream, names).read()
        ]

    async def redrive(self, names: Names, letter: DeadLetter | None, timeout: float) -> int:
        """Redrive the dead letters of an actor, or one. See `System.redrive`."""
        letters, sent = DeadLetters(self._jetstream, names), 0
        for each in await self.read(names) if letter is None else [letter]:
            actor, _, sequence = each.id.partition(":")
            sent += actor == names.actor and await letters.redrive(int(sequence))
        if letter is not None and not sent:
            raise LookupError(f"{names.actor} has no dead letter {letter.id}")
        await self._handled(names, timeout)
        return sent

    async def replay(
        self, names: Names, reaction: str, since: float, key: str | None, mode: Mode, timeout: float
    ) -> int:
        """Send stored events to one reaction. See `System.replay`."""
        wanted = Request(name=new_id(), reaction=reaction, since=since, key=key, mode=mode, rate=_RATE)
        plan = await prepare(self._jetstream, names, wanted)
        done = await Runner(
            self._jetstream, ToReaction(self._jetstream, names), await begin(self._jetstream, names, plan.replay)
        ).run()
        await self._handled(names, timeout)
        return done.sent

    async def _handled(self, names: Names, timeout: float) -> None:
        """Wait until all messages that were sent again are handled, or are dead letters, if the actor runs."""
        again = f"{names.redriven()}.*.*"
        try:
            async with asyncio.timeout(timeout):
                while self._is_served(names):
                    info = await self._jetstream.find_stream(names.dead_stream, subjects=again)
                    if info is None or not info.state.subjects:
                        return
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise TimeoutError(f"{names.actor}: the messages were not handled within {timeout:g} s") from None
