"""Actorloom: long-lived actors that query and command each other over NATS, emit events and react to them."""

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

__all__ = [
    "Accepted",
    "Actor",
    "ActorError",
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
    "new_key",
    "not_found",
    "query",
    "react",
]
