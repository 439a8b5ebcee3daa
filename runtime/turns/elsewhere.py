"""The error for a message whose key is in another partition."""

from runtime.errors import NotDelivered


class Elsewhere(NotDelivered):
    """A key is in another partition than that of the owner that received its message. On the wire it is `NotDelivered`.

    Args:
        message: The text of the error.
        owning: The number of the partition of the key.
    """

    def __init__(self, message: str, owning: int) -> None:
        super().__init__(message)
        self.owning = owning
