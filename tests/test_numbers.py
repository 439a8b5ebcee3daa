"""Numbers: each parameter of the public API that is one refuses other values, with an error that names it.

The parameters are found by their annotations. One without a case here fails the test, so a new one gets a case.
"""

import inspect
import json
import math
import random
from collections.abc import Awaitable, Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, get_type_hints

import msgspec
import pytest

import runtime
from runtime import (
    Accepted,
    Actor,
    Bus,
    Command,
    ConfigurationError,
    DeclarationError,
    Event,
    Index,
    Overloaded,
    Page,
    Query,
    Rejected,
    RemoteError,
    RequestError,
    Retry,
    RetryPolicy,
    command,
    connect,
    query,
    react,
    testing,
)
from runtime.backoff import Backoff
from runtime.client.raw import RawClient
from runtime.errors import HandlerFailed, from_wire
from runtime.nats.server import EmbeddedServer
from runtime.testing import worker
from runtime.wire import header_block
from runtime.wire.replies import error_body, error_reply, read_error
from tests.support.probe import Probe, running


class Integral:
    """A number of another library."""

    def __index__(self) -> int:
        return 5

    def __float__(self) -> float:
        return 5.0


NONE: tuple[Any, ...] = (
    math.nan, math.inf, -math.inf, True, False, "5", "nan", b"5", 1e308, -1e308, 10**400, -(10**400), 1j, [1], {},
    Decimal(5), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Fraction(5), Integral(),
)  # fmt: skip
"""Values that are no number, or none of any use."""


class Item(msgspec.Struct, frozen=True):
    size: int = 0


class Put(Command[None], actor="numbers", key="name"):
    name: str


class Job(Command[Accepted], actor="numbers", key="name"):
    name: str


class Find(Query[int], actor="numbers"):
    limit: int


class Happened(Event, actor="numbers", key="name"):
    name: str


class Numbers(Actor[Item]):
    name = "numbers"
    indexes = [Index(order="size")]

    @command
    async def put(self, message: Put) -> None: ...

    @query
    async def find(self, message: Find) -> int:
        return len((await self.list(order="size", limit=message.limit)).items)


async def handler(self: Any, message: Put) -> None: ...


def numeric(function: Callable[..., Any]) -> list[str]:
    """Return the parameters of a function that take numbers."""
    hints = get_type_hints(function, include_extras=True)
    found = []
    for name in inspect.signature(function).parameters:
        kinds = {int, float} & {hints.get(name), *getattr(hints.get(name), "__args__", ())}
        if kinds:
            found.append(name)
    return found


def public() -> list[tuple[str, str]]:
    """Return each public function or method, with each of its parameters that takes numbers."""
    objects: list[Any] = [getattr(runtime, name) for name in runtime.__all__ if name != "__version__"]
    objects += [getattr(testing, name) for name in testing.__all__] + [RawClient]
    found: set[tuple[str, str]] = set()
    for each in objects:
        functions = [each]
        if inspect.isclass(each):
            functions = [member for name, member in inspect.getmembers(each, inspect.isfunction) if name[0] != "_"]
            if "__init__" in vars(each):
                functions.append(each.__init__)
        for function in functions:
            if inspect.isfunction(function) and function.__module__.startswith("runtime."):
                found |= {(function.__qualname__, name) for name in numeric(function)}
    return sorted(found)


UNCHECKED = {
    ("RetryPolicy.delay", "attempt"): "the runtime calls it",
    ("RetryPolicy.delay", "random"): "the runtime calls it",
    ("PublishError.__init__", "err_code"): "an error that nobody reads as a number",
    ("RemoteError.__init__", "code"): "see test_an_error_with_any_attribute_is_answered",
    ("Rejected.__init__", "code"): "see test_an_error_with_any_attribute_is_answered",
    ("running", "lease_ttl"): "a field of Deployment: see tests/test_bounds.py",
    ("running", "replicas"): "a field of Deployment: see tests/test_bounds.py",
}


async def _call(call: Callable[[Probe, Any], Any], system: Probe, bad: Any) -> None:
    result = call(system, bad)
    if isinstance(result, Awaitable):
        await result


async def _enter(block: Any) -> None:
    async with block:
        pass


async def _list(system: Probe, bad: Any) -> Page[Any]:
    return await system.indexes("numbers").page({}, "size", bad, None)


