"""Actorloom: long-lived actors that query and command each other over NATS, emit events and react to events."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.actor.any_command import AnyCommand
    from runtime.actor.any_event import AnyEvent
    from runtime.actor.base import Actor
    from runtime.actor.decorators import command, query, react
    from runtime.actor.indexes import Index, Page
    from runtime.actor.message import Accepted, Command, Event, Message, Query, new_key
    from runtime.client.bus import Bus, connect
    from runtime.client.tapped import TappedEvent
    from runtime.errors import (
        ActorError,
        CallCycle,
        CodecError,
        ConfigurationError,
        DeadlineExceeded,
        DeclarationError,
        Forbidden,
        HandlerFailed,
        IdReused,
        InvalidMessage,
        NotDelivered,
        NotFound,
        Overloaded,
        PublishError,
        Rejected,
        RemoteError,
        RequestError,
        Retry,
        TooLarge,
        not_found,
    )
    from runtime.host.local import local
    from runtime.host.process import Runner
    from runtime.options import Options, RetryPolicy

    __version__: str

__all__ = [
    "Accepted",
    "Actor",
    "ActorError",
    "AnyCommand",
    "AnyEvent",
    "Bus",
    "CallCycle",
    "CodecError",
    "Command",
    "ConfigurationError",
    "DeadlineExceeded",
    "DeclarationError",
    "Event",
    "Forbidden",
    "HandlerFailed",
    "IdReused",
    "Index",
    "InvalidMessage",
    "Message",
    "NotDelivered",
    "NotFound",
    "Options",
    "Overloaded",
    "Page",
    "PublishError",
    "Query",
    "Rejected",
    "RemoteError",
    "RequestError",
    "Retry",
    "RetryPolicy",
    "Runner",
    "TappedEvent",
    "TooLarge",
    "command",
    "connect",
    "local",
    "new_key",
    "not_found",
    "query",
    "react",
]


_MODULES = {
    "Accepted": "runtime.actor.message",
    "Actor": "runtime.actor.base",
    "ActorError": "runtime.errors",
    "AnyCommand": "runtime.actor.any_command",
    "AnyEvent": "runtime.actor.any_event",
    "Bus": "runtime.client.bus",
    "CallCycle": "runtime.errors",
    "CodecError": "runtime.errors",
    "Command": "runtime.actor.message",
    "ConfigurationError": "runtime.errors",
    "DeadlineExceeded": "runtime.errors",
    "DeclarationError": "runtime.errors",
    "Event": "runtime.actor.message",
    "Forbidden": "runtime.errors",
    "HandlerFailed": "runtime.errors",
    "IdReused": "runtime.errors",
    "Index": "runtime.actor.indexes",
    "InvalidMessage": "runtime.errors",
    "Message": "runtime.actor.message",
    "NotDelivered": "runtime.errors",
    "NotFound": "runtime.errors",
    "Options": "runtime.options",
    "Overloaded": "runtime.errors",
    "Page": "runtime.actor.indexes",
    "PublishError": "runtime.errors",
    "Query": "runtime.actor.message",
    "Rejected": "runtime.errors",
    "RemoteError": "runtime.errors",
    "RequestError": "runtime.errors",
    "Retry": "runtime.errors",
    "RetryPolicy": "runtime.options",
    "Runner": "runtime.host.process",
    "TappedEvent": "runtime.client.tapped",
    "TooLarge": "runtime.errors",
    "command": "runtime.actor.decorators",
    "connect": "runtime.client.bus",
    "local": "runtime.host.local",
    "new_key": "runtime.actor.message",
    "not_found": "runtime.errors",
    "query": "runtime.actor.decorators",
    "react": "runtime.actor.decorators",
}
"""The module of each public name.

A module is imported when one of its names is used. A module that only declares messages does not import the NATS client, and
the command line can handle Ctrl-C before it imports anything large.
"""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("actorloom")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
