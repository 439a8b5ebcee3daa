"""The outcome of a handler: what it leaves for the commit of its turn, encoded and read back.

Nothing is stored or sent that its own type cannot read. An outcome is made before the commit, so that a value which does not
fit fails its message alone, and nothing of it takes effect.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.actor.call import TurnCall
from runtime.actor.handler import Handler
from runtime.actor.message import codec_of, encode_message
from runtime.actor.state_type import StateCodec
from runtime.actor.timer import Timer
from runtime.errors import InvalidValue
from runtime.wire.codec import encode

_NULL = b"null"


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """What a handler leaves. Each JSON text is one that its type reads."""

    value: Any
    """The returned value."""
    reply: bytes
    """The JSON of `value`."""
    state: Any
    """The state. A new one is as it is read from `body`, and no other object has a reference to its parts."""
    body: bytes
    """The JSON of the state; ``null`` for none."""
    events: Sequence[bytes] = ()
    """The JSON of each event in `TurnCall.emitted`."""
    timers: Sequence[bytes] = ()
    """The JSON of the command of each timer in `TurnCall.timers`; ``null`` for a cancellation."""
    told: Sequence[bytes] = ()
    """The JSON of each command in `TurnCall.told`."""


def settle(handler: Handler, call: TurnCall, value: Any, before: Any, states: StateCodec | None) -> Outcome:
    """Return the outcome of a handler that has returned.

    Args:
        handler: The handler.
        call: Its call.
        value: The value that it returned.
        before: The state of the key before the call.
        states: The codec of the states; None for an actor without state.

    Raises:
        InvalidValue: A value does not fit its type, or the handler has changed the state in place.
    """
    if states is None:
        reply, state, body = handler.result.encode(value, "reply"), None, _NULL
    elif value is not None and value is call.state and handler.result.type is states.type:
        state, body = _settle_state(call, before, states)
        reply = body
    else:
        reply = handler.result.encode(value, "reply")
        state, body = _settle_state(call, before, states)
    if not call.emitted and not call.timers and not call.told:
        return Outcome(value, reply, state, body)
    return Outcome(
        value,
        reply,
        state,
        body,
        [codec_of(type(event)).encode(event, "event") for _, event, _ in call.emitted],
        [_timer_body(timer) for _, timer in call.timers] if call.timers else (),
        [encode_message(told.message) for told in call.told] if call.told else (),
    )


def _timer_body(timer: Timer) -> bytes:
    if timer.message is None:
        return _NULL
    return timer.body or encode_message(timer.message)


def _settle_state(call: TurnCall, before: Any, states: StateCodec) -> tuple[Any, bytes]:
    """Return the state that a handler leaves, and its JSON. If it has the same JSON as the one before, that one stays.

    The JSON is compared, since unlike values may be equal: 1 and True, two dicts of another order, one time in two zones.
    """
    state = call.state
    if call.assigned:
        if state is None:
            return None, _NULL
        if state is not before:
            body, state = states.read_back(state, "state")
            if states.check is not None:
                states.check(state)
            if before is None or (states.comparable and state != before) or body != encode(before):
                return state, body
            return before, body
    elif states.mutable and before is not None and states.is_changed(state, before):
        raise InvalidValue(
            f"{call.scope.actor} {call.scope.source}: the handler changed a part of self.state in place: "
            "assign a new state, self.state = …"
        )
    return before, _NULL if before is None else encode(before)
