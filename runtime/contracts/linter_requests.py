"""The check that each command and query that is sent has a handler."""

from collections.abc import Iterator

from runtime.contracts.linter_scope import Finding, Scope


def unhandled_requests(scope: Scope) -> Iterator[Finding]:
    """Yield a finding for each request to an actor whose code is there and has no handler for it."""
    handled = {
        handler.contract.type
        for each in scope.all
        for handler in (*each.actor.handlers.queries.values(), *each.actor.handlers.commands.values())
    }
    for wired in scope.judged:
        for sent in (sent for found in wired.sent.values() for sent in found):
            contract = sent.contract
            if contract.actor in scope.names and contract.type not in handled:
                text = f"{contract.actor} has no handler for the {contract.op} {contract.type.__name__}, which {wired.name} sends"
                yield Finding(*sent.place, "unhandled-request", text)
