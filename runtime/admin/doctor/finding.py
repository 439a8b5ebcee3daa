"""What the doctor says: one line a finding, ok, warn or fail, with what to do."""

from typing import Literal

import msgspec

Status = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finding. `fail`: actors will not work, or lose what they promise; `warn`: risky, or not to be seen from here."""

    status: Status
    subject: str
    """What was looked at: ``server``, ``disk``, ``orders`` …"""
    text: str
    todo: str = ""


def ok(subject: str, text: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding("ok", subject, text)


def warn(subject: str, text: str, todo: str = "") -> Finding:
    """Return a finding that is risky."""
    return Finding("warn", subject, text, todo)


def fail(subject: str, text: str, todo: str = "") -> Finding:
    """Return a finding with which actors do not work."""
    return Finding("fail", subject, text, todo)
