"""The settings of telemetry export: the standard `OTEL_*` variables as frozen structs."""

import base64
import os
import re
import sys
from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from runtime.telemetry.export.variables import Variables
from runtime.telemetry.spans.limits import SpanLimits

Env = Mapping[str, str] | Variables
Signal = Literal["traces", "metrics"]

SHORTEST_DELAY = 0.01
"""Seconds between exports at least: a delay of zero would keep a thread busy."""


class Endpoint(msgspec.Struct, frozen=True):
    """An OTLP receiver that is reached by HTTP."""

    url: str
    headers: dict[str, str] = {}
    timeout: float = 10.0
    """Seconds for one request. As in the Python SDK, `OTEL_EXPORTER_OTLP_TIMEOUT` is in seconds."""
    gzip: bool = False
    certificate: str | None = None
    """The path of the certificates that the receiver's certificate is checked with; those of the system by default."""
    client_certificate: str | None = None
    """The path of the client's certificate chain."""
    client_key: str | None = None
    """The path of the client's private key, if it is not in the file of the chain."""


class Batching(msgspec.Struct, frozen=True):
    """The batches in which ended spans are sent.

    `limit` and `size` are larger than the SDK's 2048 and 512: a lean span takes about half a kilobyte, and a busy
    actor ends a hundred thousand spans per second.
    """

    delay: float = 5.0
    """The longest time in seconds before an ended span is sent."""
    limit: int = 32_768
    """The highest number of spans that wait to be sent; further spans are dropped."""
    size: int = 2_048
    """The highest number of spans in one request."""


def disabled(env: Env) -> bool:
    """Return whether `OTEL_SDK_DISABLED` is true."""
    return Variables.of(env).flag("OTEL_SDK_DISABLED")


