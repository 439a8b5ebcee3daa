"""What follows a failure of a host: how long it pauses before it begins again, and when it ends.

Four things can go wrong, and count differently:

- *A lost lease* takes the host back to standby, as often as it happens. No part of this process has failed, and a new
  process would not help against a slow network. The loss of a lease takes its time to live, so it cannot loop fast.
- *A missing permission* takes it back to standby too, as often as it happens: another process may have it, and it may be
  given back. `/readyz` has the reason meanwhile.
- *A server that cannot serve now* (no answer, a cluster without a leader) does so too, after a growing pause and as often
  as it happens. The first creation of the streams is repeated in the same way.
- *A failed part* (a crashed task, a deleted consumer, a refused request) does so too, after a growing pause. Most of
  these failures pass, and a restart creates deleted consumers and streams again. A host that fails more than five times
  within a minute has a cause that restarts do not remove. `Host.run` then raises `HostFailed`, and the process ends, so that
  its supervisor sees it.
"""

import logging
import time
from collections import deque

from runtime.backoff import Backoff
from runtime.errors import ActorError
from runtime.nats.connection import PermissionDenied
from runtime.nats.jetstream.errors import is_passing

logger = logging.getLogger("actorloom.host")

_RESTARTS = 5
"""Restarts that a host may have within `_RESTART_WINDOW`. One more failure ends it."""
_RESTART_WINDOW = 60.0
"""Seconds over which restarts are counted."""
_BACKOFF = Backoff(first=0.2, longest=2.0)
"""The pauses before a restart. They have no jitter."""
_PERMISSION_PAUSE = 1.0
"""Seconds before the next ownership after the server has refused a subject."""


class HostFailed(ActorError):
    """A host failed more often than its restart intensity allows."""


class LeaseLost(ActorError):
    """The lease of the keys was lost: to another owner, or because NATS did not confirm a renewal in time."""


class Restarts:
    """Logs and counts the failures of one host.

    Args:
        name: The name of its actor, for the log.
    """

    def __init__(self, name: str) -> None:
        self.failure = ""
        """The failure after which the host begins again; empty if there was none since it served last."""
        self.in_a_row = 0
        """The failures since the host served, lost leases excepted."""
        self._name = name
        self._refused_subject = ""
        """The subject that the server has refused last; empty since the host served."""
        self._passing = 0
        """The failures since the host served that were those of a server that could not serve."""
        self._counted: deque[float] = deque(maxlen=_RESTARTS)
        """The times of the last failures of parts."""

    def forget(self) -> None:
        """Take note that the host serves. The failures of parts still count."""
        self.failure = self._refused_subject = ""
        self._passing = self.in_a_row = 0

    def note(self, error: Exception) -> float:
        """Take note of a failure.

        Returns:
            The seconds for which the host pauses before it begins again; 0 for no pause.

        Raises:
            HostFailed: It is one failure too many.
        """
        if isinstance(error, LeaseLost):
            self.failure = str(error)
            logger.warning("%s: back to standby: %s", self._name, error)
            return 0.0
        self.in_a_row += 1
        if isinstance(error, PermissionDenied):
            return self._after_refusal(error)
        return self._after_silence(error) if is_passing(error) else self._count(error)

    def _after_refusal(self, error: PermissionDenied) -> float:
        """Log a refusal. It does not count as a failure: a new process would not help, and it may be cured."""
        if error.subject != self._refused_subject:
            logger.error("%s: back to standby until the server permits it: %s", self._name, error)
        self.failure, self._refused_subject = str(error), error.subject
        return _PERMISSION_PAUSE

    def _after_silence(self, error: Exception) -> float:
        """Log a failure that passes by itself. It does not count: a new process would find the same server."""
        self._passing += 1
        failure = str(error) or type(error).__name__
        if failure != self.failure:
            self.failure = failure
            logger.warning("%s: waits for the server: %s", self._name, failure)
        return _BACKOFF.nominal(self._passing)

    def _count(self, error: Exception) -> float:
        """Count the failure of a part. Raises `HostFailed` for one failure too many."""
        now = time.monotonic()
        self.failure = str(error) or type(error).__name__
        logger.warning("%s: back to standby: %s", self._name, error)
        if len(self._counted) == _RESTARTS and now - self._counted[0] < _RESTART_WINDOW:
            raise HostFailed(
                f"{self._name} failed {_RESTARTS + 1} times within {_RESTART_WINDOW:.0f} s, last: {error}"
            ) from error
        self._counted.append(now)
        return _BACKOFF.nominal(len(self._counted))
