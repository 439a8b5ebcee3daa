"""The span exporter: it encodes ended spans in slices, and sends them from a background thread. It never waits.

Spans pass through three stages, each with its own batch size:

1. The recorder appends an ended span to a list.
2. The thread that ends the 64th span of the list encodes the slice, in less than 0.1 ms. Encoding in the background
   thread costs the same, since the interpreter runs one thread at a time. But each slice then waits for its turn, for
   up to 5 ms (Python's switch interval) on a busy event loop, and spans arrive faster than they leave (ADR 007).
3. The background thread joins encoded slices to requests of at most `Batching.size` spans. Concatenated OTLP messages
   are one message with the parts of all, so no span is encoded again. The socket and gzip release the interpreter
   lock, so sending hardly delays the event loop.

At most `Batching.limit` encoded spans wait to be sent; further spans are dropped.
"""

import atexit
import logging
import os
import threading
import time
from collections import deque
from weakref import WeakSet

from runtime.backoff import Backoff
from runtime.telemetry.export.otlp import encode
from runtime.telemetry.export.settings import Batching, Endpoint
from runtime.telemetry.export.transport import PostResult, Transport
from runtime.telemetry.spans.lean_span import LeanSpan
from runtime.telemetry.spans.recorder import Recorder

logger = logging.getLogger("actorloom.telemetry")
_SLICE = 64
"""Spans that are encoded at once."""
_BACKOFF = Backoff(first=0.5, longest=30.0)
"""The pauses between attempts while the receiver fails. They have no jitter."""


