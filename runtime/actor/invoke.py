"""The call of a handler. This module alone runs the function of a handler."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from runtime.actor.base import Actor, set_call
from runtime.actor.call import Call
from runtime.actor.handler import Handler

Invoke = Callable[[Handler, Call, Any], Awaitable[Any]]
"""Takes a handler, its call and its message, and returns the awaitable of the handler's value."""


def make_invoke(actor: Actor[Any]) -> Invoke:
    """Return the function that runs the handlers of an actor.

    Each run gets a view of the actor: an object with the attributes of `actor`, as `on_start` and its tasks have set them,
    and with the call of the run.

    Args:
        actor: The only instance of the actor in this process.
    """
    create, attributes = _creator(type(actor)), actor.__dict__

    def invoke(handler: Handler, call: Call, message: Any) -> Awaitable[Any]:
        view = create()
        if attributes:
            view.__dict__.update(attributes)
        set_call(view, call)
        function = handler.run  # calling an attribute in one step costs a search of its class first
        return function(view, message)

    return invoke


def make_view(actor: Actor[Any], call: Call, kind: type[Actor[Any]] | None = None) -> Actor[Any]:
    """Return the view of an actor that the handler of one call gets.

    Args:
        actor: The actor, whose attributes the view has.
        call: The call.
        kind: The class of the view; by default that of `actor`.
    """
    view = _creator(kind or type(actor))()
    view.__dict__.update(actor.__dict__)
    set_call(view, call)
    return view


def _creator(kind: type[Actor[Any]]) -> Callable[[], Actor[Any]]:
    """Return a function that creates bare objects of a class.

    Calling the class is the fastest way. A class with an `__init__` needs another one, since `__init__` must not run for a
    view.
    """
    return kind if kind.__init__ is object.__init__ else partial(object.__new__, kind)
