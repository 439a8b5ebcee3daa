"""Findings of the doctor: ok, warn or fail, with a text and a remedy."""

from typing import Literal

import msgspec

Status = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finding.

    `fail`: actors do not work, or lose a guarantee. `warn`: a risk, or a fact that cannot be checked from here.
    """

    status: Status
    subject: str
    """The checked part: ``server``, ``disk``, the name of a service …"""
    text: str
    todo: str = ""
    """The remedy; empty if there is none."""


def ok(subject: str, text: str) -> Finding:
    """Return a finding without a problem."""
    return Finding("ok", subject, text)


def warn(subject: str, text: str, todo: str = "") -> Finding:
    """Return a finding with a risk."""
    return Finding("warn", subject, text, todo)


def fail(subject: str, text: str, todo: str = "") -> Finding:
    """Return a finding of a problem."""
    return Finding("fail", subject, text, todo)
