"""An OTLP/HTTP receiver for tests: a real server in a thread, with answers that a test prepares."""

import gzip
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver:
    """Stores the body of each request that it answers with 200, and the path and headers of every request.

    Prepared `answers`, pairs of a status and headers, are used first; after them every answer is 200. A closed `gate` delays
    answers by up to 30 s.
    """

    def __init__(self, port: int = 0) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.taken: list[bytes] = []
        self.gate = threading.Event()
        self.gate.set()
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.gate.wait(30)
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                with receiver._changed:
                    receiver.requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
                    if status == 200:
                        zipped = self.headers.get("content-encoding") == "gzip"
                        receiver.taken.append(gzip.decompress(body) if zipped else body)
                    receiver._changed.notify_all()
                self.send_response(status)
                for key, value in {"content-length": "0", **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                # Close the connection without a header that announces it, as a receiver does after an idle time-out.
                self.close_connection = self.close_connection or "x-hang-up" in headers

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def wait(self, condition: Callable[[], bool], timeout: float = 20) -> bool:
        """Wait until `condition` holds, checking it after each request; return False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def names(self) -> list[str]:
        """Return the names of all stored spans."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.taken]
        return [
            span.name
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        """Stop listening."""
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@contextmanager
def receiving(port: int = 0) -> Generator[Receiver]:
    """Run a receiver for the duration of the block, on a free port unless one is given."""
    receiver = Receiver(port)
    try:
        yield receiver
    finally:
        receiver.close()
