"""What the endpoints of one actor type share while it is served."""

import msgspec

from runtime.actor.call import Lists, Requests
from runtime.turns.admission import QUERIES_PER_SECOND, retry_after
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.turns.workers import Workers


class Context(msgspec.Struct, frozen=True, eq=False):
    """What the endpoints of one actor type share, from the start of an ownership to its end."""

    served: Served
    requests: Requests
    """The bus, for handlers that query and command others."""
    turns: Turns
    workers: Workers
    """They run the queries."""
    lists: Lists | None
    """The indexes, if the actor has any."""

    def retry_after(self) -> float:
        """Return the seconds after which an overloaded caller may try again."""
        return retry_after(len(self.workers), QUERIES_PER_SECOND)
