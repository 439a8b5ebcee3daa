"""The frame scanner against nats-py's own parser: the same byte streams, cut at any byte, lead to the same deliveries."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from runtime.nats import protocol
from runtime.nats.fast import _Parser
from runtime.nats.protocol import FrameScanner

OURS, FOREIGN = b"7", b"12"

words = st.text("abcXYZ019.-_$%", min_size=1, max_size=12).map(str.encode)
payloads = st.binary(max_size=40) | st.sampled_from([b"", b"\r\n", b"MSG a 7 3\r\nabc\r\n", b"PING\r\n", b"\r"])
blocks = st.lists(st.tuples(words, words), max_size=3).map(
    lambda pairs: b"NATS/1.0\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in pairs) + b"\r\n"
) | st.sampled_from([b"NATS/1.0", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\nA: b\r\n\r\n", b"\xff\x00"])
spaces = st.sampled_from([b" ", b" ", b"  ", b"\t"])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    sid = draw(st.sampled_from([OURS, FOREIGN]))
    space, payload = draw(spaces), draw(payloads)
    line = [draw(words), sid, *draw(st.lists(words, max_size=1))]
    if draw(st.booleans()):
        block = draw(blocks)
        sizes = [b"%d" % len(block), b"%d" % (len(block) + len(payload))]
        return space.join([b"HMSG", *line, *sizes]) + b"\r\n" + block + payload + b"\r\n"
    return space.join([b"MSG", *line, b"%d" % len(payload)]) + b"\r\n" + payload + b"\r\n"


controls = st.sampled_from(
    [
        b"PING\r\n",
        b"PONG\r\n",
        b"+OK\r\n",
        b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n",
        b'INFO {"a":1}\r\n',
    ]
)
streams = st.lists(messages() | messages() | controls, max_size=8)


class Recorder:
    """Records the calls that a parser makes of its client."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self._status = Client.CONNECTED

    def receive(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        self.seen.append((int(OURS), subject, reply, payload, headers))

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, payload: bytes, headers: bytes | None) -> None:
        self.seen.append((sid, subject, reply, payload, headers))

    async def _process_ping(self) -> None:
        self.seen.append("ping")

    async def _process_pong(self) -> None:
        self.seen.append("pong")

    async def _process_err(self, text: str) -> None:
        self.seen.append(text)

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.seen.append(info)


async def nothing() -> None:
    """Wait for nothing: the test has no socket."""


def by_nats_py(chunks: list[bytes]) -> list[Any]:
    recorder = Recorder()
    parser = Parser(recorder)

    async def feed() -> None:
        for chunk in chunks:
            await parser.parse(chunk)

    asyncio.run(feed())
    return recorder.seen


def by_scanner(recorder: Recorder, chunks: list[bytes]) -> list[Any]:
    client: Any = recorder
    parser = _Parser(client, FrameScanner({OURS: recorder.receive}), nothing)

    async def feed() -> None:
        for chunk in chunks:
            await parser.parse(chunk)

    asyncio.run(feed())
    return recorder.seen


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds)]


@settings(max_examples=150)
@given(streams, st.lists(st.integers(0, 10_000), max_size=6))
def test_the_scanner_delivers_the_same_as_nats_py(frames: list[bytes], places: list[int]) -> None:
    stream = b"".join(frames)
    expected = by_nats_py([stream])
    assert len(expected) >= len(frames) - frames.count(b"+OK\r\n")
    assert by_scanner(Recorder(), cut(stream, places)) == expected


def test_a_stream_may_be_cut_at_any_byte() -> None:
    stream = (
        b"MSG a 7 5\r\nhello\r\nHMSG b.c 7 _INBOX.1 15 17\r\nNATS/1.0\r\na:b\r\nhi\r\nPING\r\n"
        b"MSG x 12 4\r\n\r\n\r\n\r\nMSG a 7 r 0\r\n\r\nINFO {}\r\nMSG a 7 2\r\nok\r\n"
    )
    expected = by_nats_py([stream])
    assert len(expected) == 7
    for place in range(len(stream) + 1):
        assert by_scanner(Recorder(), [stream[:place], stream[place:]]) == expected
    assert by_scanner(Recorder(), [stream[at : at + 1] for at in range(len(stream))]) == expected


