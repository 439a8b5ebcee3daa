"""Alert rules of Prometheus from the contracts of actors, as YAML: one group for each actor."""

from collections.abc import Iterable, Sequence

import msgspec

from runtime.admin.discovery import Service
from runtime.contracts import expressions
from runtime.contracts.dashboards import events_of, handles_messages

_WINDOW = "5m"


class Limits(msgspec.Struct, frozen=True):
    """The values above which an alert fires. `DEFAULT` are those of the command line."""

    error_ratio: float = 0.05
    """Share of the requests that fail."""
    failure_ratio: float = 0.2
    """Share of the attempts at events, timers and commands by `tell` that fail."""
    latency: float = 1.0
    """Seconds of the slowest hundredth of the requests."""
    lag: int = 1000
    """Messages of a stream that wait."""
    usual_events: int = 10
    """Events in an hour yesterday, from which on the absence of all of them today is worth a look."""


DEFAULT = Limits()


class Rule(msgspec.Struct, frozen=True):
    """An alert."""

    name: str
    expression: str
    wait: str
    """Time for which the expression must be true: ``5m``."""
    severity: str
    """``critical``, ``warning`` or ``info``."""
    summary: str
    description: str


def rules_of(service: Service, limits: Limits = DEFAULT) -> list[Rule]:
    """Return the alerts of an actor: those on which its contract has a bearing."""
    return [
        *_owner(service),
        *(_requests(service.name, limits) if service.endpoints else ()),
        *(_messages(service, limits) if handles_messages(service) else ()),
        *_events(service, limits),
    ]


def alerts_of(services: Sequence[Service], limits: Limits = DEFAULT) -> dict[str, str]:
    """Return the text of the rule files by name."""
    return {f"{service.name}.yaml": _yaml(service.name, rules_of(service, limits)) for service in services}


def _owner(service: Service) -> Iterable[Rule]:
    name, partitions = service.name, service.metadata.partitions
    owned = f"(sum({expressions.selected(expressions.OWNED, name)}) or vector(0))"
    wanted = f"(max({expressions.selected(expressions.PARTITIONS, name)}) or vector({partitions}))"
    yield Rule(
        "ActorWithoutOwner", f"{owned} < {wanted}", "1m", "critical",
        f"{name}: {{{{ $value }}}} partitions have an owner, which are too few",
        f"No process serves some or all keys of {name}: their messages wait. actorloom ls shows the owners, actorloom doctor "
        "the reason.",
    )  # fmt: skip
    yield Rule(
        "ActorDeadLetters", f"{expressions.dead_letters(name, '1h')} >= 1", "0m", "warning",
        f"{name}: {{{{ $value | humanize }}}} dead letters in the last hour",
        f"{name} has given messages up: actorloom dlq ls {name} shows them with the reasons.",
    )  # fmt: skip
    yield Rule(
        "ActorPermissionsRefused", f"{expressions.largest(expressions.REFUSED, name)} > 0", "1m", "critical",
        f"{name}: NATS refuses {{{{ $value }}}} subjects",
        f"A process of {name} lacks permissions, and is not ready: its log and /readyz name the subjects.",
    )  # fmt: skip
    yield Rule(
        "ActorKeysBlocked", f"{expressions.total(expressions.BLOCKED, name)} > 0", "15m", "warning",
        f"{name}: {{{{ $value }}}} keys are blocked",
        f"The first message of these keys fails again and again, and those behind it wait: see the log of {name}.",
    )  # fmt: skip


def _requests(name: str, limits: Limits) -> Iterable[Rule]:
    yield Rule(
        "ActorErrorRate", f"{expressions.error_ratio(name, _WINDOW)} > {limits.error_ratio:g}", "5m", "critical",
        f"{name}: {{{{ $value | humanizePercentage }}}} of the requests fail",
        f"Queries and commands of {name} end with codes from 500 on: see its log, and the dashboard by operation.",
    )  # fmt: skip
    slow = expressions.quantile(expressions.REQUESTS, name, _WINDOW, expressions.METHOD, 0.99)
    yield Rule(
        "ActorLatency", f"{slow} > {limits.latency:g}", "10m", "warning",
        f"{{{{ $labels.{expressions.METHOD} }}}}: p99 is {{{{ $value | humanizeDuration }}}}",
        "One request of a hundred takes longer. A trace shows in which step.",
    )  # fmt: skip
    yield Rule(
        "ActorRequestsRefused", f"{expressions.refused(name, _WINDOW)} > 0", "5m", "warning",
        f"{name}: {{{{ $value | humanize }}}} requests a second are refused",
        f"The mailbox of {name}, or that of a key, is full (429): add processes, or find the slow handler.",
    )  # fmt: skip


def _messages(service: Service, limits: Limits) -> Iterable[Rule]:
    name = service.name
    yield Rule(
        "ActorAttemptsFail", f"{expressions.failure_ratio(name, _WINDOW)} > {limits.failure_ratio:g}", "10m", "warning",
        f"{name}: {{{{ $value | humanizePercentage }}}} of the attempts at events, timers and told commands fail",
        f"Failing messages are tried again, and become dead letters in the end: see the log of {name}.",
    )  # fmt: skip
    yield Rule(
        "ActorLag", f"{expressions.lag(name, service.metadata.keyed)} > {limits.lag}", "10m", "warning",
        f"{name}: {{{{ $value }}}} messages of {{{{ $labels.{expressions.STREAM} }}}} wait",
        f"{name} is slower than the messages come, or does not handle them at all: actorloom top shows the load.",
    )  # fmt: skip


def _events(service: Service, limits: Limits) -> Iterable[Rule]:
    for kind, template in events_of(service):
        counted = expressions.published(template, "1h")
        yesterday = counted.replace("[1h]", "[1h] offset 1d")
        yield Rule(
            f"EventsStopped{kind.rpartition('.')[2]}",
            f"({counted} or vector(0)) < 1 and {yesterday} >= {limits.usual_events}",
            "0m",
            "info",
            f"{kind}: none in the last hour, and at least {limits.usual_events} in that hour a day ago",
            "The business has stopped, or an actor before this one has.",
        )


def _yaml(name: str, rules: Iterable[Rule]) -> str:
    """Return a file of rules. A YAML library would be a dependency for these few lines."""
    lines = ["# Written by `actorloom dashboards`: changes are lost.", "groups:"]
    lines += [f"  - name: {_quoted(f'actorloom {name}')}", "    rules:"]
    for rule in rules:
        lines += [
            f"      - alert: {_quoted(rule.name)}",
            f"        expr: {_quoted(rule.expression)}",
            f"        for: {rule.wait}",
            "        labels:",
            f"          severity: {rule.severity}",
            f"          actor: {_quoted(name)}",
            "        annotations:",
            f"          summary: {_quoted(rule.summary)}",
            f"          description: {_quoted(rule.description)}",
        ]
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """Return a text on one line as a scalar of YAML, in which nothing but the quote has a meaning."""
    return "'" + " ".join(text.split()).replace("'", "''") + "'"
