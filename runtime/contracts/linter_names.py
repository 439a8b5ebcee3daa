"""The check that names are in the right mood: imperative commands, events in the past tense, queries that name no change."""

import ast
from collections.abc import Iterator

from runtime.actor.message import Contract, naming_fault
from runtime.contracts.linter_scope import Finding, Scope

_CHANGES = frozenset(
    "activate add apply approve assign book buy cancel change charge clear close complete create deactivate delete disable "
    "drop emit enable fire insert make mark modify move pay publish put refund register remove rename replace reset save sell "
    "send set start stop store submit update upload withdraw write".split()
)
"""First words of names that announce a change."""
_READS = frozenset({"get", "is", "has"})
"""First words of names that announce an answer."""


def wrong_moods(scope: Scope) -> Iterator[Finding]:
    """Yield a finding for each message of a judged actor whose name is in the wrong mood.

    ``naming=False`` in the class line permits the name.
    """
    for wired in scope.judged:
        handlers = (*wired.actor.handlers.queries.values(), *wired.actor.handlers.commands.values())
        for contract in {handler.contract.type: handler.contract for handler in handlers}.values():
            yield from _finding(scope, contract)
    for contract in scope.events:
        yield from _finding(scope, contract)


def _finding(scope: Scope, contract: Contract) -> Iterator[Finding]:
    found = scope.sources.definition(contract.type)
    fault = naming_fault(contract) or _fault(contract)
    if found is None or not fault:
        return
    module, node = found
    if isinstance(node, ast.ClassDef) and not any(keyword.arg == "naming" for keyword in node.keywords):
        yield Finding(*module.place(node), "name-mood", fault)


def _fault(contract: Contract) -> str:
    name, first = contract.type.__name__, contract.name.partition("_")[0]
    if contract.op == "query" and first in _CHANGES:
        return f"query {name} is named like a change (unlike GetOrder)"
    if contract.op == "command" and first in _READS:
        return f"command {name} is named like a query (unlike CreateOrder)"
    return ""
