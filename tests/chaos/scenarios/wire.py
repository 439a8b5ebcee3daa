"""Bad input on the wire: a seeded fuzzer on a raw socket, and an actor process that must answer whatever it is sent."""

import asyncio
import re
import time
from collections import Counter as Tally
from collections import defaultdict

import msgspec

from runtime import RequestError
from runtime.errors import CodecError
from runtime.nats.jetstream.client import JetStream
from runtime.wire import header_block
from runtime.wire.subjects import Names, key_token
from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.frames import Frame, Fuzzer
from tests.chaos.mirror import GetSeen, Kept, Put, Show, Stored
from tests.chaos.raw import RawClient
from tests.chaos.servers import Servers

BATCH = 500
"""Frames between two good requests."""
GROWTH = 64 * 1024 * 1024
"""Bytes by which the process may grow from the first tenth of the run to its end."""

_CODES = {400, 403, 404, 408, 409, 429, 500, 503, 508}
_FIELDS = {"code", "kind", "message", "executed"}
_LINES = {"Nats-Service-Error", "Nats-Service-Error-Code", "Content-Type", "traceresponse"}
_INSIDE = re.compile(rb"Traceback|File \"|[\w/]+\.py\b|site-packages|object at 0x|msgspec\.|runtime\.")
_PACKED = "application/msgpack"


class Replies:
    """Takes what comes back on the raw socket, and says what is wrong with it."""

    def __init__(self, inbox: bytes) -> None:
        self.codes: Tally[str] = Tally()
        self.count: Tally[bytes] = Tally()
        """Answers by reply subject."""
        self.wrong: list[str] = []
        self._own = inbox + b".r."
        self._micro = inbox + b".d."

    def __call__(self, subject: bytes, block: bytes, payload: bytes) -> None:
        if subject.startswith(self._own):
            self.count[subject] += 1
            self._check(block, payload)
        elif subject.startswith(self._micro):
            if header_block.status(block) != 503 and not msgspec.json.decode(payload)["type"].startswith(
                "io.nats.micro.v1."
            ):
                self._note("a discovery answer", block, payload)
        elif b".victim." in subject:
            self._note("published where the caller wanted it", block, payload)

    def _check(self, block: bytes, payload: bytes) -> None:
        said = header_block.parse(block)
        packed = said.get("Content-Type") == _PACKED
        try:
            body = (msgspec.msgpack if packed else msgspec.json).decode(payload)
            if "Nats-Service-Error-Code" not in said:
                self.codes["good"] += 1
                return
            error = body["error"]
            self.codes[str(error["code"])] += 1
            fits = (
                list(body) == ["error"]
                and set(error) - {"retryAfter"} == _FIELDS
                and error["code"] in _CODES
                and ("retryAfter" in error) == (error["code"] == 429)
                and error["executed"] in (True, False, None)
                and said["Nats-Service-Error-Code"] == str(error["code"])
                and said["Nats-Service-Error"].isascii()
                and set(said) <= _LINES
            )
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as odd:
            self._note(f"not the contract's form ({odd!r})", block, payload)
            return
        if not fits:
            self._note("not the contract's form", block, payload)
        elif error["code"] == 500:
            self._note("the handler failed", block, payload)
        elif _INSIDE.search(payload) or _INSIDE.search(block):
            self._note("it tells of the inside", block, payload)

    def _note(self, what: str, block: bytes, payload: bytes) -> None:
        if len(self.wrong) < 10:
            self.wrong.append(f"{what}: {block[:300]!r} {payload[:300]!r}")


