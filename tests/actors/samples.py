"""Sample products, an address and an order for the tests of the shop."""

from typing import Any

from msgspec.structs import replace

from actorloom_shop.delivery.messages import Address
from actorloom_shop.orders.messages import Order, OrderRequest
from actorloom_shop.products.messages import OrderedProduct, Package

PACKAGE = Package(width=100, length=200, height=300, weight=1000)
SHIRT = OrderedProduct("shirt", "Shirt", PACKAGE, price=500, quantity=2)
SHOES = OrderedProduct("shoes", "Shoes", PACKAGE, price=3000, quantity=1)
ADDRESS = Address("Ann", "Street 1", "Paris", "FR", "+33 1")
REQUEST = OrderRequest((SHIRT, SHOES), ADDRESS, delivery_price=1000, payment_token="token")
ORDER = Order(
    order_id="1",
    user_id="ann",
    status="NEW",
    created_date="2026-01-01T00:00:00.000000Z",
    modified_date="2026-01-01T00:00:00.000000Z",
    products=REQUEST.products,
    address=ADDRESS,
    delivery_price=1000,
    payment_token="token",
    total=5000,
)


def order(**changes: Any) -> Order:
    """Return the sample order with some fields changed."""
    return replace(ORDER, **changes)
