"""The rules of W3C Trace Context (level 2) and W3C Baggage, in a service that records spans and in one that does not."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import baggage, context
from opentelemetry.trace import SpanKind
from opentelemetry.trace.span import TraceFlags

from runtime import Actor, Command, Event, Query, command, query, react
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing, attached, inject
from runtime.telemetry.spans.context import tracestate
from runtime.wire import header_block
from tests.support.probe import running

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def members(count: int) -> str:
    return ",".join(f"k{number}={number}" for number in range(count))


LONGEST = ",".join(f"{'z' * 250}{number:06}={'v' * 256}" for number in range(32))
CARRIED: list[tuple[list[str], str]] = [
    (["foo=1"], "foo=1"),
    (["", "foo=1"], "foo=1"),
    (["foo=1", ""], "foo=1"),
    (["foo=1", "bar=2", "baz=3"], "foo=1,bar=2,baz=3"),
    (["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"),
    (["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
    (["foo=1\t \t,\t \tbar=2,\t \tbaz=3\t"], "foo=1,bar=2,baz=3"),
    (["foo=1,,,bar=2,"], "foo=1,bar=2"),
    ([members(32)], members(32)),
    ([members(16), members(32).partition("k15=15,")[2]], members(32)),
    ([f"{'z' * 256}=1,a={'v' * 256}"], f"{'z' * 256}=1,a={'v' * 256}"),
    ([LONGEST], LONGEST),
    ([f"{'t' * 241}@{'v' * 14}=1,0t@v=1"], f"{'t' * 241}@{'v' * 14}=1,0t@v=1"),
    (["a_-*/0=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~ x"], "a_-*/0=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~ x"),
]
DROPPED = [
    [""],
    ["FOO=1"],
    ["foo.bar=1"],
    ["foo =1"],
    ["foo@=1,bar=2"],
    ["@foo=1,bar=2"],
    ["foo@@bar=1,bar=2"],
    ["foo@bar@baz=1,bar=2"],
    ["foo=bar=baz"],
    ["foo=,bar=3"],
    ["foo=1", "FOO=2"],
    ["foo"],
    ["=1"],
    ["foo=ü"],
    [members(33)],
    [members(32), "further=1"],
    [f"{'z' * 257}=1"],
    [f"foo={'v' * 257}"],
    [f"{'t' * 242}@v=1"],
    [f"t@{'v' * 15}=1"],
    ["," * 30_000 + "foo=1"],
]


def block(*pairs: tuple[str, str]) -> bytes:
    return header_block.encode(pairs)


def sent(received: bytes, *, recording: bool) -> dict[str, str]:
    """Return the headers that the handler of a message puts into its own messages."""
    tracing = Tracing(in_memory=recording)
    span = tracing.service("orders").template("orders/get_order", SpanKind.SERVER).receive(received)
    with attached(span, received):
        lines = inject()
    span.end()
    return header_block.parse(header_block.START + lines + header_block.END)


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize(("values", "expected"), CARRIED)
def test_a_valid_tracestate_goes_on(values: list[str], expected: str, recording: bool) -> None:
    for name in ("tracestate", "TraceState"):
        received = block(("traceparent", PARENT), *((name, value) for value in values))
        assert sent(received, recording=recording)["tracestate"] == expected


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("values", DROPPED)
def test_an_invalid_tracestate_is_dropped_and_the_trace_goes_on(values: list[str], recording: bool) -> None:
    headers = sent(block(("traceparent", PARENT), *(("tracestate", value) for value in values)), recording=recording)
    assert "tracestate" not in headers and headers["traceparent"].startswith(f"00-{TRACE}-")


@given(st.lists(st.text(st.sampled_from("fb1=, \t@.F"), max_size=12), max_size=4))
@example(["foo=1 "])
def test_the_result_is_all_members_or_none(values: list[str]) -> None:
    found = tracestate(block(*(("tracestate", value) for value in values)))
    given_members = [member.strip(" \t") for value in values for member in value.split(",") if member.strip(" \t")]
    assert found in ("", ",".join(given_members))
    assert found == tracestate(block(("tracestate", found)))


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize(
    "second",
    [("traceparent", PARENT), ("TRACEPARENT", PARENT), ("Traceparent", ""), ("traceparent", PARENT[:-1] + "0")],
)
@pytest.mark.parametrize("flag", "01")
def test_two_traceparents_start_a_new_trace(second: tuple[str, str], flag: str, recording: bool) -> None:
    first = ("traceparent", PARENT[:-1] + flag)
    for pairs in ((first, second), (first, ("Deadline", "1700000000000"), second, ("tracestate", "foo=1"))):
        headers = sent(block(*pairs), recording=recording)
        assert TRACE not in headers.get("traceparent", "") and "tracestate" not in headers
        assert headers.get("traceparent", "").endswith("-01") is recording


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize(
    ("flags", "expected"), [("03", "03"), ("02", "02"), ("01", "01"), ("ff", "03"), ("fd", "01"), ("10", "00")]
)
@pytest.mark.parametrize("more", [(), (("tracestate", "foo=1"),)])
def test_the_random_flag_goes_on_and_unknown_flags_do_not(
    flags: str, expected: str, more: Any, recording: bool
) -> None:
    headers = sent(block(("traceparent", f"00-{TRACE}-{SPAN}-{flags}"), *more), recording=recording)
    assert headers["traceparent"].startswith(f"00-{TRACE}-") and headers["traceparent"].endswith(f"-{expected}")
    assert headers.get("tracestate") == ("foo=1" if more else None)


def test_user_code_sees_the_random_flag() -> None:
    tracing = Tracing(in_memory=True)
    template = tracing.service("orders").template("orders/get_order", SpanKind.SERVER)
    received = template.receive(block(("traceparent", f"00-{TRACE}-{SPAN}-03")))
    assert received.get_span_context().trace_flags == TraceFlags(3)
    child = template.start(received)
    assert child.get_span_context().trace_flags == TraceFlags(3) and inject(child).endswith(b"-03\r\n")
    assert template.receive(block(("traceparent", PARENT))).get_span_context().trace_flags == TraceFlags(1)


class GetLines(Query[list[str]], actor="traced"):
    pass


class Note(Command[None], actor="traced"):
    pass


class TracedNoted(Event, actor="traced"):
    pass


SEEN: list[dict[str, object]] = []


class Traced(Actor):
    name = "traced"

    @query
    async def get_lines(self, message: GetLines) -> list[str]:
        return inject().decode().splitlines()

    @command
    async def note(self, message: Note) -> None:
        self.emit(TracedNoted())

    @react
    async def on_traced_noted(self, event: TracedNoted) -> None:
        SEEN.append(dict(baggage.get_all()))


@pytest.mark.parametrize("recording", [True, False])
async def test_baggage_of_several_lines_reaches_handlers_and_their_events(
    nats_server: EmbeddedServer, namespace: str, recording: bool
) -> None:
    SEEN.clear()
    headers = block(("baggage", "a=1,b=2"), ("Baggage", ""), ("baggage", "c=3"))
    expected = {"a": "1", "b": "2", "c": "3"}
    tracing = Tracing(in_memory=recording)
    async with running(Traced, url=nats_server.url, namespace=namespace, tracing=tracing) as system:
        for op, name in (("query", "get_lines"), ("command", "note")):
            subject = f"{namespace}.traced.{op}.{name}"
            block_, payload = await system.connection.request(subject, b"", headers=headers, timeout=5)
            assert b"Nats-Service-Error" not in (block_ or b"")
            if op == "query":
                line = next(each for each in payload.decode().split('"') if each.startswith("baggage: "))
                assert dict(each.split("=") for each in line[9:].split(",")) == expected
        await system.until(lambda: bool(SEEN))
        assert [expected] == SEEN


@pytest.mark.parametrize("recording", [True, False])
async def test_baggage_goes_on_from_a_program_without_a_span(
    nats_server: EmbeddedServer, namespace: str, recording: bool
) -> None:
    SEEN.clear()
    tracing = Tracing(in_memory=recording)
    async with running(Traced, url=nats_server.url, namespace=namespace, tracing=tracing) as system:
        token = context.attach(baggage.set_baggage("tenant", "a"))
        try:
            lines = await system.bus.query(GetLines())
            await system.bus.command(Note())
            await system.bus.emit(TracedNoted())
        finally:
            context.detach(token)
        assert "baggage: tenant=a" in lines
        await system.until(lambda: len(SEEN) == 2)
        assert SEEN == [{"tenant": "a"}] * 2
