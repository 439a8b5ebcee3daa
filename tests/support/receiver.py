"""An OTLP/HTTP receiver for tests: a real server on a thread, that answers as it is told."""

import gzip
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver:
    """Keeps what it took (status 200); `answers` are given first, as (status, headers)."""

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
                # Close without a word, as a receiver does whose patience with an idle connection is over.
                self.close_connection = self.close_connection or "x-hang-up" in headers

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def wait(self, condition: Callable[[], bool], timeout: float = 20) -> bool:
        """Wait until `condition` holds after a request."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def names(self) -> list[str]:
        """The names of all spans taken."""
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
    receiver = Receiver(port)
    try:
        yield receiver
    finally:
        receiver.close()
