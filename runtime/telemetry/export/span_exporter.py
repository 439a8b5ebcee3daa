"""The exporter of spans: encoded by the slice as they end, sent by a background thread; dropped rather than waited for.

A slice is encoded in the thread that ended its last span, in less than 0.1 ms. In the background it would cost the same, since
the interpreter runs one thread at a time, and each slice would wait for its turn, for 5 ms on a busy event loop.
"""

import atexit
import logging
import threading
import time
from collections import deque

from runtime.telemetry.export.otlp import encode
from runtime.telemetry.export.settings import Batching, Endpoint
from runtime.telemetry.export.transport import Answer, Transport
from runtime.telemetry.spans.lean_span import LeanSpan
from runtime.telemetry.spans.recorder import Recorder

logger = logging.getLogger("actorloom.telemetry")
_SLICE = 64
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class SpanExporter:
    """Exports what `recorder` is given to one OTLP/HTTP receiver, until `shutdown`.

    While the receiver is down, spans are kept and tried again after growing pauses; those beyond the limit are counted in
    `recorder.dropped`, what the receiver refuses for good in `lost`. One warning when it goes
    down, one when it is back.
    """

    def __init__(self, recorder: Recorder, endpoint: Endpoint, batching: Batching) -> None:
        self.exported = 0
        self.lost = 0
        self._recorder = recorder
        self._endpoint = endpoint
        self._batching = batching
        self._transport = Transport(endpoint)
        self._ended: list[LeanSpan] = []
        self._encoding = threading.Lock()
        """Held while spans are encoded, and while what is encoded is counted."""
        self._encoded: deque[tuple[int, bytes]] = deque()
        self._held = 0
        """How many spans are encoded and not sent."""
        self._wake = threading.Event()
        self._round = threading.Condition()
        self._asked = 0
        self._served = 0
        self._sent_all = True
        self._stopping = False
        self._pause = 0.0
        self._retry_at = 0.0
        self._missed = 0
        recorder.export_to(self._ended, min(_SLICE, batching.size), self._encode)
        self._thread = threading.Thread(target=self._run, name="actorloom-spans", daemon=True)
        self._thread.start()
        atexit.register(self.shutdown)

    def flush(self, timeout: float) -> bool:
        """Wait until all that has ended so far was sent, for at most `timeout` seconds; False where some was not."""
        with self._round:
            self._asked += 1
            asked = self._asked
            self._round.notify_all()
            self._wake.set()
            done = self._round.wait_for(lambda: self._served >= asked, timeout)
            return done and self._sent_all

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Send what is left, for at most `timeout` seconds, and end the thread. False where spans were lost."""
        atexit.unregister(self.shutdown)
        if not self._thread.is_alive():
            return not self._held
        deadline = time.monotonic() + timeout
        sent = self.flush(timeout)
        with self._round:
            self._stopping = True
            self._round.notify_all()
            self._wake.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._held:
            logger.warning("%d spans were not exported to %s", self._held, self._endpoint.url)
        return sent and not self._held

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._batching.delay)
            self._wake.clear()
            with self._round:
                # Nothing is tried before the pause is over, unless somebody asks for it.
                self._round.wait_for(self._wanted, max(0.0, self._retry_at - time.monotonic()))
                asked = self._asked
            sent_all = self._drain()
            with self._round:
                self._served, self._sent_all = asked, sent_all
                self._round.notify_all()
        self._transport.close()

    def _wanted(self) -> bool:
        return self._stopping or self._asked > self._served

    def _encode(self, wait: bool = False) -> None:
        """Encode what has ended; what there is no room for is dropped.

        Whoever finds another at it leaves it to that one, unless `wait`: a span may also end in a finalizer, in the middle of it.
        """
        if not self._encoding.acquire(blocking=wait):
            return
        try:
            spans = self._ended[:]
            del self._ended[: len(spans)]  # another thread may have added to it in between
            room = self._batching.limit - self._held
            if len(spans) > room:
                self._recorder.dropped += len(spans) - room
                del spans[room:]
            if spans:
                self._encoded.append((len(spans), encode(spans)))
                self._held += len(spans)
        finally:
            self._encoding.release()
        if self._held >= self._batching.size:
            self._wake.set()

    def _drain(self) -> bool:
        """Send what there is now; what comes meanwhile is the next round's, unless it fills a batch."""
        self._encode(wait=True)
        size, lost = self._batching.size, self.lost
        left = self._held
        while left > 0 or self._held >= size:
            batch = [self._encoded.popleft()]
            count = batch[0][0]
            while self._encoded and count + self._encoded[0][0] <= size:
                batch.append(self._encoded.popleft())
                count += batch[-1][0]
            # Messages of OTLP one after another are one message with the parts of all.
            answer = self._transport.post(b"".join([part for _, part in batch]), self._endpoint.timeout)
            if answer.error and answer.retry:
                self._encoded.extendleft(reversed(batch))
                self._failed(answer)
                return False
            with self._encoding:
                self._held -= count
            left -= count
            if not answer.error:
                self.exported += count
                self._healed()
            else:
                self.lost += count
                self._failed(answer)
        return self.lost == lost

    def _failed(self, answer: Answer) -> None:
        if not self._pause:
            self._missed = self.lost + self._recorder.dropped
            logger.warning("spans are not exported to %s: %s", self._endpoint.url, answer.error)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) or _FIRST_PAUSE
        self._retry_at = time.monotonic() + (self._pause if answer.after is None else answer.after)

    def _healed(self) -> None:
        if self._pause:
            missed = self.lost + self._recorder.dropped - self._missed
            logger.warning("spans are exported to %s again; %d were dropped meanwhile", self._endpoint.url, missed)
            self._pause = self._retry_at = 0.0