def _reacting(bad: Any) -> type:
    class Reacting(Actor):
        name = "reacting"

        @react(attempts=bad)
        async def on_happened(self, event: Happened) -> None: ...

    return Reacting


CASES: dict[tuple[str, str], Callable[[Probe, Any], Any]] = {
    ("Retry.__init__", "after"): lambda system, bad: Retry("later", after=bad),
    ("Rejected.__init__", "retry_after"): lambda system, bad: Rejected("not now", retry_after=bad),
    ("Overloaded.__init__", "retry_after"): lambda system, bad: Overloaded("full", bad),
    ("Bus.__init__", "timeout"): lambda system, bad: Bus(system.connection, system.tracing.service("a"), timeout=bad),
    ("Bus.query", "timeout"): lambda system, bad: system.bus.query(Find(1), timeout=bad),
    ("Bus.command", "timeout"): lambda system, bad: system.bus.command(Put("a"), timeout=bad),
    ("Bus.retry", "timeout"): lambda system, bad: system.bus.retry(Put("a"), timeout=bad),
    ("Bus.request", "timeout"): lambda system, bad: system.bus.query(Find(1), timeout=bad),
    ("RawClient.__init__", "timeout"): lambda system, bad: RawClient(system.connection, timeout=bad),
    ("connect", "timeout"): lambda system, bad: _enter(connect(system.connection.options.url, timeout=bad)),
    ("Actor.query", "timeout"): lambda system, bad: system.bus.query(Find(1), timeout=bad),
    ("Actor.command", "timeout"): lambda system, bad: system.bus.command(Put("a"), timeout=bad),
    ("Actor.tell", "after"): lambda system, bad: worker(Numbers, key="a").tell(Put("a"), after=bad),
    ("Bus.cancel", "timeout"): lambda system, bad: system.bus.cancel(Job("a"), id="x", timeout=bad),
    ("Bus.tell", "after"): lambda system, bad: system.bus.tell(Put("a"), after=bad),
    ("Actor.remind", "after"): lambda system, bad: worker(Numbers, key="a").remind(bad, Put("a")),
    ("Actor.list", "limit"): _list,
    ("command", "limit"): lambda system, bad: command(limit=bad)(handler),
    ("query", "limit"): lambda system, bad: query(limit=bad)(handler),
    ("react", "limit"): lambda system, bad: react(limit=bad)(handler),
    ("react", "attempts"): lambda system, bad: _reacting(bad),
    ("System.until", "timeout"): lambda system, bad: system.until(lambda: True, bad),
    ("System.event", "timeout"): lambda system, bad: system.event("numbers.event.*", timeout=bad),
    ("System.skip", "seconds"): lambda system, bad: system.skip(bad),
    ("System.replay", "since"): lambda system, bad: system.replay("numbers.on_numbered", since=bad),
    ("read_state", "version"): lambda system, bad: testing.read_state(Numbers, "{}", bad),
    ("worker", "now"): lambda system, bad: worker(Numbers, now=bad),
    ("worker", "due"): lambda system, bad: worker(Numbers, due=bad),
    ("worker", "attempt"): lambda system, bad: worker(Numbers, attempt=bad),
    ("worker", "attempts"): lambda system, bad: worker(Numbers, attempts=bad),
    ("EmbeddedServer.__init__", "port"): lambda system, bad: EmbeddedServer(port=bad),
    ("EmbeddedServer.__init__", "start_timeout"): lambda system, bad: EmbeddedServer(start_timeout=bad),
    ("EmbeddedServer.stop", "grace"): lambda system, bad: EmbeddedServer().stop(bad),
}

MAY_BE = {("command", "limit"), ("query", "limit"), ("react", "limit")}
"""Parameters that may be infinite, or as large as anybody likes."""


def test_each_number_of_the_public_api_has_a_case() -> None:
    assert set(public()) == CASES.keys() | UNCHECKED.keys()


