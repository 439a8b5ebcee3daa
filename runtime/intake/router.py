"""The router of a partitioned actor: receives requests on the plain subjects, and passes each to the owner of its key.

Anybody may send a request to ``orders.command.create_order``. One of the processes of the actor receives it, decodes it as far
as the key, and handles it if it owns the partition of the key. If not, `Relays` sends it on to the owner. Requests to the
subject of a partition go to its owner only, so no request is passed on twice.

A request without a usable key may run in any partition: a query of all keys, a command whose key is made from its id, and a
request that its endpoint will refuse. It is handled here if this process owns a partition.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from runtime.actor.handler import Handler
from runtime.actor.message import NewKey
from runtime.intake.cancels import CANCEL
from runtime.intake.endpoint import Endpoint, RequestStats, drop, inboxes
from runtime.intake.relays import Relays
from runtime.nats.connection import Receiver, Subscription
from runtime.telemetry import semconv
from runtime.turns.served import Served
from runtime.wire.buckets import partition_of
from runtime.wire.codec import format_of
from runtime.wire.envelope import read
from runtime.wire.ids import key_for
from runtime.wire.subjects import QUEUE
from runtime.wire.tokens import key_token

logger = logging.getLogger("actorloom.intake")

Local = Callable[[int, str, bool], Endpoint | None]
"""Returns the endpoint of a plain subject for the owner of a partition in this process; None if there is none that receives.

The flag tells whether the request is from this process: an owner that drains still receives such requests.
"""


class Router:
    """Receives the requests of one partitioned actor in one process, from `start` to `stop`.

    Args:
        served: The actor, as one whole.
        local: Finds the endpoints of the owners in this process.
    """

    def __init__(self, served: Served, local: Local) -> None:
        self._served = served
        self._local = local
        self._subscriptions: list[Subscription] = []
        self._inboxes = inboxes(served.connection)
        self._numbers = range(served.options.partitions)
        self._next = 0
        """The partition with which the search for any owner begins, so that all of them get such requests."""
        self.relays = Relays(served)
        """The requests that were passed on."""
        handlers = served.actor.handlers
        routes = [_Route(served, each) for group in (handlers.queries, handlers.commands) for each in group.values()]
        routes += [_Route(served, each, CANCEL) for each in handlers.commands.values() if each.accept]
        self._routes = {route.subject: route for route in routes}

    async def start(self) -> None:
        """Receive requests. A refused subscription is reported, and tried again, by the connection.

        Raises:
            PublishError: The connection is closed for good.
        """
        for subject, receiver in self.receivers():
            self._subscriptions.append(await self._served.connection.subscribe(subject, receiver, queue=QUEUE))

    async def stop(self) -> None:
        """Receive no more requests, and wait until those that were passed on are answered."""
        await asyncio.gather(*(subscription.drain() for subscription in self._subscriptions))
        self._subscriptions.clear()
        await self.relays.drain()

    def receivers(self) -> list[tuple[str, Receiver]]:
        """Return the receivers of requests, each with its plain subject."""
        return [(subject, partial(self._receive, route)) for subject, route in self._routes.items()]

    def statistics(self) -> list[tuple[Handler, RequestStats]]:
        """Return the handlers of all queries and commands, each with the counters of its endpoint for discovery."""
        return [(route.handler, route.stats) for route in self._routes.values() if route.op != CANCEL]

    def share_statistics(self, endpoints: Sequence[Endpoint]) -> None:
        """Have the endpoints of an owner of this process add to the counters of the plain subjects."""
        for endpoint in endpoints:
            endpoint.stats = self._routes[endpoint.subject].stats

    def _receive(self, route: "_Route", subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Pass a request to the owner of its key. Called from the read loop; never raises."""
        if not reply.startswith(self._inboxes):
            drop(route.stats, self._served.bursts, route.subject, reply)
            return
        number, deadline = route.read(block, payload)
        inside = self._served.connection.is_own(reply)
        self._next = first = self._next + 1
        numbers = [(first + each) % len(self._numbers) for each in self._numbers] if number is None else [number]
        for each in numbers:
            endpoint = self._local(each, route.subject, inside)
            if endpoint is not None:
                endpoint.receive(subject, reply, block, payload)
                return
        self.relays.send(route.subject, route.stats, numbers, reply, block, payload, deadline)


class _Route:
    """The plain subject of one query or command, and how to find the key of its requests."""

    def __init__(self, served: Served, handler: Handler, op: str = "") -> None:
        names, contract = served.names, handler.contract
        self.handler = handler
        self.op = op or contract.op
        self.subject = names.request(self.op, contract.name)
        method = f"{names.actor}/{f'{op}_' if op else ''}{contract.name}"
        attributes = semconv.rpc_attributes(method, served.connection.server_address)
        self.stats = RequestStats(served.tracer.durations(semconv.RPC_SERVER_CALL_DURATION, attributes))
        """The counters of all owners in this process, which record their durations in one histogram."""
        self._partitions = served.options.partitions
        self._makes_key = isinstance(contract.key, NewKey)

    def read(self, block: bytes | None, payload: bytes) -> tuple[int | None, float]:
        """Return the partition of a request, None if it may run in any, and its deadline in Unix seconds, 0.0 without one."""
        deadline = 0.0
        try:
            deadline, _, message_id, content_type = (0.0, "", "", None) if block is None else read(block)
            if self._makes_key:
                # Without an id, the owner that receives it makes an id whose key is in its partition.
                return (
                    partition_of(key_token(key_for(message_id)), self._partitions) if message_id else None
                ), deadline
            if self.handler.key_of is None:
                return None, deadline
            message = self.handler.codec.decode(payload, format_of(content_type))
            return partition_of(key_token(self.handler.key_of(message)), self._partitions), deadline
        except BaseException:  # noqa: BLE001 - the endpoint fails in the same way, and answers with the error
            return None, deadline
