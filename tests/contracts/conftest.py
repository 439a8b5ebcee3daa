"""The contracts that the tests of documents share: those of the shop, and unusual ones."""

import pytest

from runtime.admin.discovery import Service
from runtime.cli.targets import find_actors
from runtime.contracts.from_code import services_of
from tests.support.documented import Audit, Basket, Depot


@pytest.fixture(scope="session")
def shop() -> list[Service]:
    """The services of the shop, from code."""
    return services_of(find_actors(["actorloom_shop"]))


@pytest.fixture(scope="session")
def unusual() -> list[Service]:
    """The services of `tests.support.documented`, from code, in a namespace."""
    return services_of([Depot, Basket], "eu")


@pytest.fixture(scope="session")
def audited() -> list[Service]:
    """The same ones, with an actor that reacts to any event."""
    return services_of([Depot, Basket, Audit], "eu")
