"""The outcome of one attempt at a delivery: delivered, try it again, or never."""

import msgspec


class Delivered(msgspec.Struct, frozen=True):
    """The target has taken the delivery."""

    status: int
    """The status code of the answer."""


class Again(msgspec.Struct, frozen=True):
    """The target has not taken the delivery, or has not answered. Another attempt may succeed."""

    reason: str
    """The reason, for logs and dead letters: printable text without secrets."""
    after: float | None = None
    """Seconds that the target asks to wait for; None if it does not say."""


class Permanent(msgspec.Struct, frozen=True):
    """Another attempt would fail in the same way."""

    reason: str
    """The reason, as in `Again`."""


Outcome = Delivered | Again | Permanent
"""The outcome of one attempt."""
