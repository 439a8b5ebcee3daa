"""The outcome of an answer of HTTP: by its status, its Retry-After, and the beginning of its text."""

import html
import json
import re
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, quote_plus

from runtime.clocks import YEAR
from runtime.router.outcomes import Again, Delivered, Outcome, Permanent
from runtime.wire.printable import printable

AGAIN: Final = frozenset((408, 425, 429))
"""The statuses below 500 after which another attempt may succeed."""

LONGEST_TEXT: Final = 512
"""Bytes of an answer's text in a reason at most."""


def outcome_of(status: int, text: str, retry_after: str | None, now: float) -> Outcome:
    """Return the outcome of an answer.

    Args:
        status: The status code.
        text: The beginning of the answer's text, without secrets; see `excerpt`.
        retry_after: The header Retry-After: seconds, or a date of HTTP (RFC 9110, section 10.2.3).
        now: The time in Unix seconds.
    """
    if 200 <= status < 300:
        return Delivered(status)
    if status in AGAIN or status >= 500:
        return Again(_reason(status, text), after=seconds(retry_after, now))
    if 300 <= status < 400:
        return Permanent(f"{_reason(status, '')}: a redirect is not followed")
    return Permanent(_reason(status, text))


def _reason(status: int, text: str) -> str:
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    return f"the target answered {status}{phrase}" + (f": {text}" if text else "")


def seconds(retry_after: str | None, now: float) -> float | None:
    """Return the seconds of a header Retry-After, from 0 to a year; None if there is none, or it is unreadable."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if re.fullmatch("[0-9]{1,18}", text):
        return min(float(text), YEAR)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year or a zone of many digits is the second one
        return None
    at = date.timestamp() if date.tzinfo is not None else date.replace(tzinfo=UTC).timestamp()
    return min(max(at - now, 0.0), YEAR)


def excerpt(content: bytes, secrets: Iterable[str]) -> str:
    """Return the beginning of an answer as one line of printable text, in which ``***`` stands for each secret.

    Args:
        content: The beginning of the body. It is longer than the excerpt, so that a secret at the end of it is whole.
        secrets: The texts that the request has sent. A server may send them back.
    """
    text = content.decode("utf-8", "replace")
    forms = {form for secret in secrets for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    text = printable(" ".join(text.split()))
    return text.encode()[:LONGEST_TEXT].decode("utf-8", "ignore")


def _forms(secret: str) -> tuple[str, ...]:
    """Return the forms in which a server may send a text back: as it is, in JSON, in HTML and in a URL."""
    in_json = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    return secret, *in_json, html.escape(secret), quote(secret, safe=""), quote_plus(secret)
