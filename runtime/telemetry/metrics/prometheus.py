"""Metrics in the Prometheus text format 0.0.4, for `/metrics`.

Names and units follow the OpenTelemetry specification for Prometheus: dots become underscores, the unit `s` becomes
`_seconds`, and the name of a counter ends in `_total`. The label `service_name` is the service.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runtime.telemetry import semconv

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricsData

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of the text."""

_ILLEGAL = re.compile(r"[^a-zA-Z0-9_]")
_UNITS = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "1": "ratio"}
_HELP = str.maketrans({"\\": "\\\\", "\n": "\\n"})
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def render(data: "MetricsData") -> str:
    """Return the text of all sums, gauges, and histograms with explicit buckets. Other kinds of metrics are omitted."""
    families: dict[str, tuple[str, str, list[str]]] = {}
    for resource in data.resource_metrics:
        service = str(resource.resource.attributes.get(semconv.SERVICE_NAME, ""))
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind, name = _family(metric)
                if kind:
                    _, _, lines = families.setdefault(name, (kind, metric.description or "", []))
                    lines.extend(_lines(name, service, metric))
    text: list[str] = []
    for name, (kind, description, lines) in families.items():
        if description:
            text.append(f"# HELP {name} {description.translate(_HELP)}")
        text.append(f"# TYPE {name} {kind}")
        text.extend(lines)
    return "\n".join([*text, ""])


def merge(texts: Mapping[str, str]) -> str:
    """Return the text of several processes as one. Each series gets the label `worker`.

    Args:
        texts: The text that `render` returned in each process, by the value of its label.
    """
    families: dict[str, tuple[dict[str, str], list[str]]] = {}
    for worker, text in texts.items():
        label = f'worker="{worker.translate(_ESCAPES)}"'
        comments, series = families.setdefault("", ({}, []))
        for line in text.splitlines():
            if line.startswith("# "):
                _, kind, family, _ = line.split(" ", 3)
                comments, series = families.setdefault(family, ({}, []))
                comments.setdefault(kind, line)
            else:
                name, _, rest = line.partition("{")
                series.append(f"{name}{{{label},{rest}")
    lines = [line for comments, series in families.values() for line in (*comments.values(), *series)]
    return "".join(f"{line}\n" for line in lines)


def of_workers(kind: str, name: str, description: str, values: Mapping[str, int]) -> str:
    """Return the text of a counter or gauge with one series for each worker."""
    lines = [f"# HELP {name} {description.translate(_HELP)}", f"# TYPE {name} {kind}"]
    lines += [f'{name}{{worker="{worker.translate(_ESCAPES)}"}} {value}' for worker, value in values.items()]
    return "\n".join([*lines, ""])


def _family(metric: "Metric") -> tuple[str, str]:
    """Return the Prometheus type and name of a metric; the type is "" if Prometheus has none for it."""
    from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum

    name = _ILLEGAL.sub("_", metric.name)
    unit = _UNITS.get(metric.unit or "")
    if unit and not name.endswith(unit):
        name = f"{name}_{unit}"
    if isinstance(metric.data, Histogram):
        return "histogram", name
    if isinstance(metric.data, Sum) and metric.data.is_monotonic:
        return "counter", name if name.endswith("_total") else name + "_total"
    return ("gauge" if isinstance(metric.data, Sum | Gauge) else ""), name


def _lines(name: str, service: str, metric: "Metric") -> list[str]:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint

    lines: list[str] = []
    for point in metric.data.data_points:
        labels = _labels(service, point.attributes or {})
        if isinstance(point, HistogramDataPoint):
            total = 0
            for bound, count in zip((*point.explicit_bounds, "+Inf"), point.bucket_counts, strict=True):
                total += count
                lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {total}')
            lines.append(f"{name}_sum{{{labels}}} {point.sum}")
            lines.append(f"{name}_count{{{labels}}} {point.count}")
        elif isinstance(point, NumberDataPoint):
            lines.append(f"{name}{{{labels}}} {point.value}")
    return lines


def _labels(service: str, attributes: Mapping[str, Any]) -> str:
    found = {"service_name": service, **{_ILLEGAL.sub("_", key): str(value) for key, value in attributes.items()}}
    return ",".join(f'{key}="{value.translate(_ESCAPES)}"' for key, value in found.items())
