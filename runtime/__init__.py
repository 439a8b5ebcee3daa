"""Actorloom: long-lived actors that query and command each other over NATS, emit events and react to them."""

from typing import TYPE_CHECKING, Any

from .actor import Actor, Index, Page
from .errors import (
    ActorError,
    CallCycle,
    CodecError,
    ConfigurationError,
    DeadlineExceeded,
    DeclarationError,
    HandlerFailed,
    InvalidMessage,
    NotDelivered,
    NotFound,
    Overloaded,
    PublishError,
    Rejected,
    RemoteError,
    RequestError,
    Retry,
    not_found,
)
from .handler import command, query, react
from .message import Accepted, Command, Event, Query, new_key
from .options import Options, RetryPolicy

if TYPE_CHECKING:
    from .bus import Bus, connect
    from .in_process import local

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
    "command",
    "connect",
    "local",
    "new_key",
    "not_found",
    "query",
    "react",
]


def __getattr__(name: str) -> Any:
    # These bring the NATS client, three times the import of all else, which a module of messages does without.
    if name in ("Bus", "connect"):
        from . import bus

        return getattr(bus, name)
    if name == "local":
        from .in_process import local

        return local
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
