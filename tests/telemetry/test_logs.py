"""Log lines are JSON with the current trace, or text on a terminal."""

import io
import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.telemetry import Tracing, attached, setup_logging

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
LOG = logging.getLogger("shop.orders")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_contains_the_trace_the_extras_and_the_exception() -> None:
    stream = io.StringIO()
    setup_logging("info", stream=stream)
    span = (
        Tracing(in_memory=True)
        .service("orders")
        .template("x")
        .receive(f"NATS/1.0\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n\r\n".encode())
    )
    key = uuid.uuid4()
    with attached(span):
        LOG.info("created %s", "o-1", extra={"order_id": "o-1", "key": key})
    LOG.debug("not shown")
    try:
        raise ValueError("bröken")
    except ValueError:
        LOG.exception("failed\nbadly")
    first, second = lines(stream)
    context = span.get_span_context()
    assert first["message"] == "created o-1"
    assert (first["level"], first["logger"]) == ("INFO", "shop.orders")
    assert (first["trace_id"], first["span_id"], first["trace_flags"]) == (TRACE, f"{context.span_id:016x}", "01")
    assert (first["order_id"], first["key"]) == ("o-1", str(key))
    assert first["time"].endswith("Z")
    assert "trace_id" not in second
    assert "ValueError: bröken" in second["exception"]


def test_an_extra_that_cannot_be_encoded_does_not_lose_the_line() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise ValueError("no")

    stream = io.StringIO()
    setup_logging(stream=stream)
    LOG.warning("kept", extra={"a": "\ud800", "b": Unprintable(), "c": {(1, 2): 3}})
    (line,) = lines(stream)
    assert "kept" in line["message"]


def test_a_terminal_gets_text_unless_json_is_requested() -> None:
    terminal = Terminal()
    setup_logging(stream=terminal)
    LOG.warning("careful", extra={"order": 7})
    assert "\x1b[33m" in terminal.getvalue()
    assert "shop.orders" in terminal.getvalue()
    assert "order=7" in terminal.getvalue()
    forced = Terminal()
    setup_logging(format="json", stream=forced)
    LOG.warning("careful")
    assert lines(forced)[0]["message"] == "careful"
    plain = io.StringIO()
    setup_logging(format="text", stream=plain)
    with attached(Tracing(in_memory=True).service("a").template("b").start()):
        LOG.error("bad")
    assert "\x1b" not in plain.getvalue()
    assert "ERROR   shop.orders: bad  trace=" in plain.getvalue()


def test_an_unknown_level_raises_value_error() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        setup_logging("loud")
