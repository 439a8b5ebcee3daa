"""The orders service: creates valid orders, and keeps their status current as they are packed and delivered."""

import asyncio
from functools import partial

from msgspec import convert
from msgspec.structs import replace
from opentelemetry import metrics

from runtime import Actor, Index, Rejected, RequestError, command, not_found, query, react

from ..changes import changed, stamp
from ..delivery.messages import DeliveryCompleted, DeliveryFailed, GetDeliveryPricing
from ..payment.messages import ValidatePayment
from ..products.messages import PartialProduct, ValidateProducts
from ..warehouse.messages import PackageCreated, PackagingFailed
from .messages import (
    CreateOrder,
    DeleteOrder,
    GetOrder,
    ListOrders,
    Order,
    OrderCreated,
    OrderCreation,
    OrderDeleted,
    OrderModified,
    OrderPage,
    OrderRequest,
    Status,
)
from .order import advanced, packed, repeated, total

_METER = metrics.get_meter("actorloom_shop.orders")
CREATED = _METER.create_counter("shop.orders.created", unit="{order}", description="Orders created")
ORDERED = _METER.create_counter("shop.orders.ordered", unit="{cent}", description="Sum of the totals of created orders")
FULFILLED = _METER.create_counter("shop.orders.fulfilled", unit="{order}", description="Orders delivered")
FAILED = _METER.create_counter("shop.orders.failed", unit="{order}", description="Orders that failed, by status")


class Orders(Actor[Order], indexes=[Index("user_id", order="created_date")]):
    """One order, from creation to delivery."""

    name = "orders"

    @query
    async def get_order(self, message: GetOrder) -> Order:
        return self.state or not_found("Order not found")

    @query
    async def list_orders(self, message: ListOrders) -> OrderPage:
        page = await self.list(user_id=message.user_id, order="-created_date", after=message.next_token)
        return OrderPage(page.items, page.next)

    @command
    async def create_order(self, message: CreateOrder) -> OrderCreation:
        """Query three services in parallel and collect every error. An invalid order is a reply, not an exception."""
        if self.state is not None:  # the same command again, after its dedup entry expired
            return OrderCreation(True, "Order created", self.state)
        request = message.order
        amount = total(request.products, request.delivery_price)
        errors = await self._errors(request, amount)
        if errors:
            return OrderCreation(False, "Validation errors", errors=errors)
        now = stamp(self.now)
        order = Order(
            order_id=self.key,
            user_id=message.user_id,
            status="NEW",
            created_date=now,
            modified_date=now,
            products=request.products,
            address=request.address,
            delivery_price=request.delivery_price,
            payment_token=request.payment_token,
            total=amount,
        )
        self.state = order
        self.emit(OrderCreated.of(order))
        self.on_commit(partial(CREATED.add, 1))
        self.on_commit(partial(ORDERED.add, amount))
        return OrderCreation(True, "Order created", order)

    @command
    async def delete_order(self, message: DeleteOrder) -> None:
        order = self.state or not_found("Order not found")
        if order.status != "NEW":
            raise Rejected(f"Order is {order.status}, not NEW")
        self.state = None
        self.emit(OrderDeleted.of(order))

    @react
    async def on_package_created(self, event: PackageCreated) -> None:
        """Take over the packed quantities, which may be lower than the ordered ones, whatever the status of the order."""
        if self.state is not None:
            self._modify(self.state, advanced(packed(self.state, event.products), "PACKAGED"))

    @react
    async def on_packaging_failed(self, event: PackagingFailed) -> None:
        self._finish("PACKAGING_FAILED")

    @react
    async def on_delivery_completed(self, event: DeliveryCompleted) -> None:
        self._finish("FULFILLED")

    @react
    async def on_delivery_failed(self, event: DeliveryFailed) -> None:
        self._finish("DELIVERY_FAILED")

    async def _errors(self, request: OrderRequest, amount: int) -> tuple[str, ...]:
        async with asyncio.TaskGroup() as group:
            checks = [
                group.create_task(self._delivery_errors(request)),
                group.create_task(self._payment_errors(request, amount)),
                group.create_task(self._product_errors(request)),
            ]
        return (*repeated(request.products), *(error for check in checks for error in check.result()))

    async def _delivery_errors(self, request: OrderRequest) -> list[str]:
        try:
            expected = (await self.query(GetDeliveryPricing(request.products, request.address))).pricing
        except RequestError:
            return ["Failure to contact the delivery service"]
        if request.delivery_price == expected:
            return []
        return [f"Wrong delivery price: got {request.delivery_price}, expected {expected}"]

    async def _payment_errors(self, request: OrderRequest, amount: int) -> list[str]:
        try:
            valid = (await self.query(ValidatePayment(request.payment_token, amount))).ok
        except RequestError:
            return ["Failure to contact the payment service"]
        return [] if valid else ["Wrong payment token"]

    async def _product_errors(self, request: OrderRequest) -> list[str]:
        claims = tuple(convert(product, PartialProduct, from_attributes=True) for product in request.products)
        try:
            validation = await self.query(ValidateProducts(claims))
        except RequestError:
            return ["Failure to contact the products service"]
        return [validation.message] if validation.products else []

    def _finish(self, status: Status) -> None:
        order = self.state
        if order is None:  # deleted in the meantime
            return
        finished = advanced(order, status)
        self._modify(order, finished)
        if finished.status != order.status:
            count = partial(FULFILLED.add, 1) if status == "FULFILLED" else partial(FAILED.add, 1, {"status": status})
            self.on_commit(count)

    def _modify(self, old: Order, new: Order) -> None:
        if new == old:
            return
        new = replace(new, modified_date=stamp(self.now, after=old.modified_date))
        self.state = new
        self.emit(OrderModified(old, new, changed(old, new)))
