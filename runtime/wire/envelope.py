"""The envelope: the header block of a request. This module alone knows its layout.

`write` makes the block of a query or command. The order of the headers is fixed::

    NATS/1.0
    traceparent: 00-<32 hex digits>-<16 hex digits>-<01 or 00>      70 bytes, if there is a trace
    tracestate, baggage                                            if there are any
    Idempotency-Key                                                of a command
    Call-Chain                                                     of a request that a handler sends
    Deadline: <13 digits>                                          25 bytes

`read` finds the headers of any block, in any order and case. `read_query` remembers what it has read. Most queries have a trace, a deadline or both, and nothing
else. `read_plain` recognizes these blocks by their length and by the bytes at a few fixed positions, and declines every
other block. It saves 7 % of the instructions of a query. All positions follow from the sample at the end of the constants:
a header that `write` adds to every request makes `read_plain` decline every request, which `python -m bench instructions`
shows as "query with one more header". A property test holds that writer and readers agree.
"""

from functools import lru_cache

from runtime.errors import CodecError
from runtime.wire.header_block import (
    CALL_CHAIN,
    CONTENT_TYPE,
    DEADLINE,
    END,
    IDEMPOTENCY_KEY,
    START,
    TRACEPARENT,
    line,
    value_at,
)
from runtime.wire.ids import check_id

TRACE_START = START + TRACEPARENT + b": 00-"
"""The first bytes of a block with a trace, up to the trace id."""

SAMPLED, UNSAMPLED, RANDOM = b"01\r", b"00\r", b"03\r"
"""The bytes at `TRACE_FLAG` of a sampled and of an unsampled trace, and of a sampled one with the random flag."""

EQUALS_SIGN = ord("=")
"""The byte "=". Every tracestate and every baggage member contains one, and few other headers do.

A search for this byte is cheap and rules out most blocks; only the others are searched for the header's name.
"""

_TRACE_LINE = line(TRACEPARENT, b"00-%b-%b-01" % (b"0" * 32, b"0" * 16))
_DEADLINE_LINE = line(DEADLINE, b"1700000000000")

_VALUE_START = len(START) + len(TRACEPARENT) + len(b": ")
_TRACE_END = len(START) + len(_TRACE_LINE) - 1
"""The position of the line feed after a trace, which is the first one after `START`."""

TRACE_FLAG = slice(_TRACE_END - 3, _TRACE_END)
"""The trace flags, and the carriage return after them."""

TRACE_ID = slice(len(TRACE_START), len(TRACE_START) + 32)
SPAN_ID = slice(TRACE_ID.stop + 1, TRACE_ID.stop + 17)
"""The ids of a trace."""

BEFORE_IDS = slice(TRACE_ID.start)
"""Equal to `TRACE_START` in a block that begins with a trace."""

IDS = slice(TRACE_ID.start, _TRACE_END + 1)
"""The ids and the flags, up to the end of their line."""

FROM_IDS = slice(TRACE_ID.start, None)

HEX_AS_ZERO = bytes(ord("0") if byte in b"0123456789abcdef" else byte for byte in range(256))
"""A table for `bytes.translate` that maps each hex digit in lower case to ``0``.

The comparison of the result with a shape takes a third of the instructions of a regular expression.
"""

IDS_SHAPE = b"%b-%b-00\r\n" % (b"0" * 32, b"0" * 16)
"""Valid ids and flags, as `HEX_AS_ZERO` maps them."""

PLAIN_SHAPES = (
    IDS_SHAPE + (_DEADLINE_LINE + END).translate(HEX_AS_ZERO),
    IDS_SHAPE + END,
)
"""The same for the rest of a block that has nothing but a deadline after its trace, or nothing at all."""

_ONLY_TRACE = len(START + _TRACE_LINE + END)
PLAIN_SIZES = (len(START + _TRACE_LINE + _DEADLINE_LINE + END), _ONLY_TRACE)
"""The lengths of these two blocks."""

_TRACE_NAME_LINE = b"\n" + TRACEPARENT + b":"

_ONLY_DEADLINE = len(START + _DEADLINE_LINE + END)
"""The length of a block with nothing but a deadline."""

_TAIL = slice(-len(END + _DEADLINE_LINE + END), None)
"""The end of a block whose last header is a deadline, beginning with the line end before it."""

NO_ROOM_FOR_TRACE = _ONLY_DEADLINE
"""A block of at most this length has no trace."""


def begins_with_only_trace(block: bytes) -> bool:
    """Return whether a block of any length begins with a trace, and has no other `traceparent`. The ids may be zero."""
    if block[BEFORE_IDS] != TRACE_START or block[IDS].translate(HEX_AS_ZERO) != IDS_SHAPE:
        return False
    return not block[_TRACE_END:].lower().partition(_TRACE_NAME_LINE)[1]


