"""Timers that a tool fires or drops while their owner runs, and changes them at that moment."""

import asyncio
from typing import Any

import pytest

from runtime.admin.repartition import repartition
from runtime.admin.stored import StoredActor, open_actor
from runtime.admin.timers import StoredTimer, drop_timer, find_timers, fire_timer
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.wire.tokens import key_token
from tests.admin.ledger import Book, CancelTimer, GetAccount, SetTimer


async def waiting(actor: StoredActor, key: str, above: int = 0) -> StoredTimer:
    """Return the waiting timer of a key once one is stored above a sequence."""
    async with asyncio.timeout(20):
        while True:
            for timer in await find_timers(actor, key_token(key)):
                if timer.message.sequence > above and not timer.is_due:
                    return timer
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("every", ["", "@every 1h"], ids=["once", "schedule"])
async def test_a_timer_that_its_owner_has_replaced_stays(
    nats_server: EmbeddedServer, namespace: str, every: str
) -> None:
    book = Book(nats_server.url, namespace, 1)
    [key] = book.keys
    async with book.running(4) as system:
        await system.bus.command(SetTimer(key, 600.0, "name", every))
        actor = await open_actor(system.jetstream, book.names)
        old = await waiting(actor, key)
        await system.bus.command(SetTimer(key, 600.0, "name", every))
        new = await waiting(actor, key, above=old.message.sequence)
        assert not await fire_timer(actor, old)
        assert not await drop_timer(actor, old)
        assert await waiting(actor, key) == new

        assert await fire_timer(actor, new)

        async def rang() -> bool:
            return (await system.bus.query(GetAccount(key))).rang == ["name"]

        await system.until(rang)
        left = [each for each in await find_timers(actor, key_token(key)) if not each.is_due]
        assert left == ([new] if every else [])
        await system.bus.command(CancelTimer(key, "name"))

        async def gone() -> bool:
            return await find_timers(actor, key_token(key)) == []

        await system.until(gone)
        assert not await drop_timer(actor, new)
        assert not await fire_timer(actor, new)


async def test_a_timer_that_is_replaced_while_it_is_dropped_stays(nats_server: EmbeddedServer, namespace: str) -> None:
    book = Book(nats_server.url, namespace, 1)
    [key] = book.keys
    async with book.running() as system:
        replaced: list[StoredTimer] = []

        class Replacing(JetStream):
            async def purge(self, *arguments: Any, **options: Any) -> None:
                await system.bus.command(SetTimer(key, 600.0, "name"))
                replaced.append(await waiting(actor, key, above=old.message.sequence))
                await super().purge(*arguments, **options)

        await system.bus.command(SetTimer(key, 600.0, "name"))
        actor = await open_actor(Replacing(system.jetstream.connection), book.names)
        old = await waiting(actor, key)
        await drop_timer(actor, old)
        assert await find_timers(actor, key_token(key)) == replaced


async def test_timers_are_found_in_every_layout(nats_server: EmbeddedServer, namespace: str) -> None:
    book = Book(nats_server.url, namespace, 5)
    async with book.running(4) as system:
        for number, key in enumerate(book.keys):
            await system.bus.command(SetTimer(key, 600.0 + number, "a.b *"))
        actor = await open_actor(system.jetstream, book.names)
        for key in book.keys:
            await waiting(actor, key)
        assert [each.key for each in await find_timers(actor)] == book.keys
    async with book.jetstream() as jetstream:
        await repartition(jetstream, book.names, 1)
        actor = await open_actor(jetstream, book.names)
        found = await find_timers(actor)
        assert [(each.key, each.name) for each in found] == [(key, "a.b *") for key in book.keys]
        assert all([await fire_timer(actor, each) for each in found])
        assert {each.is_due for each in await find_timers(actor)} == {True}
    async with book.running() as system:
        for key in book.keys:

            async def rang(key: str = key) -> bool:
                return (await system.bus.query(GetAccount(key))).rang == ["a.b *"]

            await system.until(rang)
