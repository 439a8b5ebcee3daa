"""The products service: the catalog's commands, and the validation of what callers say of it."""

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


def test_products_that_are_as_stored_are_valid() -> None:
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
def test_each_difference_is_a_reason_and_the_stored_version_is_given(claim: PartialProduct, reason: str) -> None:
    validation = validate([claim], STORED)
    assert validation.message == reason
    assert [(p.product_id, p.name, p.package, p.price) for p in validation.products] == [
        ("shirt", "Shirt", PACKAGE, 500)
    ]


def test_an_unknown_product_is_given_back_and_reasons_are_joined() -> None:
    unknown = PartialProduct("hat", "Hat", PACKAGE, 1)
    validation = validate([unknown, replace(CLAIM, price=1), CLAIM], STORED)
    assert validation.message == (
        "Product 'hat' not found. Invalid value for 'price': want '500', got '1' in product 'shirt'"
    )
    assert [product.product_id for product in validation.products] == ["hat", "shirt", "shirt"]
    assert validation.products[0] == unknown


CREATE = CreateProduct("shirt", "Shirt", PACKAGE, 500)


async def test_create() -> None:
    products = worker(Products, key="shirt", now=1.0)
    assert await products.create_product(CREATE) == SHIRT
    assert products.state == SHIRT
    assert products.emitted == [ProductCreated.of(SHIRT)]


async def test_a_product_is_created_once() -> None:
    products = worker(Products, key="shirt", state=SHIRT)
    with pytest.raises(Rejected, match="Product already exists"):
        await products.create_product(CREATE)


async def test_modify_changes_what_is_said_and_leaves_the_rest() -> None:
    products = worker(Products, key="shirt", state=SHIRT, now=10.0)
    new = await products.modify_product(ModifyProduct("shirt", price=600, category="clothes"))
    assert new == replace(SHIRT, price=600, category="clothes", modified_date="1970-01-01T00:00:10.000000Z")
    assert products.state == new
    assert products.emitted == [ProductModified(SHIRT, new, ("price", "modifiedDate", "category"))]


async def test_a_modification_that_changes_nothing_says_nothing() -> None:
    products = worker(Products, key="shirt", state=SHIRT)
    assert await products.modify_product(ModifyProduct("shirt", price=500)) == SHIRT
    assert products.emitted == []


async def test_delete() -> None:
    products = worker(Products, key="shirt", state=SHIRT)
    await products.delete_product(DeleteProduct("shirt"))
    assert products.state is None
    assert products.emitted == [ProductDeleted.of(SHIRT)]


@pytest.mark.parametrize("message", [GetProduct("hat"), ModifyProduct("hat"), DeleteProduct("hat")])
async def test_an_unknown_product_is_not_found(message: Any) -> None:
    with pytest.raises(NotFound, match="Product not found"):
        await getattr(worker(Products, key="hat"), message.__contract__.name)(message)


def test_on_the_wire_a_product_is_camel_case_with_a_quantity_and_without_what_is_not_there() -> None:
    assert msgspec.json.decode(msgspec.json.encode(ProductCreated.of(Product("shirt", "Shirt", PACKAGE, 500)))) == {
        "productId": "shirt",
        "name": "Shirt",
        "package": {"width": 100, "length": 200, "height": 300, "weight": 1000},
        "price": 500,
        "quantity": 1,
    }
