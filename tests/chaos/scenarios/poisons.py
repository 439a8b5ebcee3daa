"""Poison messages: tried with growing delays, kept as dead letters, and sent again when the cause is mended."""

import asyncio
import contextlib
import sys
from collections import Counter as Tally
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.storage.dead_letters import DeadLetter, DeadLetters
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names
from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.faults import DEAD_LETTERING
from tests.chaos.fleet import ROOT, until
from tests.chaos.poison import ATTEMPTS, RETRY, GetMeals, GetTries, Served
from tests.chaos.servers import Servers

KEYS = [f"guest-{n}" for n in range(10)]


async def poison(setting: Setting) -> Result:
    """Some events always fail, are refused, or are no events at all: dead letters, then redriven N of N, once each."""
    result = Result("poison", setting.seed)
    rng = setting.rng("poison")
    dishes = setting.much(40, 12)
    menu = {key: [rng.choice(["", "", "", "", "fails", "refused"]) for _ in range(dishes)] for key in KEYS[:-2]}
    menu |= {key: [""] * dishes for key in KEYS[-2:]}  # these are never poisoned: nothing may hold them back
    poisoned = {(key, n) for key, served in menu.items() for n, kind in enumerate(served) if kind}
    garbage = setting.much(10, 4)
    async with (
        measured(result),
        Servers(setting.directory, setting.nodes) as servers,
        cell(setting, servers, "poison") as here,
    ):
        worker = here.start("tests.chaos.poison:Picky")
        await worker.ready()
        for number in range(dishes):
            for key, served in menu.items():
                await here.bus.emit(Served(key, number, served[number]))
        await _serve_garbage(here, garbage)
        letters = await _dead(here, len(poisoned) + garbage, 120)
        tries = await here.bus.query(GetTries())
        await _check_first(here, result, menu, letters, tries)
        await here.fleet.retire(worker)

        cured = here.start("tests.chaos.poison:Cured")
        await cured.ready()
        said = await _redrive(here)
        _check_once(result, menu, await _eaten(here, dishes))
        letters = await _dead(here, garbage, 30)
        result.require(
            len(letters) == garbage, f"{len(letters)} dead letters are left, not the {garbage} that are no events"
        )
        result.figures["redriven"] = f"{len(poisoned)} of {len(poisoned)}: {said}"
    result.load = f"{dishes * len(KEYS)} events over {len(KEYS)} keys"
    result.faults = f"{len(poisoned)} poisoned, {garbage} that cannot be decoded; then the actor is mended"
    result.figures["attempts at what fails"] = f"{ATTEMPTS}, then a dead letter"
    return result


async def dead_letters(setting: Setting) -> Result:
    """The actor is killed before and after it stores a dead letter, and the server: each letter is there, once; redriven."""
    result = await kill_around_dead_letters(setting, Result("dead-letters", setting.seed))
    result.require(not result.lost, f"{result.lost} events were neither handled nor kept as dead letters")
    result.require(not result.twice, f"{result.twice} dead letters or effects too many")
    return result


async def kill_around_dead_letters(setting: Setting, result: Result, without: Sequence[str] = ()) -> Result:
    """Fill `result` with what became of events that are refused while their actor is killed."""
    rng = setting.rng("dead-letters")
    dishes = setting.much(30, 12)
    menu = {key: [rng.choice(["", "refused"]) for _ in range(dishes)] for key in KEYS}
    poisoned = {(key, n) for key, served in menu.items() for n, kind in enumerate(served) if kind}
    kills = [f"{point}:{rng.randint(1, 8)}" for _ in range(setting.much(4, 2)) for point in DEAD_LETTERING]
    async with (
        measured(result),
        Servers(setting.directory, setting.nodes) as servers,
        cell(setting, servers, "dead-letters") as here,
    ):
        worker = here.start("tests.chaos.poison:Picky", kills=kills, without=without)
        await worker.ready()
        for number in range(dishes):
            for key, served in menu.items():
                await here.bus.emit(Served(key, number, served[number]))
        for number in range(len(kills)):
            await until(lambda number=number: len(worker.deaths) > number, 30, f"kill {number + 1}")
            if number % 3 == 1:
                await servers.restart(servers.nodes[0])
        letters = await _dead(here, len(poisoned), 10 if without else 60)
        found = Tally((event.key, event.number) for letter in letters for event in [_served(letter)])
        result.lost += len(poisoned - found.keys())
        result.twice += found.total() - len(found)
        result.require(found.keys() <= poisoned, "a dead letter of what was not refused")
        if not without:
            await here.fleet.retire(worker)
            cured = here.start("tests.chaos.poison:Cured")
            await cured.ready()
            result.figures["redriven"] = await _redrive(here)
            _check_once(result, menu, await _eaten(here, dishes))
        here.complain(result)
    result.load = f"{dishes * len(KEYS)} events over {len(KEYS)} keys, {len(poisoned)} of them refused"
    result.faults = f"{len(kills)} kill -9 around the storing of a dead letter, {len(kills) // 3} of the server"
    return result


