"""Dispatch: the endpoints of one actor type, and what they share (architecture.md §3, steps 1, 2 and 7)."""

from collections.abc import Callable
from typing import Any

from runtime.actor.base import Actor
from runtime.actor.call import Lists, Requests
from runtime.intake.commands import CommandEndpoint
from runtime.intake.queries import QueryEndpoint
from runtime.nats.connection import Connection
from runtime.options import Options
from runtime.telemetry import ServiceTracer
from runtime.turns.turn import Turns
from runtime.turns.workers import Workers
from runtime.wire.subjects import Names


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
