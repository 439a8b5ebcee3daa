"""The SDK's meter provider, which does nothing in a forked child.

The SDK's own provider looks up the resource of the process in each child, in a thread pool. The child then waits for a lock
of `concurrent.futures.thread` for ever, if that module was imported after the provider was made.
"""

import threading

from opentelemetry.sdk.metrics import MeterProvider


class ForkableProvider(MeterProvider):
    """A meter provider whose children collect and export nothing."""

    def _handle_fork(self) -> None:
        # Another thread may have held these at the time of the fork.
        self._lock = threading.Lock()
        self._meter_lock = threading.Lock()