class SpanExporter:
    """Exports the spans of a recorder to an OTLP receiver, until `shutdown`.

    While the receiver is unavailable, spans are kept and sent again after increasing pauses. One warning is logged
    when it becomes unavailable, and one when it recovers.

    Spans that do not fit into the limit are counted in the recorder's `dropped`, and spans that the receiver rejects
    for good in `rejected`.
    """

    def __init__(self, recorder: Recorder, endpoint: Endpoint, batching: Batching) -> None:
        self.exported = 0
        """Spans that the receiver accepted."""
        self.rejected = 0
        """Spans that the receiver rejected for good."""
        self._recorder = recorder
        self._endpoint = endpoint
        self._batching = batching
        self._transport = Transport(endpoint)
        self._ended: list[LeanSpan] = []
        self._encoding = threading.Lock()
        """Held while spans are encoded, and while `_unsent` is changed."""
        self._encoded: deque[tuple[int, bytes]] = deque()
        """The number of spans and the bytes of each slice that is not sent yet."""
        self._unsent = 0
        """The number of spans that are encoded and not sent."""
        self._wake = threading.Event()
        self._flushes = threading.Condition()
        """Guards the next three attributes and `_stopping`."""
        self._flushes_requested = 0
        self._flushes_done = 0
        self._all_sent = True
        """Whether the last flush sent all spans."""
        self._stopping = False
        self._failures = 0
        """Attempts in a row that the receiver did not accept."""
        """Seconds until the next attempt; 0 while the receiver is available."""
        self._retry_at = 0.0
        """The time of the next attempt, on the monotonic clock."""
        self._missed_before = 0
        """Spans that were rejected or dropped before the receiver became unavailable."""
        recorder.export_to(self._ended, min(_SLICE, batching.size), self._encode)
        self._thread = threading.Thread(target=self._run, name="actorloom-spans", daemon=True)
        self._thread.start()
        atexit.register(self.shutdown)
        _exporters.add(self)

    def flush(self, timeout: float) -> bool:
        """Block until all spans that have ended so far are sent.

        Args:
            timeout: The longest time in seconds.

        Returns:
            False if the time was too short, or the receiver did not accept all spans.
        """
        with self._flushes:
            self._flushes_requested += 1
            requested = self._flushes_requested
            self._flushes.notify_all()
            self._wake.set()
            done = self._flushes.wait_for(lambda: self._flushes_done >= requested, timeout)
            return done and self._all_sent

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Flush and end the background thread. Later calls do nothing.

        Args:
            timeout: The longest time in seconds.

        Returns:
            False if spans were lost.
        """
        atexit.unregister(self.shutdown)
        if not self._thread.is_alive():
            return not self._unsent
        deadline = time.monotonic() + timeout
        sent = self.flush(timeout)
        with self._flushes:
            self._stopping = True
            self._flushes.notify_all()
            self._wake.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._unsent:
            logger.warning("could not export %d spans to %s", self._unsent, self._endpoint.url)
        return sent and not self._unsent

    def stop_in_child(self) -> None:
        """Keep no span in a forked child, which has no background thread to send it."""
        self._recorder.stop_export()

    def _run(self) -> None:
        """Send the spans of each period, until `shutdown`. The body of the background thread."""
        while not self._stopping:
            self._wake.wait(self._batching.delay)
            self._wake.clear()
            with self._flushes:
                # A flush ends the pause after a failure early.
                self._flushes.wait_for(self._flush_requested, max(0.0, self._retry_at - time.monotonic()))
                requested = self._flushes_requested
            all_sent = self._send_encoded()
            with self._flushes:
                self._flushes_done, self._all_sent = requested, all_sent
                self._flushes.notify_all()
        self._transport.close()

    def _flush_requested(self) -> bool:
        return self._stopping or self._flushes_requested > self._flushes_done

    def _encode(self, wait: bool = False) -> None:
        """Encode the ended spans, and drop those beyond the limit.

        If another thread is encoding already, the spans are left to it, unless `wait` is true. The same thread may be
        encoding too: a span can end in a finalizer that runs in the middle of this function.
        """
        if not self._encoding.acquire(blocking=wait):
            return
        try:
            spans = self._ended[:]
            del self._ended[: len(spans)]  # another thread may have appended spans since the copy
            room = self._batching.limit - self._unsent
            if len(spans) > room:
                self._recorder.dropped += len(spans) - room
                del spans[room:]
            if spans:
                self._encoded.append((len(spans), encode(spans)))
                self._unsent += len(spans)
        finally:
            self._encoding.release()
        if self._unsent >= self._batching.size:
            self._wake.set()

    def _send_encoded(self) -> bool:
        """Send the spans that have ended so far, and return whether the receiver accepted all of them.

        Spans that end in the meantime are left to the next round, unless they fill a batch.
        """
        self._encode(wait=True)
        size, rejected = self._batching.size, self.rejected
        remaining = self._unsent
        while remaining > 0 or self._unsent >= size:
            slices = [self._encoded.popleft()]
            count = slices[0][0]
            while self._encoded and count + self._encoded[0][0] <= size:
                slices.append(self._encoded.popleft())
                count += slices[-1][0]
            result = self._transport.post(b"".join([encoded for _, encoded in slices]), self._endpoint.timeout)
            if result.error and result.retry:
                self._encoded.extendleft(reversed(slices))
                self._on_failure(result)
                return False
            with self._encoding:
                self._unsent -= count
            remaining -= count
            if not result.error:
                self.exported += count
                self._on_success()
            else:
                self.rejected += count
                self._on_failure(result)
        return self.rejected == rejected

    def _on_failure(self, result: PostResult) -> None:
        if not self._failures:
            self._missed_before = self.rejected + self._recorder.dropped
            logger.warning("cannot export spans to %s: %s", self._endpoint.url, result.error)
        self._failures += 1
        pause = _BACKOFF.nominal(self._failures) if result.after is None else result.after
        self._retry_at = time.monotonic() + pause

    def _on_success(self) -> None:
        if self._failures:
            missed = self.rejected + self._recorder.dropped - self._missed_before
            logger.warning("export of spans to %s works again; %d spans were dropped", self._endpoint.url, missed)
            self._failures, self._retry_at = 0, 0.0


_exporters: WeakSet[SpanExporter] = WeakSet()


def _stop_in_child() -> None:
    for exporter in tuple(_exporters):
        exporter.stop_in_child()


os.register_at_fork(after_in_child=_stop_in_child)
