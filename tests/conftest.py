"""Fixtures for all tests: one real nats-server per session, one namespace per test."""

import os
import uuid
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

from runtime.testing.plugin import actors, nats_server

pytest.register_assert_rewrite("tests.support")  # so that its failed checks show their values, too

# A machine may stand still for longer than Hypothesis gives an example.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

SLOWEST = (
    "chaos/test_short.py",
    "cli/test_workers.py",
    "intake/",
    "examples/",
    "host/",
    "testing/",
    "admin/",
    "test_packaging.py",
    "actors/test_workers.py",
    "test_docs.py",
    "cli/",
)
"""Files that take long. They are run first, so that no process has one of them left when the others have ended."""

__all__ = ["actors", "nats_server"]
"""The fixtures of the plugin. In a checkout that is not installed, pytest does not find it by its entry point."""


@pytest.fixture
def namespace() -> str:
    """A namespace of this test alone."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
def _no_foreign_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's own variables from tests, except those that choose the server under test."""
    kept = {"ACTORLOOM_NATS_SERVER", "ACTORLOOM_NATS_PUBLIC_API"}
    for name in os.environ:
        if name.startswith(("NATS_", "OTEL_", "ACTORLOOM_")) and name not in kept:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _closed_gates() -> Generator[None]:
    """Close the gates of handlers after each test."""
    yield
    from tests.support.handlers import forget_gates

    forget_gates()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Send the report of a test from its process without halves of characters, which some tests log on purpose."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _encodable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_encodable, value))
    return value


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests by `SLOWEST` if several processes share them."""
    if hasattr(config, "workerinput"):
        items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    path = item.nodeid.removeprefix("tests/")
    return next((place for place, slow in enumerate(SLOWEST) if path.startswith(slow)), len(SLOWEST))
