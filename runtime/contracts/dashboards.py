"""Grafana dashboards from the contracts of actors: one for each actor, and an overview."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

from runtime.admin.discovery import Service
from runtime.contracts import expressions
from runtime.contracts.panels import Panel, Query, dashboard, dashboard_link

_OVERVIEW: Final = "actorloom"
_LONGEST: Final = 40
"""Characters of the longest uid that Grafana takes."""


def dashboards_of(services: Sequence[Service]) -> dict[str, dict[str, Any]]:
    """Return the JSON of the dashboards by the name of their file.

    Args:
        services: One service for each actor.
    """
    found = {"_overview.json": _overview(services)}  # no actor has such a name
    return found | {f"{service.name}.json": _actor(service) for service in services}


def events_of(service: Service) -> list[tuple[str, str]]:
    """Return the types of the events of an actor, each with the template of its subjects in metrics.

    An event is left out if its type is no name: any program may announce what it likes.
    """
    return [
        (kind, f"{event.subject.removesuffix('*')}{{key}}")
        for kind, event in sorted(service.metadata.events.items())
        if kind.rpartition(".")[2].isidentifier() and kind.isprintable() and "{" not in kind
    ]


def handles_messages(service: Service) -> bool:
    """Return whether an actor handles events, timers, or commands by `tell`."""
    return bool(service.metadata.reacts) or "tells" in service.metadata.streams


def _uid(name: str) -> str:
    uid = f"{_OVERVIEW}-{name}"
    return uid if len(uid) <= _LONGEST else f"{uid[: _LONGEST - 9]}-{sha256(name.encode()).hexdigest()[:8]}"


def _overview(services: Sequence[Service]) -> dict[str, Any]:
    names = [service.name for service in services]
    served, name = [each.name for each in services if each.endpoints], f"{{{{{expressions.SERVICE}}}}}"
    panels = [
        Panel(
            "Partitions without an owner", "short",
            (Query(f"{expressions.largest(expressions.PARTITIONS, names)} - {expressions.total(expressions.OWNED, names)}", name),),
            "Their messages wait. An actor without state has one partition, which is owned if a process serves it.",
            width=8, height=6, limit=1,
        ),
        Panel(
            "Dead letters in 24 hours", "short", (Query(f"round({expressions.dead_letters(names, '24h')})", name),),
            "Messages that were given up: actorloom dlq ls.", width=8, height=6, limit=1,
        ),
        Panel(
            "Refused permissions", "short", (Query(expressions.largest(expressions.REFUSED, names), name),),
            "Subjects that NATS refuses to a process: the log and /readyz name them.", width=8, height=6, limit=1,
        ),
        *_calls(served, expressions.SERVICE),
        _waiting(names),
        _blocked(names),
    ]  # fmt: skip
    links = [dashboard_link(each, _uid(each)) for each in names]
    return dashboard(_OVERVIEW, "Actorloom: overview", "All actors.", panels, links)


def _actor(service: Service) -> dict[str, Any]:
    name = service.name
    panels = [
        *(_calls([name], expressions.METHOD) if service.endpoints else ()),
        *(_messages(service) if handles_messages(service) else ()),
        *_events(service),
        _waiting([name]),
        _blocked([name]),
        Panel(
            "Partitions", "short",
            (Query(expressions.largest(expressions.PARTITIONS, name), "partitions"), Query(expressions.total(expressions.OWNED, name), "owned")),
            "All of them have an owner if the lines are the same.",
        ),
        Panel(
            "Dead letters", "short", (Query(f"round({expressions.dead_letters(name, '1h')})", "in the last hour"),),
            f"Messages that {name} gave up: actorloom dlq ls {name}.",
        ),
    ]  # fmt: skip
    description = service.description or f"The actor {name}."
    return dashboard(_uid(name), f"Actorloom: {name}", description, panels, [dashboard_link("overview", _OVERVIEW)])


def _calls(names: Sequence[str], by: str) -> Iterable[Panel]:
    """Return the panels of queries and commands, for one actor by operation, or for several by actor."""
    actors, legend = (names[0] if by == expressions.METHOD else names), f"{{{{{by}}}}}"
    if not names:
        return
    code = "rpc_response_status_code"
    yield Panel(
        "Requests", "reqps", (Query(expressions.rate(expressions.REQUESTS, actors, expressions.PANEL, by), legend),),
        "Queries and commands a second.",
    )  # fmt: skip
    yield Panel(
        "Error replies", "reqps",
        (Query(expressions.rate(expressions.REQUESTS, actors, expressions.PANEL, f"{by}, {code}", 'error_type!=""'), f"{legend} {{{{{code}}}}}"),),
        "Error replies a second, by code: 4xx are refusals of the domain, 429 is a full mailbox, 5xx are failures.",
    )  # fmt: skip
    for share, title in ((0.5, "Latency, median"), (0.99, "Latency, p99")):
        yield Panel(
            title, "s", (Query(expressions.quantile(expressions.REQUESTS, actors, expressions.PANEL, by, share), legend),),
            "Seconds from receipt to reply.",
        )  # fmt: skip


def _messages(service: Service) -> Iterable[Panel]:
    """Return the panels of events, timers and commands by `tell`."""
    name, legend = service.name, f"{{{{{expressions.TEMPLATE}}}}}"
    yield Panel(
        "Handled messages", "ops", (Query(expressions.rate(expressions.MESSAGES, name, expressions.PANEL, expressions.TEMPLATE), legend),),
        "Attempts at events, timers and commands by tell, a second.",
    )  # fmt: skip
    failed = expressions.rate(
        expressions.MESSAGES, name, expressions.PANEL, f"{expressions.TEMPLATE}, error_type", 'error_type!=""'
    )
    yield Panel(
        "Failed attempts", "ops", (Query(failed, f"{legend} {{{{error_type}}}}"),),
        "A message is tried again after a pause, and becomes a dead letter after its last attempt.",
    )  # fmt: skip
    yield Panel(
        "Handling, p99", "s", (Query(expressions.quantile(expressions.MESSAGES, name, expressions.PANEL, expressions.TEMPLATE, 0.99), legend),),
        "Seconds of an attempt.",
    )  # fmt: skip
    yield Panel(
        "Lag", "short", (Query(expressions.lag(name, service.metadata.keyed), f"{{{{{expressions.STREAM}}}}}"),),
        "Messages of a stream that wait for the actor or are in progress.",
    )  # fmt: skip


def _events(service: Service) -> Iterable[Panel]:
    """Return the panel of the business counts: the events of an actor by type."""
    queries = [
        Query(expressions.published(template, "1h"), kind.rpartition(".")[2]) for kind, template in events_of(service)
    ]
    if queries:
        yield Panel(
            "Events an hour", "short", tuple(queries), "Events that were published in the hour before, by type."
        )


def _waiting(names: Sequence[str]) -> Panel:
    queries = (Query(expressions.total(expressions.WAITING, names), f"{{{{{expressions.SERVICE}}}}}"),)
    return Panel("Waiting messages", "short", queries, "Messages that wait to run in the memory of the processes.")


def _blocked(names: Sequence[str]) -> Panel:
    queries = (Query(expressions.total(expressions.BLOCKED, names), f"{{{{{expressions.SERVICE}}}}}"),)
    return Panel("Blocked keys", "short", queries, "Keys whose first message waits for another attempt.")
