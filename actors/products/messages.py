"""The contracts of the products service, and the types that it owns: `Package`, `Product`, `OrderedProduct`."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from runtime import Command, Event, Query

Millimeters = Annotated[int, Meta(ge=0, le=100_000)]
Grams = Annotated[int, Meta(ge=0, le=100_000_000)]
Amount = Annotated[int, Meta(ge=0, le=1_000_000_000)]
"""Money, in the smallest unit of the shop's currency. The bounds keep every sum below 64 bits."""
Quantity = Annotated[int, Meta(ge=1, le=1_000_000)]
Id = Annotated[str, Meta(min_length=1, max_length=200)]


def _one() -> int:
    """The default quantity: from a function, since `omit_defaults` would leave a plain default out of the JSON."""
    return 1


class Package(Struct, frozen=True):
    """The measures of one packed piece."""

    width: Millimeters
    length: Millimeters
    height: Millimeters
    weight: Grams


class OrderedProduct(Struct, frozen=True, rename="camel"):
    """A product as it stands in an order: what identifies and prices it, and how many."""

    product_id: Id
    name: str
    package: Package
    price: Amount
    quantity: Quantity = 1


OrderedProducts = Annotated[tuple[OrderedProduct, ...], Meta(max_length=1000)]


class Product(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A product of the catalog."""

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
    """A product of which only some is said."""

    product_id: Id
    name: str | UnsetType = UNSET
    package: Package | UnsetType = UNSET
    price: Amount | UnsetType = UNSET
    quantity: Quantity | UnsetType = UNSET
    category: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    pictures: tuple[str, ...] | UnsetType = UNSET


class ProductPage(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Some products, and the token of those that follow."""

    products: list[Product]
    next_token: str | None = None


class ProductsValidation(Struct, frozen=True):
    """What `ValidateProducts` found; `products` is empty where all are valid, else what they should have been."""

    message: str
    products: list[PartialProduct]


class GetProduct(Query[Product], actor="products", key="product_id", rename="camel"):
    product_id: Id


class ListProducts(Query[ProductPage], actor="products", rename="camel"):
    """All products, oldest first."""

    next_token: str | None = None


class ListProductsByCategory(Query[ProductPage], actor="products", rename="camel"):
    """The products of one category, oldest first."""

    category: str
    next_token: str | None = None


class ValidateProducts(Query[ProductsValidation], actor="products"):
    """Are these products what the catalog says they are?"""

    products: Annotated[tuple[PartialProduct, ...], Meta(max_length=1000)]


class CreateProduct(Command[Product], actor="products", key="product_id", rename="camel"):
    """Add a product; rejected where the id is taken."""

    product_id: Id
    name: str
    package: Package
    price: Amount
    quantity: Quantity = 1
    category: str | None = None
    tags: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()


class ModifyProduct(Command[Product], PartialProduct, actor="products", key="product_id"):
    """Change what is said of a product, and leave the rest."""


class DeleteProduct(Command[None], actor="products", key="product_id", rename="camel"):
    product_id: Id


class ProductCreated(Event, Product, actor="products", key="product_id"):
    """The body is the product."""


class ProductModified(Event, actor="products", key="new.product_id"):
    """`changed`: dotted paths of what differs between `old` and `new`."""

    old: Product
    new: Product
    changed: tuple[str, ...]


class ProductDeleted(Event, Product, actor="products", key="product_id"):
    """The body is the product as it was."""
