"""The check that no handlers wait for each other in a circle."""

from collections import deque
from collections.abc import Iterator

from runtime.contracts.linter_scope import Finding, Scope
from runtime.contracts.wiring import Sent, handlers_of

_Operation = tuple[str, str]
"""An actor and the name of one of its handlers."""
_Graph = dict[_Operation, dict[_Operation, Sent]]


def request_cycles(scope: Scope) -> Iterator[Finding]:
    """Yield a finding for the shortest cycle through each handler that waits for itself, by way of another one.

    A handler that sends its own message to another key is no cycle: a walk over a tree does that. Neither is a cycle with a
    `tell`, a timer or an event, for which nobody waits. A long job has its answer before its handler runs.
    """
    accepted = {
        (wired.name, name)
        for wired in scope.all
        for name, handlers in handlers_of(wired.actor).items()
        if any(handler.accept for handler in handlers)
    }
    graph: _Graph = {}
    for wired in scope.all:
        for name, found in wired.sent.items():
            graph[wired.name, name] = {
                (sent.contract.actor, sent.contract.name): sent
                for sent in reversed(found)
                if sent.waits and (sent.contract.actor, sent.contract.name) not in accepted
            }
    seen: set[frozenset[_Operation]] = set()
    for start in sorted(graph):
        path = _shortest(graph, start)
        if path and frozenset(path) not in seen:
            seen.add(frozenset(path))
            yield from _finding(scope, graph, path)


def _shortest(graph: _Graph, start: _Operation) -> list[_Operation]:
    """Return the shortest path from an operation back to it, without its end; empty if there is none with another operation."""
    waiting = deque([[start]])
    seen: set[_Operation] = set()
    while waiting:
        path = waiting.popleft()
        for following in sorted(graph.get(path[-1], {})):
            if following == start and len(path) > 1:
                return path
            if following != start and following not in seen:
                seen.add(following)
                waiting.append([*path, following])
    return []


def _finding(scope: Scope, graph: _Graph, path: list[_Operation]) -> Iterator[Finding]:
    judged = [place for place, (actor, _) in enumerate(path) if actor in scope.judged_names]
    if not judged:
        return
    turned = [*path[judged[0] :], *path[: judged[0]]]
    place = graph[turned[0]][turned[1]].place
    text = " → ".join(f"{actor}.{name}" for actor, name in [*turned, turned[0]])
    yield Finding(*place, "request-cycle", f"each handler waits for the next one: {text}")
