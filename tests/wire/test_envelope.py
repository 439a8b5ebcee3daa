"""The envelope of a request: the writer, the general reader and the fast reader agree about its layout."""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind

from runtime.errors import CodecError
from runtime.telemetry import LeanSpan, Tracing, inject
from runtime.telemetry.spans.context import extract, tracestate
from runtime.wire import header_block
from runtime.wire.envelope import NO_ROOM_FOR_TRACE, read, read_plain, read_query, write
from runtime.wire.ids import accept_id

TRACE_IDS = st.integers(1, 2**128 - 1).map(lambda number: b"%032x" % number)
SPAN_IDS = st.integers(1, 2**64 - 1).map(lambda number: b"%016x" % number)
TRACEPARENTS = st.builds(
    lambda trace, span, flags: header_block.line(b"traceparent", b"00-%b-%b-%b" % (trace, span, flags)),
    TRACE_IDS,
    SPAN_IDS,
    st.sampled_from([b"00", b"01", b"03"]),
)
TRACESTATES = st.sampled_from([b"", b"tracestate: vendor=1\r\n", b"tracestate: a=1,b=2\r\n"])
BAGGAGES = st.sampled_from([b"", b"baggage: user=7\r\n"])
TRACES = st.just(b"") | st.builds(lambda *lines: b"".join(lines), TRACEPARENTS, TRACESTATES, BAGGAGES)
DEADLINES = st.integers(0, 10**14)  # beside those of today, which have 13 digits, shorter and longer ones
TEXTS = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=40)
IDS = TEXTS.filter(accept_id)
CHAINS = st.lists(st.sampled_from(["orders/1", "stock", "ring/x%20y"]), max_size=4).map(",".join)
FIXED = b"traceparent: 00-%b-%b-01\r\n" % (b"a" * 32, b"b" * 16)


@given(TRACES, DEADLINES, st.none() | IDS, CHAINS)
def test_every_header_that_is_written_is_read(trace: bytes, deadline: int, command_id: str | None, chain: str) -> None:
    block = write(trace, deadline, command_id, chain)
    assert read(block) == (deadline / 1000, chain, (command_id or "").encode().strip().decode(), None)
    for line in trace.splitlines():
        name, _, value = line.partition(b": ")
        assert header_block.get(block, name) == value.decode()


@given(TRACES, st.integers(10**12, 10**13 - 1), st.none() | IDS, CHAINS)
def test_the_fast_reader_accepts_queries_of_our_own_callers(
    trace: bytes, deadline: int, command_id: str | None, chain: str
) -> None:
    plain = command_id is None and not chain and trace.count(b"\n") < 2
    block = write(trace, deadline, command_id, chain)
    assert (
        read_plain(block, traced=False) == read_plain(block, traced=bool(trace)) == (deadline / 1000 if plain else None)
    )


def test_the_fast_reader_accepts_a_block_with_nothing_but_a_trace() -> None:
    assert read_plain(header_block.START + FIXED + header_block.END, traced=False) == 0.0


def agree(block: bytes) -> None:
    """Check that the fast reader declines the block, or reads the same as the general one, and that queries are read alike."""
    with suppress(CodecError):
        general, chain, _, content_type = read(block)
        for _ in "twice":  # the second time, it is remembered
            assert read_query(block) == (general, chain, content_type)
    for traced in (False, True) if extract(block) is not None else (False,):
        deadline = read_plain(block, traced)
        assert deadline is None or read(block) == (deadline, "", "", None)


LINES = st.sampled_from(
    [
        FIXED,
        FIXED.replace(b": 00", b":00"),
        FIXED.title(),
        FIXED.replace(b"-01\r", b"-00\r"),
        b"Deadline: %d\r\n" % (time.time() * 1000),
        b"deadline: 1700000000000\r\n",
        b"Content-Type: application/msgpack\r\n",
        b"Idempotency-Key: id\r\n",
        b"Call-Chain: a/b\r\n",
        b"X-Header: 1\r\n",
        b"deadline: soon\r\n",
    ]
)


@given(st.lists(LINES, max_size=4).map(b"".join))
@example(b"traceparent: \r\nContent-Type: application/msgpack\r\nX: 1234567890\r\n")
@example(b"traceparent: \nContent-Type: application/msgpack;      ab123456789\r\n")
def test_the_readers_agree_about_other_headers(lines: bytes) -> None:
    agree(header_block.START + lines + header_block.END)


def damaged(block: bytes) -> Iterator[bytes]:
    """Yield the block with each of its bytes replaced. The fast reader checks the length first, so the length stays."""
    for at in range(len(block)):
        yield from (block[:at] + bytes([byte]) + block[at + 1 :] for byte in b"\r\n :=-x0")


PLAIN = [write(b"", 1_700_000_000_000), write(FIXED, 1_700_000_000_000), header_block.START + FIXED + header_block.END]


@pytest.mark.parametrize("block", PLAIN)
def test_the_readers_agree_about_a_plain_block_with_any_byte_replaced(block: bytes) -> None:
    for each in damaged(block):
        agree(each)


