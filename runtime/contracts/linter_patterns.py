"""The check that a pattern can match: `where` names values that the schema of the event allows."""

from collections.abc import Iterator

from runtime.contracts.linter_scope import Finding, Scope


def dead_patterns(scope: Scope) -> Iterator[Finding]:
    """Yield a finding for each reaction whose pattern matches no event of its type."""
    yield from ()
