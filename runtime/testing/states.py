"""Stored states of earlier versions, read as this version of an actor reads them."""

from typing import Any

import msgspec

from runtime.actor.base import Actor, require_actor
from runtime.bounds import Count, check
from runtime.errors import DeclarationError
from runtime.storage.record import Unreadable
from runtime.storage.state import States


def read_state(actor: type[Actor[Any]], stored: bytes | str, version: int) -> Any:
    """Return the state that an actor reads from the JSON of a stored one. It is upgraded first, if an older version wrote it.

    Keep the JSON of one state of each version beside the tests, and compare it after each change of the type or the upgrades.

    Args:
        actor: The class of the actor.
        stored: The JSON of the state.
        version: The `Actor.state_version` of the class that stored it.

    Returns:
        The state; None for ``null``.

    Raises:
        ValueError: The JSON cannot be read as a state of the actor, or an upgrade fails. The text has the reason.
        DeclarationError: The actor has no state.

    Example:
        assert read_state(Orders, b'{"total":5}', version=1) == Order(total=5, currency="EUR")
    """
    require_actor(actor)
    check("version", version, Count)
    if actor.state_type is None:
        raise DeclarationError(f"{actor.name} has no state")
    states = States(actor.name, actor.state_type, actor.state_version, actor.upgrades)
    raw = msgspec.Raw((stored.encode() if isinstance(stored, str) else stored).strip())
    label = f"{actor.name}, a state of version {version}"
    try:
        return states.read(version, raw, label)
    except Unreadable as error:
        raise ValueError(f"{label}: {error.reason.removeprefix(f'{label}: ')}") from error.__cause__
