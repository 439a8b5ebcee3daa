"""The rules of packaging requests: their products, and the effect of changed orders on them."""

from collections.abc import Iterable

from ..products.messages import OrderedProduct
from .messages import PackedProduct


def to_pack(ordered: Iterable[OrderedProduct]) -> tuple[PackedProduct, ...]:
    """Return the products to pack for the products of an order."""
    return tuple(PackedProduct(product.product_id, product.quantity) for product in ordered)


def with_difference(
    products: Iterable[PackedProduct], old: Iterable[OrderedProduct], new: Iterable[OrderedProduct]
) -> tuple[PackedProduct, ...]:
    """Return `products` after applying the difference between the `old` and `new` products of an order.

    Products that the order no longer has are dropped, and changed or added ones get their new quantity. A quantity that
    the order did not change is kept.
    """
    before = {product.product_id: product.quantity for product in old}
    after = {product.product_id: product.quantity for product in new}
    quantities = {product.product_id: product.quantity for product in products}
    for product_id in before.keys() - after.keys():
        quantities.pop(product_id, None)
    quantities.update({i: quantity for i, quantity in after.items() if quantity != before.get(i)})
    return tuple(PackedProduct(product_id, quantity) for product_id, quantity in quantities.items())


def with_quantity(
    products: Iterable[PackedProduct], product_id: str, quantity: int
) -> tuple[PackedProduct, ...] | None:
    """Return `products` with a new quantity for one of them, or None if that product is missing."""
    quantities = {product.product_id: product.quantity for product in products}
    if product_id not in quantities:
        return None
    quantities[product_id] = quantity
    return tuple(PackedProduct(product_id, quantity) for product_id, quantity in quantities.items())


def packed(products: Iterable[PackedProduct]) -> tuple[PackedProduct, ...]:
    """Return the products with a quantity of at least one."""
    return tuple(product for product in products if product.quantity > 0)
