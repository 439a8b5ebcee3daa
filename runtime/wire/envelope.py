"""The envelope: the header block of a request. This module alone knows its layout.

`write` makes the block of a query or command. The order of the headers is fixed::

    NATS/1.0
    traceparent: 00-<32 hex digits>-<16 hex digits>-<01 or 00>      70 bytes, if there is a trace
    tracestate, baggage                                            if there are any
    Idempotency-Key                                                of a command
    Call-Chain                                                     of a request that a handler sends
    Deadline: <13 digits>                                          25 bytes

`read` finds the headers of any block, in any order and case. Most queries have a trace, a deadline or both, and nothing
else. `read_plain` recognizes these blocks by their length and by the bytes at a few fixed positions, and declines every
other block. It saves 7 % of the instructions of a query. All positions follow from the sample at the end of the constants:
a header that `write` adds to every request makes `read_plain` decline every request, which `python -m bench instructions`
shows as "query with one more header". A property test holds that writer and readers agree.
"""

import re
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

SAMPLED, UNSAMPLED, RANDOM = b"1\r", b"0\r", b"3\r"
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

TRACE_FLAG = slice(_TRACE_END - 2, _TRACE_END)
"""The second digit of the trace flags, and the carriage return after it."""

_TRACE_NAME_LINE = b"\n" + TRACEPARENT + b":"

_ONLY_DEADLINE = len(START + _DEADLINE_LINE + END)
_ONLY_TRACE = len(START + _TRACE_LINE + END)
_TRACE_AND_DEADLINE = len(START + _TRACE_LINE + _DEADLINE_LINE + END)
"""The lengths of the blocks that `read_plain` recognizes."""

_TAIL = slice(-len(END + _DEADLINE_LINE + END), None)
"""The end of a block whose last header is a deadline, beginning with the line end before it."""

NO_ROOM_FOR_TRACE = _ONLY_DEADLINE
"""A block of at most this length has no trace."""

match_sampled_trace = re.compile(
    re.escape(TRACE_START) + rb"([0-9a-f]{32})-([0-9a-f]{16})-01\r\n(?:" + DEADLINE + rb": [0-9]{13}\r\n\r\n|\r\n|())"
).match
"""Match a block that begins with a sampled trace.

The groups are the trace id and the span id, and a group that is None if nothing but a deadline follows.
"""


def has_second_trace(block: bytes) -> bool:
    """Return whether a block that begins with a trace has another `traceparent`."""
    return block.lower().find(_TRACE_NAME_LINE, _TRACE_END) >= 0


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
    if (at := lower.find(_DEADLINE)) >= 0:
        text = value_at(block, at + len(_DEADLINE))
        deadline = int(text) / 1000 if text.isdigit() and len(text) < 16 else 0.0
    if (at := lower.find(_ID)) >= 0:
        command_id = value_at(block, at + len(_ID)).decode("utf-8", "replace")
    if (at := lower.find(_CHAIN)) >= 0:
        chain = value_at(block, at + len(_CHAIN)).decode("utf-8", "replace")
        if not chain.isprintable():
            raise CodecError(f"Call-Chain: {chain[:40]!r} is not a list of actors and keys")
    if (at := lower.find(_CONTENT_TYPE)) >= 0:
        content_type = value_at(block, at + len(_CONTENT_TYPE)).decode("utf-8", "replace")
    return deadline, chain, command_id, content_type


_DEADLINE, _ID, _CHAIN, _CONTENT_TYPE = (
    END + name.lower() + b":" for name in (DEADLINE, IDEMPOTENCY_KEY, CALL_CHAIN, CONTENT_TYPE)
)
"""The names as `read` looks for them: at the beginning of a line, in lower case."""


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
        if size != _TRACE_AND_DEADLINE and size != _ONLY_TRACE:
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
