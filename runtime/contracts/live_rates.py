"""The live rates of services, by two looks a second apart."""

import asyncio

from runtime.admin.figures import Watch
from runtime.contracts.graph import Rates
from runtime.errors import ActorError
from runtime.nats.connection import Connection
from runtime.nats.jetstream.client import JetStream
from runtime.wire.subjects import Names


async def live_rates(connection: Connection, namespace: str, seconds: float = 1.0) -> dict[str, Rates]:
    """Return the rates of the running services of a namespace, by name.

    Args:
        connection: The connection.
        namespace: The namespace; empty for the services without one.
        seconds: The time between the two looks.

    Raises:
        PublishError: There is no connection.
    """
    watch, jetstream, clock = Watch(connection, namespace), JetStream(connection), asyncio.get_running_loop().time
    names = [each.name for each in await watch.look() if each.namespace == namespace]
    before, started = {name: await _stored(jetstream, name, namespace) for name in names}, clock()
    await asyncio.sleep(seconds)
    found: dict[str, Rates] = {}
    for each in await watch.look():
        if each.namespace != namespace:
            continue
        first, last = before.get(each.name), await _stored(jetstream, each.name, namespace)
        events = None if first is None or last is None else max(last - first, 0) / (clock() - started)
        found[each.name] = Rates(each.total.requests, each.total.errors, events)
    return found


async def _stored(jetstream: JetStream, name: str, namespace: str) -> int | None:
    """Return the last sequence of the stream of a service's events; None if it cannot be read."""
    try:
        info = await jetstream.find_stream(Names(name, namespace).events_stream)
    except (ActorError, TimeoutError):
        return None
    return None if info is None else info.state.last_seq
