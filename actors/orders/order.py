"""The rules of orders: lines, total, order of statuses, and packed quantities."""

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from ..products.messages import OrderedProduct
from ..warehouse.messages import PackedProduct
from .messages import Order, Status

_RANKS: dict[Status, int] = {"NEW": 0, "PACKAGED": 1, "PACKAGING_FAILED": 2, "FULFILLED": 2, "DELIVERY_FAILED": 2}
"""An order moves only to a status of higher rank, because events of different services arrive in any order."""


def total(products: Iterable[OrderedProduct], delivery_price: int) -> int:
    """Return the price of all products and their delivery."""
    return sum(product.price * product.quantity for product in products) + delivery_price


def repeated(products: Iterable[OrderedProduct]) -> list[str]:
    """Return an error for each product with more than one line: packing identifies a line by its product."""
    counts = Counter(product.product_id for product in products)
    return [f"Product '{product_id}' is listed {count} times" for product_id, count in counts.items() if count > 1]


def advanced(order: Order, status: Status) -> Order:
    """Return `order` with the new status, or unchanged if its status has the same rank or a higher one."""
    return replace(order, status=status) if _RANKS[status] > _RANKS[order.status] else order


def packed(order: Order, packed_products: Sequence[PackedProduct]) -> Order:
    """Return `order` with the packed quantities and its new total, without the products that were not packed."""
    quantities = {product.product_id: product.quantity for product in packed_products}
    products = tuple(
        replace(product, quantity=quantities[product.product_id])
        for product in order.products
        if product.product_id in quantities
    )
    return replace(order, products=products, total=total(products, order.delivery_price))
