"""Waiting until each router has a change of a rule in force."""

import asyncio

from runtime.client.bus import Bus
from runtime.errors import NotDelivered
from runtime.nats.jetstream.client import JetStream
from runtime.router.routing import GetInForce
from runtime.router.rule import Rule
from runtime.storage.layout import Layouts
from runtime.wire.buckets import partition_of
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token


async def wait_in_force(bus: Bus, rule: Rule, *, timeout: float = 10.0) -> bool:
    """Return as soon as a rule is in force in all routers, in this version or a later one.

    Each event that is emitted after that is matched by it. A partition of the router that no process owns counts as one that has the
    rule in force: its next owner reads the rules before it routes an event.

    Args:
        bus: The bus.
        rule: The rule, as `PutRule`, `EnableRule` or `DisableRule` return it. For a deleted one, see `runtime.router.files.deleted`.
        timeout: Seconds to wait at most.

    Returns:
        Whether a router runs. If none does, the rule is kept, and takes effect when a router runs.

    Raises:
        TimeoutError: A router has not put the rule in force in time.
        RequestError: A router answers with an error.
        ApiError: The number of partitions cannot be read.

    Example:
        rule = await bus.command(PutRule("book", fields))
        await wait_in_force(bus, rule)
    """
    layout, _ = await Layouts(JetStream(bus.connection), Names("router", bus.namespace)).read()
    keys = _keys(layout.partitions)
    try:
        async with asyncio.timeout(timeout):
            answered = await asyncio.gather(*(_wait(bus, key, rule) for key in keys))
    except TimeoutError:
        raise TimeoutError(
            f"{rule.name}: version {rule.version} is kept, and was not in force in all routers within {timeout:g} s"
        ) from None
    return any(answered)


async def _wait(bus: Bus, key: str, rule: Rule) -> bool:
    """Return whether a process owns the partition of a key, once it has the rule in force."""
    try:
        while await bus.query(GetInForce(key, rule.name, rule.version)) < rule.version:
            pass  # the owner has waited for two seconds
    except NotDelivered:
        return False
    return True


def _keys(partitions: int) -> list[str]:
    """Return one key of each partition."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < partitions:
        key = str(number)
        found.setdefault(partition_of(key_token(key), partitions), key)
        number += 1
    return list(found.values())
