"""Subjects in documents: addresses with parameters in the place of wildcards, and ids without the namespace."""

import re
from typing import Final

from runtime.actor.metadata import RUNTIME, Reaction
from runtime.admin.discovery import Endpoint, Service

_KEY: Final = "The key, as a token of subjects: characters with a meaning in subjects are percent-encoded; `_` if the event has no key."

_TEXTS: Final = {"actor": "The name of an actor.", "event": "The name of an event in snake case.", "key": _KEY}
_OF_EVENT: Final = {-4: "actor", -2: "event", -1: "key"}
"""The names of the wildcards in the subject of an event, by their place from the end."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def safe(name: str) -> str:
    """Return a name with ``_`` in the place of each character that an id in a document cannot have."""
    return _UNSAFE.sub("_", name)


def address(subject: str) -> tuple[str, dict[str, str]]:
    """Return a subject with ``{…}`` in the place of each wildcard, and the descriptions of these parameters by name.

    ``orders.event.order_created.*`` is ``orders.event.order_created.{key}``, and ``*.event.*.*`` is
    ``{actor}.event.{event}.{key}``. If another subject has several ``*``, they are ``{part1}`` and so on. ``>`` is ``{rest}``.
    """
    tokens = subject.split(".")
    several = tokens.count("*") > 1
    names = _OF_EVENT if tokens[-3:-2] == ["event"] else {}
    parameters: dict[str, str] = {}
    for place, token in enumerate(tokens):
        if token == "*":
            name = names.get(place - len(tokens), f"part{len(parameters) + 1}" if several else "key")
            parameters[name] = _TEXTS.get(name, "Any token.")
        elif token == ">":
            name = "rest"
            parameters[name] = "One or more tokens, with dots between them."
        else:
            continue
        tokens[place] = f"{{{name}}}"
    return ".".join(tokens), parameters


def operation_id(service: Service, endpoint: Endpoint) -> str:
    """Return the id of an operation in documents: ``orders.query.get_order``."""
    return safe(f"{service.name}.{endpoint.metadata.op or 'endpoint'}.{endpoint.name}")


def event_id(service: str, subject: str, type_name: str) -> str:
    """Return the id of an event in documents, ``orders.event.order_created``; ``orders.events`` or ``events`` for any event.

    An event without a subject of that form has its type in the place of the name.
    """
    tokens = subject.split(".")
    name = tokens[-2] if tokens[-3:-2] == ["event"] else type_name
    return safe(f"{service}.event.{name}" if name != "*" else f"{service}.events".removeprefix("."))


def reaction_id(service: str, reaction: Reaction) -> str:
    """Return the id of a reaction in documents: ``loyalty.react.on_order_created``.

    A reaction to any event of several actors has an id for each of them: ``audit.react.on_event.orders``.
    """
    source = f".{reaction.source}" if reaction.name == "*" and reaction.source else ""
    return safe(f"{service}.react.{reaction.reaction or reaction.event}{source}")


def queue_group_known(service: Service) -> bool:
    """Return whether the queue group of a service is that of this package. It is unknown for another framework."""
    return service.metadata.runtime == RUNTIME
