"""The 100 rules of the suite, each with a plain predicate that says which events it must match; and their targets."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from runtime.router.rule import RuleFields
from runtime.router.target import TargetFields
from tests.chaos.feeds import INPUT, LETTERS, Fields

FLIP, SWITCH = "flip", "switch"
"""The rules that change: one goes to either of two targets, and one is enabled and disabled."""
SIDES = ("book-a", "book-b")
"""The two targets of `FLIP`: the first one after an odd number of changes."""
COMMANDS, ECHO, HOOK, OUT = SIDES, "echo", "hook", "out"
TARGETS = (*COMMANDS, ECHO, HOOK, OUT)

_PATIENT: dict[str, Any] = {"attempts": 1000, "first": 0.05, "longest": 0.5, "timeout": 5.0}


class PlainRule(NamedTuple):
    """A rule, and the same in Python."""

    name: str
    where: dict[str, Any]
    matches: Callable[[Fields], bool]
    targets: tuple[str, ...]


def rule_fields(where: dict[str, Any] | None, targets: tuple[str, ...], mark: int = 0) -> RuleFields:
    """Return a rule for the events of feeds, as `PutRule` has it."""
    given = [{"target": target, "input": {**INPUT, "mark": mark}} for target in targets]
    return msgspec.convert({"types": ["feeds.Fed"], "where": where, "targets": given}, RuleFields)


def target_fields(url: str, subject: str) -> dict[str, TargetFields]:
    """Return the targets by name, given the URL of the endpoint, and the beginning of the subjects."""
    book = {"kind": "command", "actor": "books", "command": "Write"}
    places: dict[str, dict[str, Any]] = {
        **dict.fromkeys(COMMANDS, book),
        ECHO: {"kind": "event", "type": "books.Echoed"},
        HOOK: {"kind": "http", "url": url, "body": "input"},
        OUT: {"kind": "subject", "subject": f"{subject}.{{key}}"},
    }
    return {name: msgspec.convert({"to": to, **_PATIENT}, TargetFields) for name, to in places.items()}


def plain_rules() -> list[PlainRule]:
    """Return the 98 rules that stay as they are."""
    rules = [*_kinds(), *_words(), *_amounts(), *_notes(), *_ends(), *_others()]
    assert len(rules) == 98 and len({rule.name for rule in rules}) == 98
    return rules


def _kinds() -> list[PlainRule]:
    def rule(number: int) -> PlainRule:
        kind = f"k{number:02}"
        targets = ("book-a", OUT) if number % 3 == 0 else ("book-a",)
        return PlainRule(f"kind-{number}", {"kind": [kind]}, lambda event: event.kind == kind, targets)

    return [rule(number) for number in range(30)]


def _words() -> list[PlainRule]:
    def rule(number: int) -> PlainRule:
        letter = LETTERS[number]
        where = {"word": [{"prefix": letter}]}
        return PlainRule(f"word-{letter}", where, lambda event: event.word[0] == letter, ((HOOK, ECHO)[number % 2],))

    return [rule(number) for number in range(20)]


def _amounts() -> list[PlainRule]:
    def rule(number: int) -> PlainRule:
        low, high = number * 50, number * 50 + 50
        where = {"amount": [{"numeric": [">=", low, "<", high]}]}
        target = ("book-b", "book-b", OUT, HOOK)[number % 4]
        return PlainRule(f"amount-{low}", where, lambda event: low <= event.amount < high, (target,))

    return [rule(number) for number in range(20)]


def _notes() -> list[PlainRule]:
    def rule(number: int) -> PlainRule:
        kinds = [f"k{each:02}" for each in range(number, 60, 10)]
        where = {"note": [{"exists": True}], "kind": kinds}
        return PlainRule(f"note-{number}", where, lambda event: event.note is not None and event.kind in kinds, (ECHO,))

    return [rule(number) for number in range(10)]


def _ends() -> list[PlainRule]:
    def rule(digit: int) -> PlainRule:
        where = {"word": [{"suffix": str(digit)}], "note": [{"exists": False}]}
        return PlainRule(
            f"end-{digit}",
            where,
            lambda event: event.word[-1] == str(digit) and event.note is None,
            (TARGETS[digit % len(TARGETS)],),
        )

    return [rule(digit) for digit in range(10)]


def _others() -> list[PlainRule]:
    def either(number: int) -> PlainRule:
        kind, below = f"k{40 + number}", 5 * number
        where = {"$or": [{"kind": [kind]}, {"amount": [{"numeric": ["<", below]}]}]}
        return PlainRule(
            f"either-{number}", where, lambda event: event.kind == kind or event.amount < below, ("book-b", ECHO)
        )

    def neither(number: int) -> PlainRule:
        where = {"word": [{"anything-but": {"prefix": "a"}}], "amount": [{"numeric": [">", 1990 - number]}]}
        return PlainRule(
            f"neither-{number}", where, lambda event: event.word[0] != "a" and event.amount > 1990 - number, (HOOK,)
        )

    return [*map(either, range(4)), *map(neither, range(4))]