class Attack:
    """One run of the fuzzer against the actors of a cell."""

    def __init__(self, here: Cell, fuzzer: Fuzzer, inbox: bytes, result: Result) -> None:
        self.replies = Replies(inbox)
        self.kinds: Tally[str] = Tally()
        self.good = 0
        """Good commands that were answered, rightly."""
        self.broken = 0
        """Sockets that the server closed."""
        self.hanging = 0
        """Those where it waits for the rest of a frame."""
        self.refusals: Tally[bytes] = Tally()
        """What the server said when it closed the main one: then the answers of a whole batch are not waited for."""
        self._here = here
        self._fuzzer = fuzzer
        self._result = result
        self._subscriptions = [inbox + b".>", here.namespace.encode() + b".victim.>"]
        self._client: RawClient | None = None

    async def connect(self) -> RawClient:
        port = self._here.servers.nodes[0].port
        return await RawClient.connect("127.0.0.1", port, self._subscriptions, self.replies)

    async def batch(self, size: int) -> None:
        """Send frames, then a good query and a good command, and wait for every answer that is due."""
        if self._client is None or self._client.closed:
            self._client = await self.connect()
        sent = [self._fuzzer.next() for _ in range(size)]
        breakers = [frame for frame in sent if frame.kind == "breaker"]
        for frame in sent:
            self.kinds[frame.kind] += 1
            if frame.kind != "breaker":
                self._client.send(frame.data)
        for frame in breakers:
            await self._break(frame)
        alive = await self._client.barrier()
        await self._ask()
        if alive:
            await self._answered([frame for frame in sent if frame.answer])
        else:
            self.broken += 1
            self.refusals.update(self._client.refusals[-1:])

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _break(self, frame: Frame) -> None:
        """Send what ends a socket, on one of its own."""
        client = await RawClient.connect("127.0.0.1", self._here.servers.nodes[0].port, [], lambda *_: None)
        client.send(frame.data + b"\r\n")
        try:
            self.broken += not await client.barrier(0.05)
        except TimeoutError:
            self.hanging += 1
        await client.close()

    async def _ask(self) -> None:
        """Ask what any caller might, and expect what any caller would."""
        begun = time.monotonic()
        key = "good one"
        try:
            value = await self._here.bus.command(Put(key, "good"), timeout=20)
            shown = await self._here.bus.query(Show(key, text="t"), timeout=20)
        except RequestError as error:
            self._result.lost += 1
            self._result.problems.append(f"a good request failed: {error!r}")
            return
        self.good += 1
        self._result.stall = max(self._result.stall, time.monotonic() - begun)
        if value != self.good or shown != Kept(value, "t"):
            self._result.twice += value > self.good
            self._result.lost += value < self.good
            self._result.problems.append(f"good command {self.good} was answered {value}, the query {shown}")

    async def _answered(self, frames: list[Frame]) -> None:
        count = self.replies.count
        limit = time.monotonic() + 10
        missing = frames
        while (missing := [frame for frame in missing if not count[frame.answer]]) and time.monotonic() < limit:
            await asyncio.sleep(0.002)
        doubled = [frame for frame in frames if count[frame.answer] > 1]
        self._result.lost += len(missing)
        self._result.twice += len(doubled)
        self._result.problems += [f"no answer to {frame.data[:300]!r}" for frame in missing[:3]]
        self._result.problems += [f"two answers to {frame.data[:300]!r}" for frame in doubled[:3]]
        for frame in frames:
            del count[frame.answer]


