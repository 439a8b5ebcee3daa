"""The background thread that exports spans: batches, retries within bounds, and drops rather than waits.

The event loop is never waited for and never waits: it appends to a bounded queue. The thread encodes in small slices and
rests between them, so that it holds the GIL for about 0.1 ms at a time.
"""

import atexit
import logging
import threading
import time
from collections import deque

from runtime.tracing.otlp import encode
from runtime.tracing.recorder import Recorder
from runtime.tracing.settings import Batching, Endpoint
from runtime.tracing.span import LeanSpan
from runtime.tracing.transport import Answer, Transport

_log = logging.getLogger(__name__)
_REST = 0.0001
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class SpanExporter:
    """Exports what `recorder` is given to one OTLP/HTTP receiver, until `shutdown`.

    While the receiver is down, spans stay in the queue and are tried again after growing pauses; what the full queue
    refuses is counted in `recorder.dropped`, what the receiver refuses for good in `lost`. One warning when it goes
    down, one when it is back.
    """

    def __init__(self, recorder: Recorder, endpoint: Endpoint, batching: Batching) -> None:
        self.exported = 0
        self.lost = 0
        self._recorder = recorder
        self._endpoint = endpoint
        self._batching = batching
        self._transport = Transport(endpoint)
        self._queue: deque[LeanSpan] = deque()
        self._round = threading.Condition()
        self._asked = 0
        self._served = 0
        self._sent_all = True
        self._stopping = False
        self._pause = 0.0
        self._retry_at = 0.0
        self._missed = 0
        recorder.export_to(self._queue, limit=batching.limit, mark=batching.size)
        self._thread = threading.Thread(target=self._run, name="actorloom-spans", daemon=True)
        self._thread.start()
        atexit.register(self.shutdown)

    def flush(self, timeout: float) -> bool:
        """Wait until all that has ended so far was sent, for at most `timeout` seconds; False where some was not."""
        with self._round:
            self._asked += 1
            asked = self._asked
            self._round.notify_all()
            self._recorder.wake.set()
            done = self._round.wait_for(lambda: self._served >= asked, timeout)
            return done and self._sent_all

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Send what is left, for at most `timeout` seconds, and end the thread. False where spans were lost."""
        atexit.unregister(self.shutdown)
        if not self._thread.is_alive():
            return not self._queue
        deadline = time.monotonic() + timeout
        sent = self.flush(timeout)
        with self._round:
            self._stopping = True
            self._round.notify_all()
            self._recorder.wake.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._queue:
            _log.warning("%d spans were not exported to %s", len(self._queue), self._endpoint.url)
        return sent and not self._queue

    def _run(self) -> None:
        while not self._stopping:
            self._recorder.wake.wait(self._batching.delay)
            self._recorder.wake.clear()
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

    def _drain(self) -> bool:
        """Send what the queue holds now; what comes meanwhile is the next round's, unless it fills a batch."""
        queue, size = self._queue, self._batching.size
        left = len(queue)
        lost = self.lost
        while left > 0 or len(queue) >= size:
            batch = [queue.popleft() for _ in range(min(size, len(queue)))]
            left -= len(batch)
            answer = self._transport.post(encode(batch, self._rest), self._endpoint.timeout)
            if not answer.error:
                self.exported += len(batch)
                self._healed()
            elif answer.retry:
                queue.extendleft(reversed(batch))
                self._failed(answer)
                return False
            else:
                self.lost += len(batch)
                self._failed(answer)
        return self.lost == lost

    def _failed(self, answer: Answer) -> None:
        if not self._pause:
            self._missed = self.lost + self._recorder.dropped
            _log.warning("spans are not exported to %s: %s", self._endpoint.url, answer.error)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) or _FIRST_PAUSE
        self._retry_at = time.monotonic() + (self._pause if answer.after is None else answer.after)

    def _healed(self) -> None:
        if self._pause:
            missed = self.lost + self._recorder.dropped - self._missed
            _log.warning("spans are exported to %s again; %d were dropped meanwhile", self._endpoint.url, missed)
            self._pause = self._retry_at = 0.0

    def _rest(self) -> None:
        """Let the event loop have the GIL; not while somebody waits for a flush."""
        if not self._wanted():
            time.sleep(_REST)
