"""Poison messages: retried with growing delays, stored as dead letters, and redriven after the actor is fixed."""

import asyncio
import contextlib
import sys
import time
from collections import Counter as Tally
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.storage.dead_letters import DeadLetter, DeadLetters
from runtime.storage.streams import events_config
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names
from tests.chaos.cell import Cell, Result, Setting, single_cell
from tests.chaos.faults import DEAD_LETTERING
from tests.chaos.fleet import ROOT, Worker, paused, until
from tests.chaos.poison import ATTEMPTS, BURNS, EXIT, RETRY, GetMeals, GetTries, Ignited, Served

KEYS = [f"guest-{n}" for n in range(10)]

SERVES = "picky: serves"
"""Log line of each start of the actor."""
STALL = 10.0
"""Seconds that an event of another key may wait at most, a death of its owner and a lease included."""

Menu = dict[str, list[str]]
"""The kinds of a key's events (see `Served.poison`), by key and in order."""


async def poison(setting: Setting) -> Result:
    """Some events always fail, are rejected, or cannot be decoded: each becomes a dead letter, and is redriven once."""
    result = Result("poison", setting.seed)
    rng = setting.rng("poison")
    dishes = setting.size(40, 12)
    menu = {key: [rng.choice(["", "", "", "", "fails", "rejected"]) for _ in range(dishes)] for key in KEYS[:-2]}
    menu |= {key: [""] * dishes for key in KEYS[-2:]}  # keys without poison, which no other key may delay
    poisoned = {(key, n) for key, served in menu.items() for n, kind in enumerate(served) if kind}
    garbage = setting.size(10, 4)
    async with single_cell(setting, result, "poison") as cell:
        # An owner that stands still for longer than its lease does not count its last attempts, so this lease is long.
        worker = cell.start("tests.chaos.poison:Picky", lease_ttl=10.0)
        await worker.ready()
        await _serve(cell, menu)
        await _serve_garbage(cell, garbage)
        letters = await _dead_letters(cell, len(poisoned) + garbage, 120)
        tries = await cell.bus.query(GetTries())
        await _check_attempts(cell, result, menu, letters, tries)
        await cell.fleet.retire(worker)

        fixed = cell.start("tests.chaos.poison:Fixed")
        await fixed.ready()
        output = await _redrive(cell)
        _check_each_handled_once(result, menu, await _eaten(cell, dishes))
        letters = await _dead_letters(cell, garbage, 30)
        result.require(
            len(letters) == garbage, f"{len(letters)} dead letters remain; expected {garbage} that cannot be decoded"
        )
        result.figures["redriven"] = f"{len(poisoned)} of {len(poisoned)}: {output}"
    result.load = f"{dishes * len(KEYS)} events over {len(KEYS)} keys"
    result.faults = f"{len(poisoned)} poisoned, {garbage} that cannot be decoded; then the actor is fixed"
    result.figures["attempts of a failing event"] = f"{ATTEMPTS}, then a dead letter"
    return result


async def dead_letters(setting: Setting) -> Result:
    """The actor and the server are killed around the storing of dead letters: each letter is stored once, and redriven."""
    result = Result("dead-letters", setting.seed)
    await kill_around_dead_letters(setting, result)
    result.require(not result.lost, f"{result.lost} events were neither handled nor stored as dead letters")
    result.require(not result.twice, f"{result.twice} extra dead letters or effects")
    return result


async def kill_around_dead_letters(setting: Setting, result: Result, without: Sequence[str] = ()) -> None:
    """Fill in `result`: reject events while their actor is killed, and count lost and duplicated dead letters."""
    rng = setting.rng("dead-letters")
    dishes = setting.size(30, 12)
    menu = {key: [rng.choice(["", "rejected"]) for _ in range(dishes)] for key in KEYS}
    poisoned = {(key, n) for key, served in menu.items() for n, kind in enumerate(served) if kind}
    # A control loses an event only if its process is killed before the letter is stored.
    points = ("dead-letter.before",) * 2 if without else DEAD_LETTERING
    kills = [f"{point}:{rng.randint(1, 8)}" for _ in range(setting.size(4, 2)) for point in points]
    async with single_cell(setting, result, "dead-letters") as cell:
        worker = cell.start("tests.chaos.poison:Picky", kills=kills, without=without)
        await worker.ready()
        await _serve(cell, menu)
        for number in range(len(kills)):
            await until(lambda number=number: len(worker.exit_codes) > number, 30, f"kill {number + 1}")
            if number % 3 == 1:
                await cell.servers.restart(cell.servers.nodes[0])
        letters = await _dead_letters(cell, len(poisoned), 10 if without else 60)
        found = Tally((event.key, event.number) for letter in letters for event in [_served(letter)])
        result.lost += len(poisoned - found.keys())
        result.twice += found.total() - len(found)
        result.require(found.keys() <= poisoned, "a dead letter of an event that was not rejected")
        if not without:
            await cell.fleet.retire(worker)
            fixed = cell.start("tests.chaos.poison:Fixed")
            await fixed.ready()
            result.figures["redriven"] = await _redrive(cell)
            _check_each_handled_once(result, menu, await _eaten(cell, dishes))
        cell.check_logs(result)
    result.load = f"{dishes * len(KEYS)} events over {len(KEYS)} keys, {len(poisoned)} of them rejected"
    result.faults = f"{len(kills)} kill -9 around the storing of a dead letter, {len(kills) // 3} of the server"


