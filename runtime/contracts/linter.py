"""The wiring linter: mistakes between actors that no single class shows, each with its file and line.

Only what the code proves is a finding. A message of an actor whose code is not there is judged by nobody.

| Code | Finding |
|---|---|
| ``unheard-event`` | a reaction to an event that its actor emits nowhere |
| ``unread-event`` | an event that nobody reads |
| ``unset-field`` | a field that a reaction reads and no emitter sets |
| ``dead-where`` | a pattern that matches no event of its type |
| ``unhandled-request`` | a command or query that is sent and has no handler |
| ``request-cycle`` | handlers that wait for each other in a circle |
| ``key-mismatch`` | a reaction whose key is not that of its actor |
| ``name-mood`` | a command that is no imperative, an event that is not in the past tense, a query that names a change |
| ``unused-ignore`` | a comment that switches off a finding which is not there |
"""

from collections.abc import Collection, Iterable
from typing import Any

from runtime.actor.base import Actor
from runtime.contracts.linter_cycles import request_cycles
from runtime.contracts.linter_events import unheard_events, unread_events, unset_fields
from runtime.contracts.linter_ignores import without_ignored
from runtime.contracts.linter_keys import key_mismatches
from runtime.contracts.linter_names import wrong_moods
from runtime.contracts.linter_patterns import dead_patterns
from runtime.contracts.linter_requests import unhandled_requests
from runtime.contracts.linter_scope import Finding, Scope

__all__ = ["CODES", "Finding", "lint"]

CODES = (
    "unheard-event", "unread-event", "unset-field", "dead-where", "unhandled-request", "request-cycle", "key-mismatch",
    "name-mood", "unused-ignore",
)  # fmt: skip
"""The codes of all findings."""

_CHECKS = (
    unheard_events,
    unread_events,
    unset_fields,
    dead_patterns,
    unhandled_requests,
    request_cycles,
    key_mismatches,
    wrong_moods,
)


def lint(
    actors: Iterable[type[Actor[Any]]],
    beside: Iterable[type[Actor[Any]]] = (),
    *,
    packages: Iterable[str] = (),
    extra_readers: Collection[str] = (),
) -> list[Finding]:
    """Return the findings in the code of some actors, sorted by file and line.

    Args:
        actors: The actors that are judged.
        beside: Other actors of the system, which send, handle, emit and read, too.
        packages: The names of the installed packages whose source belongs to the application.
        extra_readers: The CloudEvents types of events that something else than an actor reads, such as a rule:
            ``orders.OrderCreated``.
    """
    scope = Scope(actors, beside, packages, frozenset(extra_readers))
    found = {finding for check in _CHECKS for finding in check(scope)}
    return sorted(without_ignored(scope, found, CODES))
