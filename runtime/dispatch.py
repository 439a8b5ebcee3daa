"""Dispatch: the endpoints of one actor type, and what they share (architecture.md §3, steps 1, 2 and 7)."""

from collections.abc import Callable
from typing import Any

from .actor import Actor
from .call import Lists, Requests
from .commands import CommandEndpoint
from .mailbox import Workers
from .nats.connection import Connection
from .options import Options
from .queries import QueryEndpoint
from .subject import Names
from .tracing import ServiceTracer
from .turn import Turns


class Dispatcher:
    """The endpoints of one actor type, and what they share."""

    def __init__(
        self,
        actor: Actor[Any],
        names: Names,
        connection: Connection,
        requests: Requests,
        turns: Turns,
        options: Options,
        tracer: ServiceTracer,
        lists: Lists | None,
        crashed: Callable[[BaseException], None],
    ) -> None:
        self.actor = actor
        self.names = names
        self.connection = connection
        self.requests = requests
        self.work = turns
        self.keyed = actor.state_type is not None
        self.options = options
        self.tracer = tracer
        self.lists = lists
        self.workers = Workers(options.concurrency, crashed)
        handlers = actor.handlers
        self.endpoints: list[QueryEndpoint | CommandEndpoint] = [
            *(QueryEndpoint(self, handler) for handler in handlers.queries.values()),
            *(CommandEndpoint(self, handler) for handler in handlers.commands.values()),
        ]

    def retry_after(self) -> float:
        """Return the seconds after which an overloaded caller may try again."""
        return round(min(0.05 + len(self.workers) / 5000, 2.0), 3)
