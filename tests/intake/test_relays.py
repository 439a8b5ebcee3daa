"""The relays of a router: a raw client plays the owners, which are elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.msg import Msg

from runtime import Options
from runtime.intake import relays
from runtime.nats.server import EmbeddedServer
from tests.intake.test_router import PARTITIONS, Service, error_of, keys_of, service

LIMIT = 4
"""Requests in flight to one partition."""


@asynccontextmanager
async def without_owners(server: EmbeddedServer, namespace: str) -> AsyncIterator[Service]:
    """Run a process that owns no partition any more, and passes all requests on."""
    options = {"notes": Options(partitions=PARTITIONS, mailbox=LIMIT - 1, concurrency=1)}
    async with service(server, namespace, 1, options=options) as found:
        [member] = found.members
        for owner in member.owners("notes"):
            owner.drain()
        await member.until(lambda: all(owner.serving is None for owner in member.owners("notes")))
        yield found


async def receive(found: Service, query: str, *partitions: int) -> "asyncio.Queue[Msg]":
    """Receive the queries of some partitions from now on."""
    received: asyncio.Queue[Msg] = asyncio.Queue()
    for partition in partitions:
        await found.client.subscribe(f"{found.namespace}.notes.query.{query}.{partition}", cb=received.put)
    await found.client.flush()
    return received


async def test_a_full_partition_leaves_requests_of_any_key_to_the_others_and_gets_room_again(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with without_owners(nats_server, namespace) as found:
        silent, [key, *_] = await receive(found, "get_note", 0), keys_of({0})
        stuck = [asyncio.ensure_future(found.ask("query.get_note", name=key)) for _ in range(LIMIT)]
        first, *_ = [await silent.get() for _ in stuck]
        assert error_of(await found.ask("query.get_note", name=key)) == (429, "Overloaded", False)
        answering, deaf = await receive(found, "ask_size", 1), await receive(found, "ask_size", 0)
        for _ in range(PARTITIONS):
            asked = asyncio.ensure_future(found.ask("query.ask_size", text="four"))
            await (await asyncio.wait_for(answering.get(), 5)).respond(b"4")
            assert (await asked).data == b"4"
        assert deaf.empty()
        # A request of a client without a deadline, whose process is stopped, gives its place to another one.
        monkeypatch.setattr(relays, "_PATIENCE", 0.0)
        stuck.append(asyncio.ensure_future(found.ask("query.get_note", name=key)))
        served = await silent.get()
        await first.respond(b'"late"')
        await served.respond(b'"text"')
        outcomes = [asyncio.ensure_future(asyncio.wait_for(each, 30)) for each in (stuck[0], stuck[-1])]
        assert error_of(await outcomes[0]) == (408, "DeadlineExceeded", None)
        assert (await outcomes[1]).data == b'"text"'
        table = found.members[0].connection._replies
        assert len(table) == len(found.members[0].router("notes").relays) == LIMIT - 1, "nothing is kept of the others"
        for each in stuck:
            each.cancel()
        found.members[0].router("notes").relays.lost(0)
        assert len(table) == 0


async def test_a_stop_waits_for_a_request_that_goes_on_to_another_partition(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with without_owners(nats_server, namespace) as found:
        router, received = found.members[0].router("notes"), await receive(found, "ask_size", 3)
        router._next = 1  # The next request goes to partition 2 first, which has no owner.
        replies = await found.client.subscribe(inbox := found.client.new_inbox())
        await found.client.flush()
        dict(router.receivers())[f"{namespace}.notes.query.ask_size"](b"", inbox.encode(), None, b"{}")
        stopping = asyncio.ensure_future(router.relays.drain())
        request = await received.get()
        await found.members[0].connection.flush()
        assert not stopping.done()
        await request.respond(b"4")
        assert (await replies.next_msg(timeout=10)).data == b"4"
        await stopping