@settings(max_examples=200)
@given(streams, st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=4)), max_size=3))
def test_a_mangled_stream_continues_or_ends_in_a_protocol_error(frames: list[bytes], edits: list[Any]) -> None:
    """nats-py reconnects on a `ProtocolError`; any other exception of its parser would end its read loop."""
    stream = bytearray(b"".join(frames))
    for place, new in edits:
        at = place % (len(stream) + 1)
        stream[at : at + len(new)] = new
    recorder = Recorder()
    try:
        by_scanner(recorder, [bytes(stream)])
    except ProtocolError:
        return
    assert by_scanner(Recorder(), cut(bytes(stream), [3, 50, 111])) == recorder.seen


@pytest.mark.parametrize("size", [b"99999999999", b"9" * 5000])
def test_an_excessive_size_is_a_protocol_error(size: bytes) -> None:
    with pytest.raises(ProtocolError):
        by_scanner(Recorder(), [b"MSG a 7 " + size + b"\r\n"])


@pytest.mark.parametrize(
    "frame",
    [
        b"HMSG a 7 20 5\r\nhello\r\n",  # the header block is larger than the message
        b"HMSG a 7 -2 5\r\nhello\r\n",
        b"MSG a 7 r x 5\r\nhello\r\n",
        b"HMSG a 7 5\r\nhello\r\n",
        b"XMSG a 7 r 5\r\n",
        b"MSG a 7 -20\r\n",
        b"MSG a 7 x\r\n",
    ],
)
def test_a_malformed_frame_of_ours_is_left_to_nats_py(frame: bytes) -> None:
    recorder = Recorder()
    scanner = FrameScanner({OURS: recorder.receive})
    assert list(scanner.feed(frame + b"PING\r\n")) == [frame, b"PING\r\n"]
    assert recorder.seen == []


def test_bytes_of_an_ended_connection_are_not_read_into_the_next() -> None:
    class Reconnecting(Recorder):
        parser: Any

        async def _process_err(self, text: str) -> None:
            await super()._process_err(text)
            self.parser.reset()

    recorder = Reconnecting()
    client: Any = recorder
    recorder.parser = _Parser(client, FrameScanner({OURS: recorder.receive}), nothing)

    async def feed() -> None:
        await recorder.parser.parse(b"-ERR 'Stale Connection'\r\nMSG a 7 50\r\nhalf of")
        recorder._status = Client.RECONNECTING
        await recorder.parser.parse(b"MSG a 7 50\r\nhalf of")
        recorder._status = Client.CONNECTED
        await recorder.parser.parse(b"MSG a 7 2\r\nok\r\n")

    asyncio.run(feed())
    assert recorder.seen == ["'stale connection'", (7, b"a", b"", b"ok", None)]


def test_an_endless_line_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        by_scanner(Recorder(), [b"x" * (protocol.MAX_LINE // 2)] * 3)


def test_a_large_payload_from_many_reads_is_delivered_whole() -> None:
    payload = b"z" * 3_000_000
    stream = b"MSG a 7 3000000\r\n" + payload + b"\r\nPING\r\n"
    seen = by_scanner(Recorder(), [stream[at : at + 32768] for at in range(0, len(stream), 32768)])
    assert seen == [(7, b"a", b"", payload, None), "ping"]


def test_a_receiver_that_raises_is_logged_and_the_next_message_is_delivered(caplog: pytest.LogCaptureFixture) -> None:
    got: list[bytes] = []

    def receive(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        got.append(payload)
        if payload == b"1":
            raise KeyError("mine")

    scanner = FrameScanner({OURS: receive})
    assert list(scanner.feed(b"MSG a 7 1\r\n1\r\nMSG a 7 1\r\n2\r\nPING\r\n")) == [b"PING\r\n"]
    assert got == [b"1", b"2"]
    assert caplog.text.count("a receiver of a raised") == 1


def test_a_receiver_may_remove_itself_and_others() -> None:
    got: list[bytes] = []
    receivers: dict[bytes, Any] = {}

    def receive(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        got.append(payload)
        receivers.clear()

    receivers[OURS] = receive
    scanner = FrameScanner(receivers)
    assert list(scanner.feed(b"MSG a 7 1\r\n1\r\nMSG a 7 1\r\n2\r\n")) == [b"MSG a 7 1\r\n2\r\n"]
    assert got == [b"1"]