def exporters(env: Env, signal: Signal) -> list[str]:
    """Return the names in `OTEL_<SIGNAL>_EXPORTER`.

    If the variable is not set, the only exporter is `otlp` if an OTLP endpoint is set, and there is none otherwise.
    """
    variables = Variables.of(env)
    named, _ = variables.text(f"OTEL_{signal.upper()}_EXPORTER")
    if named:
        return [name for name in (part.strip() for part in named.lower().split(",")) if name not in ("", "none")]
    configured, _ = variables.text(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return ["otlp"] if configured else []


def endpoint(env: Env, signal: Signal) -> Endpoint | None:
    """Return the OTLP receiver of a signal. The variables of the signal take precedence over those of all signals.

    A user and password in the URL become a header for basic authentication.

    Returns:
        The receiver; None, with a warning, if the URL, a header or a file cannot be used.
    """
    variables = Variables.of(env)
    prefix = f"OTEL_EXPORTER_OTLP_{signal.upper()}_"

    def value(name: str) -> tuple[str, str]:
        return variables.text(prefix + name, f"OTEL_EXPORTER_OTLP_{name}")

    try:
        url, authorization = _url(variables, prefix, signal)
        headers = {**authorization, **_headers(*value("HEADERS"))}
        files = [_readable(*value(name)) for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")]
    except ValueError as error:
        variables.warn(str(error), "%s; %s are not exported", error, signal)
        return None
    protocol, name = value("PROTOCOL")
    if protocol not in ("", "http/protobuf"):
        variables.warn(name, "unsupported OTLP protocol %s=%s; using http/protobuf for %s", name, protocol, url)
    compression, name = value("COMPRESSION")
    if compression.lower() not in ("", "gzip", "none"):
        variables.warn(name, "unsupported compression %s=%s; using none", name, compression)
    export_timeout = {"traces": "OTEL_BSP_EXPORT_TIMEOUT", "metrics": "OTEL_METRIC_EXPORT_TIMEOUT"}[signal]
    return Endpoint(
        url=url,
        headers=headers,
        timeout=min(
            variables.limit(10.0, prefix + "TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT", unit=1.0),
            variables.limit(30.0, export_timeout),
        ),
        gzip=compression.lower() == "gzip",
        certificate=files[0],
        client_certificate=files[1],
        client_key=files[2],
    )


def _url(variables: Variables, prefix: str, signal: Signal) -> tuple[str, dict[str, str]]:
    """Return the URL of a receiver without user and password, and the header that carries them."""
    url, name = variables.text(prefix + "ENDPOINT")
    if not url:
        base, name = variables.text("OTEL_EXPORTER_OTLP_ENDPOINT")
        url = f"{(base or 'http://localhost:4318').rstrip('/')}/v1/{signal}"
    if "://" not in url:
        url = "http://" + url
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:  # the port is no number, or the brackets of an address are not closed
        parts, valid = urlsplit(""), False
    if not valid:
        raise ValueError(f"{name} is not a URL that begins with http:// or https://")
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    basic = base64.b64encode(":".join(unquote(part) for part in (*login.split(":", 1), "")[:2]).encode()).decode()
    return parts._replace(netloc=host).geturl(), {"authorization": f"Basic {basic}"}


def _headers(text: str, name: str) -> dict[str, str]:
    headers = pairs(text, lower=True)
    for header, value in headers.items():
        if not (_TOKEN.fullmatch(header) and _FIELD.fullmatch(value)):
            raise ValueError(f"{name}: {header!r} is not a valid header")
    return headers


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-zA-Z-]+")
_FIELD = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""The names and values of headers (RFC 9110)."""


def _readable(path: str, name: str) -> str | None:
    if path and not os.access(path, os.R_OK):
        raise ValueError(f"{name}={path} cannot be read")
    return path or None


def batching(env: Env) -> Batching:
    """Read `OTEL_BSP_SCHEDULE_DELAY` (milliseconds), `OTEL_BSP_MAX_QUEUE_SIZE` and `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`."""
    variables, default = Variables.of(env), Batching()
    limit = variables.integer(default.limit, "OTEL_BSP_MAX_QUEUE_SIZE")
    size = variables.integer(min(default.size, limit), "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
    return Batching(
        delay=variables.seconds(default.delay, "OTEL_BSP_SCHEDULE_DELAY", shortest=SHORTEST_DELAY),
        limit=limit,
        size=min(limit, size),
    )


def span_limits(env: Env) -> SpanLimits:
    """Read the limits of attributes (`OTEL_ATTRIBUTE_*`) and of spans, which take precedence."""
    variables, default = Variables.of(env), SpanLimits()
    count, length = "OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"
    longest = variables.integer(sys.maxsize, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", length, least=0)

    def limit(default: int, *names: str) -> int:
        return variables.integer(default, *names, least=0)

    return SpanLimits(
        attributes=limit(default.attributes, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", count),
        events=limit(default.events, "OTEL_SPAN_EVENT_COUNT_LIMIT"),
        links=limit(default.links, "OTEL_SPAN_LINK_COUNT_LIMIT"),
        event_attributes=limit(default.event_attributes, "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", count),
        link_attributes=limit(default.link_attributes, "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", count),
        value_length=longest if longest < sys.maxsize else None,
    )


def interval(env: Env) -> float:
    """Return the seconds of `OTEL_METRIC_EXPORT_INTERVAL` (milliseconds)."""
    return Variables.of(env).seconds(60.0, "OTEL_METRIC_EXPORT_INTERVAL", shortest=SHORTEST_DELAY)


def pairs(text: str, *, lower: bool = False) -> dict[str, str]:
    """Parse `key=value,key=value` with percent-encoded values, the form of `OTEL_RESOURCE_ATTRIBUTES` and OTLP headers.

    Args:
        text: The pairs; parts without "=" or without a key are ignored.
        lower: Whether to convert the keys to lower case.
    """
    found: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        key = key.strip()
        if equals and key:
            found[key.lower() if lower else key] = unquote(value.strip())
    return found
