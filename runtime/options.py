"""The bounds and retry policy of an actor, in one frozen struct."""

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a failing reaction is tried again: `attempts` in all, the delay doubling from `first` to at most `longest`.

    Delays are in seconds; each is drawn between half and the whole of its nominal length. `permanent` and `transient` name
    exception classes (their subclasses count) that no further attempt can mend, or that one may although they say no.
    """

    attempts: int = 8
    first: float = 0.2
    longest: float = 30.0
    permanent: tuple[str, ...] = ()
    transient: tuple[str, ...] = ()

    def classified(self, error: BaseException) -> bool | None:
        """Return True where `error` is declared permanent, False where transient, None where nothing is said of it.

        The most specific class decides.
        """
        for kind in type(error).__mro__:
            if kind.__name__ in self.permanent:
                return True
            if kind.__name__ in self.transient:
                return False
        return None

    def delay(self, attempt: int, random: float) -> float:
        """Return the seconds to wait after attempt number `attempt` (1-based); `random` is in [0, 1)."""
        nominal = min(self.first * 2.0 ** min(attempt - 1, 60), self.longest)
        return nominal * (0.5 + random / 2)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bounds of one actor. Set them on the class (``options = Options(lane=16)``) or in the configuration."""

    concurrency: int = 256
    """Handlers that run at once (turns of different keys, or messages of an actor without state)."""
    mailbox: int = 4096
    """Messages that may wait in all; one more is refused with 429."""
    lane: int = 256
    """Messages of one key that may wait; one more is refused with 429."""
    in_hand: int = 512
    """Events fetched and not yet finished, of each stream that the actor reacts to."""
    parked: int = 10_000
    """Upper limit of parked events per stream: events that wait behind a failing event of the same key (64 MiB at most).

    They stay in memory, in addition to `in_hand`. In an actor without state, they wait at the server for their next attempt.
    At the limit, the subscription fetches few events or none until a parked one is done."""
    handled: int = 8
    """Messages that a key's record remembers at least; once it has three times as many, the others leave it for dedup entries."""
    remember: float = 86_400.0
    """Seconds for which the id of a handled command or event is remembered."""
    idle: float = 60.0
    """Seconds after which a key that nothing happens to leaves memory."""
    resident: int = 100_000
    """Keys kept in memory at most; the longest idle leave first."""
    timeout: float = 5.0
    """Seconds that a request sent by a handler may take, unless its caller's deadline is nearer."""
    retry: RetryPolicy = RetryPolicy()
    """How a failing reaction is tried again."""
