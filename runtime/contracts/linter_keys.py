"""The check that reactions use the keys of their actor."""

from collections.abc import Iterator

import msgspec

from runtime.actor.handler import Handler
from runtime.actor.key_reader import key_kind
from runtime.contracts.linter_scope import Finding, Scope
from runtime.contracts.wiring import Wired


def key_mismatches(scope: Scope) -> Iterator[Finding]:
    """Yield a finding for each reaction that runs under the key of something else than the actor's own messages.

    That is certain if its key has another type, such as an integer beside UUIDs. It is likely if the key has another name than
    that of all messages of the actor, and the event has a field of that name.
    """
    for wired in scope.judged:
        if wired.actor.state_type is None:
            continue
        own = _own_keys(wired)
        for handler in wired.actor.handlers.all_reactions():
            text = "" if handler.takes_all else _mismatch(wired, handler, own)
            if text and (found := scope.sources.function(handler.function)) is not None:
                module, node = found
                yield Finding(*module.place(node), "key-mismatch", text)


def _own_keys(wired: Wired) -> set[tuple[str, str]]:
    """Return the name and the kind of the keys of an actor's commands and queries."""
    handlers = (*wired.actor.handlers.queries.values(), *wired.actor.handlers.commands.values())
    return {
        (each.contract.key.rpartition(".")[2], key_kind(each.contract.type, each.contract.key))
        for each in handlers
        if isinstance(each.contract.key, str)
    }


def _mismatch(wired: Wired, handler: Handler, own: set[tuple[str, str]]) -> str:
    """Return why a reaction has another key than the messages of its actor; empty if that is not known."""
    contract = handler.contract
    key = handler.key_path
    if not key or not own:
        return ""
    kind = key_kind(contract.type, key)
    kinds = {each for _, each in own}
    if len(kinds) == 1 and not _may_be_equal(kind, next(iter(kinds))):
        return f"{wired.name} keeps its state by {next(iter(kinds))}, and the key {key!r} of {contract.type_name} is {kind}"
    names = {each for each, _ in own}
    if len(names) > 1 or key != contract.key:
        return ""
    name = next(iter(names))
    has = any(field.name == name for field in msgspec.structs.fields(contract.type))
    if key.rpartition(".")[2] == name or not has or not _may_be_equal(key_kind(contract.type, name), *kinds):
        return ""
    return (
        f"{wired.name} keeps its state by {name!r}, and this reaction runs under the key {key!r} of {contract.type_name}: "
        f"use @react(key={name!r})"
    )


def _may_be_equal(kind: str, other: str) -> bool:
    """Return whether a key of one kind may stand for the same thing as one of the other: a text may have a UUID or a date."""
    open_kinds = {"a string", ""}
    if kind == other or kind.startswith("a string,") or other.startswith("a string,"):
        return True
    if "an integer" in (kind, other):
        return kind in ("", "an integer") and other in ("", "an integer")
    return kind in open_kinds or other in open_kinds
