"""What holds for any order: its lines, its total, the way of its status, and what packing makes of its products."""

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from ..products.messages import OrderedProduct
from ..warehouse.messages import PackedProduct
from .messages import Order, Status

# A status may only be followed by one of a higher rank: events of different services come in any order.
_RANKS: dict[Status, int] = {"NEW": 0, "PACKAGED": 1, "PACKAGING_FAILED": 2, "FULFILLED": 2, "DELIVERY_FAILED": 2}


def total(products: Iterable[OrderedProduct], delivery_price: int) -> int:
    """Return the price of all products and their delivery."""
    return sum(product.price * product.quantity for product in products) + delivery_price


def repeated(products: Iterable[OrderedProduct]) -> list[str]:
    """Return an error for each product that has more than one line: packing tells lines apart by their product."""
    counts = Counter(product.product_id for product in products)
    return [f"Product '{product_id}' is listed {count} times" for product_id, count in counts.items() if count > 1]


def advanced(order: Order, status: Status) -> Order:
    """Return `order` in `status`, or as it is where it has come further already."""
    return replace(order, status=status) if _RANKS[status] > _RANKS[order.status] else order


def packed(order: Order, packed_products: Sequence[PackedProduct]) -> Order:
    """Return `order` with the quantities that were packed, without the products that were not, and its new total."""
    quantities = {product.product_id: product.quantity for product in packed_products}
    products = tuple(
        replace(product, quantity=quantities[product.product_id])
        for product in order.products
        if product.product_id in quantities
    )
    return replace(order, products=products, total=total(products, order.delivery_price))
