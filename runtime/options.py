"""The limits and the retry policy of an actor, as frozen structs. Each number has bounds, which its type shows."""

from typing import Annotated

import msgspec

from runtime.backoff import Backoff
from runtime.bounds import (
    MOST_PARTITIONS,
    Bounded,
    Count,
    CountOrNone,
    Partitions,
    Seconds,
    SecondsOrForever,
    SecondsOrNone,
)
from runtime.errors import ConfigurationError


class RetryPolicy(Bounded, frozen=True, forbid_unknown_fields=True):
    """The attempts at a failing reaction, or at a request of `Bus.retry`, and the delays between them.

    The delay doubles with each attempt. Each delay is chosen at random between half and all of its nominal length, so that
    callers that failed together do not return together.

    Example:
        RetryPolicy(attempts=5, first=0.5, transient=("NotFound",))
    """

    attempts: Count = 8
    """Attempts in all. After the last one, an event becomes a dead letter."""
    first: SecondsOrNone = 0.2
    """Nominal delay after the first attempt, in seconds."""
    longest: SecondsOrNone = 30.0
    """Upper limit of the nominal delay, in seconds."""
    unserved: SecondsOrNone = 43_200.0
    """Seconds for which a reaction, timer or job waits for a service that its handler calls and that no process serves.

    Such an attempt is repeated after the same delays, but is none of `attempts`: the request was certainly not executed. After
    this time, the event becomes a dead letter. The time is less than `Options.remember`, so that the services which the
    handler did reach still know its commands."""
    permanent: tuple[str, ...] = ()
    """Names of exception classes that are not retried: the event becomes a dead letter at once. Subclasses count."""
    transient: tuple[str, ...] = ()
    """Names of exception classes that are retried although they are refusals, such as `Rejected`. Subclasses count."""

    def is_permanent(self, error: BaseException) -> bool | None:
        """Return whether `error` is declared permanent.

        Returns:
            True if it is permanent, False if it is transient, None if the policy does not list it. If the policy lists
            several of its classes, the most specific one decides.
        """
        for kind in type(error).__mro__:
            if kind.__name__ in self.permanent:
                return True
            if kind.__name__ in self.transient:
                return False
        return None

    def delay(self, attempt: int, random: float) -> float:
        """Return the delay after an attempt, in seconds.

        Args:
            attempt: The number of the attempt that failed, from 1 on.
            random: A random number in [0, 1).
        """
        return Backoff(self.first, self.longest).nominal(attempt) * (0.5 + random / 2)


class Options(Bounded, frozen=True, forbid_unknown_fields=True):
    """The limits of one actor.

    Set them on the class (``options = Options(lane=16)``), or in the configuration file under ``[actors.<name>]``.
    """

    concurrency: Count = 256
    """Upper limit of handlers that run at once: turns of different keys, or messages of an actor without state."""
    mailbox: Count = 4096
    """Upper limit of waiting messages in all. A further message is refused with 429."""
    lane: Count = 256
    """Upper limit of waiting messages per key. A further message is refused with 429."""
    in_hand: Count = 512
    """Upper limit of events per stream that are fetched and not finished."""
    parked: CountOrNone = 10_000
    """Upper limit of parked events per stream: events that wait behind a failing event of the same key (64 MiB at most).

    They stay in memory, in addition to `in_hand`. In an actor without state, they wait at the server for their next attempt,
    or in memory for a service that is down.
    At the limit, the subscription fetches few events or none until a parked one is done."""
    handled: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 8
    """Handled messages that the record of a key keeps at least. At three times as many, the oldest move to dedup entries."""
    remember: Annotated[float, msgspec.Meta(ge=1, le=315_360_000)] = 86_400.0
    """Seconds for which the id of a handled command or event is kept, ten years at most. A message with the same id takes no effect."""
    idle: SecondsOrNone = 60.0
    """Seconds without a message after which a key leaves memory."""
    resident: Count = 100_000
    """Upper limit of keys in memory. The keys that have been idle for longest leave first."""
    timeout: Seconds = 5.0
    """Seconds that a request from a handler may take, unless the deadline of its caller is earlier."""
    limit: SecondsOrForever = 0.0
    """Seconds that one run of a handler may take; 0 for no limit. A handler may have a limit of its own.

    At its limit, or at the deadline of its caller if that is earlier, a handler gets `asyncio.CancelledError` where it awaits.
    Its message then fails, and nothing of it is stored. An infinite limit also lifts the cut at the deadline. A query or command
    with neither is cut after 10 s if all workers are taken and other messages wait."""
    slow: SecondsOrNone = 10.0
    """Seconds after which a handler that still runs is logged and counted; 0 for never. Later log lines follow at twice, four
    times and so on."""
    every: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    """Other schedules for recurring commands (``@command(every=…)``), by the name of the method: ``{"sweep": "@every 5m"}``. ``off``
    pauses one."""
    retry: RetryPolicy = RetryPolicy()
    """The retry policy of failing reactions."""
    partitions: Partitions = 1
    """Parts of the keys, each of which another process can own: a power of two, 64 at most. All processes of the actor have
    the same number; it changes by `actorloom repartition`. The other limits of this class hold for each partition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.partitions & (self.partitions - 1):
            raise ConfigurationError(
                f"Options.partitions = {self.partitions}: use a power of two, {MOST_PARTITIONS} at most"
            )
