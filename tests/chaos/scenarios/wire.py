"""Malformed input: a seeded fuzzer on a raw socket, and an actor process that must answer every request."""

import asyncio
import re
import time
from collections import Counter as Tally
from collections import defaultdict

import msgspec

from runtime import RequestError
from runtime.actor.message import codec_of
from runtime.errors import CodecError
from runtime.nats.jetstream.client import JetStream
from runtime.wire import header_block
from runtime.wire.cloudevents import received_id
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token
from tests.chaos.cell import Cell, Result, Setting, single_cell
from tests.chaos.frames import Frame, Fuzzer
from tests.chaos.mirror import GetSeen, Kept, Put, Show, Stored
from tests.chaos.raw import RawClient

BATCH = 500
"""Frames between two valid requests."""

GROWTH = 64 * 1024 * 1024
"""Bytes by which the process may grow after the first tenth of the run."""

_CODES = {400, 403, 404, 408, 409, 429, 500, 503, 508}
_FIELDS = {"code", "kind", "message", "executed"}
_LINES = {"Nats-Service-Error", "Nats-Service-Error-Code", "Content-Type", "traceresponse"}
_INTERNALS = re.compile(rb"Traceback|File \"|[\w/]+\.py\b|site-packages|object at 0x|msgspec\.|runtime\.")
_PACKED = "application/msgpack"


class Replies:
    """Receives the messages on the raw socket and checks them against the contract."""

    def __init__(self, inbox: bytes) -> None:
        self.codes: Tally[str] = Tally()
        self.count: Tally[bytes] = Tally()
        """Number of replies by reply subject."""
        self.problems: list[str] = []
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
                self._add("a malformed discovery reply", block, payload)
        elif b".victim." in subject:
            self._add("published on a subject that the caller chose", block, payload)

    def _check(self, block: bytes, payload: bytes) -> None:
        fields = header_block.parse(block)
        packed = fields.get("Content-Type") == _PACKED
        try:
            body = (msgspec.msgpack if packed else msgspec.json).decode(payload)
            if "Nats-Service-Error-Code" not in fields:
                self.codes["no error"] += 1
                return
            error = body["error"]
            self.codes[str(error["code"])] += 1
            fits = (
                list(body) == ["error"]
                and set(error) - {"retryAfter"} == _FIELDS
                and error["code"] in _CODES
                and ("retryAfter" in error) == (error["code"] == 429)
                and error["executed"] in (True, False, None)
                and fields["Nats-Service-Error-Code"] == str(error["code"])
                and fields["Nats-Service-Error"].isascii()
                and set(fields) <= _LINES
            )
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            self._add(f"not in the form of the contract ({error!r})", block, payload)
            return
        if not fits:
            self._add("not in the form of the contract", block, payload)
        elif error["code"] == 500:
            self._add("the handler failed", block, payload)
        elif _INTERNALS.search(payload) or _INTERNALS.search(block):
            self._add("it reveals internals", block, payload)

    def _add(self, problem: str, block: bytes, payload: bytes) -> None:
        if len(self.problems) < 10:
            self.problems.append(f"{problem}: {block[:300]!r} {payload[:300]!r}")


