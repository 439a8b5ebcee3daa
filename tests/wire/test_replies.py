"""Error replies: the code, kind and text with which an exception of a handler reaches its caller."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from runtime import Actor, CallCycle, Command, HandlerFailed, Query, Rejected, RequestError, Retry, command, query
from runtime.nats.server import EmbeddedServer
from runtime.testing import System, running
from runtime.wire import header_block
from runtime.wire.replies import error_body, error_reply, has_only_trace, is_internal, read_error


class Visits(msgspec.Struct, frozen=True):
    number: int = 0


class Visit(Command[int], actor="ring", key="name"):
    """Visits the first key of `route`, with the remaining keys as its route. `before`, if any, is visited earlier."""

    name: str
    route: list[str] = []
    before: str = ""


class Descend(Query[int], actor="well"):
    """A query that sends itself without end."""


class Ring(Actor[Visits]):
    name = "ring"

    @command
    async def visit(self, message: Visit) -> int:
        if message.before:
            await self.command(Visit(message.before))
        if message.route:
            await self.command(Visit(message.route[0], message.route[1:]))
        self.state = Visits((self.state or Visits()).number + 1)
        return self.state.number


class Well(Actor):
    name = "well"

    @query
    async def descend(self, message: Descend) -> int:
        return await self.query(message)


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[System]:
    async with running(Ring, Well, url=nats_server.url, namespace=namespace) as system:
        yield system


@pytest.mark.parametrize("route", [["a"], ["b", "a"], ["b", "c", "a"], ["b", "c", "b"]])
async def test_the_first_caller_of_a_cycle_receives_its_code_and_path(system: System, route: list[str]) -> None:
    with pytest.raises(CallCycle) as caught:
        await system.bus.command(Visit("a", route))
    assert (caught.value.code, caught.value.executed) == (508, False)
    assert " > ".join(f"ring/{key}" for key in ["a", *route]) in str(caught.value)
    assert await system.bus.command(Visit("a")) == 1, "no visit of the cycle has taken effect"


async def test_a_cycle_behind_a_nested_command_that_was_executed_leaves_the_outcome_unknown(system: System) -> None:
    with pytest.raises(CallCycle) as caught:
        await system.bus.command(Visit("a", ["a"], before="other"))
    assert (caught.value.code, caught.value.executed) == (508, None)
    assert await system.bus.command(Visit("other")) == 2


async def test_the_first_caller_of_an_endless_recursion_of_queries_receives_508(system: System) -> None:
    with pytest.raises(CallCycle, match="33 calls within calls: well > well"):
        await system.bus.query(Descend())


class Teapot(RequestError):
    code = 418


class Brewing(Teapot):
    executed = True


class Steeping(RequestError):
    executed = False


class NotAgain(Retry):
    pass


SUBCLASSES = [(Teapot, 418, None), (Brewing, 418, True), (Steeping, 500, False)]


@pytest.mark.parametrize(("kind", "code", "executed"), SUBCLASSES)
def test_a_subclass_of_request_error_keeps_its_code_and_executed(
    kind: type[RequestError], code: int, executed: bool | None
) -> None:
    body = error_body(kind("no coffee"), "kitchen.command.brew")
    assert (body.code, body.kind, body.message, body.executed) == (code, kind.__name__, "no coffee", executed)
    received = read_error(*error_reply(body))
    assert isinstance(received, HandlerFailed), "the caller does not know the class"
    assert (received.code, received.kind, str(received), received.executed) == (
        code,
        kind.__name__,
        "no coffee",
        executed,
    )


def test_the_error_of_a_nested_call_is_a_failure_of_the_handler() -> None:
    nested = read_error(*error_reply(error_body(Rejected("secret"), "other.command.act")))
    body = error_body(nested, "kitchen.command.brew")
    assert (body.code, body.kind, body.executed) == (500, "HandlerFailed", None)
    assert body.message == "kitchen.command.brew: the handler failed"


def test_only_faults_are_internal() -> None:
    namesake = type("Retry", (Exception,), {})
    assert [is_internal(each) for each in (RuntimeError(), namesake(), HandlerFailed("x"))] == [True, True, False]
    assert not any(is_internal(each) for each in (Retry("later"), NotAgain("never"), Teapot("x"), Rejected("no")))


TRACE_LINE = header_block.line(header_block.TRACERESPONSE, b"00-%b-%b-01" % (b"a" * 32, b"b" * 16))


@pytest.mark.parametrize("name", [header_block.SERVICE_ERROR_CODE, header_block.PARTITIONS, header_block.CONTENT_TYPE])
def test_a_block_with_another_header_than_a_trace_is_searched(name: bytes) -> None:
    """Also if the block has the size of one with a trace alone, and begins or ends as that does."""
    assert has_only_trace(header_block.join(TRACE_LINE))
    for size in range(2 * len(TRACE_LINE)):
        other = header_block.line(name, b"1" * size)
        short = header_block.line(header_block.TRACERESPONSE, b"00-" + b"a" * size)
        for lines in ((other,), (TRACE_LINE, other), (other, TRACE_LINE), (short, other), (other, short)):
            assert not has_only_trace(header_block.join(*lines))
