"""An HTTP connection to an OTLP receiver that stays open between requests."""

import gzip
import http.client
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from runtime.telemetry.export.settings import Endpoint

_RETRYABLE = frozenset({429, 502, 503, 504})
"""Status codes after which the OTLP specification allows another attempt; all other errors are final."""


class PostResult(NamedTuple):
    """The result of a request."""

    error: str
    """The reason of a failure; "" if the receiver accepted the request."""
    retry: bool = False
    """Whether another attempt may succeed."""
    after: float | None = None
    """Seconds to wait before that attempt, from the receiver's `Retry-After`."""


class Transport:
    """Posts requests to an OTLP receiver.

    One thread uses it, never that of the event loop. Sockets and gzip release the interpreter lock.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        parts = urlsplit(endpoint.url)
        self._host = parts.hostname or "localhost"
        self._port = parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = _tls(endpoint) if parts.scheme == "https" else None
        self._headers = {
            "content-type": "application/x-protobuf",
            "user-agent": "OTel-OTLP-Exporter-actorloom",
            **({"content-encoding": "gzip"} if endpoint.gzip else {}),
            **endpoint.headers,
        }
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes, timeout: float) -> PostResult:
        """Send one request.

        A connection that the receiver has closed in the meantime fails only when it is used. A failure on a
        connection that was already open is therefore repeated once on a new connection, unless it is a timeout.

        Args:
            body: The encoded request, not compressed.
            timeout: Seconds for each operation on the socket.
        """
        payload = gzip.compress(body, 1) if self._endpoint.gzip else body
        was_open = self._connection is not None
        try:
            return self._post(payload, timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not was_open or isinstance(error, TimeoutError):
                return PostResult(_text(error), retry=True)
        try:
            return self._post(payload, timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return PostResult(_text(error), retry=True)

    def close(self) -> None:
        """Close the connection. The next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, payload: bytes, timeout: float) -> PostResult:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect(timeout)
        elif connection.sock is not None:
            connection.sock.settimeout(timeout)
        connection.request("POST", self._path, payload, self._headers)
        response = connection.getresponse()
        response.read()
        if response.will_close:
            self.close()
        if 200 <= response.status < 300:
            return PostResult("")
        return PostResult(
            f"HTTP {response.status} {response.reason}",
            retry=response.status in _RETRYABLE,
            after=_seconds(response.getheader("retry-after")),
        )

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=endpoint.certificate)
    if endpoint.client_certificate is not None:
        context.load_cert_chain(endpoint.client_certificate, endpoint.client_key)
    return context


def _seconds(text: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header (RFC 9110), which contains seconds or a date."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
