"""The statuses that a server sends in place of a message to a pull request."""

from typing import Final

HEARTBEAT: Final = 100
"""The request is open, and there is no message."""

EXPIRED: Final = (404, 408)
"""The request has ended without an error. The header ``Nats-Pending-Messages`` has the number of messages that did not come."""
