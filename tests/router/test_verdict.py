"""The first reason why a rule does not match an event."""

from typing import Any

import msgspec
import pytest

from runtime import AnyEvent
from runtime.router.rule import Rule
from runtime.router.verdict import reason_against

EVENT = AnyEvent(
    type="till.Sold", id="1", source="till", key="north", time="2026-11-28T10:00:00Z", data={"total": 5}, stored=1000.0
)
RULE = {"name": "big", "version": 1, "since": 1000.0, "changed": 1000.0, "targets": [{"target": "crm"}]}


@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        ({}, "", ""),
        ({"types": ["till.Sold"], "sources": ["till"], "where": {"total": [5]}}, "", ""),
        ({"enabled": False}, "enabled", "the rule is disabled"),
        ({"types": ["till.Closed"]}, "types", "till.Sold"),
        ({"sources": ["orders"]}, "sources", "till"),
        ({"since": 1000.5}, "since", "stored at 1970-01-01T00:16:40.000000Z, and the rule matches those stored from"),
        ({"where": {"total": [{"numeric": [">", 5]}]}}, "where", "total"),
        ({"where": {"sum": [5]}}, "where", "sum"),
        ({"enabled": False, "where": {"total": [6]}}, "enabled", "disabled"),
    ],
)
def test_the_first_reason_names_the_field(fields: dict[str, Any], field: str, text: str) -> None:
    reason = reason_against(msgspec.convert({**RULE, **fields}, Rule), EVENT)
    assert (reason.field if reason else "") == field
    assert text in str(reason or "")
