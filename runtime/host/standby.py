"""Standby: a process that waits for the keys of an actor, and shows the owner that it is there.

An owner that drains asks on ``<actor>.standby`` whether another process waits for its keys. A waiting process answers.
If no process waits, NATS itself answers at once that the subject has no subscriber. The owner uses the answer to decide
when it may give its keys up: see `runtime.host.host`.
"""

from runtime.nats.lease import Lease
from runtime.turns.served import Served

_TIMEOUT = 0.5
"""Seconds that a standby has to answer a draining owner."""


async def acquire_in_standby(served: Served, lease: Lease) -> None:
    """Wait until `lease` is held, and answer a draining owner meanwhile. Raises the errors of `Lease.acquire`."""
    connection = served.connection

    def answer(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if reply.startswith(b"_"):  # An inbox, as in `MicroService`.
            connection.publish(reply)

    subscription = await connection.subscribe(served.names.standby(), answer)
    try:
        await lease.acquire()
    finally:
        subscription.unsubscribe()


async def has_standby(served: Served) -> bool:
    """Return whether another process waits for the keys of this actor.

    An actor without state has no keys: its other processes, if there are any, serve it already. The answer is False.
    """
    return served.keyed and await served.connection.is_served(served.names.standby(), timeout=_TIMEOUT)
