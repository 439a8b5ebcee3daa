"""Commits under way: whatever their answer is, and whatever ends meanwhile, each message has one outcome and takes effect once."""

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from runtime import NotDelivered, RequestError
from runtime.errors import PublishError
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.server import EmbeddedServer
from runtime.storage.draft import Draft
from runtime.storage.journal import Journal
from runtime.storage.record import decode_record, rewrite_record
from tests.support.counting import Add, Counter, GetCount
from tests.support.probe import Probe, running

Answer = Callable[[int, Exception | None], None]

SOON = 8.0
"""Seconds, less than the time after which a drain is cut short."""


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    async with running(Counter, url=nats_server.url, namespace=namespace) as running_system:
        yield running_system


class Held:
    """The commits of a journal that were sent after this was made. Their answers wait until `release`."""

    def __init__(self, patch: pytest.MonkeyPatch, journal: Journal, stores: bool) -> None:
        """Hold the commits; if not `stores`, they do not leave the process."""
        self.answers: dict[str, Answer] = {}
        self.stored: dict[str, int] = {}
        send = journal.send

        def hold(draft: Draft, callback: Answer) -> None:
            token = draft.key.token
            self.answers[token] = callback
            if stores:
                send(draft, lambda sequence, error: self.stored.update({token: sequence}))
            else:
                journal.fence.sending.add(token)

        patch.setattr(journal, "send", hold)

    def release(self, error: Exception | None = None) -> None:
        """Call back with the answers, or with `error`."""
        answers, self.answers = self.answers, {}
        for token, answer in answers.items():
            answer(self.stored.get(token, 0) if error is None else 0, error)


async def write_as_another(system: Probe, name: str) -> None:
    """Store the record of a key once more, as another owner does."""
    stored = await system.stored_turn("counter", name)
    assert stored is not None
    await system.jetstream.publish(stored.subject, rewrite_record(stored.payload, "another-1", set()))


@pytest.mark.parametrize("answer", ["stored", "time-out", "refused"])
@pytest.mark.parametrize("end", ["drain", "crash", "lost", "close"])
async def test_no_message_is_left_without_an_outcome(
    system: Probe, monkeypatch: pytest.MonkeyPatch, end: str, answer: str
) -> None:
    bus, names = system.bus, ["a", "b", "c"]
    for name in names:
        await bus.command(Add(name, 1))
    if answer == "refused":
        for name in names:
            await write_as_another(system, name)
    with monkeypatch.context() as patch:
        held = Held(patch, system.journal("counter"), stores=answer != "time-out")
        first = [asyncio.ensure_future(bus.command(Add(name, 10), id=f"first {name}", timeout=20)) for name in names]
        await system.until(lambda: len(held.answers) == 3 and len(held.stored) == 3 * (answer != "time-out"))
        behind = [asyncio.ensure_future(bus.command(Add(name, 100), id=f"behind {name}", timeout=20)) for name in names]
        await system.until(lambda: len(system.unfinished("counter")) == 6)
        before = system.ownership("counter")
        error = {"time-out": TimeoutError(), "refused": WrongSequence("wrong last sequence", 10071, None)}.get(answer)
    if end == "drain":
        system.drain("counter")
        await system.until(lambda: system.awaits_commits("counter"))
        held.release(error)
    elif end == "close":
        held.release(error)
        await system.close_turns("counter")  # before the tasks have begun that go on after an error
    else:
        system.crash("counter") if end == "crash" else system.expire("counter")
    results = await asyncio.wait_for(asyncio.gather(*first, *behind, return_exceptions=True), SOON)
    for result in results:
        assert not isinstance(result, BaseException) or isinstance(result, RequestError), result
    if end == "drain":
        assert not any(isinstance(result, BaseException) for result in results), results
        await system.until(lambda: not system.is_serving("counter"), SOON)
        return
    held.release(error)  # Nobody waits for these answers any more.
    if end == "close":
        system.crash("counter")
    await system.until(lambda: system.ownership("counter") not in (None, before), SOON)
    for name, result, later in zip(names, results[:3], results[3:], strict=True):
        value = (await bus.query(GetCount(name), timeout=20)).value
        effects = {"first": value % 100 == 11, "behind": value > 100}
        for outcome, taken in ((result, effects["first"]), (later, effects["behind"])):
            if not isinstance(outcome, RequestError):
                assert taken
            elif outcome.executed is not None:
                assert outcome.executed is taken
        # The same messages again: each of them has taken effect once.
        await bus.command(Add(name, 10), id=f"first {name}", timeout=20)
        assert (await bus.command(Add(name, 100), id=f"behind {name}", timeout=20)).value == 111
    assert [event.subject.rpartition(".")[2] for event in await system.stored_events("counter")].count("a") == 3


