"""The check at import that the handler of a query is read-only, and the refusal at run time behind it."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, DeclarationError, Event, Query, query
from runtime.testing import worker


class Thing(msgspec.Struct, frozen=True):
    name: str


class GetThing(Query[Thing], actor="things", key="name"):
    name: str


class DropThing(Command[None], actor="things", key="name"):
    name: str


class ThingMade(Event, actor="things", key="name"):
    name: str


def logged(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap a handler, as a decorator of an application does."""

    @wraps(function)
    async def wrapper(self: Any, message: Any) -> Any:
        return await function(self, message)

    return wrapper


def test_a_query_that_emits_is_refused_at_import() -> None:
    with pytest.raises(DeclarationError, match=r"Emitting\.get_thing: a query changes nothing: it cannot emit"):

        class Emitting(Actor[Thing]):
            name = "things"

            @query
            async def get_thing(self, message: GetThing) -> Thing:
                if message.name:
                    self.emit(ThingMade(message.name))
                return Thing(message.name)


def test_a_query_that_assigns_the_state_is_refused_at_import() -> None:
    with pytest.raises(DeclarationError, match=r"Writing\.get_thing: a query changes nothing: it cannot change state"):

        class Writing(Actor[Thing]):
            name = "things"

            @query
            async def get_thing(self, message: GetThing) -> Thing:
                """Text that is indented
                less than the code."""
                self.state = Thing(message.name)
                return self.state


def test_a_query_that_sends_a_command_is_refused_at_import_even_with_another_self_and_a_decorator() -> None:
    with pytest.raises(DeclarationError, match=r"Commanding\.get_thing: a query changes nothing: it cannot command"):

        class Commanding(Actor[Thing]):
            name = "things"

            @query
            @logged
            async def get_thing(this, message: GetThing) -> Thing:
                await this.command(DropThing(message.name))
                return Thing(message.name)


@pytest.mark.parametrize("change", ["remind(1, message)", "schedule('@daily', message, name='x')", "cancel('x')"])
def test_a_query_that_sets_or_cancels_a_timer_is_refused_at_import(change: str, tmp_path: Any) -> None:
    path = tmp_path / "timers.py"
    path.write_text(f"class Timing(Actor[Thing]):\n    name = 'things'\n{HANDLER.format(change)}")
    with pytest.raises(DeclarationError, match=f"it cannot {change.partition('(')[0]}"):
        exec(compile(path.read_text(), str(path), "exec"), {**globals(), "__name__": "timers"})


HANDLER = """
    @query
    async def get_thing(self, message: GetThing) -> Thing:
        self.{}
        return Thing(message.name)
"""


def test_a_query_may_read_and_may_have_variables_of_the_same_names() -> None:
    class Reading(Actor[Thing]):
        name = "things"

        @query
        async def get_thing(self, message: GetThing) -> Thing:
            emit, state = message.name, self.state
            other = [message]
            other[0].state = state  # type: ignore[attr-defined]

            def command(self: Any) -> None:
                self.emit(emit)

            return state or Thing(emit)

    assert Reading.handlers.queries


async def test_a_query_without_source_is_refused_when_it_runs() -> None:
    source = f"class Hidden(Actor[Thing]):\n    name = 'things'\n{HANDLER.format('emit(ThingMade(message.name))')}"
    namespace = dict(globals())
    exec(source, namespace)
    await refused_at_run_time(namespace["Hidden"], "emit")


async def test_a_change_that_the_check_cannot_see_is_refused_when_the_query_runs() -> None:
    class Aliased(Actor[Thing]):
        name = "things"

        @query
        async def get_thing(self, message: GetThing) -> Thing:
            me = self
            me.state = Thing(message.name)
            return me.state

    await refused_at_run_time(Aliased, "change state")


async def refused_at_run_time(kind: type[Actor[Any]], change: str) -> None:
    things = worker(kind, key="a", writable=False)
    with pytest.raises(DeclarationError, match=f"a query changes nothing: it cannot {change}"):
        await things.get_thing(GetThing("a"))
    assert things.state is None and not things.emitted
