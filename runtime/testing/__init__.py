"""The test kit: handlers called by themselves, and actors on a real nats-server.

A handler by itself, with a reply for each message that it sends:

    orders = worker(Orders, key="1", state=Order(...), replies={GetPrice: Price(5)})
    await orders.create_order(CreateOrder(...))
    assert orders.emitted == [OrderCreated(...)]

Actors on a server, under pytest with the fixtures of `plugin`:

    async def test_an_order_is_paid(actors: Actors) -> None:
        async with actors(Orders, Payments) as system:
            await system.bus.command(CreateOrder(...))
            await system.until(lambda: ...)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.actor.timer import Timer
    from runtime.nats.server import EmbeddedServer
    from runtime.testing.handling import Replies, Worker, worker
    from runtime.testing.letters import DeadLetter
    from runtime.testing.repeating import repeated
    from runtime.testing.states import read_state
    from runtime.testing.system import Actors, System, running

__all__ = [
    "Actors",
    "DeadLetter",
    "EmbeddedServer",
    "Replies",
    "System",
    "Timer",
    "Worker",
    "read_state",
    "repeated",
    "running",
    "worker",
]

_MODULES = {
    "Actors": "runtime.testing.system",
    "DeadLetter": "runtime.testing.letters",
    "EmbeddedServer": "runtime.nats.server",
    "Replies": "runtime.testing.handling",
    "System": "runtime.testing.system",
    "Timer": "runtime.actor.timer",
    "Worker": "runtime.testing.handling",
    "read_state": "runtime.testing.states",
    "repeated": "runtime.testing.repeating",
    "running": "runtime.testing.system",
    "worker": "runtime.testing.handling",
}
"""The module of each public name, which is imported when the name is used: pytest imports this package for its plugin."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
