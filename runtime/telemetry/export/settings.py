"""Where and how telemetry is exported: the standard `OTEL_*` variables as one frozen struct each."""

import logging
from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote

import msgspec

logger = logging.getLogger("actorloom.telemetry")

Signal = Literal["traces", "metrics"]


class Endpoint(msgspec.Struct, frozen=True):
    """An OTLP/HTTP receiver. `timeout` is in seconds for one batch with its retries, as in the Python SDK."""

    url: str
    headers: dict[str, str] = {}
    timeout: float = 10.0
    gzip: bool = False
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None


class Batching(msgspec.Struct, frozen=True):
    """How ended spans are gathered: `delay` in seconds, the rest in spans.

    The sizes are larger than the SDK's (2048 and 512): a lean span takes about half a kilobyte, and a busy actor ends
    a hundred thousand in a second.
    """

    delay: float = 5.0
    limit: int = 32_768
    size: int = 2_048


def disabled(env: Mapping[str, str]) -> bool:
    """True where `OTEL_SDK_DISABLED` is set."""
    return env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def exporters(env: Mapping[str, str], signal: Signal) -> list[str]:
    """The names in `OTEL_<SIGNAL>_EXPORTER`; where it is not set, `otlp` if an endpoint is, else nothing."""
    named = env.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower()
    if named:
        return [name for name in (part.strip() for part in named.split(",")) if name not in ("", "none")]
    configured = env.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return ["otlp"] if configured else []


def endpoint(env: Mapping[str, str], signal: Signal) -> Endpoint:
    """The OTLP receiver of a signal; what is set for the signal goes before what is set for all."""

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
        logger.warning("OTLP protocol %s is not supported: http/protobuf is sent to %s", protocol, url)
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
    """`OTEL_BSP_SCHEDULE_DELAY` (milliseconds), `OTEL_BSP_MAX_QUEUE_SIZE`, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`."""
    default = Batching()
    limit = max(1, int(number(env.get("OTEL_BSP_MAX_QUEUE_SIZE", ""), default.limit)))
    return Batching(
        delay=number(env.get("OTEL_BSP_SCHEDULE_DELAY", ""), default.delay * 1000) / 1000,
        limit=limit,
        size=max(1, min(limit, int(number(env.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", ""), default.size)))),
    )


def pairs(text: str, *, lower: bool = False) -> dict[str, str]:
    """`key=value,key=value` with percent-encoded values, as in `OTEL_RESOURCE_ATTRIBUTES` and the headers."""
    found: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        key = key.strip()
        if equals and key:
            found[key.lower() if lower else key] = unquote(value.strip())
    return found


def number(text: str, default: float) -> float:
    """The number of zero or more in `text`; `default`, with a warning where it is neither that nor empty."""
    try:
        number = float(text) if text.strip() else default
    except ValueError:
        number = -1.0
    if number >= 0:
        return number
    logger.warning("%r is not a number of zero or more: %s is used", text, default)
    return default
