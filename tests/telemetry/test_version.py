"""Telemetry carries the version of the installed distribution."""

import runpy
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from runtime.telemetry import Metrics, Tracing, semconv, version
from runtime.telemetry.version import VERSION

ROOT = Path(__file__).parents[2]


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata.version(project["name"]) == VERSION == project["version"]


def test_resources_and_scopes_carry_the_version() -> None:
    service = Tracing().service("orders", version="7.0")
    assert service.resource[semconv.TELEMETRY_SDK_VERSION] == VERSION
    assert service.resource[semconv.SERVICE_VERSION] == "7.0"
    assert service.template("orders/get_order").scope.version == VERSION
    metrics = Metrics()
    metrics.durations(service, semconv.RPC_SERVER_CALL_DURATION, {}).record(1)
    (scope,) = metrics.collect().resource_metrics[0].scope_metrics
    assert scope.scope.version == VERSION


def test_a_source_tree_that_is_not_installed_has_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert runpy.run_path(version.__file__)["VERSION"] == "unknown"
