"""Actorloom: long-lived actors that query and command each other over NATS, emit events and react to events."""

from typing import TYPE_CHECKING, Any

from runtime.actor.base import Actor
from runtime.actor.handler import command, query, react
from runtime.actor.indexes import Index, Page
from runtime.actor.message import Accepted, Command, Event, Query, new_key
from runtime.errors import (
    ActorError,
    CallCycle,
    CodecError,
    ConfigurationError,
    DeadlineExceeded,
    DeclarationError,
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
from runtime.options import Options, RetryPolicy

if TYPE_CHECKING:
    from runtime.client.bus import Bus, connect
    from runtime.host.local import local

__all__ = [
    "Accepted",
    "Actor",
    "ActorError",
    "Bus",
    "CallCycle",
    "CodecError",
    "Command",
    "ConfigurationError",
    "DeadlineExceeded",
    "DeclarationError",
    "Event",
    "HandlerFailed",
    "IdReused",
    "Index",
    "InvalidMessage",
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
    "TooLarge",
    "command",
    "connect",
    "local",
    "new_key",
    "not_found",
    "query",
    "react",
]


def __getattr__(name: str) -> Any:
    # These names import the NATS client, which takes three times as long as the rest. A module that only declares messages
    # does not need it.
    if name in ("Bus", "connect"):
        from runtime.client import bus

        return getattr(bus, name)
    if name == "local":
        from runtime.host.local import local

        return local
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
