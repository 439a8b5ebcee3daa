"""What holds for any packaging request: its products, and what a change of the order makes of them."""

from collections.abc import Iterable

from ..products.messages import OrderedProduct
from .messages import PackedProduct


def to_pack(ordered: Iterable[OrderedProduct]) -> tuple[PackedProduct, ...]:
    """Return what is to be packed for the products of an order."""
    return tuple(PackedProduct(product.product_id, product.quantity) for product in ordered)


def with_difference(
    products: Iterable[PackedProduct], old: Iterable[OrderedProduct], new: Iterable[OrderedProduct]
) -> tuple[PackedProduct, ...]:
    """Return `products` with the difference between an order's `old` and `new` products: dropped, changed and added."""
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
    """Return `products` with another quantity of one of them, or None where it is not among them."""
    quantities = {product.product_id: product.quantity for product in products}
    if product_id not in quantities:
        return None
    quantities[product_id] = quantity
    return tuple(PackedProduct(product_id, quantity) for product_id, quantity in quantities.items())


def packed(products: Iterable[PackedProduct]) -> tuple[PackedProduct, ...]:
    """Return what is in the package: the products of which there is one at least."""
    return tuple(product for product in products if product.quantity > 0)
