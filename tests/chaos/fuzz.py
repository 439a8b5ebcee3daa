"""Mutated frames: valid for the server as far as they must be to reach us, and wrong in every other way."""

import struct
from random import Random
from typing import Any

import msgspec

from runtime.ids import new_id

PROBE: dict[str, Any] = {
    "key": "k1", "count": 3, "ratio": 1.5, "when": "2026-03-01T12:00:00Z", "id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "price": "12.50", "colour": "red", "kind": "a", "part": {"name": "p", "weight": 7, "tags": ["x"], "parts": []},
    "labels": {"a": "b"}, "raw": "aGk=", "anything": [1, None, {"z": "y"}],
}  # fmt: skip
KEEP: dict[str, Any] = {name: PROBE[name] for name in ("key", "count", "ratio", "part", "labels")}

ODD_TEXT = (
    "", "\x00", "..", "a.b", "*", ">", "$SYS", "%", "%zz", "_", " ", "\ud800", "é", "𝒳" * 9, "\u202e", "a" * 1100, "../../x", "key with space",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 1e308, -0.0, "", "1", [], {}, [[]], {"": {}}, "NaN", b"x",
    "9999-12-31T23:59:60Z", "0000-00-00T00:00:00Z",
)  # fmt: skip
HOSTILE_JSON = (
    b"", b" ", b"null", b"[]", b"{", b"}", b'"', b"\xef\xbb\xbf{}", b"\xff\xfe", b"{}{}", b"{}\x00", b"NaN", b"1e999", b"-", b"tru",
    b"[" * 100_000, b'{"key":' * 50_000, b'{"anything":' + b"[" * 20_000 + b"]" * 20_000 + b"}", b"9" * 5000, b'{"count":' + b"9" * 5000 + b"}",
    b'{"count":1e400}', b'{"ratio":1e-400}', b'{"key":"\\ud800"}', b'{"key":"' + b"\\u0000" * 500 + b'"}', b'{"key":"\xc3\x28"}',
    b'{"key":"a","key":"b"}', b'{"labels":{"a":"b","a":"c"},"key":"k1"}', b"\x00" * 64, bytes(range(256)),
)  # fmt: skip
HOSTILE_MSGPACK = (
    b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 50_000,
    b"\x81\xa1a" * 30_000, b"\xc7\x08\x05" + b"\x00" * 8, b"\xd7\xff" + b"\xff" * 8, b"\xcf" + b"\xff" * 8, b"\xcb\x7f\xf8" + b"\x00" * 6,
    b"\x82\xa3key\xa1a\xa3key\xa1b", b"\x81\x01\x02", b"\x81\xc0\xc0", b"\x81\xa3key\xc4\x02\xff\xfe", b"\xa2\xff\xfe", b"",
)  # fmt: skip
HEADER_NAMES = (
    "traceparent", "tracestate", "baggage", "Idempotency-Key", "Deadline", "Call-Chain", "Content-Type", "Traceparent", "ce-id",
    "ce-type", "Nats-Msg-Id", "Nats-Service-Error-Code", "deadline", "content-type", "IDEMPOTENCY-KEY", "X", "",
)  # fmt: skip
HEADER_VALUES = (
    "", " ", "0", "-1", "1", "1e400", "NaN", "inf", "9" * 40, "9" * 5000, "٣", "0x10", "1.5", "99999999999999", "application/json",
    "application/msgpack", "application/msgpack; charset=x", "application/xml", "text/plain;;;", "fuzzed/k1", "a,b,c", "," * 200,
    ",".join(f"x/{n}" for n in range(60)), "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-" + "f" * 32 + "-" + "f" * 16 + "-ff",
    "ff-" + "1" * 32 + "-" + "1" * 16 + "-01", "00-" + "g" * 32 + "-" + "1" * 16 + "-01", "k=v," * 200, "\x00", "\x1b[31m", "é", "x" * 3000,
    "%" * 9, "=" * 50, "a=b;c=d", "\t", "*", ">",
)  # fmt: skip
SUBJECTS = (
    "fuzzed.query.probe", "fuzzed.query.probe", "fuzzed.command.keep", "fuzzed.command.keep", "fuzzed.command.keep", "fuzzed.query.nope",
    "fuzzed.command.probe", "fuzzed.query", "fuzzed.event.kept.k1", "fuzzed.event.kept.k%zz", "fuzzed.event.kept._", "fuzzed.event.other.x",
    "$SRV.PING", "$SRV.INFO.fuzzed", "$SRV.STATS.fuzzed.x", "$SRV.NOPE",
)  # fmt: skip


class Frame(msgspec.Struct):
    """One publish, and whether somebody is to answer it (an error counts as an answer)."""

    data: bytes
    wants_reply: bool


