"""What an actor does, for the log: the number of its handlers, and the messages that it does not handle."""

import logging
from typing import Any

from runtime.actor.any_event import AnyEvent
from runtime.actor.base import Actor
from runtime.actor.handler import HandlerTable

logger = logging.getLogger("actorloom.host")


def summary(handlers: HandlerTable) -> str:
    """Return what an actor does: ``serves 1 query and 2 commands, reacts to 2 events``."""
    counts = (len(handlers.queries), "query", "queries"), (len(handlers.commands), "command", "commands")
    served = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    events = len(handlers.reactions.keys() - {AnyEvent})
    reacts = [f"{events} event{'s' * (events != 1)}"] if events else []
    reacts += ["events of any type"] if AnyEvent in handlers.reactions else []
    parts = [f"serves {' and '.join(served)}"] if served else []
    parts += [f"reacts to {' and '.join(reacts)}"] if reacts else []
    return ", ".join(parts) or "has no handlers"


def warn_of_unhandled_messages(actor: type[Actor[Any]]) -> None:
    """Log each query and command of an actor's contract that it does not handle."""
    for contract in actor.handlers.unhandled(actor.name, actor.__module__):
        text, module = "%s: no handler for the %s %s of %s", contract.type.__module__
        logger.warning(text, actor.name, contract.op, contract.type.__name__, module)
