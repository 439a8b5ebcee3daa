"""The endpoints of one actor type: one for each query and each command."""

from runtime.intake.commands import CommandEndpoint
from runtime.intake.context import Context
from runtime.intake.queries import QueryEndpoint


def make_endpoints(context: Context) -> list[QueryEndpoint | CommandEndpoint]:
    """Return an endpoint for each query and each command of the served actor."""
    handlers = context.served.actor.handlers
    return [
        *(QueryEndpoint(context, handler) for handler in handlers.queries.values()),
        *(CommandEndpoint(context, handler) for handler in handlers.commands.values()),
    ]
