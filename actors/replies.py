"""The reply that commands of several services share."""

from msgspec import Struct

__all__ = ["Done"]


class Done(Struct, frozen=True):
    """The reply of a command that has taken effect and has nothing else to return."""

    success: bool = True
