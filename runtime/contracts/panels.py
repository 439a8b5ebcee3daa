"""The panels of a dashboard in the JSON of Grafana, and their places in a grid of 24 columns."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

COLUMNS: Final = 24
SCHEMA_VERSION: Final = 39
"""The version of the JSON of a dashboard: that of Grafana 10.4. Later versions convert it."""

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


class Query(msgspec.Struct, frozen=True):
    """An expression of a panel."""

    expression: str
    legend: str
    """The name of its series; ``{{rpc_method}}`` is replaced by the value of the label."""


class Panel(msgspec.Struct, frozen=True):
    """A panel without its place."""

    title: str
    unit: str
    """The unit by its id in Grafana: ``reqps``, ``s``, ``percentunit``, ``short``."""
    queries: tuple[Query, ...]
    description: str
    width: int = 12
    height: int = 8
    limit: float | None = None
    """The value from which on a number is red; None for a graph."""


def dashboard(
    uid: str, title: str, description: str, panels: Sequence[Panel], links: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the JSON of a dashboard. Its data source is a variable, so that it can be loaded anywhere."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["actorloom"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": []},
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "links": list(links),
        "panels": _placed(panels),
    }


def dashboard_link(title: str, uid: str) -> dict[str, Any]:
    """Return the JSON of a link to another dashboard, which keeps the time and the variables."""
    return {"title": title, "type": "link", "url": f"/d/{uid}", "keepTime": True, "includeVars": True}


def _placed(panels: Iterable[Panel]) -> list[dict[str, Any]]:
    """Return panels from left to right, and in a further row if one does not fit."""
    placed: list[dict[str, Any]] = []
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y, height = 0, y + height, 0
        placed.append(_json(panel, number, {"x": x, "y": y, "w": panel.width, "h": panel.height}))
        x, height = x + panel.width, max(height, panel.height)
    return placed


def _json(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    options: dict[str, Any] = {
        "legend": {"showLegend": True, "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    if panel.limit is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.limit}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background",
            "textMode": "value_and_name",
        }
    return {
        "id": number,
        "type": "timeseries" if panel.limit is None else "stat",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": _ref(place), "datasource": _SOURCE, "expr": query.expression, "legendFormat": query.legend}
            for place, query in enumerate(panel.queries)
        ],
    }


def _ref(number: int) -> str:
    """Return the name of a query: ``A`` to ``Z``, then ``AA``."""
    return (_ref(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)