async def test_what_is_no_number_is_refused_by_name(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Numbers, url=nats_server.url, namespace=namespace) as system:
        for (function, name), call in CASES.items():
            for bad in NONE:
                if (function, name) in MAY_BE and type(bad) in (int, float) and bad > 0:
                    continue
                if name == "limit" and function == "Actor.list" and isinstance(bad, int) and type(bad) is int:
                    continue  # it is brought into its bounds
                with pytest.raises((ValueError, DeclarationError, ConfigurationError)) as raised:
                    await _call(call, system, bad)
                wanted = "a timer is due in" if name == "after" and function == "Actor.remind" else name
                assert wanted in str(raised.value), (function, name, bad)
        assert await system.bus.query(Find(10**9)) == 0


def test_a_schedule_that_is_no_text_is_refused() -> None:
    for bad in NONE:
        if bad not in ("5", "nan"):
            with pytest.raises(DeclarationError):
                worker(Numbers, key="a").schedule(bad, Put("a"), name="s")
            with pytest.raises(DeclarationError):
                worker(Numbers, key="a").schedule("@daily", Put("a"), name="s", zone=bad)
    for every in ("@every nans", "@every infs", "@every -1s", "@every 0s", "@every 1e9s", f"@every {'9' * 400}h"):
        with pytest.raises(DeclarationError):
            worker(Numbers, key="a").schedule(every, Put("a"), name="s")


@pytest.mark.parametrize("attribute", ["code", "executed", "retry_after", "kind"])
@pytest.mark.parametrize("kind", [Rejected, RemoteError, Overloaded])
def test_an_error_with_any_attribute_is_answered(kind: type[RequestError], attribute: str) -> None:
    """An application may set any attribute. Its caller gets the error as it is, or a failure of the handler."""
    for bad in NONE:
        error = kind("text")
        setattr(error, attribute, bad)
        block, payload = error_reply(error_body(error, "a.b"))
        read = read_error(block, payload)
        assert type(read) in (kind, HandlerFailed) and read.code in range(400, 600)
        assert read.executed in (True, False, None)
        if isinstance(read, Overloaded | Rejected) and read.retry_after is not None:
            assert 0 <= read.retry_after <= 31_536_000
        json.loads(payload, parse_constant=pytest.fail)


def test_errors_that_skip_the_constructor_have_numbers() -> None:
    class Later(Retry):
        def __init__(self) -> None: ...

    class Busy(Overloaded):
        def __init__(self) -> None: ...

    assert Later().after is None and Busy().retry_after == 0.1


def test_any_reply_is_an_error_with_numbers() -> None:
    """Another program may answer with anything."""
    dice = random.Random(11)
    words = ["NaN", '"NaN"', "1e308", "1e999", "-1", "-1e308", "true", "null", "9" * 400, '"5"', "0.5", "[]", "429"]
    for _ in range(2000):
        code, delay, header = dice.choice(words), dice.choice(words), dice.choice([*words, "²", "٣", "9" * 5000])
        payload = f'{{"error":{{"code":{code},"kind":"x","message":"m","executed":null,"retryAfter":{delay}}}}}'
        lines = header_block.join(b"Nats-Service-Error-Code: " + header.encode("utf-8") + b"\r\n")
        error = read_error(lines, payload.encode())
        assert isinstance(error, RequestError) and isinstance(error.code, int)
        if isinstance(error, Overloaded):
            assert 0 <= error.retry_after <= 31_536_000
    for bad in NONE:
        error = from_wire(429, "Overloaded", "full", False, bad)
        assert isinstance(error, Overloaded) and error.retry_after == 0.1


async def test_a_retry_does_not_wait_for_a_year_because_a_reply_says_so(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.client.bus._LONGEST_PAUSE", 0.01)
    async with connect(nats_server.url, namespace=namespace) as bus:
        answers = iter([31_536_000.0, 0.0])

        def receive(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            delay = next(answers)
            body = error_body(Overloaded("full", delay) if delay else Rejected("no"), "a")
            block, content = error_reply(body)
            bus.connection.publish(reply, content, headers=block)

        subscription = await bus.connection.subscribe(f"{namespace}.numbers.command.put", receive, queue="q")
        with pytest.raises(Rejected):
            await bus.retry(Put("a"), policy=RetryPolicy(attempts=2, first=0.0))
        subscription.unsubscribe()


def test_a_backoff_is_finite_after_any_number_of_failures() -> None:
    assert all(0 <= Backoff(0.2, 30.0).delay(failures) <= 30.0 for failures in (0, 1, 60, 10**6, 10**400))
