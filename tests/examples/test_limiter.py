"""The limiter: refusals, reports, and the list of the heaviest clients."""

import asyncio
from collections import Counter

import pytest

from examples.limiter.actor import Limiter
from examples.limiter.messages import (
    LIMIT,
    ForgetClient,
    ListHeaviest,
    MakeReport,
    MinuteReported,
    Take,
    TooManyRequests,
    Usage,
    Window,
)
from runtime import Event, Forbidden, Options
from runtime.testing import Actors, System, repeated, worker


async def take(system: System, client: str, requests: int) -> None:
    for _ in range(requests):
        await system.bus.command(Take(client))


async def reported(*states: Window, now: float = 100 * 60 + 10) -> list[Event]:
    """Return the report of the minute 99, with these windows."""
    limiter = worker(Limiter, due=100 * 60 + 10, now=now, states=[*states])
    await limiter.make_report(MakeReport())
    return limiter.emitted


async def test_the_limit_is_refused_with_a_time_to_retry() -> None:
    full = Window("ann", minute=100, granted=30, before=30)
    limiter = worker(Limiter, key="ann", state=full, now=100 * 60)
    with pytest.raises(TooManyRequests) as refusal:
        await limiter.take(Take("ann"))
    assert refusal.value.retry_after == pytest.approx(2.001)
    assert limiter.state == full
    later = worker(Limiter, key="ann", state=full, now=100 * 60 + refusal.value.retry_after)
    assert await later.take(Take("ann")) == 0
    assert later.state is not None
    assert later.state.granted == 31


async def test_no_request_is_granted_before_its_time() -> None:
    """The time to retry is exact: nothing is granted 10 ms earlier."""
    for granted, before in ((LIMIT, 0), (LIMIT, 7), (10, 55), (0, LIMIT)):
        full, now = Window("ann", minute=100, granted=granted, before=before), 100 * 60 + 0.25
        wait = full.wait(now)
        assert wait > 0
        for time, grants in ((now + wait, True), (now + wait - 0.01, False)):
            assert (full.at(int(time // 60)).wait(time) == 0) == grants, (granted, before)


async def test_a_second_run_grants_the_same() -> None:
    assert await repeated(Limiter, Take("ann"), now=0) == LIMIT - 1


async def test_a_client_waits_for_its_next_request(actors: Actors) -> None:
    async with actors(Limiter) as system:
        with pytest.raises(TooManyRequests, match="ann has used its 60 requests") as refusal:
            await take(system, "ann", 2 * LIMIT)  # more than the limit, since some time passes
        assert await system.bus.command(Take("bob")) == LIMIT - 1  # another client is not affected
        await system.skip(refusal.value.retry_after)
        await system.bus.command(Take("ann"))


async def test_a_report_has_the_minute_before_its_time() -> None:
    states = [Window("ann", 99, granted=2), Window("bob", 100, granted=1, before=3), Window("cleo", 100, granted=5)]
    assert await reported(*states) == [MinuteReported(99, 5, clients=2, heaviest=(Usage("bob", 3), Usage("ann", 2)))]


async def test_a_client_that_goes_on_during_a_report_counts_once() -> None:
    states = [Window("ann", 99, granted=2), Window("ann", 100, granted=1, before=2)]  # of two pages
    assert await reported(*states) == [MinuteReported(99, 2, clients=1, heaviest=(Usage("ann", 2),))]


async def test_a_report_that_would_be_wrong_is_not_made() -> None:
    assert await reported(Window("ann", 101, granted=1)) == []  # the second minute has begun during the report
    assert await reported(now=102 * 60) == []  # all clients are forgotten
    assert await reported(now=101 * 60 - 1) == [MinuteReported(99, 0, clients=0, heaviest=())]


async def test_each_minute_is_reported(actors: Actors) -> None:
    async with actors(Limiter) as system, system.bus.events(MinuteReported) as reports:
        for client in ("ann", "bob", "ann"):
            await system.bus.command(Take(client))
        assert await system.skip(60) == 1
        reported: Counter[str] = Counter()
        while reported.total() < 3:
            reported.update({usage.client: usage.granted for usage in (await anext(reports)).heaviest})
        assert reported == {"ann": 2, "bob": 1}
        await system.fire(MakeReport())  # a report out of turn
        await anext(reports)
        with pytest.raises(Forbidden):
            await system.bus.command(MakeReport())


async def test_the_heaviest_clients_come_first(actors: Actors) -> None:
    async with actors(Limiter) as system:

        async def heaviest() -> bool:
            for client in ("ann", "bob", "bob", "cleo"):
                await system.bus.command(Take(client))
            return [window.client for window in await system.bus.query(ListHeaviest(count=1))] == ["bob"]

        await system.until(heaviest)  # again, if a new minute begins between the two


async def test_a_client_is_forgotten_when_it_is_quiet(actors: Actors) -> None:
    async with actors(Limiter) as system:
        await system.bus.command(Take("ann"))
        assert await system.skip(180) == 3 + 1  # reports, and the reminder
    for minute, forgotten in ((98, True), (99, False)):
        limiter = worker(Limiter, state=Window("ann", minute, granted=1), now=100 * 60)
        await limiter.forget_client(ForgetClient("ann"))
        assert (limiter.state is None) == forgotten


async def test_a_report_covers_all_partitions_and_pages(actors: Actors) -> None:
    names = {f"client-{number}" for number in range(1001)}
    options = {"limiter": Options(partitions=4)}
    async with actors(Limiter, options=options) as system, system.bus.events(MinuteReported) as reports:
        await asyncio.gather(*(system.bus.command(Take(name)) for name in names))
        await system.skip(60)
        granted = 0
        async with asyncio.timeout(20):
            while granted < len(names):  # in two reports, if a new minute begins meanwhile
                granted += (await anext(reports)).granted
        assert granted == len(names)