def write(trace: bytes, deadline: int, command_id: str | None = None, chain: str = "") -> bytes:
    """Return the header block of a request.

    Args:
        trace: The header lines of the trace, each with its line end, as `runtime.telemetry.inject` returns them.
        deadline: Unix milliseconds after which the caller has given up.
        command_id: The id of a command, None for a query.
        chain: The calls that wait for this one; empty for a call from outside.

    Raises:
        CodecError: The id cannot serve as one; see `check_id`.
    """
    if command_id is None and not chain:
        return _QUERY % (trace, deadline)
    lines = [START, trace]
    if command_id is not None:
        lines.append(line(IDEMPOTENCY_KEY, check_id(command_id).encode()))
    if chain:
        lines.append(line(CALL_CHAIN, chain.encode()))
    lines.append(_LAST % deadline)
    return b"".join(lines)


_LAST = line(DEADLINE, b"%d") + END
_QUERY = START + b"%b" + _LAST


def read(block: bytes) -> tuple[float, str, str, str | None]:
    """Return the headers of the block of any request, its trace and baggage aside.

    Names are found in any case. The block is lowered once for all four names: an absent header, as most are, costs one search.

    Returns:
        The deadline in unix seconds (0.0 if there is none, or if it is no number), the call chain, the id, and the content
        type (None if there is none). The texts are empty if their header is absent.

    Raises:
        CodecError: The call chain has characters that cannot be passed on.
    """
    lower = block.lower()
    deadline, chain, command_id, content_type = 0.0, "", "", None
    # `partition` takes two thirds of the time of `find`.
    before, found, _ = lower.partition(_DEADLINE)
    if found:
        text = value_at(block, len(before) + len(found))
        deadline = int(text) / 1000 if text.isdigit() and len(text) < 16 else 0.0
    before, found, _ = lower.partition(_ID)
    if found:
        command_id = value_at(block, len(before) + len(found)).decode("utf-8", "replace")
    before, found, _ = lower.partition(_CHAIN)
    if found:
        chain = value_at(block, len(before) + len(found)).decode("utf-8", "replace")
        if not chain.isprintable():
            raise CodecError(f"Call-Chain: {chain[:40]!r} is not a list of actors and keys")
    before, found, _ = lower.partition(_CONTENT_TYPE)
    if found:
        content_type = value_at(block, len(before) + len(found)).decode("utf-8", "replace")
    return deadline, chain, command_id, content_type


_DEADLINE, _ID, _CHAIN, _CONTENT_TYPE = (
    END + name.lower() + b":" for name in (DEADLINE, IDEMPOTENCY_KEY, CALL_CHAIN, CONTENT_TYPE)
)
"""The names as `read` looks for them: at the beginning of a line, in lower case."""


def read_query(block: bytes) -> tuple[float, str, str | None]:
    """Return the deadline, the call chain and the content type of the block of a query, as `read` does.

    The deadline is the last header of most blocks, and a trace the first one. Both differ from query to query. The headers
    between them, those of a gateway for example, are often the same: they are read once and then remembered.

    Raises:
        CodecError: The call chain has characters that cannot be passed on.
    """
    deadline = _deadline_in(block[_TAIL])
    if deadline is None or len(block) > _MAX_REMEMBERED:
        first, chain, _, content_type = read(block)
        return first, chain, content_type
    start = 0
    if block[:_VALUE_START] == _TRACE_NAME and _LINE_FEED not in block[_VALUE_START : _TRACE_END - 1]:
        start = _TRACE_END - 1
    first_deadline, chain, content_type = _read_between(block[start:_DEADLINE_START])
    return deadline if first_deadline is None else first_deadline, chain, content_type


@lru_cache(maxsize=64)
def _read_between(lines: bytes) -> tuple[float | None, str, str | None]:
    deadline, chain, _, content_type = read(lines)
    return deadline if _DEADLINE in lines.lower() else None, chain, content_type


_DEADLINE_START = -len(_DEADLINE_LINE + END)
"""The position of the deadline in a block whose last header it is."""

_LINE_FEED = ord("\n")

_MAX_REMEMBERED = 512
"""Bytes of a block above which its headers are not remembered."""


def read_plain(block: bytes, traced: bool) -> float | None:
    """Return the deadline of a block with a trace, a deadline or both, in the layout of `write`, and nothing else.

    Args:
        block: The header block of a request.
        traced: Whether a valid trace was found in the block. The block then has no room for anything but a deadline, and
            the line of the trace is not checked again.

    Returns:
        Unix seconds, 0.0 if there is no deadline. None for any other block, which `read` has to read.
    """
    size = len(block)
    if size != _ONLY_DEADLINE:
        if size not in PLAIN_SIZES:
            return None
        if not traced and (block[:_VALUE_START] != _TRACE_NAME or block.find(b"\n", _VALUE_START) != _TRACE_END):
            return None
        if size == _ONLY_TRACE:
            return 0.0
    return _deadline_in(block[_TAIL])


_TRACE_NAME = TRACE_START[:_VALUE_START]


@lru_cache(maxsize=64)  # the requests of one millisecond, as most of a burst are, have the same bytes
def _deadline_in(tail: bytes) -> float | None:
    """Return the deadline in the end of a block, in unix seconds; None if it is anything else."""
    digits = tail[len(END + DEADLINE + b": ") : -len(END + END)]
    return int(digits) / 1000 if digits.isdigit() and tail == END + _LAST % int(digits) else None
