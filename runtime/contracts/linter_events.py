"""The checks of events: each has an emitter and a reader, and an emitter sets the fields that reactions read."""

import ast
from collections.abc import Iterator
from typing import Any

import msgspec

from runtime.actor.handler import Handler
from runtime.actor.message import Contract
from runtime.contracts.linter_scope import Finding, Scope
from runtime.contracts.reading import Mention
from runtime.contracts.wiring import Wired


def unheard_events(scope: Scope) -> Iterator[Finding]:
    """Yield a finding for each reaction to an event that its actor emits nowhere."""
    for wired in scope.judged:
        for contract, handler in _reactions(wired):
            place = scope.place(handler.function)
            emitted = scope.mentions(contract) or scope.is_looked_up(contract)
            if place is not None and contract.actor in scope.names and not emitted:
                text = (
                    f"{wired.name} reacts to {contract.type_name}, and nothing in the code of {contract.actor} emits it"
                )
                yield Finding(*place, "unheard-event", text)


def unread_events(scope: Scope) -> Iterator[Finding]:
    """Yield a finding for each event of a judged actor that no reaction, program or extra reader reads."""
    read = {event for each in scope.all for event in each.actor.handlers.reactions}
    for contract in scope.events:
        place = scope.place(contract.type)
        if contract.type in read or contract.type_name in scope.extra_readers or scope.is_followed(contract):
            continue
        if any(_takes_all_of(each, contract.actor) for each in scope.all):
            continue
        if place is not None:
            yield Finding(*place, "unread-event", f"nobody reads {contract.type_name}")


def _takes_all_of(wired: Wired, actor: str) -> bool:
    """Return whether an actor reacts to any event of another one."""
    every = [handler.sources for handler in wired.actor.handlers.all_reactions() if handler.takes_all]
    return any(actor in sources if sources is not None else actor != wired.name for sources in every)


def unset_fields(scope: Scope) -> Iterator[Finding]:
    """Yield a finding for each field that a reaction reads, or its `where` names, and that each emitter leaves at its default."""
    for wired in scope.judged:
        for contract, handler in _reactions(wired):
            if unset := _unset(scope, contract):
                yield from _reads(scope, handler, contract, unset)


def _reactions(wired: Wired) -> Iterator[tuple[Contract, Handler]]:
    for event, handlers in wired.actor.handlers.reactions.items():
        for handler in handlers:
            yield event.__contract__, handler


def _unset(scope: Scope, contract: Contract) -> dict[str, str]:
    """Return the fields of an event that no emitter sets, each with its name on the wire; none if that is not certain."""
    mentions = scope.mentions(contract)
    if contract.actor not in scope.names or not mentions or hasattr(contract.type, "__post_init__"):
        return {}
    if scope.is_looked_up(contract):
        return {}
    names = contract.type.__struct_fields__
    given: set[str] = set()
    for mention in mentions:
        found = _given(mention, names)
        if found is None:
            return {}
        given |= found
    for each in scope.all:
        if each.name == contract.actor:
            given |= {name for reading in each.readings for name in reading.replaced}
    fields = msgspec.structs.fields(contract.type)
    return {field.name: field.encode_name for field in fields if not field.required and field.name not in given}


def _given(mention: Mention, names: tuple[str, ...]) -> set[str] | None:
    """Return the fields that a call sets; None if it has ``*`` or ``**``, or is no call of the class."""
    call = mention.call
    if call is None or any(isinstance(each, ast.Starred) for each in call.args):
        return None
    keywords = [keyword.arg for keyword in call.keywords]
    if None in keywords:
        return None
    return {*names[: len(call.args)], *(name for name in keywords if name is not None)}


def _reads(scope: Scope, handler: Handler, contract: Contract, unset: dict[str, str]) -> Iterator[Finding]:
    found = scope.sources.function(handler.function)
    if found is None:
        return
    module, node = found
    parameters = [*node.args.posonlyargs, *node.args.args]
    variable = parameters[1].arg if len(parameters) > 1 else ""
    for read in scope.reading(module, node).reads:
        if read.variable == variable and read.field in unset:
            yield Finding(*read.place, "unset-field", f"no emitter of {contract.type_name} sets {read.field!r}")
    for name in sorted(_named_in(handler.where) & set(unset.values())):
        place = module.place(node.decorator_list[0] if node.decorator_list else node)
        text = f"where names {name!r}, and no emitter of {contract.type_name} sets it"
        yield Finding(*place, "unset-field", text)


def _named_in(where: Any) -> set[str]:
    """Return the first names of the paths in a pattern."""
    if not isinstance(where, dict):
        return set()
    found: set[str] = set()
    for name, value in where.items():
        found |= {each for part in value for each in _named_in(part)} if name == "$or" else {name.partition(".")[0]}
    return found
