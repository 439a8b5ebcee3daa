"""Bad wire input: mutated frames and bodies from a raw socket; what comes back is the contract's, and nothing breaks."""

import asyncio
import re
from collections import Counter as Tally
from typing import Any

import msgspec

from runtime.errors import RequestError
from runtime.nats.jetstream import JetStream
from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.fuzz import KEEP, Fuzzer
from tests.chaos.fuzzed import Keep
from tests.chaos.servers import Servers

CODES = frozenset({400, 408, 409, 429, 503, 508})
"""What an error reply to bad input may say. 500 would be a failure of ours."""
BATCH = 200


async def fuzz(setting: Setting) -> Result:
    """100,000 mutated frames: headers, subjects, reply subjects, JSON, MessagePack, nesting bombs, huge numbers."""
    result = Result("fuzz", setting.seed)
    frames = setting.much(100_000, 4_000)
    async with measured(result), Servers(setting.directory) as servers, cell(setting, servers, "fuzz") as here:
        worker = here.start("tests.chaos.fuzzed:Fuzzed", keep=False)
        await worker.ready()
        before = worker.rss()
        wire = await Wire.open(servers.nodes[0].port)
        fuzzer = Fuzzer(setting.rng("fuzz"), here.namespace, wire.inbox)
        replies = Replies(result)
        for start in range(0, frames, BATCH):
            batch = [fuzzer.frame() for _ in range(min(BATCH, frames - start))]
            wanted = sum(frame.wants_reply for frame in batch)
            got = await wire.exchange(b"".join(frame.data for frame in batch), wanted)
            for headers, payload in got:
                replies.check(headers, payload)
            if len(got) < wanted:
                result.problems.append(f"frames {start} to {start + len(batch)}: {wanted - len(got)} had no answer")
            if not worker.alive:
                result.problems.append("the process has ended")
                break
        result.figures["connections that the server closed"] = wire.closed
        await wire.close()
        await _still_whole(here, result)
        grown = worker.rss() - before if worker.alive else 0
        result.require(grown < 64 * 2**20, f"memory grew by {grown / 2**20:.0f} MiB")
        result.problems += [f"a stack trace in the log: {line}" for line in worker.complaints()[:10]]
        result.figures["memory"] = f"grew by {grown / 2**20:.1f} MiB"
    result.load = f"{frames} frames, {replies.total} answers: " + ", ".join(
        f"{n} × {code}" for code, n in replies.codes.most_common()
    )
    result.faults = "every frame is wrong in one way or several, a tenth of the bodies excepted"
    result.problems = result.problems[:40]
    return result


async def _still_whole(here: Cell, result: Result) -> None:
    """The process answers, its streams are there, and nothing was published for a caller that may not."""
    try:
        await here.bus.command(msgspec.convert({**KEEP, "key": "after"}, Keep), timeout=5)
    except RequestError as error:
        result.problems.append(f"afterwards a command fails: {error!r}")
    jetstream = JetStream(here.connection)
    for name in ("fuzzed-turns", "fuzzed-events", "fuzzed-dead"):
        info = await jetstream.stream_info(f"{here.namespace}-{name}")
        result.figures[name] = f"{info.state.messages} messages"
    forged = [
        stored.payload
        async for stored in jetstream.read(
            f"{here.namespace}-fuzzed-events", f"{here.namespace}.fuzzed.event.kept.forged"
        )
    ]
    result.require(not forged, f"{len(forged)} answers went into the event stream, as {forged[:1]}")


class Replies:
    """Looks at every answer."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self.codes: Tally[Any] = Tally()

    @property
    def total(self) -> int:
        return sum(self.codes.values())

    def check(self, headers: bytes, payload: bytes) -> None:
        found = re.search(rb"Nats-Service-Error-Code: (\d+)\r\n", headers)
        if found is None:
            status = re.match(rb"NATS/1.0 (\d+)", headers)
            self.codes[f"status {status[1].decode()}" if status else "ok"] += 1
            return
        code = int(found[1])
        self.codes[code] += 1
        try:
            decode: Any = (
                msgspec.msgpack.decode if b"\r\nContent-Type: application/msgpack" in headers else msgspec.json.decode
            )
            error = decode(payload)["error"]
            whole = error["code"] == code and error["kind"] and error["message"] and "executed" in error
        except (msgspec.DecodeError, LookupError, TypeError, UnicodeDecodeError):
            whole = False
        if not whole or code not in CODES or b"Traceback" in payload or b"/runtime/" in payload:
            self._result.problems.append(f"an answer that is not the contract's: {headers[:200]!r} {payload[:300]!r}")


class Wire:
    """A bare connection to NATS that sends bytes as they are, and reads what comes to its inbox."""

    inbox = "_INBOX.fuzz"

    def __init__(self, port: int) -> None:
        self._port = port
        self.closed = 0

    @classmethod
    async def open(cls, port: int) -> "Wire":
        wire = cls(port)
        await wire._connect()
        return wire

    async def close(self) -> None:
        self._writer.close()

    async def exchange(self, data: bytes, wanted: int) -> list[tuple[bytes, bytes]]:
        """Send, and return the answers: (header block, payload) each; at most 10 s after the last one."""
        replies: list[tuple[bytes, bytes]] = []
        self._writer.write(data)
        try:
            await self._writer.drain()
            while len(replies) < wanted:
                async with asyncio.timeout(10):
                    message = await self._read()
                    if message is not None:
                        replies.append(message)
        except TimeoutError:
            return replies
        except (OSError, asyncio.IncompleteReadError):
            # The server takes a frame for a violation and hangs up; what was behind it is not answered.
            self.closed += 1
            await self._connect()
            return replies + [(b"closed", b"")] * (wanted - len(replies))
        return replies

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        await self._reader.readline()
        options = '{"headers":true,"no_responders":true,"verbose":false,"lang":"fuzz","version":"1","protocol":1}'
        self._writer.write(f"CONNECT {options}\r\nSUB {self.inbox}.* 1\r\nPING\r\n".encode())
        while not (await self._reader.readline()).startswith(b"PONG"):
            pass

    async def _read(self) -> tuple[bytes, bytes] | None:
        line = await self._reader.readline()
        if not line:
            raise asyncio.IncompleteReadError(b"", None)
        words = line.split()
        if words[0] == b"PING":
            self._writer.write(b"PONG\r\n")
            return None
        if words[0] not in (b"MSG", b"HMSG"):
            return None
        size = int(words[-1])
        content = (await self._reader.readexactly(size + 2))[:-2]
        head = int(words[-2]) if words[0] == b"HMSG" else 0
        return content[:head], content[head:]
