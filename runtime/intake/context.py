"""The parts of a running actor that all its endpoints share."""

import msgspec

from runtime.actor.call import Lists, Requests
from runtime.turns.admission import QUERIES_PER_SECOND, retry_after
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.turns.workers import Workers


class Context(msgspec.Struct, frozen=True, eq=False):
    """The parts that the endpoints of one actor share, for one ownership."""

    served: Served
    requests: Requests
    """The bus, for handlers that send queries and commands."""
    turns: Turns
    workers: Workers
    """The workers that run the queries."""
    lists: Lists | None
    """The indexes of the actor; None if it has none."""

    def retry_after(self) -> float:
        """Return the seconds after which a caller whose query was refused may try again."""
        return retry_after(len(self.workers), QUERIES_PER_SECOND)
