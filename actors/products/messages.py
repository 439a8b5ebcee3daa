"""The contracts of the products service, and its shared types `Package`, `Product` and `OrderedProduct`."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from runtime import Command, Event, Query

Millimeters = Annotated[int, Meta(ge=0, le=100_000)]
Grams = Annotated[int, Meta(ge=0, le=100_000_000)]
Amount = Annotated[int, Meta(ge=0, le=1_000_000_000)]
"""Money, in the smallest unit of the shop's currency. The bounds keep every sum below 2**63."""
Quantity = Annotated[int, Meta(ge=1, le=1_000_000)]
Id = Annotated[str, Meta(min_length=1, max_length=200)]


def _one() -> int:
    """Return the default quantity. A plain default would be left out of the JSON by `omit_defaults`."""
    return 1


class Package(Struct, frozen=True):
    """The size and weight of one packed product."""

    width: Millimeters
    length: Millimeters
    height: Millimeters
    weight: Grams


class OrderedProduct(Struct, frozen=True, rename="camel"):
    """A line of an order: a product with its price and quantity."""

    product_id: Id
    name: str
    package: Package
    price: Amount
    quantity: Quantity = 1


OrderedProducts = Annotated[tuple[OrderedProduct, ...], Meta(max_length=1000)]


class Product(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A product of the catalog. Dates are ISO 8601 in UTC."""

    product_id: Id
    name: str
    package: Package
    price: Amount
    quantity: Quantity = field(default_factory=_one)
    created_date: str | None = None
    modified_date: str | None = None
    category: str | None = None
    tags: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()


class PartialProduct(Struct, frozen=True, rename="camel"):
    """A product with any of its fields; fields that are not given are `UNSET`."""

    product_id: Id
    name: str | UnsetType = UNSET
    package: Package | UnsetType = UNSET
    price: Amount | UnsetType = UNSET
    quantity: Quantity | UnsetType = UNSET
    category: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    pictures: tuple[str, ...] | UnsetType = UNSET


class ProductPage(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One page of products, and the token of the next page."""

    products: list[Product]
    next_token: str | None = None


class ProductsValidation(Struct, frozen=True):
    """The reply of `ValidateProducts`.

    `products` has the invalid products only: id, name, package and price as the catalog has them, or the caller's product if
    the catalog has none.
    """

    message: str
    products: list[PartialProduct]


class GetProduct(Query[Product], actor="products", key="product_id", rename="camel"):
    """Return a product."""

    product_id: Id


class ListProducts(Query[ProductPage], actor="products", rename="camel"):
    """Return all products, oldest first."""

    next_token: str | None = None


class ListProductsByCategory(Query[ProductPage], actor="products", rename="camel"):
    """Return the products of one category, oldest first."""

    category: str
    next_token: str | None = None


class ValidateProducts(Query[ProductsValidation], actor="products"):
    """Compare products with the catalog."""

    products: Annotated[tuple[PartialProduct, ...], Meta(max_length=1000)]


class CreateProduct(Command[Product], actor="products", key="product_id", rename="camel"):
    """Add a product. It is rejected if the id is taken."""

    product_id: Id
    name: str
    package: Package
    price: Amount
    quantity: Quantity = 1
    category: str | None = None
    tags: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()


class ModifyProduct(Command[Product], PartialProduct, actor="products", key="product_id"):
    """Change the given fields of a product."""


class DeleteProduct(Command[None], actor="products", key="product_id", rename="camel"):
    """Delete a product."""

    product_id: Id


class ProductCreated(
    Event, Product, actor="products", key="product_id"
):  # actorloom: ignore[unread-event] - for other programs
    """A product was added. The body is the product."""


class ProductModified(
    Event, actor="products", key="new.product_id"
):  # actorloom: ignore[unread-event] - for other programs
    """A product changed. `changed` has the dotted paths of the fields that differ."""

    old: Product
    new: Product
    changed: tuple[str, ...]


class ProductDeleted(
    Event, Product, actor="products", key="product_id"
):  # actorloom: ignore[unread-event] - for other programs
    """A product was deleted. The body is its last state."""
