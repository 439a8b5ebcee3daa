"""Comments that switch a finding off: ``# actorloom: ignore[unread-event]``, with a reason behind it.

A comment stands on the line of the finding. For a class or function it may stand on any line between its first decorator and
its body.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from runtime.contracts.linter_scope import Finding, Scope
from runtime.contracts.source import Module

_COMMENT = re.compile(r"#\s*actorloom:\s*ignore\[([^\]]*)\]")

_OF_OTHERS = frozenset({"unheard-event", "unset-field", "unhandled-request", "request-cycle"})
"""The findings that need the code of other actors. A comment for one of them may be of use in a run with that code."""


def without_ignored(scope: Scope, findings: Iterable[Finding], codes: Iterable[str]) -> Iterator[Finding]:
    """Yield the findings that no comment switches off, and one for each comment that switches none off."""
    modules = {module.file: module for module in scope.modules}
    used: set[tuple[str, int, str]] = set()
    for finding in findings:
        lines = _lines(modules.get(finding.file), finding)
        if not lines:
            yield finding
        used |= {(finding.file, line, finding.code) for line in lines}
    known = set(codes)
    for module in modules.values():
        for line, code in _ignores(module):
            if (module.file, line, code) not in used and _is_judged(scope, module, line, code):
                fault = "has nothing to ignore here" if code in known else "is no code of a finding"
                yield Finding(module.file, line, "unused-ignore", f"{code!r} {fault}")


def _lines(module: Module | None, finding: Finding) -> list[int]:
    """Return the lines with a comment that switches a finding off."""
    if module is None:
        return []
    header = module.header(finding.line)
    return [line for line, code in _ignores(module) if line in header and code == finding.code]


def _ignores(module: Module) -> list[tuple[int, str]]:
    found = ((line, _COMMENT.search(text)) for line, text in module.comments.items())
    return [(line, code.strip()) for line, match in found if match is not None for code in match[1].split(",")]


def _is_judged(scope: Scope, module: Module, line: int, code: str) -> bool:
    """Return whether a comment belongs to code that this run judges in full."""
    if code in _OF_OTHERS and not scope.complete:
        return False
    name = module.outermost(line)
    value: Any = scope.sources.value(module, name)
    contract = getattr(value, "__contract__", None)
    if contract is not None:
        return contract.actor in scope.judged_names
    if any(each.actor is value for each in scope.all):
        return any(each.actor is value for each in scope.judged)
    return any(reading.module is module for each in scope.judged for reading in each.readings)