async def pauses_failing(setting: Setting) -> Result:
    """Owners with failing events are paused and lose their lease, and an event ends its process: other keys go on."""
    result = Result("pauses-failing", setting.seed)
    await pause_owners(setting, result)
    result.require(not result.lost and not result.twice, f"lost {result.lost}, twice {result.twice}")
    result.require_pace(result.stall < STALL, f"an event of another key waited for {result.stall:.1f} s")
    return result


async def pause_owners(setting: Setting, result: Result, without: Sequence[str] = ()) -> None:
    """Fill in `result`: pause the owner of failing keys again and again, and count the effects on all keys.

    One key has an event that always runs when its owner is paused, which no owner may blame.
    """
    pauses, rng = setting.size(6, 5), setting.rng("pauses-failing")
    failing, quiet = [f"failing-{n}" for n in range(setting.size(40, 6))], [f"quiet-{n}" for n in range(8)]
    async with single_cell(setting, result, "pauses-failing") as cell:
        desk = _Desk(cell, result, quiet)
        await _serve(cell, {key: ["fails"] for key in failing})
        await cell.bus.emit(Ignited("slow", 0, "slow"))
        workers = [cell.start("tests.chaos.poison:Patient", without=without) for _ in range(2)]
        await desk.until_owner(workers, 1)
        for number in range(pauses):
            owner = desk.owner(workers)
            await until(lambda n=number: desk.burns(workers, n + 1), 30, "the slow event")
            with paused([owner]):
                await desk.until_owner(workers, desk.ownerships(workers) + 1)
            if not without:
                await desk.serve_quiet()
            if number % 3 == 2 and not without:
                await _delete_lease(cell)
                await desk.until_owner(workers, desk.ownerships(workers) + 1)
                await desk.serve_quiet()
        result.figures["longest wait of other keys for a paused owner, s"] = round(result.stall, 2)
        if not without:
            await _end_processes(desk, workers, rng.sample(quiet, 1)[0])
        await _until_eaten(cell, "slow", 1, 1 if without else 30)
        for worker in workers:
            await cell.fleet.retire(worker)
        letters = [_ignited(letter).key for letter in await _dead_letters(cell, 1, 1)]
        result.figures["dead letters of an event that ended no process"] = innocent = letters.count("slow")
        result.require(not innocent, "an event is blamed that only ran while its owner was paused")
        await (fixed := cell.start("tests.chaos.poison:PatientFixed")).ready()
        await desk.count(
            {**dict.fromkeys(quiet, desk.number), **dict.fromkeys(failing, 1), "slow": 1}, 5 if without else 60
        )
        await cell.fleet.retire(fixed)
    result.load = (
        f"{len(failing)} failing keys, one slow event, {desk.number} events for each of {len(quiet)} other keys"
    )
    result.faults = f"{pauses} SIGSTOP past the lease, " + (
        "all count as deaths"
        if without
        else f"{pauses // 3} deleted leases, {ATTEMPTS} ends of the process by an event"
    )


async def _end_processes(desk: "_Desk", workers: Sequence[Worker], key: str) -> None:
    """Have an event end its process in each attempt, while the other keys go on."""
    cell, result = desk.cell, desk.result
    await cell.bus.emit(Ignited("lit", 0, "exits"))
    for _ in range(ATTEMPTS):
        await desk.serve_quiet(within=STALL)
    letters = await _dead_letters(cell, 1, 60)
    ends = sum(worker.exit_codes.count(EXIT) for worker in workers)
    result.figures["ends of the process by an event"] = ends
    result.require(ends == ATTEMPTS, f"an event with {ATTEMPTS} attempts has ended {ends} processes")
    reasons = [letter.failure.reason for letter in letters]
    result.require(len(reasons) == 1 and reasons[0].startswith("ProcessEnded"), f"the dead letters are {reasons}")


