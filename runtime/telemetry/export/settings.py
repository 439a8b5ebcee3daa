"""The settings of telemetry export: the standard `OTEL_*` variables as frozen structs."""

import logging
from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote

import msgspec

logger = logging.getLogger("actorloom.telemetry")

Signal = Literal["traces", "metrics"]


class Endpoint(msgspec.Struct, frozen=True):
    """An OTLP receiver that is reached by HTTP."""

    url: str
    headers: dict[str, str] = {}
    timeout: float = 10.0
    """Seconds for one request, as in the Python SDK."""
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


def disabled(env: Mapping[str, str]) -> bool:
    """Return whether `OTEL_SDK_DISABLED` is true."""
    return env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def exporters(env: Mapping[str, str], signal: Signal) -> list[str]:
    """Return the names in `OTEL_<SIGNAL>_EXPORTER`.

    If the variable is not set, the only exporter is `otlp` if an OTLP endpoint is set, and there is none otherwise.
    """
    named = env.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower()
    if named:
        return [name for name in (part.strip() for part in named.split(",")) if name not in ("", "none")]
    configured = env.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return ["otlp"] if configured else []


def endpoint(env: Mapping[str, str], signal: Signal) -> Endpoint:
    """Return the OTLP receiver of a signal. The variables of the signal take precedence over those of all signals."""

    def value(name: str) -> str:
        return (
            env.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}") or env.get(f"OTEL_EXPORTER_OTLP_{name}", "")
        ).strip()

    url = env.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    if not url:
        base = env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or "http://localhost:4318"
        url = f"{base.rstrip('/')}/v1/{signal}"
    if not url.startswith(("http://", "https://")):
        url = "http://" + url
    protocol = value("PROTOCOL")
    if protocol not in ("", "http/protobuf"):
        logger.warning("unsupported OTLP protocol %s; using http/protobuf for %s", protocol, url)
    return Endpoint(
        url=url,
        headers=pairs(value("HEADERS"), lower=True),
        timeout=number(value("TIMEOUT"), 10.0),
        gzip=value("COMPRESSION").lower() == "gzip",
        certificate=value("CERTIFICATE") or None,
        client_certificate=value("CLIENT_CERTIFICATE") or None,
        client_key=value("CLIENT_KEY") or None,
    )


def batching(env: Mapping[str, str]) -> Batching:
    """Read `OTEL_BSP_SCHEDULE_DELAY` (milliseconds), `OTEL_BSP_MAX_QUEUE_SIZE` and `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`."""
    default = Batching()
    limit = max(1, int(number(env.get("OTEL_BSP_MAX_QUEUE_SIZE", ""), default.limit)))
    return Batching(
        delay=number(env.get("OTEL_BSP_SCHEDULE_DELAY", ""), default.delay * 1000) / 1000,
        limit=limit,
        size=max(1, min(limit, int(number(env.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", ""), default.size)))),
    )


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


def number(text: str, default: float) -> float:
    """Return the non-negative number in `text`, or `default` if that is empty or, with a warning, not such a number."""
    try:
        number = float(text) if text.strip() else default
    except ValueError:
        number = -1.0
    if number >= 0:
        return number
    logger.warning("%r is not a number of zero or more; using %s", text, default)
    return default