class Attack:
    """One run of the fuzzer against the actors of a cell."""

    def __init__(self, cell: Cell, fuzzer: Fuzzer, inbox: bytes, result: Result) -> None:
        self.replies = Replies(inbox)
        self.kinds: Tally[str] = Tally()
        self.good = 0
        """Number of valid commands with the right reply."""
        self.broken = 0
        """Number of sockets that the server closed."""
        self.incomplete = 0
        """Number of sockets on which the server waits for the rest of a frame."""
        self.refusals: Tally[bytes] = Tally()
        """Errors with which the server closed the main socket. The replies of that batch are not checked."""
        self._here = cell
        self._fuzzer = fuzzer
        self._result = result
        self._subscriptions = [inbox + b".>", cell.namespace.encode() + b".victim.>"]
        self._client: RawClient | None = None

    async def connect(self) -> RawClient:
        port = self._here.servers.nodes[0].port
        return await RawClient.connect("127.0.0.1", port, self._subscriptions, self.replies)

    async def batch(self, size: int) -> None:
        """Send frames, then a valid command and a valid query, and wait for every required reply."""
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
        await self._send_valid_requests()
        if alive:
            await self._check_replies([frame for frame in sent if frame.answer])
        else:
            self.broken += 1
            self.refusals.update(self._client.refusals[-1:])

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _break(self, frame: Frame) -> None:
        """Send a frame that makes the server close the socket, on a socket of its own."""
        client = await RawClient.connect("127.0.0.1", self._here.servers.nodes[0].port, [], lambda *_: None)
        client.send(frame.data + b"\r\n")
        try:
            self.broken += not await client.barrier(0.05)
        except TimeoutError:
            self.incomplete += 1
        await client.close()

    async def _send_valid_requests(self) -> None:
        """Send a command and a query as any caller does, and check their replies."""
        begun = time.monotonic()
        key = "good one"
        try:
            value = await self._here.bus.command(Put(key, "good"), timeout=20)
            shown = await self._here.bus.query(Show(key, text="t"), timeout=20)
        except RequestError as error:
            self._result.lost += 1
            self._result.problems.append(f"a valid request failed: {error!r}")
            return
        self.good += 1
        self._result.stall = max(self._result.stall, time.monotonic() - begun)
        if value != self.good or shown != Kept(value, "t"):
            self._result.twice += value > self.good
            self._result.lost += value < self.good
            self._result.problems.append(f"valid command {self.good} got the reply {value}, the query {shown}")

    async def _check_replies(self, frames: list[Frame]) -> None:
        """Check that each frame gets exactly one reply, within 10 s."""
        count = self.replies.count
        limit = time.monotonic() + 10
        missing = frames
        while (missing := [frame for frame in missing if not count[frame.answer]]) and time.monotonic() < limit:
            await asyncio.sleep(0.002)
        doubled = [frame for frame in frames if count[frame.answer] > 1]
        self._result.lost += len(missing)
        self._result.twice += len(doubled)
        self._result.problems += [f"no reply to {frame.data[:300]!r}" for frame in missing[:3]]
        self._result.problems += [f"two replies to {frame.data[:300]!r}" for frame in doubled[:3]]
        for frame in frames:
            del count[frame.answer]


def _key_of(payload: bytes) -> str:
    """Return the key of an event. Raises the errors of msgspec, or `CodecError`, if it cannot be decoded."""
    try:
        return msgspec.json.decode(payload, type=Stored).key
    except msgspec.ValidationError as error:
        if "Expected `int`, got `float`" not in str(error):
            raise
    # The codec takes 2.0 and -1e99 for integers, and msgspec does not.
    return codec_of(Stored).decode(payload).key


