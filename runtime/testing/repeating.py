"""A handler that runs twice, as it does after a crash or a conflict, and has to send the same both times."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from runtime.actor.base import Actor, require_actor
from runtime.actor.handler import Handler
from runtime.actor.message import Message, encode_message
from runtime.errors import DeclarationError
from runtime.testing.handling import turn_of, worker
from runtime.wire.ids import new_id


class _Reversed(set[Any]):
    """A set whose iteration goes backwards: a set has another order in each process."""

    def __iter__(self) -> Iterator[Any]:
        return reversed(list(super().__iter__()))


class _ReversedFrozen(frozenset[Any]):
    """The same for a set that cannot be changed."""

    def __iter__(self) -> Iterator[Any]:
        return reversed(list(super().__iter__()))


async def repeated(actor: type[Actor[Any]], message: Message, **given: Any) -> Any:
    """Run the handler of a message twice from the same start, as `worker` does, and compare what both runs leave.

    A handler runs again if its process ends before the commit, or another process was faster. The second run has to send the same
    messages in the same order, since the receivers know them by their ids. One that goes by a clock, by random numbers or by the
    order of a set sends others. `Actor.now` and `Actor.message_id` are the same in both runs, and the sets in the message and in
    the state have another order in the second one.

    Args:
        actor: The class of the actor.
        message: A command, a query or an event. Of an event, each reaction runs twice whose `where` it matches.
        given: The arguments of `worker`: `state`, `replies` and so on.

    Returns:
        The reply of the second run; None for an event. An error that both runs raise is raised.

    Raises:
        AssertionError: The runs differ in the reply, the state, or a message or timer or its id. The text has the first difference.
        DeclarationError: The actor has no handler for the message.

    Example:
        reply = await repeated(Orders, CreateOrder("ann"), replies={GetPrice: Price(5)})
    """
    require_actor(actor)
    given = {"message_id": new_id(), "now": time.time(), **given}
    result: Any = None
    for handler in _handlers(actor, message):
        first = await _run(actor, handler, message, given, again=False)
        second = await _run(actor, handler, message, given, again=True)
        compared = (_first_difference(left, second[name], name) for name, left in first.items())
        difference = next(filter(None, compared), None)
        if difference is not None:
            raise AssertionError(f"{actor.name} {handler.source}: a second run differs from the first: {difference}")
        result = second["the reply"]
        if isinstance(result, _Raised):
            raise result.error
    return result


class _Raised:
    """The error that a handler has raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Raised) and repr(other) == repr(self)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"{type(self.error).__name__}({str(self.error)!r})"


def _handlers(actor: type[Actor[Any]], message: Message) -> list[Handler]:
    found = [each for each in actor.handlers.all() if type(message) is each.contract.type]
    if not found:
        raise DeclarationError(f"{actor.name} has no handler for {type(message).__name__}")
    body = msgspec.json.decode(encode_message(message))
    return [each for each in found if each.matches is None or each.matches(body)]


async def _run(
    actor: type[Actor[Any]], handler: Handler, message: Message, given: dict[str, Any], *, again: bool
) -> dict[str, Any]:
    """Run a handler, and return what it has left, by name and in the order of the comparison."""
    if again:
        message = _rearranged(message)
    under_test: Any = worker(actor, **given)
    if again:
        type(under_test)._arranged = staticmethod(_rearranged)
    try:
        reply = await getattr(under_test, handler.method)(message)
    except Exception as error:  # noqa: BLE001 - the test gets it, if both runs raise it
        reply = _Raised(error)
    call = turn_of(under_test)
    return {
        "sent": under_test.sent,
        "emitted": under_test.emitted,
        "told": under_test.told,
        "timers": under_test.timers,
        "checkpoints": under_test.checkpoints,
        "sent_ids": under_test.sent_ids,
        "the ids of emitted": [each for each, _, _ in call.emitted],
        "the ids of told": [each.id for each in call.told],
        "the ids of timers": [each for each, _ in call.timers],
        "state": under_test.state,
        "the reply": reply,
    }


def _rearranged(value: Any) -> Any:
    """Return a value whose sets are iterated backwards."""
    if isinstance(value, frozenset):
        return _ReversedFrozen(value)
    if isinstance(value, set):
        return _Reversed(value)
    if isinstance(value, msgspec.Struct):
        changes = {name: getattr(value, name) for name in value.__struct_fields__}
        arranged = {name: _rearranged(each) for name, each in changes.items()}
        changed = {name: each for name, each in arranged.items() if each is not changes[name]}
        return msgspec.structs.replace(value, **changed) if changed else value
    if isinstance(value, list | tuple):
        parts = [_rearranged(each) for each in value]
        same = all(one is two for one, two in zip(parts, value, strict=True))
        return value if same or type(value) not in (list, tuple) else type(value)(parts)
    if isinstance(value, dict):
        return {key: _rearranged(each) for key, each in value.items()}
    return value


def _first_difference(first: Any, second: Any, path: str = "") -> str | None:
    """Return where two values differ, and how; None if they are equal."""
    parts = _parts(first, second) if type(first) is type(second) else None
    if parts is None:
        return None if first == second else f"{path} is {first!r} in the first run, and {second!r} in the second"
    if isinstance(first, list | tuple) and len(first) != len(second):
        return f"{path} has {len(first)} in the first run and {len(second)} in the second: {first!r}, then {second!r}"
    for step, one, two in parts:
        if (found := _first_difference(one, two, path + step)) is not None:
            return found
    return None


def _parts(first: Any, second: Any) -> list[tuple[str, Any, Any]] | None:
    """Return the parts of two values of one type, each with its step in a path; None for values without parts."""
    if isinstance(first, msgspec.Struct):
        return [(f".{name}", getattr(first, name), getattr(second, name)) for name in first.__struct_fields__]
    if isinstance(first, list | tuple):
        return [(f"[{number}]", one, two) for number, (one, two) in enumerate(zip(first, second, strict=False))]
    if isinstance(first, dict) and first.keys() == second.keys():
        return [(f"[{key!r}]", value, second[key]) for key, value in first.items()]
    return None
