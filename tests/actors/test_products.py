"""The products service: commands on the catalog, and validation against it."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from actorloom_shop.products.actor import Products
from actorloom_shop.products.messages import (
    CreateProduct,
    DeleteProduct,
    GetProduct,
    ModifyProduct,
    PartialProduct,
    Product,
    ProductCreated,
    ProductDeleted,
    ProductModified,
)
from actorloom_shop.products.validation import validate
from runtime import NotFound, Rejected
from runtime.testing import worker
from tests.actors.samples import PACKAGE

SHIRT = Product(
    "shirt",
    "Shirt",
    PACKAGE,
    500,
    created_date="1970-01-01T00:00:01.000000Z",
    modified_date="1970-01-01T00:00:01.000000Z",
)
CLAIM = PartialProduct("shirt", "Shirt", PACKAGE, 500)
STORED = {"shirt": SHIRT}


def test_products_equal_to_the_stored_ones_are_valid() -> None:
    validation = validate([CLAIM], STORED)
    assert validation.message == "All products are valid"
    assert validation.products == []


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (replace(CLAIM, price=1), "Invalid value for 'price': want '500', got '1' in product 'shirt'"),
        (replace(CLAIM, name="Hat"), "Invalid value for 'name': want 'Shirt', got 'Hat' in product 'shirt'"),
        (
            replace(CLAIM, package=replace(PACKAGE, width=1)),
            'Invalid value for \'package\': want \'{"width":100,"length":200,"height":300,"weight":1000}\', '
            'got \'{"width":1,"length":200,"height":300,"weight":1000}\' in product \'shirt\'',
        ),
        (replace(CLAIM, price=msgspec.UNSET), "Missing 'price' in product 'shirt'"),
        (
            PartialProduct("shirt", "Hat", PACKAGE),
            "Invalid value for 'name': want 'Shirt', got 'Hat' in product 'shirt'. Missing 'price' in product 'shirt'",
        ),
    ],
)
def test_each_difference_is_a_reason_and_the_stored_product_is_returned(claim: PartialProduct, reason: str) -> None:
    validation = validate([claim], STORED)
    assert validation.message == reason
    assert validation.products == [CLAIM]


def test_only_wrong_products_are_returned_and_without_fields_that_the_caller_did_not_send() -> None:
    stored = {
        "shirt": replace(SHIRT, quantity=3, category="clothes", tags=("cotton",), pictures=("shirt.png",)),
        "hat": Product("hat", "Hat", PACKAGE, 20),
    }
    validation = validate([PartialProduct("hat", "Hat", PACKAGE, 20), replace(CLAIM, price=1)], stored)
    assert validation.message == "Invalid value for 'price': want '500', got '1' in product 'shirt'"
    assert msgspec.to_builtins(validation.products) == [
        {"productId": "shirt", "name": "Shirt", "package": msgspec.to_builtins(PACKAGE), "price": 500}
    ]


def test_an_unknown_product_is_returned_and_reasons_are_joined() -> None:
    unknown = PartialProduct("hat", "Hat", PACKAGE, 1)
    validation = validate([unknown, replace(CLAIM, price=1), CLAIM], STORED)
    assert validation.message == (
        "Product 'hat' not found. Invalid value for 'price': want '500', got '1' in product 'shirt'"
    )
    assert validation.products == [unknown, CLAIM]


CREATE = CreateProduct("shirt", "Shirt", PACKAGE, 500)


async def test_a_product_is_created() -> None:
    products = worker(Products, key="shirt", now=1.0)
    assert await products.create_product(CREATE) == SHIRT
    assert products.state == SHIRT
    assert products.emitted == [ProductCreated.of(SHIRT)]


async def test_an_existing_product_is_not_created_again() -> None:
    products = worker(Products, key="shirt", state=SHIRT)
    with pytest.raises(Rejected, match="Product already exists"):
        await products.create_product(CREATE)


async def test_modify_changes_only_the_given_fields() -> None:
    products = worker(Products, key="shirt", state=SHIRT, now=10.0)
    new = await products.modify_product(ModifyProduct("shirt", price=600, category="clothes"))
    assert new == replace(SHIRT, price=600, category="clothes", modified_date="1970-01-01T00:00:10.000000Z")
    assert products.state == new
    assert products.emitted == [ProductModified(SHIRT, new, ("price", "modifiedDate", "category"))]


async def test_a_modification_without_effect_emits_nothing() -> None:
    products = worker(Products, key="shirt", state=SHIRT)
    assert await products.modify_product(ModifyProduct("shirt", price=500)) == SHIRT
    assert products.emitted == []


async def test_a_product_is_deleted() -> None:
    products = worker(Products, key="shirt", state=SHIRT)
    await products.delete_product(DeleteProduct("shirt"))
    assert products.state is None
    assert products.emitted == [ProductDeleted.of(SHIRT)]


@pytest.mark.parametrize("message", [GetProduct("hat"), ModifyProduct("hat"), DeleteProduct("hat")])
async def test_an_unknown_product_is_not_found(message: Any) -> None:
    with pytest.raises(NotFound, match="Product not found"):
        await getattr(worker(Products, key="hat"), message.__contract__.name)(message)


def test_a_product_on_the_wire_is_camel_case_with_a_quantity_and_no_empty_fields() -> None:
    assert msgspec.json.decode(msgspec.json.encode(ProductCreated.of(Product("shirt", "Shirt", PACKAGE, 500)))) == {
        "productId": "shirt",
        "name": "Shirt",
        "package": {"width": 100, "length": 200, "height": 300, "weight": 1000},
        "price": 500,
        "quantity": 1,
    }
