"""Keys without a record: requests for them, however many, take no memory."""

import asyncio
from typing import Any

import pytest

from runtime.errors import NotFound, Rejected
from runtime.nats.server import EmbeddedServer
from runtime.storage.settlement import NotStored
from tests.support.commits import replace_commit
from tests.support.counting import Add, Counter, Fail, GetCount, ListCounts, Reject
from tests.support.probe import running


async def test_a_key_without_a_record_is_not_kept_in_memory(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        bus = system.bus
        for name in ("a", "b"):
            await bus.command(Add(name, 1))
        for _ in range(5):
            absent = [bus.query(GetCount(f"absent-{number}"), timeout=30) for number in range(1000)]
            found: list[Any] = await asyncio.gather(*absent, return_exceptions=True)
            assert {type(each) for each in found} == {NotFound}
            assert system.resident("counter") == 2
        refused = [bus.command(Reject(f"absent-{number}"), timeout=30) for number in range(100)]
        refused += [bus.command(Fail(f"absent-{number}"), timeout=30) for number in range(50)]
        refused += [bus.command(Add("absent", 0), timeout=30) for _ in range(50)]
        found = await asyncio.gather(*refused, return_exceptions=True)
        assert all(isinstance(each, Exception) for each in found)
        assert system.resident("counter") == 2
        # The keys with a record stay, and a key that was absent is created as ever.
        assert [each.name for each in await bus.query(ListCounts())] == ["a", "b"]
        assert (await bus.command(Add("absent", 5))).value == 5
        assert system.resident("counter") == 3


async def test_requests_for_an_absent_key_that_come_together_agree(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        bus = system.bus
        for number in range(20):
            key = f"k{number}"
            requests: list[Any] = []
            for _ in range(4):
                requests += [bus.query(GetCount(key)), bus.command(Add(key, 0)), bus.command(Add(key, 1))]
            found = await asyncio.gather(*requests, return_exceptions=True)
            assert sorted(each.value for each in found[2::3]) == [1, 2, 3, 4]
            assert all(isinstance(each, Rejected) for each in found[1::3])
            assert (await bus.query(GetCount(key))).value == 4


async def test_a_key_whose_record_was_not_stored_is_not_kept(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:

        async def refused(*_: Any) -> int:
            raise NotStored("on purpose")

        replace_commit(monkeypatch, system.journal("counter"), refused)
        for number in range(10):
            with pytest.raises(Exception, match="could not store"):
                await system.bus.command(Add(f"k{number}", 1))
        assert system.resident("counter") == 0