class _Desk:
    """Serves the quiet keys of a cell, and knows the owners of the actor by their logs."""

    def __init__(self, cell: Cell, result: Result, quiet: Sequence[str]) -> None:
        self.cell = cell
        self.result = result
        self.quiet = quiet
        self.number = 0
        """The number of events of each quiet key."""

    def ownerships(self, workers: Sequence[Worker]) -> int:
        """Return how often one of the workers has begun to serve."""
        return sum(_served_times(worker) for worker in workers)

    def burns(self, workers: Sequence[Worker], times: int) -> bool:
        """Return whether the slow event has begun that often, or is a dead letter."""
        logs = [worker.log.read_text() for worker in workers]
        return sum(log.count(BURNS) for log in logs) >= times or any("ProcessEnded" in log for log in logs)

    def owner(self, workers: Sequence[Worker]) -> Worker:
        """Return the worker that has begun to serve last."""
        return max(workers, key=_last_served)

    async def until_owner(self, workers: Sequence[Worker], ownerships: int) -> None:
        """Wait until a worker has begun to serve once more."""
        await until(lambda: self.ownerships(workers) >= ownerships, 30, f"ownership {ownerships}")

    async def serve_quiet(self, within: float = 30.0) -> None:
        """Emit an event for each quiet key, and wait until all are handled. Their longest wait is the stall of the run."""
        begun = time.monotonic()
        for key in self.quiet:
            await self.cell.bus.emit(Served(key, self.number))
        self.number += 1
        await asyncio.gather(*(_until_eaten(self.cell, key, self.number, within) for key in self.quiet))
        self.result.stall = max(self.result.stall, time.monotonic() - begun)

    async def count(self, expected: dict[str, int], patience: float) -> None:
        """Count the lost and the double effects, as soon as all keys have their events or after `patience` seconds."""
        found = await asyncio.gather(*(_until_eaten(self.cell, key, n, patience) for key, n in expected.items()))
        for (key, events), eaten in zip(expected.items(), found, strict=True):
            self.result.lost += events - len(set(eaten))
            self.result.twice += len(eaten) - len(set(eaten))
            self.result.require(list(eaten) == sorted(eaten), f"{key}: out of order: {eaten}")


def _served_times(worker: Worker) -> int:
    return worker.log.read_text().count(SERVES) if worker.log.exists() else 0


def _last_served(worker: Worker) -> str:
    lines = [line for line in worker.log.read_text().splitlines() if SERVES in line] if worker.log.exists() else []
    return lines[-1] if lines else ""


async def _delete_lease(cell: Cell) -> None:
    """Remove the lease, as `nats kv del` does."""
    names = Names("picky", cell.namespace)
    block = header_block.encode([("KV-Operation", "DEL")])
    await JetStream(cell.connection).publish(f"$KV.{names.lease_bucket}.picky.0", b"", headers=block)


async def _until_eaten(cell: Cell, key: str, events: int, timeout: float) -> tuple[int, ...]:
    """Return the handled events of a key as soon as there are `events` of them, or those after `timeout` seconds."""
    eaten: tuple[int, ...] = ()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            while len(eaten) < events:
                with contextlib.suppress(ActorError):  # the actor is between two owners
                    eaten = (await cell.bus.query(GetMeals(key), timeout=0.5)).eaten
                await asyncio.sleep(0.02)
    return eaten


def _ignited(letter: DeadLetter) -> Ignited:
    return msgspec.json.decode(letter.payload, type=Ignited)


def _served(letter: DeadLetter) -> Served:
    return msgspec.json.decode(letter.payload, type=Served)


async def _serve(cell: Cell, menu: Menu) -> None:
    """Create the stream of the kitchen, which does not run, and emit the events of all keys in order, interleaved."""
    replicas = cell.servers.replicas
    await JetStream(cell.connection).ensure_stream(events_config(Names("kitchen", cell.namespace), replicas))
    for number in range(max(map(len, menu.values()))):
        for key, kinds in menu.items():
            await cell.bus.emit(Served(key, number, kinds[number]))


