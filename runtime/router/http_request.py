"""The request of a delivery to an HTTP target, complete except for its secrets."""

from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from runtime.router.cloud_event import JSON_TYPE, STRUCTURED_TYPE, CloudEvent
from runtime.router.http_settings import HttpSettings
from runtime.router.inputs import InputError, Occurrence, Text, compile_text
from runtime.wire import header_block

TRACE: Final = ("traceparent", "tracestate")
"""The headers of W3C trace context. Baggage stays inside: it may contain anything about the users of the application."""

_RESERVED = ":/?#[]@!$&'()*+,;=%"
"""The characters of a URL that stay as they are, beside letters, digits and ``-._~``."""


class HttpRequest(msgspec.Struct, frozen=True):
    """One request. The attempts at a delivery have the same request."""

    method: str
    url: str
    headers: dict[str, str]
    """The headers without those of authentication."""
    body: bytes | None
    """The body; None for a request without one."""


class RequestForm:
    """Makes the requests of one target.

    Args:
        settings: The settings of the target.
        where: The place of the settings, with which the texts of errors begin: ``target crm: http``.

    Raises:
        InputError: A path in the URL or in a header is invalid.
    """

    def __init__(self, settings: HttpSettings, *, where: str) -> None:
        self.settings = settings
        url = compile_text(settings.url, where=f"{where}.url")
        encoded = (quote(each, safe=_RESERVED) if isinstance(each, str) else each for each in url.parts)
        self._url = Text(tuple(encoded), url.place)
        self._headers = {
            name: compile_text(value, where=f"{where}.headers.{name}") for name, value in settings.headers.items()
        }

    def make(self, event: CloudEvent, occurrence: Occurrence, *, delivery_id: str, trace: bytes) -> HttpRequest:
        """Return the request of one delivery.

        Args:
            event: The event, with the input of the rule as its data.
            occurrence: The event, the rule and the target, for paths.
            delivery_id: The id of the delivery, for the idempotency header.
            trace: The header lines of the trace, as `telemetry.inject` returns them.

        Raises:
            InputError: A path is missing, or a value cannot be part of the URL or of a header. The text names the field.
        """
        headers: dict[str, str] = {}
        body = None
        if self.settings.method != "GET":
            headers, body = self._body(event)
        for name, text in self._headers.items():
            _put(headers, name, text.make(occurrence), text.place)
        for name, value in header_block.parse(header_block.START + trace).items():
            if name.lower() in TRACE:
                headers[name.lower()] = value
        _put(headers, self.settings.idempotency_header, delivery_id, "the id of the delivery")
        return HttpRequest(self.settings.method, self._make_url(occurrence), headers, body)

    def _body(self, event: CloudEvent) -> tuple[dict[str, str], bytes]:
        if self.settings.body == "cloudevent":
            return {"Content-Type": STRUCTURED_TYPE}, event.structured()
        if self.settings.body == "binary":
            return event.binary_headers(), event.data
        return {"Content-Type": JSON_TYPE}, event.data

    def _make_url(self, occurrence: Occurrence) -> str:
        """Return the URL. Each value is encoded, so that it is part of one segment of the path, or one value of the query."""
        url = self._url.make(occurrence, self._encode)
        if any(segment in (".", "..") for segment in urlsplit(url).path.split("/")):
            raise InputError(self._url.place, "a segment of the path is . or .., which would lead to another URL")
        return url

    def _encode(self, value: str) -> str:
        if not value:
            raise InputError(self._url.place, "a value in the URL is empty, which would lead to another URL")
        return quote(value, safe="")


def _put(headers: dict[str, str], name: str, value: str, place: str) -> None:
    """Set a header in place of one of the same name in another case. The error does not contain the value."""
    if not value.isprintable():
        raise InputError(place, "the value has a line break or another character that no header can have")
    for other in [each for each in headers if each.lower() == name.lower()]:
        del headers[other]
    headers[name] = value