class EventAudit:
    """Compares the event stream with its effects: each event is handled once, or has one dead letter."""

    def __init__(self, cell: Cell) -> None:
        self._here = cell
        self._jetstream = JetStream(cell.connection)
        self._mirror = Names("mirror", cell.namespace)
        self._watcher = Names("watcher", cell.namespace)
        self.decodable: dict[str, set[str]] = defaultdict(set)
        """Ids of the events that can be decoded, by key."""
        self.undecodable: set[int] = set()
        """Sequences of the other events."""
        self.dead: Tally[int] = Tally()
        """Number of dead letters by sequence of the event."""

    async def wait_idle(self, timeout: float) -> None:
        """Return once both reactions have finished all stored events.

        Raises:
            TimeoutError: They have not finished within `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            for durable in ("watcher", "passer"):
                while True:
                    info = await self._jetstream.consumer_info(self._mirror.events_stream, durable)
                    if not info.num_pending and not info.num_ack_pending:
                        break
                    await asyncio.sleep(0.05)

    async def read(self) -> None:
        """Read the events and the dead letters of the watcher."""
        stream = self._mirror.events_stream
        async for stored in self._jetstream.read(stream, self._mirror.stored_event("stored")):
            if (header_block.get(stored.headers, b"Content-Type") or "").startswith("application/cloudevents"):
                self.undecodable.add(stored.sequence)  # the fuzzer makes no event whose attributes are in its body
                continue
            try:
                key = _key_of(stored.payload or b"{}")
                key_token(key)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, CodecError):
                self.undecodable.add(stored.sequence)
                continue
            self.decodable[key].add(received_id(stored.headers) or f"#{stored.sequence}")
        async for letter in self._jetstream.read(self._watcher.dead_stream, self._watcher.dead("stored")):
            if header_block.get(letter.headers, b"Dead-Stream") == stream:  # the fuzzer publishes such messages, too
                self.dead[int(header_block.get(letter.headers, b"Dead-Sequence") or 0)] += 1

    async def compare(self, result: Result) -> None:
        """Add lost and double effects to the result."""
        missing, doubled = self.undecodable - self.dead.keys(), [n for n, times in self.dead.items() if times > 1]
        result.lost += len(missing)
        result.twice += len(doubled)
        result.require(
            not missing, f"no dead letters of {len(missing)} events that cannot be decoded: {sorted(missing)[:5]}"
        )
        result.require(not doubled, f"two dead letters of one event: {doubled[:5]}")
        extra = self.dead.keys() - self.undecodable
        result.require(not extra, f"dead letters of {len(extra)} events that can be decoded: {sorted(extra)[:5]}")
        for key, ids in self.decodable.items():
            seen = await self._here.bus.query(GetSeen(key), timeout=10)
            result.lost += max(len(ids) - seen, 0)
            result.twice += max(seen - len(ids), 0)
            result.require(seen == len(ids), f"{key[:40]!r}: {len(ids)} events, {seen} were handled")


async def wire(setting: Setting) -> Result:
    """A fuzzer sends malformed frames, headers, subjects and bodies: every request is answered by the contract."""
    result = Result("wire", setting.seed)
    total = setting.size(100_000, 4_000)
    inbox = b"_INBOX.fuzz"
    async with single_cell(setting, result, "wire") as cell:
        worker = cell.start(*(f"tests.chaos.mirror:{name}" for name in ("Mirror", "Watcher", "Passer")), keep=False)
        await worker.ready()
        attack = Attack(cell, Fuzzer(setting.rng("wire"), "wire", inbox), inbox, result)
        before = 0
        for number in range(batches := total // BATCH):
            await attack.batch(BATCH)
            if number == batches // 10:
                before = worker.rss()
            if result.problems or attack.replies.problems:
                break
            if number and number % 40 == 0:
                setting.progress(f"{number * BATCH} frames, {worker.rss() >> 20} MiB")
        events = EventAudit(cell)
        await events.wait_idle(40)
        await events.read()
        await events.compare(result)
        grown = worker.rss() - before
        await attack.close()
        result.require(grown < GROWTH, f"the process grew by {grown >> 20} MiB")
        result.require(worker.alive and not worker.exit_codes, "the process ended")
        cell.check_logs(result)
    result.problems += attack.replies.problems
    codes = ", ".join(f"{code} {times}" for code, times in sorted(attack.replies.codes.items()))
    result.figures |= {
        "frames": ", ".join(f"{kind} {times}" for kind, times in attack.kinds.most_common()),
        "replies": codes,
        "sockets closed by the server": attack.broken,
        "sockets with an incomplete frame": attack.incomplete,
        "errors that closed the main socket": dict(attack.refusals) or "none",
        "events": f"{sum(map(len, events.decodable.values()))} handled, {len(events.undecodable)} dead letters",
        "growth, MiB": grown >> 20,
    }
    result.load = f"{attack.good} valid commands and queries between the malformed frames"
    result.faults = f"{sum(attack.kinds.values())} mutated frames, seed {setting.seed}"
    return result
