"""Targets of rules on the command line: listed with what waits for them, shown, put, paused and deleted."""

import asyncio
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, get_args

import msgspec

from runtime.cli.client import names
from runtime.cli.failures import usage
from runtime.cli.output import print_json, print_note, print_table
from runtime.cli.payload import body
from runtime.cli.router_bus import existing, router_bus
from runtime.client.bus import Bus
from runtime.errors import NotDelivered, RequestError
from runtime.host.config import Configuration
from runtime.nats.connection import NoResponders
from runtime.nats.jetstream.client import JetStream
from runtime.router.files import list_targets, read_data, read_target
from runtime.router.target import (
    Condition,
    DeleteTarget,
    GetTarget,
    Kind,
    PauseTarget,
    PutTarget,
    ResumeTarget,
    Target,
    TargetFields,
    actor_of,
    condition_query,
)
from runtime.wire.cloudevents import rfc3339

_KINDS: dict[str, type[msgspec.Struct]] = {kind.__struct_config__.tag: kind for kind in get_args(Kind)}
"""The structs of places by their kinds."""

_PLACES = {"command": "{actor}.{command}", "event": "{type}", "http": "{url}", "subject": "{subject}", "log": "{level}"}
"""The text of a place by its kind."""

_AT_ONCE = 16
"""Targets that are asked at the same time."""


class _Status(NamedTuple):
    """How a target does now."""

    state: str
    """``on``, ``paused``, ``busy``, ``down``, ``unserved`` if no process serves it, or ``unknown`` if that process does not say."""
    waiting: int
    """The deliveries that wait or are in progress."""
    dead: int
    """The dead letters."""
    failure: str = ""
    """The last failure, if deliveries wait."""


async def list_all(configuration: Configuration, as_json: bool) -> None:
    """Print all targets with their deliveries that wait, why they do, and their dead letters, as a table or a JSON array."""
    async with router_bus(configuration) as bus:
        targets = await list_targets(bus)
        jetstream = JetStream(bus.connection, configuration.settings.timeout)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def status(target: Target) -> _Status:
            async with limit:
                return await _status(bus, jetstream, configuration, target)

        found = list(zip(targets, await asyncio.gather(*map(status, targets)), strict=True))
    if as_json:
        print_json([{**target_data(target), **status._asdict()} for target, status in found])
    elif targets:
        rows = [(target.name, _kind(target), place_of(target), *status) for target, status in found]
        print_table(("target", "kind", "place", "state", "waiting", "dead", "last failure"), rows)
    else:
        print_note("no targets")


async def show(configuration: Configuration, name: str) -> None:
    """Print a target as JSON."""
    async with router_bus(configuration) as bus, existing(bus, "target", name):
        print_json(target_data(await bus.query(GetTarget(name))))


async def put_target(configuration: Configuration, message: PutTarget, as_json: bool) -> None:
    """Put a target."""
    async with router_bus(configuration) as bus:
        target = await bus.command(message)
    if as_json:
        print_json(target_data(target))
    print_note(f"{target.name}: version {target.version}" + (", paused" if target.paused else ""))


async def pause(configuration: Configuration, name: str, paused: bool) -> None:
    """Pause or resume a target."""
    async with router_bus(configuration) as bus, existing(bus, "target", name):
        await bus.command(PauseTarget(name) if paused else ResumeTarget(name))
    print_note(f"{name}: paused; its deliveries wait" if paused else f"{name}: resumed")


async def delete(configuration: Configuration, name: str, expect: int | None) -> None:
    """Delete a target."""
    async with router_bus(configuration) as bus, existing(bus, "target", name):
        await bus.command(DeleteTarget(name, expect))
    print_note(f"{name}: deleted")


def fields_from_file(path: str) -> TargetFields:
    """Return the target of a file, which has the fields of one target. Raises `ConfigurationError`."""
    return read_target(read_data(path), path)


def fields_from_arguments(kind: str, arguments: Sequence[str]) -> TargetFields:
    """Return a target, given its kind, and fields of its place and settings as ``key=value``. Raises `ConfigurationError`."""
    if kind not in _KINDS:
        near = get_close_matches(kind, _KINDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"the kinds are {', '.join(_KINDS)}"
        usage(f"--kind: there is no kind {kind[:80]!r}: {hint}")
    [place, settings], definitions = msgspec.json.schema_components(
        [_KINDS[kind], TargetFields], ref_template="#/$defs/{name}"
    )
    schema = {"anyOf": [place, settings], "$defs": definitions}
    given: dict[str, Any] = msgspec.json.decode(body(arguments, schema) if arguments else b"{}")
    if "to" in given or "kind" in given:
        usage("give the kind by --kind, and the fields of the place by themselves")
    own = {name: given.pop(name) for name in list(given) if name in _KINDS[kind].__struct_fields__}
    return read_target({**given, "to": {"kind": kind, **own}}, "")


def target_data(target: Target) -> dict[str, Any]:
    """Return a target for JSON, with all of its settings."""
    data = msgspec.structs.asdict(target)
    del data["deleted"]
    first = {"name": data.pop("name"), "version": data.pop("version")}
    return {**first, **data, "changed": rfc3339(target.changed)}


def place_of(target: Target) -> str:
    """Return the place of a target in a few words: ``ledger.Book``."""
    return _PLACES[_kind(target)].format_map(msgspec.structs.asdict(target.to))


def _kind(target: Target) -> str:
    return str(target.to.__struct_config__.tag)


async def _status(bus: Bus, jetstream: JetStream, configuration: Configuration, target: Target) -> _Status:
    """Return how a target does: the process that serves it is asked only if deliveries wait for no obvious reason."""
    actor = names(configuration, actor_of(target.name))
    tells = await jetstream.find_stream(actor.tells_stream)
    letters = await jetstream.find_stream(actor.dead_stream, subjects=actor.dead("*"))
    waiting = 0 if tells is None else tells.state.messages
    dead = 0 if letters is None else sum(letters.state.subjects.values())
    if target.paused:
        return _Status("paused", waiting, dead)
    if not waiting:
        return _Status("on", waiting, dead)
    try:
        condition: Condition = await bus.query(condition_query(target.name)())
    except RequestError as error:
        unserved = isinstance(error, NotDelivered) and isinstance(error.__cause__, NoResponders)
        return _Status("unserved" if unserved else "unknown", waiting, dead)
    failure = f"{condition.ago:.0f} s ago: {condition.failure}" if condition.failure else ""
    return _Status(condition.state, waiting, dead, failure)