async def test_a_failure_in_the_answer_to_a_commit_ends_the_ownership(
    system: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read loop calls back: its log is not enough, since all later messages of the key would wait for ever."""
    await system.bus.command(Add("a", 1))
    before, journal = system.ownership("counter"), system.journal("counter")

    def fail(token: str, state: object) -> None:
        raise ArithmeticError("an index fails")

    monkeypatch.setattr(journal, "on_change", fail)
    failed = asyncio.ensure_future(system.bus.command(Add("a", 1), id="x", timeout=20))
    with pytest.raises(RequestError) as raised:
        await asyncio.wait_for(failed, SOON)
    assert raised.value.executed is None
    await system.until(lambda: system.ownership("counter") not in (None, before), SOON)
    assert (await system.bus.command(Add("a", 1), id="x", timeout=20)).value == 2


KINDS = ["refused", "stored", "lost", "unsent", "error"]


class Faults:
    """Faults of commits at random, with their controls: `counts` tells how often each one was injected."""

    def __init__(self, patch: pytest.MonkeyPatch, rng: random.Random) -> None:
        self.counts: dict[str, int] = defaultdict(int)
        self.rate = 0.4
        self._rng = rng
        self._kinds = itertools.cycle(rng.sample(KINDS, len(KINDS)))
        self._last: dict[str, tuple[int, bytes]] = {}
        """The sequence and body of the newest record of each key, as far as this process knows it."""
        self._send = Journal.send
        self._accept = Journal.accept
        faults = self

        def send(journal: Journal, draft: Draft, callback: Answer) -> None:
            faults.inject(journal, draft, callback)

        def accept(journal: Journal, draft: Draft, sequence: int) -> None:
            faults._last[draft.subject] = sequence, draft.payload
            faults._accept(journal, draft, sequence)

        patch.setattr(Journal, "send", send)
        patch.setattr(Journal, "accept", accept)

    def inject(self, journal: Journal, draft: Draft, callback: Answer) -> None:
        """Send a record, or do something else."""
        loop, jetstream = asyncio.get_running_loop(), journal._jetstream
        kind = next(self._kinds) if self._rng.random() < self.rate else "none"
        sequence, last = self._last.get(draft.subject, (0, b""))
        if kind == "refused" and (not sequence or sequence != draft.key.sequence):
            kind = "none"
        self.counts[kind] += 1
        if kind == "unsent":
            raise PublishError("not sent")
        if kind == "refused":
            unpublished = {entry.id for entry in decode_record(draft.payload, draft.subject).outbox}
            other = rewrite_record(last, "another-1", unpublished)
            jetstream.publish_callback(draft.subject, other, draft.headers, lambda sequence, error: None)
        if kind in ("none", "refused"):
            self._send(journal, draft, callback)
            return
        if kind == "stored":
            self._send(journal, draft, lambda sequence, error: callback(0, TimeoutError("no answer")))
        else:
            journal.fence.sending.add(draft.key.token)
            loop.call_soon(callback, 0, TimeoutError("lost") if kind == "lost" else PublishError("refused"))


@pytest.mark.parametrize("seed", [1, 2])
async def test_turns_stay_exact_and_their_events_in_order_whatever_the_answers_are(
    system: Probe, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng, bus, keys, each = random.Random(seed), system.bus, 3, 80
    faults = Faults(monkeypatch, rng)
    values: dict[str, dict[int, int]] = defaultdict(dict)

    async def call(name: str, number: int) -> None:
        while True:
            try:
                reply = await bus.command(Add(name, number), id=f"{name} {number}", timeout=5)
            except RequestError as error:
                if isinstance(error, NotDelivered):
                    await system.until(lambda: system.is_ready("counter"))
                continue
            values[name][reply.value] = number
            return

    async def caller(name: str, numbers: list[int]) -> None:
        for number in numbers:
            await call(name, number)

    async def crash() -> None:
        for limit in (keys * each // 3, keys * each * 2 // 3):
            await system.until(lambda limit=limit: sum(map(len, values.values())) >= limit, 30)
            system.crash("counter")

    crashing = asyncio.ensure_future(crash())
    names = [f"key{number}" for number in range(keys)]
    callers = [caller(name, list(range(1 + part, 1 + each, 8))) for name in names for part in range(8)]
    await asyncio.wait_for(asyncio.gather(*callers), 40)
    await crashing
    faults.rate = 0.0
    await system.until(lambda: system.is_ready("counter"))
    assert min(faults.counts[kind] for kind in KINDS) > 0, faults.counts
    events: dict[str, list[int]] = defaultdict(list)
    for event in await system.stored_events("counter"):
        body = msgspec.json.decode(event.payload)
        events[body["name"]].append(body["by"])
    for name in names:
        assert (await bus.query(GetCount(name), timeout=20)).value == each * (each + 1) // 2
        committed = [number for _, number in sorted(values[name].items())]
        assert events[name] == committed and len(committed) == each
    assert not system.unfinished("counter")
