"""The announcement of an actor in discovery (ADR-32 of NATS): its endpoints, on the subjects that anybody may use."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from runtime.actor.base import Actor
from runtime.actor.handler import Handler
from runtime.actor.metadata_texts import write_operation, write_service
from runtime.admin.discovery import Service
from runtime.contracts.from_code import service_of
from runtime.nats.micro import Endpoint, MicroService, Stats
from runtime.turns.served import Served
from runtime.wire.subjects import QUEUE

_DESCRIPTIONS: WeakKeyDictionary[Actor[Any], Service] = WeakKeyDictionary()


class Load(NamedTuple):
    """The messages of an actor that are in the memory of one process."""

    waiting: int = 0
    """Messages that wait to run, in the mailbox and in the lanes of keys."""
    blocked: int = 0
    """Keys whose first message waits for another attempt."""

    @classmethod
    def sum(cls, loads: Iterable["Load"]) -> "Load":
        """Return the load of several partitions together."""
        return cls(*map(sum, zip(*loads, strict=True))) if (loads := list(loads)) else cls()


def description_of(served: Served) -> Service:
    """Return the description of an actor as discovery announces it. It takes milliseconds, and is made once."""
    found = _DESCRIPTIONS.get(served.actor)
    if found is None:
        found = _DESCRIPTIONS[served.actor] = service_of(type(served.actor), served.namespace, served.options)
    return found


def announcement(served: Served, statistics: Iterable[tuple[Handler, Stats]], load: Callable[[], Load]) -> MicroService:
    """Return the announcement of an actor, not yet started.

    Args:
        served: The actor.
        statistics: The handlers of its queries and commands, each with the counters of its endpoint.
        load: Returns the load of this process.
    """
    described = description_of(served)
    counters = {(handler.contract.op, handler.contract.name): stats for handler, stats in statistics}
    endpoints: list[Endpoint] = []
    for each in described.endpoints:
        endpoint = Endpoint(each.name, each.subject, QUEUE, write_operation(each.metadata))
        endpoint.stats = counters[each.metadata.op, each.name]
        endpoints.append(endpoint)
    return MicroService(
        served.connection,
        described.name,
        described.version,
        described.description,
        metadata=write_service(described.metadata),
        endpoints=endpoints,
        data=lambda: load()._asdict(),
    )