class Fuzzer:
    """Makes frames from a seed; `inbox` is where answers go."""

    def __init__(self, rng: Random, namespace: str, inbox: str) -> None:
        self._rng = rng
        self._prefix = f"{namespace}."
        self._inbox = inbox
        self._number = 0
        self._served = {f"{namespace}.fuzzed.query.probe", f"{namespace}.fuzzed.command.keep"}

    def frame(self) -> Frame:
        """Return the next one."""
        rng = self._rng
        self._number += 1
        subject = rng.choice(SUBJECTS)
        if not subject.startswith("$SRV"):
            subject = self._prefix + subject
        msgpack = rng.random() < 0.25
        reply, wanted = self._reply(subject)
        lines = self._headers(msgpack, subject)
        payload = self._body(msgpack, KEEP if ".keep" in subject or ".kept" in subject else PROBE)
        if lines is None:
            data = f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"
        else:
            size = len(lines) + len(payload)
            data = f"HPUB {subject} {reply} {len(lines)} {size}\r\n".encode() + lines + payload + b"\r\n"
        return Frame(data, wanted and subject in self._served)

    def _reply(self, subject: str) -> tuple[str, bool]:
        rng = self._rng
        if rng.random() < 0.9 or ".event." in subject or subject not in self._served:
            # Elsewhere it is the server that answers, and to whatever subject.
            return f"{self._inbox}.{self._number}", True
        odd = (
            "", f"{self._prefix}fuzzed.event.kept.forged", f"{self._prefix}fuzzed.command.keep", f"$JS.API.STREAM.DELETE.{self._prefix[:-1]}-fuzzed-turns",
            "$JS.ACK.x", f"$KV.{self._prefix[:-1]}-leases.fuzzed.0", "_INBOX", f"{self._prefix}forged.{'x' * 500}",
        )  # fmt: skip
        return rng.choice(odd), False

    def _headers(self, msgpack: bool, subject: str) -> bytes | None:
        rng = self._rng
        lines: list[str] = []
        if msgpack:
            lines.append("Content-Type: application/msgpack")
        if ".event." in subject:
            lines += [f"Nats-Msg-Id: {new_id()}", f"ce-id: {new_id()}"]
        for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
            lines.append(
                rng.choice(HEADER_NAMES) + rng.choice((": ", ":", " : ", "", ":\t")) + rng.choice(HEADER_VALUES)
            )
        if not lines and rng.random() < 0.7:
            return None
        block = ("NATS/1.0\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode("utf-8", "surrogatepass")
        if rng.random() < 0.15:
            block = self._mutated(block)
            if rng.random() < 0.5:
                block = rng.choice(
                    (
                        b"NATS/1.0",
                        b"NATS/1.0\r\n",
                        b"\r\n\r\n",
                        b"NATS/1.0 503\r\n\r\n",
                        b"N",
                        block.rstrip(),
                        b"NATS/1.0\r\n\r\n\r\n",
                    )
                )
        return block[:4000]

    def _body(self, msgpack: bool, valid: dict[str, Any]) -> bytes:
        rng = self._rng
        kind = rng.random()
        encode: Any = msgspec.msgpack.encode if msgpack else msgspec.json.encode
        if kind < 0.1:
            return encode({**valid, "key": f"k{rng.randint(1, 2000)}"})
        if kind < 0.3:
            # The bombs are large: a few of them are as good as many.
            hostile = HOSTILE_MSGPACK if msgpack else HOSTILE_JSON
            body = rng.choice(hostile)
            return body if len(body) < 20_000 or rng.random() < 0.1 else body[:2000]
        if kind < 0.65:
            return self._encode(encode, self._changed(valid), valid)
        return self._mutated(self._encode(encode, self._changed(valid) if rng.random() < 0.3 else valid, valid))

    def _encode(self, encode: Any, value: Any, otherwise: Any) -> bytes:
        try:
            return encode(value)
        except (UnicodeEncodeError, OverflowError, RecursionError, TypeError, msgspec.MsgspecError):
            return encode(otherwise)

    def _changed(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return a copy in which one to three fields, at any depth, are missing, odd, new or nested."""
        rng = self._rng
        changed: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
        for _ in range(rng.randint(1, 3)):
            target = changed
            if rng.random() < 0.3 and isinstance(target.get("part"), dict):
                target = target["part"]
            name = rng.choice([*target, "unknown", "__proto__", "constructor"])
            match rng.randint(0, 6):
                case 6:
                    changed["part"] = _nested_part(rng.randint(1, 1100))
                case 0:
                    target.pop(name, None)
                case 1:
                    target[name] = rng.choice(ODD_TEXT)
                case 2:
                    target[name] = _nested(rng.randint(1, 900))
                case 3:
                    target[name] = {rng.choice(ODD_TEXT): rng.choice(ODD_VALUES) for _ in range(3)}
                case _:
                    target[name] = rng.choice(ODD_VALUES)
        return changed

    def _mutated(self, data: bytes) -> bytes:
        """Return `data` with bits flipped, bytes cut out, doubled or put in."""
        rng = self._rng
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(changed) + 1)
            match rng.randint(0, 4):
                case 0 if place < len(changed):
                    changed[place] ^= 1 << rng.randint(0, 7)
                case 1:
                    del changed[place : place + rng.randint(1, 8)]
                case 2:
                    changed[place:place] = changed[max(place - rng.randint(1, 16), 0) : place]
                case 3:
                    changed[place:place] = rng.randbytes(rng.randint(1, 6))
                case _:
                    changed[place:place] = struct.pack(">I", rng.getrandbits(32))
        return bytes(changed)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _nested_part(depth: int) -> Any:
    """A part within parts: it fits the type, however deep."""
    value: Any = {"name": "p", "weight": 1}
    for _ in range(depth):
        value = {"name": "p", "weight": 1, "parts": [value]}
    return value
