"""The limiter: refusals, reports, and the list of the heaviest clients."""

from collections import Counter

import pytest

from examples.limiter.actor import Limiter
from examples.limiter.messages import LIMIT, ForgetClient, ListHeaviest, MakeReport, MinuteReported, Take, Usage, Window
from runtime import Forbidden, Overloaded
from runtime.testing import Actors, repeated, worker


async def test_the_limit_is_refused_with_a_time_to_retry() -> None:
    full = Window("ann", minute=100, granted=30, before=30)
    limiter = worker(Limiter, key="ann", state=full, now=100 * 60)
    with pytest.raises(Overloaded) as refusal:
        await limiter.take(Take("ann"))
    assert refusal.value.retry_after == pytest.approx(2.001)
    assert limiter.state == full
    later = worker(Limiter, key="ann", state=full, now=100 * 60 + refusal.value.retry_after)
    assert await later.take(Take("ann")) == LIMIT - 31


async def test_a_second_run_grants_the_same() -> None:
    assert await repeated(Limiter, Take("ann"), now=0) == LIMIT - 1


async def test_a_client_waits_for_its_next_request(actors: Actors) -> None:
    async with actors(Limiter) as system:
        for _ in range(LIMIT):
            await system.bus.command(Take("ann"))
        with pytest.raises(Overloaded, match="ann has used its 60 requests") as refusal:
            await system.bus.command(Take("ann"))
        assert await system.bus.command(Take("bob")) == LIMIT - 1  # another client is not affected
        await system.skip(refusal.value.retry_after)
        await system.bus.command(Take("ann"))


async def test_a_report_has_the_minute_before_its_time() -> None:
    states = [Window("ann", 99, granted=2), Window("bob", 100, granted=1, before=3), Window("cleo", 100, granted=5)]
    limiter = worker(Limiter, due=100 * 60, states=states)
    await limiter.make_report(MakeReport())
    assert limiter.emitted == [MinuteReported(99, 5, clients=2, heaviest=(Usage("bob", 3), Usage("ann", 2)))]


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
