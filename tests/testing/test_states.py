"""Golden files: stored states of earlier versions."""

from typing import Any, ClassVar

import pytest
from msgspec import Struct

from runtime import Actor, DeclarationError
from runtime.testing import read_state
from tests.support.calling import Gateway


class Order(Struct, frozen=True):
    total: int
    currency: str


def _priced(state: dict[str, Any]) -> dict[str, Any]:
    return {"total": state["price"] * 100}


class Orders(Actor[Order]):
    name = "golden"
    state_version = 3
    upgrades: ClassVar = {1: _priced, 2: lambda state: {**state, "currency": "EUR"}}


@pytest.mark.parametrize(
    ("stored", "version", "expected"),
    [
        ('{"price":5}', 1, Order(500, "EUR")),
        (b'{"total":7}\n', 2, Order(7, "EUR")),
        ('{"total":7,"currency":"USD"}', 3, Order(7, "USD")),
        ("null", 1, None),
        ("null\n", 3, None),
    ],
)
def test_a_stored_state_is_upgraded_and_decoded(stored: bytes | str, version: int, expected: Order | None) -> None:
    assert read_state(Orders, stored, version) == expected


@pytest.mark.parametrize(
    ("stored", "version", "text"),
    [
        ('{"cost":5}', 1, "golden, a state of version 1: the upgrade from state version 1 failed: KeyError: 'price'"),
        ('{"total":"a"}', 2, "golden, a state of version 2: the stored state does not fit Order: Expected `int`"),
        ("{", 3, "golden, a state of version 3: the stored state does not fit Order: "),
        ("{}", 4, "golden, a state of version 4: .* this process knows 3"),
    ],
)
def test_a_state_that_cannot_be_read_is_explained(stored: str, version: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_state(Orders, stored, version)


def test_an_actor_without_state_has_none_to_read() -> None:
    with pytest.raises(DeclarationError, match="gateway has no state"):
        read_state(Gateway, "{}", 1)
