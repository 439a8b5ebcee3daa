"""Mutated frames: a seeded source of malformed requests, events and discovery requests."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

MAX_PAYLOAD = 1024 * 1024
"""The server's limit in bytes, headers included. It closes the socket if a frame exceeds the limit."""

NUL_TO_FF = bytes(range(256))
"""Every byte once."""

_KEYS: list[Any] = ["a", "b", "c", "d", "", "_", "%", "a.b", "*", ">", "a b", "\r\n", "\x00", "ключ", "🗝", "é" * 400, "x" * 1024,
    "x" * 1025, "../..", "$JS.API", 7, None, True, [], {}, 1.5, "a\u2028b"]  # fmt: skip
_NUMBERS = [b"0", b"-0", b"1e999", b"-1e999", b"1e-999", b"NaN", b"Infinity", b"-Infinity", b"9" * 19, b"9" * 20, b"9" * 400,
    b"9" * 5000, b"18446744073709551616", b"-9223372036854775809", b"0x10", b"01", b"1.", b".5", b"1e", b"+1", b"1_000", b"true", b"null",
    b'""', b"[]", b"{}", b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\\q"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"2024-13-45T99:99:99Z"']  # fmt: skip
_TEXTS = [
    "",
    "a",
    "abc",
    "ü",
    "😀" * 20,
    "\x00\x01",
    "\r\nNats-Service-Error-Code: 200",
    "\u202e",
    "%s%n{0}",
    "x" * 3000,
]
_JSON: list[bytes] = [b"", b" ", b"null", b"true", b"0", b'"a"', b"[]", b"{}", b"{", b"}", b"[", b'{"key"', b'{"key":', b'{"key":"a"',
    b'{"key":"a",}', b'{"key":"a"}{"key":"b"}', b"{'key':'a'}", b'{"key":"a"}//', b'\xef\xbb\xbf{"key":"a"}', b'{"key":"a"}\x00',
    b'{"key":"a","key":"b"}', b'{"key":"a","text":"b","text":1}', b'{"key":"\\ud800"}', b'{"key":"\xff"}', b'{"key":"a","\xff":1}',
    b"[" * 100_000, b'{"leaf":' * 20_000, b'{"key":"a","unknown":' + b"[" * 50_000, b'{"key":"a","unknown":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"key":"a","unknown":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", b'{"key":"a","more":{"x":' * 5000, NUL_TO_FF,
    b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(5000)) + b"}"]  # fmt: skip
_LARGE: list[bytes] = [b" " * 1_000_000, b'{"key":"a","text":"' + b"x" * 1_000_000 + b'"}', b"[" * 1_000_000,
    b'{"key":"a","unknown":[' + b"1," * 490_000 + b"1]}", b'{"key":"' + b"k" * 1_000_000 + b'"}', b"\x91" * 1_000_000,
    b'{"key":"a","leaf":{"tags":[' + b'"",' * 300_000 + b'""]}}', b'{"key":"a","number":' + b"9" * 1_000_000 + b"}"]  # fmt: skip
_PACKED: list[bytes] = [b"", b"\xc0", b"\xc1", b"\x80", b"\x90", b"\x81", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff", b"\x81\xa3key", b"\x81\xa3key\xc1", b"\x82\xa3key\xa1a\xa3key\xa1b", b"\x81\xa3key\xa2\xff\xfe", b"\x81\x90\x01",
    b"\x82\xa3key\xa1a\x90\xc0", b"\x82\xa3key\xa1a\x81\x01\x02\x03", b"\x91" * 100_000, b"\x81\xa1a" * 30_000, b"\x81\xa3key\xd6\xff\0\0\0\0",
    b"\x82\xa3key\xa1a\xa6number\xcf" + b"\xff" * 8, b"\x82\xa3key\xa1a\xa4when\xd7\xff" + b"\xff" * 8, b"\x82\xa3key\xa1a\xa5ratio\xcb\x7f\xf8\0\0\0\0\0\0",
    b"\x82\xa3key\xa1a\xa4when\xc7\x05\x07hello", b"\x82\xa3key\xa1a\xa4text\xc4\x03abc", NUL_TO_FF]  # fmt: skip
_TYPES = [b"application/msgpack", b"application/msgpack; v=1", b"APPLICATION/X-MSGPACK", b"application/json", b"application/json;charset=latin1", b"",
    b"text/html", b"application/cloudevents+json", b"\xff\xfe", b"x" * 5000, b"application/", b";", b"application/msgpack\x00", b"multipart/x; a=\r"]  # fmt: skip
_BLOCKS = [b"NATS/1.0", b"NATS/1.0\r\n", b"NATS/1.0\r\n\r\n", b"NATS/1.0\n\n", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
    b"NATS/9.9\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\r\n\r\n", b"\x00" * 37, b"\xff" * 107, b"NATS/1.0\r\nDeadline", b"NATS/1.0\r\nDeadline:",
    b"NATS/1.0\r\nDeadline: 1", b"NATS/1.0\r\n:\r\n\r\n", b"NATS/1.0\r\n: x\r\n\r\n", b"NATS/1.0\r\n x: y\r\n\r\n", b"NATS/1.0\r\nIdempotency-Key: a",
    b"NATS/1.0\r\nno colon at all\r\n\r\n", b"NATS/1.0\r\nA: b\r\n continued\r\n\r\n", b"NATS/1.0\r\nContent-Type: application/msgpack",
    b"NATS/1.0\r\n\xff\xfe: \xff\r\n\r\n", b"NATS/1.0\r\nDeadline: 9999999999999\r\n", b"NATS/1.0\r\nDeadline: 0000000000000\r\n\r\n"]  # fmt: skip
_SPAN = b"0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
_VALUES: dict[bytes, list[bytes]] = {
    b"Deadline": [b"", b"0", b"-1", b"abc", b"1e99", b"9" * 15, b"9" * 16, b"9" * 400, b"1.5", b"NaN", "１２３".encode(), b"\x00", b"1 2", b"0" * 13,
        b"9" * 13, b"+1700000000000", b"\xb2\xb3"],
    b"Idempotency-Key": [b"", b"same", b"x" * 256, b"x" * 257, "é".encode() * 128, "é".encode() * 129, b"\x00", b"\xff\xfe", b"*.>", b"a b", b"%", b"../..",
        b"018f0000-0000-7000-8000-000000000000", b"ffffffff-ffff-7fff-bfff-ffffffffffff", b"00000000-0000-8000-8000-000000000000.x", b"x" * 60_000, b"\t"],
    b"Call-Chain": [b"", b",", b"," * 31, b"," * 5000, b"mirror/a", b"mirror/%ZZ", b"mirror/" + b"a" * 9000, b"\xff\xff", b"mirror", b"/", b"a/b,mirror/b",
        b"\x00,\x00"],
    b"traceparent": [b"", b"00-" + _SPAN + b"-01", b"00-" + _SPAN, b"ff-" + _SPAN + b"-01", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
        b"00-" + _SPAN.upper() + b"-01", b"00-" + _SPAN + b"-01-more", b"00-" + b"z" * 32 + b"-" + b"z" * 16 + b"-zz", b"\xff" * 55, b"-" * 55, b"0" * 9000],
    b"tracestate": [b"", b"a=b", b"=", b"a=b," * 500, b"\xff=\xff", b"A B=c", b"a=" + b"x" * 9000],
    b"baggage": [b"", b"a=b", b"=", b"%zz=%", b"a=%ff%fe", b"a=b;c;d=;", b"a=b," * 2000, b"\xff=\xff", b"a" * 9000],
    b"Content-Type": _TYPES,
    b"Nats-Service-Error-Code": [b"200", b"x"],
    b"Nats-Msg-Id": [b"", b"same", b"x" * 300, b"\xff"],
    b"Nats-Expected-Last-Subject-Sequence": [b"0", b"-1", b"x"],
    b"Nats-Rollup": [b"all", b"sub", b"x"],
    b"ce-id": [b"", b"same", b"x" * 256, b"x" * 257, b"x" * 40_000, b"\xff\xfe", b"%", b"*.>", b"a b", b"\x00", b"018f0000-0000-7000-8000-000000000000"],
    b"ce-type": [b"", b"mirror.Other", b"\xff"],
    b"ce-subject": [b"", b"b", b"%ZZ", b"\xff"],
    b"ce-time": [b"", b"yesterday", b"9999-99-99T99:99:99Z"],
    b"ce-source": [b"", b"/other", b"\xff"],
    b"ce-specversion": [b"", b"0.3", b"x"],
    b"Dead-Attempts": [b"1", b"9" * 5000, b"x", "٣".encode(), "²".encode()],
    b"Dead-Sequence": [b"1", b"9" * 5000, b"9" * 19, b"-1"],
    b"Dead-Reaction": [b"on_stored", b"put", b"put", b"show", b"\xff", b"", b"__init__"],
    b"Dead-Id": [b"", b"same", b"x" * 256, b"x" * 2000, b"\xff\xfe", b"a b", b"*", "é".encode() * 400],
    b"Dead-Subject": [b"", b"wire.mirror.timer.a.x", b"wire.mirror.timer.%ZZ.x", b"wire.mirror.timer.%FF.x", b"wire.mirror.timer", b"\xff", b"x" * 9000],
    b"Dead-Stream": [b"", b"x", b"\xff"],
    b"Dead-Reason": [b"", b"\xff", b"x" * 9000],
    b"Actorloom-Command": [b"Put", b"Put", b"Put", b"put", b"Show", b"\xff", b""],
    b"Actorloom-Recurring": [b"1", b""],
}  # fmt: skip
_DEAD = [name for name in _VALUES if name.startswith(b"Dead-")]
_TIMER = [b"Actorloom-Command", b"Actorloom-Command", b"Actorloom-Recurring", b"Idempotency-Key"]
_NAMES = list(_VALUES)
_TOKENS = [
    b"a",
    b"b",
    b"_",
    b"%",
    b"%ZZ",
    b"%2",
    b"%FF",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "ключ".encode(),
    b"x" * 1500,
    b"a.b",
    b"*",
    b">",
    b"",
    b"$JS",
    b"\x00",
    b"\x7f",
]


@dataclass
class Frame:
    """The bytes of a frame, and the reply that it must get."""

    kind: str
    data: bytes
    answer: bytes = b""
    """Reply subject on which exactly one reply must arrive; empty if no reply is required."""


class Fuzzer:
    """A source of frames for the actors of `namespace`, with reply subjects below `inbox`."""

    def __init__(self, rng: random.Random, namespace: str, inbox: bytes) -> None:
        self._rng = rng
        self._prefix = namespace.encode() + b"."
        self._streams = namespace.encode() + b"-mirror-"
        self._inbox = inbox
        self._count = 0
        self._kinds: list[tuple[Callable[[], Frame], int]] = [
            (self._request, 56), (self._event, 18), (self._returned, 3), (self._evil_reply, 8), (self._odd_subject, 8), (self._discovery, 6), (self._breaker, 1),
        ]  # fmt: skip

    def next(self) -> Frame:
        """Return the next frame. A frame of the kind ``breaker`` makes the server close the socket."""
        self._count += 1
        return self._rng.choices([make for make, _ in self._kinds], [weight for _, weight in self._kinds])[0]()

    def _request(self) -> Frame:
        reply = b"%b.r.%d" % (self._inbox, self._count)
        op = self._rng.choice((b"query.show", b"query.show", b"query.miss", b"command.put", b"command.put"))
        return Frame(op.decode(), self._frame(self._prefix + b"mirror." + op, reply), reply)

    def _event(self) -> Frame:
        reply = self._rng.choice((b"", b"%b.j.%d" % (self._inbox, self._count)))
        token = self._rng.choice(_TOKENS[:7]) if self._rng.random() < 0.9 else self._rng.choice(_TOKENS)
        return Frame("event", self._frame(self._prefix + b"mirror.event.stored." + token, reply))

    def _returned(self) -> Frame:
        """Return a frame that imitates a redriven dead letter or a due timer."""
        tail, names = self._rng.choice((
            (b"passer.redrive.stored.a", _DEAD), (b"mirror.redrive.put.a", _DEAD), (b"mirror.redrive.\xff.a", _DEAD), (b"mirror.timer.a.x", _TIMER),
            (b"mirror.timer.%ZZ.x", _TIMER), (b"mirror.timer.%FF.\xff", _TIMER), (b"mirror.timer.%s.x" % (b"k" * 1500), _TIMER),
        ))  # fmt: skip
        lines = b"".join(
            b"%b: %b\r\n" % (name, self._rng.choice(_VALUES[name])) for name in names if self._rng.random() < 0.8
        )
        block, body = b"NATS/1.0\r\n" + lines + b"\r\n", self._body(False)[: MAX_PAYLOAD // 2]
        sizes = len(block), len(block) + len(body)
        return Frame("returned", b"HPUB %b %d %d\r\n%b%b\r\n" % (self._prefix + tail, *sizes, block, body))

    def _evil_reply(self) -> Frame:
        prefix = self._prefix
        reply = self._rng.choice((
            b"", b"$JS.API.STREAM.DELETE." + self._streams + b"turns", b"$JS.API.STREAM.PURGE." + self._streams + b"events", b"$JS.ACK.x.y.1.1.1.1.0",
            b"$SYS.REQ.SERVER.PING", prefix + b"mirror.event.stored.evil", prefix + b"mirror.turn.a", prefix + b"victim.x", b"$KV.leases.mirror.0", b"$SRV.PING",
            prefix + b"mirror.command.put", b"\xff\xfe", b"_INBO", b"x" * 2000, b"*", b">",
            b"_INBOX.\xff", b"_INBOX", b"_INBOX.", b"_INBOX.*", b"_INBOX." + b"x" * 2000,
        ))  # fmt: skip
        op = self._rng.choice((b"query.show", b"command.put"))
        return Frame("evil reply", self._frame(prefix + b"mirror." + op, reply))

    def _odd_subject(self) -> Frame:
        reply = b"%b.s.%d" % (self._inbox, self._count)
        tail = self._rng.choice((b"query.Show", b"query.show.x", b"query", b"query.nothing", b"event.stored", b"event.other.a", b"event.stored.a.b",
            b"dead.stored", b"redrive.stored", b"redrive.put", b"command.\xff", b"query.*", b">", b"query.show\xff"))  # fmt: skip
        return Frame("odd subject", self._frame(self._prefix + b"mirror." + tail, reply))

    def _discovery(self) -> Frame:
        reply = b"%b.d.%d" % (self._inbox, self._count)
        subject = self._rng.choice((b"$SRV.PING", b"$SRV.INFO", b"$SRV.STATS", b"$SRV.INFO.mirror", b"$SRV.STATS.mirror", b"$SRV.PING.watcher", b"$SRV.PING.\xff",
            b"$SRV.INFO.mirror.x", b"$SRV.WHAT"))  # fmt: skip
        if self._rng.random() < 0.2:
            reply = self._rng.choice(
                (b"$JS.API.STREAM.DELETE." + self._streams + b"turns", b"_", b"_X", b"", b"_INBOX.\xff")
            )
        return Frame("discovery", self._frame(subject, reply))

    def _breaker(self) -> Frame:
        subject = self._prefix + b"mirror.query.show"
        data = self._rng.choice((
            b"PUB %b 5\r\nmore than five\r\n" % subject, b"HPUB %b 100 5\r\nabcde\r\n" % subject, b"HPUB %b -1 5\r\nabcde\r\n" % subject,
            b"PUB %b 99999999\r\n" % subject, b"PUB %b abc\r\n" % subject, b"PUB\r\n", b"WHAT\r\n", b"PUB " + b"x" * 5000 + b" 0\r\n\r\n",
            b"MSG a 1 0\r\n\r\n", b"INFO {}\r\n", b"-ERR 'x'\r\n", b"SUB\r\n", b"UNSUB \xff\r\n", b"CONNECT {\r\n", NUL_TO_FF + b"\r\n",
            b"HPUB %b 12 12\r\nNATS/1.0\r\n\r\n" % subject, self._mutated(self._frame(subject, b"_INBOX.x")[:4000], 4),
        ))  # fmt: skip
        return Frame("breaker", data)

    def _frame(self, subject: bytes, reply: bytes) -> bytes:
        block, packed = self._headers()
        body = self._body(packed)[: MAX_PAYLOAD - len(block or b"")]
        if block is None:
            return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(body), body)
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, len(block), len(block) + len(body), block, body)

    def _headers(self) -> tuple[bytes | None, bool]:
        """Return a header block, if any, and whether the body is to be MessagePack, which the headers may contradict."""
        rng = self._rng
        chance = rng.random()
        if chance < 0.35:
            return None, False
        if chance < 0.5:
            return rng.choice(_BLOCKS), rng.random() < 0.2
        if chance < 0.65:
            return b"NATS/1.0\r\nContent-Type: application/msgpack\r\n\r\n", True
        lines: list[bytes] = []
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            name = rng.choice(_NAMES)
            value = rng.choice(_VALUES[name])
            if name == b"Deadline" and rng.random() < 0.5:
                value = b"%d" % ((time.time() + rng.choice((-5, 0, 60))) * 1000)
            elif name == b"Idempotency-Key" and rng.random() < 0.5:
                value = b"id-%d" % rng.getrandbits(30)
            lines.append(
                rng.choice((name, name, name.lower(), name.upper()))
                + rng.choice((b": ", b":", b":  \t", b" : "))
                + value
            )
        if rng.random() < 0.1:
            lines *= 30
        block = b"NATS/1.0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        block = block if len(block) < MAX_PAYLOAD // 2 else block[: MAX_PAYLOAD // 2]
        return (self._mutated(block, 3) if rng.random() < 0.15 else block), rng.random() < 0.3

    def _body(self, packed: bool) -> bytes:
        rng = self._rng
        chance = rng.random()
        if chance < 0.001:
            return rng.choice(_LARGE)
        if chance < 0.25:
            # Large bodies are rare, or they would take most of the time.
            body = rng.choice(_PACKED if packed else _JSON)
            return body if len(body) < 2000 or rng.random() < 0.05 else body[: rng.randrange(2000)]
        value = self._value()
        if packed:
            body = msgspec.msgpack.encode(value)
        else:
            body = msgspec.json.encode(value)
            if chance < 0.5:
                body = body.replace(b'"@"', rng.choice(_NUMBERS))
        return body if chance > 0.8 else self._mutated(body, rng.choice((1, 1, 2, 5)))

    def _value(self) -> dict[str, Any]:
        """Return a message with random values. The text `@` is a place for a malformed number."""
        rng = self._rng
        value: dict[str, Any] = {"key": rng.choice(_KEYS[:4]) if rng.random() < 0.7 else rng.choice(_KEYS)}
        for name, values in (("text", _TEXTS), ("value", [1, -1, 2**63, "@"]), ("number", [1, "@"]), ("ratio", [0.5, "@"]), ("when", ["2024-01-01T00:00:00Z", "@"]),
                             ("leaf", [None, {"name": "x", "price": "@"}, {"tags": ["a", "@"]}]), ("more", [{}, {"x": {"name": "@"}}])):  # fmt: skip
            if rng.random() < (0.9 if name == "value" else 0.3):
                value[name] = rng.choice(values)
        return value

    def _mutated(self, data: bytes, times: int) -> bytes:
        rng = self._rng
        found = bytearray(data)
        for _ in range(times):
            at = rng.randrange(len(found) + 1)
            match rng.randrange(6):
                case 0:
                    found[at : at + 1] = bytes([rng.randrange(256)])
                case 1:
                    del found[at : at + rng.randrange(8)]
                case 2:
                    found[at:at] = rng.choice((b"\r\n", b"\x00", b"\xff", b'"', b"{", b"[", b"\\u", b"\x81", b"\xc1"))
                case 3:
                    found[at:at] = found[at : at + rng.randrange(1, 16)]
                case 4:
                    del found[at:]
                case _:
                    end = at + rng.randrange(1, 4)
                    found[at:end] = bytes(byte ^ (1 << rng.randrange(8)) for byte in found[at:end])
        return bytes(found)
