"""One kept connection to an OTLP/HTTP receiver: post bytes, and say whether trying again makes sense."""

import gzip
import http.client
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from runtime.telemetry.export.settings import Endpoint

# By the OTLP specification; all other errors are final.
_RETRYABLE = frozenset({429, 502, 503, 504})


class Answer(NamedTuple):
    """What became of a post. `error` is '' where it was taken; `after` is the receiver's Retry-After in seconds."""

    error: str
    retry: bool = False
    after: float | None = None


class Transport:
    """Used by one thread. Sockets release the GIL, and so does gzip; nothing here runs on the event loop."""

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

    def post(self, body: bytes, timeout: float) -> Answer:
        """Send one request, within about `timeout` seconds."""
        payload = gzip.compress(body, 1) if self._endpoint.gzip else body
        # A kept connection that the receiver closed in the meantime shows only when it is used: once more, on a new one.
        kept = self._connection is not None
        try:
            return self._post(payload, timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not kept or isinstance(error, TimeoutError):
                return Answer(_text(error), retry=True)
        try:
            return self._post(payload, timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Answer(_text(error), retry=True)

    def close(self) -> None:
        """Close the connection; the next post opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, payload: bytes, timeout: float) -> Answer:
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
            return Answer("")
        return Answer(
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
    """A Retry-After header (RFC 9110): seconds, or a date."""
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