class Ledger:
    """What the event stream holds against what became of it: handled once, or a dead letter once."""

    def __init__(self, here: Cell) -> None:
        self._here = here
        self._jetstream = JetStream(here.connection)
        self._mirror = Names("mirror", here.namespace)
        self._watcher = Names("watcher", here.namespace)
        self.decodable: dict[str, set[str]] = defaultdict(set)
        """Ids by key."""
        self.bad: set[int] = set()
        """Sequences."""
        self.dead: Tally[int] = Tally()

    async def idle(self, timeout: float) -> None:
        """Return when both reactions have finished with all that is stored. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout):
            for durable in ("watcher", "passer"):
                while True:
                    info = await self._jetstream.consumer_info(self._mirror.events_stream, durable)
                    if not info.num_pending and not info.num_ack_pending:
                        break
                    await asyncio.sleep(0.05)

    async def read(self) -> None:
        stream = self._mirror.events_stream
        async for stored in self._jetstream.read(stream, self._mirror.event("stored", "*")):
            try:
                event = msgspec.json.decode(stored.payload or b"{}", type=Stored)
                key_token(event.key)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, CodecError):
                self.bad.add(stored.sequence)
                continue
            carried = header_block.get(stored.headers, b"ce-id") or ""
            own = not (0 < len(carried.encode()) <= 256 and carried.isprintable())
            self.decodable[event.key].add(f"#{stored.sequence}" if own else carried)
        async for letter in self._jetstream.read(self._watcher.dead_stream, self._watcher.dead("stored")):
            if header_block.get(letter.headers, b"Dead-Stream") == stream:  # it may also be one of the fuzzer's
                self.dead[int(header_block.get(letter.headers, b"Dead-Sequence") or 0)] += 1

    async def compare(self, result: Result) -> None:
        missing, doubled = self.bad - self.dead.keys(), [n for n, times in self.dead.items() if times > 1]
        result.lost += len(missing)
        result.twice += len(doubled)
        result.require(
            not missing, f"no dead letter of {len(missing)} events that cannot be read: {sorted(missing)[:5]}"
        )
        result.require(not doubled, f"two dead letters of one event: {doubled[:5]}")
        extra = self.dead.keys() - self.bad
        result.require(not extra, f"dead letters of {len(extra)} events that can be read: {sorted(extra)[:5]}")
        for key, ids in self.decodable.items():
            seen = await self._here.bus.query(GetSeen(key), timeout=10)
            result.lost += max(len(ids) - seen, 0)
            result.twice += max(seen - len(ids), 0)
            result.require(seen == len(ids), f"{key[:40]!r}: {len(ids)} events, {seen} were handled")


async def wire(setting: Setting) -> Result:
    """A fuzzer sends bad frames, headers, subjects and bodies: every request is answered by the contract, nothing leaks."""
    result = Result("wire", setting.seed)
    total = setting.much(100_000, 4_000)
    inbox = b"_INBOX.fuzz"
    async with measured(result), Servers(setting.directory) as servers, cell(setting, servers, "wire") as here:
        worker = here.start(*(f"tests.chaos.mirror:{name}" for name in ("Mirror", "Watcher", "Passer")), keep=False)
        await worker.ready()
        attack = Attack(here, Fuzzer(setting.rng("wire"), "wire", inbox), inbox, result)
        before = 0
        for number in range(batches := total // BATCH):
            await attack.batch(BATCH)
            if number == batches // 10:
                before = worker.rss()
            if result.problems or attack.replies.wrong:
                break
            if number and number % 40 == 0:
                setting.say(f"{number * BATCH} frames, {worker.rss() >> 20} MiB")
        ledger = Ledger(here)
        await ledger.idle(40)
        await ledger.read()
        await ledger.compare(result)
        grown = worker.rss() - before
        await attack.close()
        result.require(grown < GROWTH, f"the process grew by {grown >> 20} MiB")
        result.require(worker.alive and not worker.deaths, "the process died")
        here.complain(result)
    result.problems += attack.replies.wrong
    codes = ", ".join(f"{code} {times}" for code, times in sorted(attack.replies.codes.items()))
    result.figures |= {
        "frames": ", ".join(f"{kind} {times}" for kind, times in attack.kinds.most_common()),
        "answers": codes,
        "sockets closed by the server": attack.broken,
        "sockets left in the middle of a frame": attack.hanging,
        "of them with a batch": dict(attack.refusals) or "none",
        "events": f"{sum(map(len, ledger.decodable.values()))} handled, {len(ledger.bad)} dead letters",
        "grown, MiB": grown >> 20,
    }
    result.load = f"{attack.good} good commands and queries between the bad ones, one by one"
    result.faults = f"{sum(attack.kinds.values())} mutated frames, seed {setting.seed}"
    return result