def _served(letter: DeadLetter) -> Served:
    return msgspec.json.decode(letter.payload, type=Served)


async def _serve_garbage(here: Cell, number: int) -> None:
    names = Names("kitchen", here.namespace)
    jetstream = JetStream(here.connection)
    for n in range(number):
        event_id = new_id()
        block = header_block.encode([("Nats-Msg-Id", event_id), ("ce-id", event_id)])
        await jetstream.publish(names.event("served", f"garbage-{n}"), b'{"key": 7' * (n + 1), headers=block)


async def _dead(here: Cell, expected: int, timeout: float) -> list[DeadLetter]:
    """Return the dead letters as soon as there are as many as expected (and what there is after `timeout`)."""
    letters = DeadLetters(JetStream(here.connection), Names("picky", here.namespace))
    found: list[DeadLetter] = []
    end = asyncio.get_running_loop().time() + timeout
    while len(found) != expected and asyncio.get_running_loop().time() < end:
        with contextlib.suppress(ActorError, TimeoutError):  # a cluster may be choosing a leader
            found = [letter async for letter in letters.read()]
        await asyncio.sleep(0.05)
    return found


async def _check_first(
    here: Cell, result: Result, menu: dict[str, list[str]], letters: list[DeadLetter], tries: dict[str, list[float]]
) -> None:
    delays: list[float] = []
    for key, served in menu.items():
        eaten = (await here.bus.query(GetMeals(key))).eaten
        right = tuple(n for n, kind in enumerate(served) if not kind)
        result.require(eaten == right, f"{key}: ate {eaten} and not {right}, in order")
        for n, kind in enumerate(served):
            times = tries.get(f"{key}/{n}", [])
            wanted = ATTEMPTS if kind == "fails" else 1
            result.require(len(times) == wanted, f"{key}/{n} ({kind or 'good'}): {len(times)} attempts, not {wanted}")
            for attempt, (before, after) in enumerate(pairwise(times), 1):
                delays.append(after - before)
                least = RETRY.delay(attempt, 0.0)
                result.require(
                    after - before >= least * 0.95, f"{key}/{n}: only {after - before:.3f} s after attempt {attempt}"
                )
    ids = [letter.headers.get("ce-id", letter.headers.get("Ce-Id", "")) for letter in letters]
    result.require(len(set(ids)) == len(ids), "a dead letter is there twice")
    for letter in letters:
        whole = letter.failure.reason and letter.failure.attempts and letter.failure.stream and letter.failure.sequence
        result.require(
            bool(whole) and letter.failure.reaction == "on_served", f"{letter.id}: incomplete: {letter.failure}"
        )
    poisoned = sum(bool(kind) for served in menu.values() for kind in served)
    lost = poisoned - sum(letter.failure.subject.count("guest-") for letter in letters)
    result.lost += max(lost, 0)
    result.twice += max(-lost, 0)
    result.require(lost == 0, f"{poisoned} events are poisoned, {poisoned - lost} of them are dead letters")
    result.figures["delays between attempts, s"] = f"{min(delays):.2f} to {max(delays):.2f}"
    result.figures["dead letters"] = len(letters)


async def _redrive(here: Cell) -> str:
    """Run the command that an operator runs, twice at once."""
    arguments = ["-m", "runtime", "dlq", "redrive", "--all", "--nats", here.servers.url, "--namespace", here.namespace]
    both = [
        await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        for _ in range(2)
    ]
    said = [(await process.communicate())[0].decode().strip().splitlines() for process in both]
    return " / ".join(lines[-1] if lines else "" for lines in said)


async def _eaten(here: Cell, dishes: int) -> dict[str, tuple[int, ...]]:
    """Return what was eaten as soon as everybody had everything (or what there is after 60 s)."""
    eaten: dict[str, tuple[int, ...]] = {}
    try:
        async with asyncio.timeout(60):
            while not eaten or any(len(numbers) < dishes for numbers in eaten.values()):
                eaten = {key: (await here.bus.query(GetMeals(key))).eaten for key in KEYS}
                await asyncio.sleep(0.05)
    except TimeoutError:
        return eaten
    return eaten


def _check_once(result: Result, menu: dict[str, list[str]], eaten: dict[str, tuple[int, ...]]) -> None:
    for key, served in menu.items():
        missing, extra = len(served) - len(set(eaten[key])), len(eaten[key]) - len(set(eaten[key]))
        result.lost += missing
        result.twice += extra
        result.require(not missing and not extra, f"{key}: after redriving, {missing} lost and {extra} twice")