async def _serve_garbage(cell: Cell, number: int) -> None:
    """Publish events that cannot be decoded."""
    names = Names("kitchen", cell.namespace)
    jetstream = JetStream(cell.connection)
    for n in range(number):
        event_id = new_id()
        block = header_block.encode([("Nats-Msg-Id", event_id), ("ce-id", event_id)])
        await jetstream.publish(names.event("served", f"garbage-{n}"), b'{"key": 7' * (n + 1), headers=block)


async def _dead_letters(cell: Cell, expected: int, timeout: float) -> list[DeadLetter]:
    """Return the dead letters as soon as there are `expected` of them, or those that exist after `timeout` seconds."""
    letters = DeadLetters(JetStream(cell.connection), Names("picky", cell.namespace))
    found: list[DeadLetter] = []
    end = asyncio.get_running_loop().time() + timeout
    while len(found) != expected and asyncio.get_running_loop().time() < end:
        with contextlib.suppress(ActorError, TimeoutError):  # a cluster may be electing a leader
            found = [letter async for letter in letters.read()]
        await asyncio.sleep(0.05)
    return found


async def _check_attempts(
    cell: Cell, result: Result, menu: Menu, letters: list[DeadLetter], tries: dict[str, list[float]]
) -> None:
    delays: list[float] = []
    for key, served in menu.items():
        eaten = (await cell.bus.query(GetMeals(key))).eaten
        expected = tuple(n for n, kind in enumerate(served) if not kind)
        result.require(eaten == expected, f"{key}: handled {eaten}, expected {expected}")
        for n, kind in enumerate(served):
            times = tries.get(f"{key}/{n}", [])
            attempts = ATTEMPTS if kind == "fails" else 1
            result.require(
                len(times) == attempts, f"{key}/{n} ({kind or 'good'}): {len(times)} attempts, expected {attempts}"
            )
            for attempt, (before, after) in enumerate(pairwise(times), 1):
                delays.append(after - before)
                least = RETRY.delay(attempt, 0.0)
                result.require(
                    after - before >= least * 0.95, f"{key}/{n}: only {after - before:.3f} s after attempt {attempt}"
                )
    ids = [letter.headers.get("ce-id", letter.headers.get("Ce-Id", "")) for letter in letters]
    result.require(len(set(ids)) == len(ids), "an event has two dead letters")
    for letter in letters:
        complete = (
            letter.failure.reason and letter.failure.attempts and letter.failure.stream and letter.failure.sequence
        )
        result.require(
            bool(complete) and letter.failure.reaction == "on_served", f"{letter.id}: incomplete: {letter.failure}"
        )
    poisoned = sum(bool(kind) for served in menu.values() for kind in served)
    lost = poisoned - sum(letter.failure.subject.count("guest-") for letter in letters)
    result.lost += max(lost, 0)
    result.twice += max(-lost, 0)
    result.require(lost == 0, f"{poisoned} events are poisoned, {poisoned - lost} of them are dead letters")
    result.figures["delays between attempts, s"] = f"{min(delays):.2f} to {max(delays):.2f}"
    result.figures["dead letters"] = len(letters)


async def _redrive(cell: Cell) -> str:
    """Redrive all dead letters with two command lines at the same time; return the last line of each."""
    arguments = ["-m", "runtime", "dlq", "redrive", "--all", "--nats", cell.servers.url, "--namespace", cell.namespace]
    both = [
        await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        for _ in range(2)
    ]
    outputs = [(await process.communicate())[0].decode().strip().splitlines() for process in both]
    return " / ".join(lines[-1] if lines else "" for lines in outputs)


async def _eaten(cell: Cell, dishes: int) -> dict[str, tuple[int, ...]]:
    """Return the handled events by key as soon as all keys have all events, or those that are handled after 60 s."""
    eaten: dict[str, tuple[int, ...]] = {}
    try:
        async with asyncio.timeout(60):
            while not eaten or any(len(numbers) < dishes for numbers in eaten.values()):
                eaten = {key: (await cell.bus.query(GetMeals(key))).eaten for key in KEYS}
                await asyncio.sleep(0.05)
    except TimeoutError:
        return eaten
    return eaten


def _check_each_handled_once(result: Result, menu: Menu, eaten: dict[str, tuple[int, ...]]) -> None:
    for key, served in menu.items():
        missing, extra = len(served) - len(set(eaten[key])), len(eaten[key]) - len(set(eaten[key]))
        result.lost += missing
        result.twice += extra
        result.require(not missing and not extra, f"{key}: after the redrive, {missing} lost and {extra} twice")
