"""`check --rules`: the rules of files as readers of events, and their own mistakes."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from runtime.actor.base import Actor
from runtime.contracts.from_code import services_of
from runtime.contracts.linter import Finding
from runtime.router.contract_check import Announced, problems_by
from runtime.router.files import Content, read_files
from runtime.router.rule import RuleFields
from runtime.router.target import Target

_CODE = "dead-rule"


def check_rules(paths: Sequence[str], actors: Iterable[type[Actor[Any]]]) -> tuple[set[str], list[Finding]]:
    """Return the types of events that rules take, and the rules that can never match or never be delivered.

    Args:
        paths: The files of rules and targets.
        actors: The actors of the system.

    Raises:
        ConfigurationError: A file cannot be read, or a field is wrong.
    """
    services = services_of(actors)
    announced = Announced(services)
    kinds = {kind: each.name for each in services for kind in each.metadata.emits}
    everything, taken, findings = read_files(paths), set[str](), list[Finding]()
    for path in paths:
        for name, rule in read_files([path]).rules.items():
            taken |= {kind for kind, actor in kinds.items() if _takes(rule, kind, actor)}
            for problem in _problems(rule, everything, announced):
                findings.append(Finding(path, _line(path, name), _CODE, f"rule {name}: {problem}"))
    return taken, findings


def _takes(rule: RuleFields, kind: str, actor: str) -> bool:
    return (not rule.types or kind in rule.types) and (not rule.sources or actor in rule.sources)


def _problems(rule: RuleFields, content: Content, announced: Announced) -> list[str]:
    """Return the problems of a rule. Its targets are those of the files."""
    missing = [each.target for each in rule.targets if each.target not in content.targets]
    if missing:
        return [f"targets: there is no target {name!r} in these files" for name in missing]
    fields = {each.target: content.targets[each.target] for each in rule.targets}
    targets = [
        Target(**{field: getattr(given, field) for field in given.__struct_fields__}, name=name, version=1)
        for name, given in fields.items()
    ]
    return problems_by(announced, "", rule, targets)


def _line(path: str, name: str) -> int:
    """Return the first line of a file that begins with the name of a rule; 1 if there is none."""
    begins = re.compile(rf"\s*[\"']?{re.escape(name)}[\"']?\s*:").match
    with open(path, encoding="utf-8") as file:
        return next((number for number, line in enumerate(file, 1) if begins(line)), 1)
