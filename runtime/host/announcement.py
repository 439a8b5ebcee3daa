"""The announcement of an actor in discovery (ADR-32 of NATS): its endpoints, on the subjects that anybody may use."""

from collections.abc import Iterable

from runtime.actor.handler import Handler
from runtime.actor.metadata import describe_operation, describe_service
from runtime.actor.metadata_texts import write_operation, write_service
from runtime.nats.micro import Endpoint, MicroService, Stats
from runtime.turns.served import Served
from runtime.wire.subjects import QUEUE


def announcement(served: Served, statistics: Iterable[tuple[Handler, Stats]]) -> MicroService:
    """Return the announcement of an actor, not yet started.

    Args:
        served: The actor.
        statistics: The handlers of its queries and commands, each with the counters of its endpoint.
    """
    endpoints: list[Endpoint] = []
    for handler, stats in statistics:
        if handler.internal:
            continue
        contract = handler.contract
        subject = served.names.request(contract.op, contract.name)
        endpoint = Endpoint(contract.name, subject, QUEUE, write_operation(describe_operation(handler)))
        endpoint.stats = stats
        endpoints.append(endpoint)
    return MicroService(
        served.connection,
        served.name,
        served.actor.version,
        (served.actor.__doc__ or "").strip().partition("\n")[0],
        metadata=write_service(describe_service(type(served.actor), served.namespace, served.options)),
        endpoints=endpoints,
    )
