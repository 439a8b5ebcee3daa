"""Mailboxes: each item once, in order of arrival, at most the bound at once; a lane one at a time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.turns.key import Key
from runtime.turns.workers import Workers

CRASHES: list[BaseException] = []


async def wait_idle(bench: "Bench") -> None:
    async with asyncio.timeout(30):
        await bench.workers.wait_idle()


class Item:
    """Runs `run` with a number."""

    def __init__(self, run: Callable[[int], Coroutine[Any, Any, None]], number: int, left: list[int]) -> None:
        self._run = run
        self._number = number
        self._left = left

    def run(self) -> Coroutine[Any, Any, None]:
        return self._run(self._number)

    def abandon(self) -> None:
        self._left.append(self._number)


class Bench:
    """Workers that run one function; `left` are the items that were abandoned."""

    def __init__(self, run: Callable[[int], Coroutine[Any, Any, None]], bound: int = 4) -> None:
        self.workers = Workers(bound, CRASHES.append)
        self.left: list[int] = []
        self._run = run

    def put(self, number: int) -> None:
        self.workers.put(Item(self._run, number, self.left))

    async def close(self) -> None:
        await self.workers.close()


async def test_a_burst_is_run_in_order() -> None:
    seen: list[int] = []

    async def run(item: int) -> None:
        seen.append(item)

    workers = Bench(run)
    for item in range(1000):
        workers.put(item)
    await wait_idle(workers)
    assert seen == list(range(1000)) and not workers.workers.busy and len(workers.workers) == 0
    await workers.close()


@pytest.mark.parametrize("bound", [1, 3, 40])
async def test_no_more_than_the_bound_run_at_once_and_all_begin_in_order(bound: int) -> None:
    begun: list[int] = []
    running = most = 0

    async def run(item: int) -> None:
        nonlocal running, most
        begun.append(item)
        running += 1
        most = max(most, running)
        for _ in range(item % 4):
            await asyncio.sleep(0)
        running -= 1

    workers = Bench(run, bound)
    for item in range(200):
        workers.put(item)
        if item % 17 == 0:
            await asyncio.sleep(0)
    await wait_idle(workers)
    assert begun == list(range(200)) and 1 <= most <= bound
    await workers.close()


async def test_a_waiting_item_runs_while_others_are_suspended() -> None:
    gate = asyncio.Event()
    begun: list[int] = []

    async def run(item: int) -> None:
        begun.append(item)
        if item < 3:
            await gate.wait()

    workers = Bench(run, bound=4)
    for item in range(10):
        workers.put(item)
    async with asyncio.timeout(30):
        while len(begun) < 10:
            await asyncio.sleep(0)
    assert workers.workers.busy
    gate.set()
    await wait_idle(workers)
    await workers.close()


async def test_each_item_has_a_task_and_so_a_timeout_of_its_own() -> None:
    outcomes: list[str] = []

    async def run(item: int) -> None:
        try:
            async with asyncio.timeout(0.01 if item else 5):
                await (asyncio.Event().wait() if item else asyncio.sleep(0))
            outcomes.append("done")
        except TimeoutError:
            outcomes.append("late")

    workers = Bench(run, bound=1)
    for item in (0, 1, 0):
        workers.put(item)
    await wait_idle(workers)
    assert outcomes == ["done", "late", "done"]
    await workers.close()


@pytest.mark.parametrize("error", [ValueError("told"), asyncio.CancelledError()])
async def test_an_item_that_ends_its_worker_does_not_keep_the_others_waiting(error: BaseException) -> None:
    CRASHES.clear()
    seen: list[int] = []

    async def run(item: int) -> None:
        seen.append(item)
        if item == 0:
            raise error

    workers = Bench(run, bound=1)
    for item in range(3):
        workers.put(item)
    await wait_idle(workers)
    assert seen == [0, 1, 2]
    assert len(CRASHES) == 1
    await workers.close()


async def test_wait_idle_returns_if_the_last_item_ended_its_worker() -> None:
    CRASHES.clear()
    gate = asyncio.Event()

    begun = asyncio.Event()

    async def run(item: int) -> None:
        begun.set()
        await gate.wait()
        raise ValueError

    workers = Bench(run)
    workers.put(1)
    waiting = asyncio.ensure_future(wait_idle(workers))
    await begun.wait()
    gate.set()
    await waiting
    assert len(CRASHES) == 1


async def test_close_cancels_running_items_and_abandons_waiting_ones() -> None:
    cancelled: list[int] = []
    begun: list[int] = []

    async def run(item: int) -> None:
        begun.append(item)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            workers.put(item + 100)  # as a lane does with the next message of its key
            raise

    workers = Bench(run, bound=2)
    for item in range(4):
        workers.put(item)
    while len(begun) < 2:
        await asyncio.sleep(0)
    CRASHES.clear()
    async with asyncio.timeout(30):
        await workers.close()
        await wait_idle(workers)
    assert sorted(cancelled) == [0, 1] and sorted(workers.left) == [2, 3, 100, 101]
    assert len(asyncio.all_tasks()) == 1 and not CRASHES
    workers.put(5)
    assert workers.left[-1] == 5 and len(asyncio.all_tasks()) == 1, "no item starts after close"


async def test_idle_workers_do_not_pile_up() -> None:
    gate = asyncio.Event()

    begun: list[int] = []

    async def run(item: int) -> None:
        begun.append(item)
        await gate.wait()

    workers = Bench(run, bound=200)
    for item in range(200):
        workers.put(item)
    while len(begun) < 200:
        await asyncio.sleep(0)
    gate.set()
    await wait_idle(workers)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) < 40
    await workers.close()


@given(st.lists(st.booleans(), max_size=60))
def test_a_lane_is_a_queue_with_one_in_front(steps: list[bool]) -> None:
    lane: Key[int] = Key("k", "k")
    model: list[int] = []
    for number, entering in enumerate(steps):
        if entering:
            assert lane.enter(number) == (not model)
            model.append(number)
        elif model:
            model.pop(0)
            assert lane.leave() == (model[0] if model else None)
        assert lane.active == bool(model) and lane.depth == max(len(model) - 1, 0)