@pytest.mark.parametrize("size", [37, 82, 107])
@given(data=st.data())
def test_the_readers_agree_about_any_block_of_these_lengths(size: int, data: st.DataObject) -> None:
    deadline = b"\nDeadline: %d\r\n\r\n" % (time.time() * 1000)
    start = header_block.START + data.draw(st.sampled_from([b"", b"traceparent: "]))
    end = data.draw(st.sampled_from([b"\r\n\r\n", b"\r" + deadline, deadline]))
    names = [b"\ncontent-type:", b"\nDeadline: 17\r\n", b"\nIdempotency-Key:x", b"\r", b"\n", b"="]
    middle = b"".join(data.draw(st.lists(st.sampled_from(names) | st.binary(max_size=9), max_size=8)))
    room = size - len(start) - len(end)
    assume(room >= 0)
    block = start + middle[:room].ljust(room, b"x") + end
    assert len(block) == size
    agree(block)


@given(st.binary(max_size=120) | st.binary(max_size=100).map(lambda tail: b"NATS/1.0\r\nDeadline: " + tail))
def test_a_malformed_block_raises_nothing(block: bytes) -> None:
    read(block)
    agree(block)


@given(DEADLINES, TEXTS.filter(str.isprintable), TEXTS, TEXTS)
def test_names_are_read_in_any_order_and_case(deadline: int, chain: str, command_id: str, content: str) -> None:
    block = header_block.encode(
        [("deadline", str(deadline)), ("IDEMPOTENCY-KEY", command_id), ("Call-Chain", chain), ("content-Type", content)]
    )
    expected = [value.encode().strip().decode() for value in (chain, command_id, content)]
    assert read(block) == (deadline / 1000, *expected)


@pytest.mark.parametrize("value", ["", "soon", "-5", "1e3", "1" * 16, "٣"])
def test_a_deadline_that_is_not_a_number_is_ignored(value: str) -> None:
    assert read(header_block.encode([("Deadline", value)])) == (0.0, "", "", None)


def test_a_name_is_not_found_within_another() -> None:
    assert read(header_block.encode([("X-Deadline", "1"), ("My-Call-Chain", "a")])) == (0.0, "", "", None)


@pytest.mark.parametrize("command_id", ["a\rb", "a\nb", "\r\nDeadline: 1", "", "x" * 257, "a\0", "\ud800"])
def test_an_id_cannot_break_out_of_its_line(command_id: str) -> None:
    with pytest.raises(CodecError, match="is not an id"):
        write(b"", 1, command_id)


@given(st.sampled_from([b"\n", b"\r", b"\0", b"\x0b", b"\x1b", b"\x85", b"\xe2\x80\xa8"]))
def test_a_call_chain_that_another_reader_could_take_for_two_headers_is_refused(separator: bytes) -> None:
    assume(not separator.decode("utf-8", "replace").isprintable())
    value = b"orders/1" + separator + b"Idempotency-Key: smuggled"
    with pytest.raises(CodecError, match="Call-Chain"):
        read(header_block.join(header_block.line(b"Call-Chain", value)))


@given(
    st.sampled_from([b"\n", b"\r", b"\n\n"]), st.sampled_from([b"Deadline: 5", b"Idempotency-Key: x", b"Call-Chain: y"])
)
def test_a_line_feed_alone_begins_no_header(separator: bytes, smuggled: bytes) -> None:
    block = header_block.join(header_block.line(b"X-Note", b"a" + separator + smuggled))
    assert read(block) == (0.0, "", "", None)


def test_the_template_of_an_operation_reads_the_trace_that_a_span_writes() -> None:
    parent = TEMPLATE.start()
    block = write(inject(parent), 1_700_000_000_000)
    child = TEMPLATE.receive(block)
    assert isinstance(parent, LeanSpan) and isinstance(child, LeanSpan)
    assert (child.trace, child.parent, read_plain(block, traced=True)) == (parent.trace, parent.id, 1_700_000_000.0)


def check_trace(block: bytes) -> None:
    """Check that the template takes the same trace from the block as the general reader, and no invalid one."""
    span, parent = TEMPLATE.receive(block), extract(block)
    if not isinstance(span, LeanSpan):
        # The ids of an unsampled trace are not read by position: invalid ones make it the root of an unrecorded trace.
        context = span.parent_context()
        assert context is not None and not context.sampled and (parent is None or context == parent)
    elif parent is None:
        assert span.parent is None
    else:
        assert (span.trace, span.parent, tracestate(span.state_block)) == (parent.trace, parent.span, parent.tracestate)


TEMPLATE = Tracing(in_memory=True).service("calls").template("call", SpanKind.SERVER, {})


@given(TRACES)
def test_the_template_reads_the_trace_that_the_general_reader_reads(trace: bytes) -> None:
    check_trace(write(trace, 1_700_000_000_000))


@pytest.mark.parametrize("flags", [b"01", b"00"])
def test_the_template_reads_a_damaged_trace_as_the_general_reader_does(flags: bytes) -> None:
    for block in damaged(write(FIXED.replace(b"-01", b"-" + flags), 1_700_000_000_000)):
        check_trace(block)


@given(TRACES)
def test_a_block_with_a_trace_has_more_room_than_one_without(trace: bytes) -> None:
    assert bool(trace) == (len(write(trace, 1_700_000_000_000)) > NO_ROOM_FOR_TRACE)
