"""docs/coming-from.md: each name on our side exists, with its keywords, attributes and options.

A name in backticks is one of another system if it is in a left column of its section. Every other one must be ours.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest

import runtime
import runtime.testing
from runtime import Actor, Bus
from runtime.actor.message import MessageMeta
from runtime.cli import actorloom
from runtime.host.config import Settings
from runtime.testing import System, plugin
from tests.support.shell import ROOT

PAGE = (ROOT / "docs" / "coming-from.md").read_text()
SECTIONS = dict(re.findall(r"(?ms)^## (.+?)\n(.*?)(?=^## |\Z)", PAGE))
SYSTEMS = {
    "Temporal", "Restate", "Orleans", "Celery", "FastStream", "Akka", "NServiceBus", "Durable Functions", "DBOS", "Dapr",
}  # fmt: skip

ROOTS: dict[str, Any] = {
    **{name: getattr(runtime, name) for name in runtime.__all__},
    **{name: getattr(runtime.testing, name) for name in runtime.testing.__all__},
    **{name: getattr(plugin, name) for name in ("actors", "nats_server")},
    "self": Actor,
    "bus": Bus,
    "system": System,
}
ELSEWHERE = {"match", "asyncio.to_thread"}
"""Names of Python that the page uses."""


def names(section: str) -> Iterator[tuple[str, bool]]:
    """Yield each name of a section, and whether it is one of the other system."""
    rows = re.findall(r"(?m)^\| (.*?) \| (.*) \|$", section)
    theirs = {name for left, _ in rows for name in re.findall(r"`([^`]+)`", left)}
    prose = re.sub(r"(?m)^\|.*$", "", section)
    ours = [name for _, right in rows for name in re.findall(r"`([^`]+)`", right)]
    yield from ((name, True) for name in theirs)
    yield from ((name, False) for name in ours)
    yield from ((name, False) for name in re.findall(r"`([^`]+)`", prose) if name not in theirs)


def fault(name: str) -> str | None:
    """Return the reason why a name is not ours; None if it is."""
    if name in ELSEWHERE or name in Settings.__struct_fields__:
        return None
    if name.startswith("actorloom "):
        return command_fault(name.split()[1:])
    expression = ast.parse(name.removeprefix("@"), mode="eval").body
    if isinstance(expression, ast.Name) and expression.id not in ROOTS:
        # An attribute of the class of an actor, or a keyword of a decorator.
        known = hasattr(Actor, expression.id) or expression.id in inspect.signature(runtime.command).parameters
        return None if known else f"neither a public name nor an attribute of Actor: {expression.id}"
    return expression_fault(expression)


def expression_fault(node: ast.expr) -> str | None:
    """Return the reason why `a`, `a.b`, `a[…]` or `a(b=…)` is not ours."""
    match node:
        case ast.Call(func=function, keywords=keywords):
            found = resolve(function)
            kind = MessageMeta.__new__ if isinstance(found, MessageMeta) else found
            known = set(inspect.signature(kind).parameters)
            unknown = [keyword.arg for keyword in keywords if keyword.arg not in known]
            return f"no parameter {unknown}" if unknown else None
        case ast.Subscript(value=value):
            return expression_fault(value)
        case _:
            return None if resolve(node) is not None else f"no such name: {ast.unparse(node)}"


def resolve(node: ast.expr) -> Any:
    """Return the object of a name or attribute; None if there is none."""
    match node:
        case ast.Name(id=name):
            return ROOTS.get(name)
        case ast.Attribute(value=value, attr=name) if not name.startswith("_"):
            return getattr(resolve(value), name, None)
        case _:
            return None


def command_fault(words: list[str]) -> str | None:
    """Return the reason why words are no command of the command line with its options."""
    found: click.Command = actorloom
    context = click.Context(actorloom)
    for word in words:
        if word.startswith("--"):
            options = {option for parameter in found.params for option in parameter.opts}
            if word not in options:
                return f"no option {word}"
        elif isinstance(found, click.Group):
            below = found.get_command(context, word)
            if below is None:
                return f"no command {word}"
            found = below
    return None


def test_each_system_has_a_section_with_a_table_and_its_two_lists() -> None:
    assert set(SECTIONS) - {"The model in six sentences"} == SYSTEMS
    for system in SYSTEMS:
        section = SECTIONS[system]
        assert section.count("\n|") > 10, system
        assert section.count("**Different.**") == section.count("**Without a counterpart.**") == 1, system


@pytest.mark.parametrize("section", SECTIONS)
def test_each_name_on_our_side_exists(section: str) -> None:
    ours = [name for name, other in names(SECTIONS[section]) if not other]
    assert len(ours) > 5
    assert {name: reason for name in ours if (reason := fault(name)) is not None} == {}


@pytest.mark.parametrize(
    "name",
    [
        "self.checkpoints", "self._call", "bus.call", "Options.lanes", "@command(tries=3)", "@react(after=3)", "patched",
        "bus.tell(wait=3)", "actorloom replays", "actorloom dlq resend", "actorloom run --threads", "Retry(every=1)",
        "Command(actors='orders')", "system.jump",
    ],
)  # fmt: skip
def test_a_name_that_is_not_ours_is_found(name: str) -> None:
    assert fault(name) is not None
