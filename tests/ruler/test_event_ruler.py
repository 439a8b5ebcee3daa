"""Event patterns match as AWS's event-ruler does, on generated pairs of patterns and events."""

import json
from typing import Any

import pytest

from runtime.actor.patterns import compile_pattern
from runtime.errors import DeclarationError
from tests.ruler.conftest import Compare
from tests.ruler.generate import Generator

pytestmark = pytest.mark.ruler

PAIRS = 6_000
"""The number of pairs of each kind."""


@pytest.mark.parametrize("kind", ["pair", "arrays"])
def test_generated_patterns_match_as_in_event_ruler(kind: str, event_ruler: Compare) -> None:
    make = getattr(Generator(seed=10), kind)
    pairs = [make() for _ in range(PAIRS)]
    answers = event_ruler(pairs)
    assert len(answers) == PAIRS
    differences = [
        f"event-ruler: {answer}, ours: {own}: {json.dumps(pattern)} on {json.dumps(event)}"
        for (pattern, event), answer in zip(pairs, answers, strict=True)
        if (own := own_answer(pattern, event)) != answer and answer != "contradiction"
    ]
    assert not differences, f"{len(differences)} differences:\n" + "\n".join(differences[:20])
    assert answers.count("contradiction") < PAIRS / 1000
    assert min(answers.count("true"), answers.count("false")) > PAIRS / 20


def test_the_documented_differences_exist(event_ruler: Compare) -> None:
    differences: list[tuple[dict[str, Any], object, str, str]] = [
        ({"a": "x"}, {"a": "x"}, "refused", "true"),
        ({"a": {"numeric": [">", 1]}}, {"a": {"numeric": 1}}, "true", "refused"),
        ({"a": [{"equals-ignore-case": "\U00010428"}]}, {"a": "\U00010400"}, "false", "true"),
        ({"a": [{"equals-ignore-case": "\U00010428"}]}, {"a": "??"}, "true", "false"),
        ({"a": [{"suffix": '"'}]}, {"a": ""}, "true", "false"),
        ({"a": [{"prefix": '"'}]}, {"a": ""}, "true", "false"),
        ({"a": [{"cidr": "::/0"}]}, {"a": 300}, "true", "false"),
        ({"a": [{"cidr": "::/0"}]}, {"a": "192.168.1.9"}, "true", "false"),
        ({"a": [{"cidr": "10.0.0.0/+8"}]}, {"a": "10.0.0.1"}, "true", "refused"),
        ({"a": [{"cidr": "10.0.0.0/8/"}]}, {"a": "10.0.0.1"}, "true", "refused"),
    ]
    answers = event_ruler((pattern, event) for pattern, event, _, _ in differences)
    assert answers == [theirs for _, _, theirs, _ in differences]
    assert [own_answer(pattern, event) for pattern, event, _, _ in differences] == [ours for *_, ours in differences]


def own_answer(pattern: dict[str, Any], event: object) -> str:
    try:
        matches = compile_pattern(pattern)
    except DeclarationError:
        return "refused"
    return str(matches(event)).lower()
