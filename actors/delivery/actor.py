"""The delivery service: prices deliveries, and tracks each one from the packed parcel to the door."""

from functools import partial

from msgspec.structs import replace
from opentelemetry import metrics

from runtime import Actor, Index, NotFound, Rejected, Retry, command, not_found, query, react

from ..changes import stamp
from ..orders.messages import GetOrder
from ..replies import Done
from ..warehouse.messages import PackageCreated
from .messages import (
    CompleteDelivery,
    Delivery,
    DeliveryCompleted,
    DeliveryFailed,
    DeliveryPage,
    FailDelivery,
    GetDelivery,
    GetDeliveryPricing,
    ListNewDeliveries,
    Pricing,
    StartDelivery,
    Status,
)
from .pricing import delivery_price

DELIVERIES = metrics.get_meter("actorloom_shop.delivery").create_counter(
    "shop.deliveries", unit="{delivery}", description="Finished deliveries, by outcome"
)


class Deliveries(Actor[Delivery], indexes=[Index("status", order="created_date")]):
    """One delivery per order. Its status goes from NEW to IN_PROGRESS, then to COMPLETED or FAILED."""

    name = "delivery"

    @query
    async def get_delivery_pricing(self, message: GetDeliveryPricing) -> Pricing:
        return Pricing(delivery_price(message.products, message.address))

    @query
    async def get_delivery(self, message: GetDelivery) -> Delivery:
        return self.state or not_found("Delivery not found")

    @query
    async def list_new_deliveries(self, message: ListNewDeliveries) -> DeliveryPage:
        page = await self.list(status="NEW", order="created_date", after=message.next_token)
        return DeliveryPage(page.items, page.next)

    @react
    async def on_package_created(self, event: PackageCreated) -> None:
        """Create the delivery. The event has no address, so query the order for it, and retry if the order is unknown."""
        if self.state is not None:
            return
        try:
            order = await self.query(GetOrder(event.order_id))
        except NotFound as error:
            raise Retry(f"no order {event.order_id} to deliver") from error
        self.state = Delivery(event.order_id, order.address, "NEW", stamp(self.now))

    @command
    async def start_delivery(self, message: StartDelivery) -> Done:
        self._advance("NEW", "IN_PROGRESS")
        return Done()

    @command
    async def complete_delivery(self, message: CompleteDelivery) -> Done:
        delivery = self._advance("IN_PROGRESS", "COMPLETED")
        self.emit(DeliveryCompleted(delivery.order_id, delivery.address))
        self.on_commit(partial(DELIVERIES.add, 1, {"outcome": "completed"}))
        return Done()

    @command
    async def fail_delivery(self, message: FailDelivery) -> Done:
        delivery = self._advance("IN_PROGRESS", "FAILED")
        self.emit(DeliveryFailed(delivery.order_id, delivery.address))
        self.on_commit(partial(DELIVERIES.add, 1, {"outcome": "failed"}))
        return Done()

    def _advance(self, expected: Status, status: Status) -> Delivery:
        delivery = self.state or not_found("Delivery not found")
        if delivery.status != expected:
            raise Rejected(f"Delivery is {delivery.status}, not {expected}")
        self.state = delivery = replace(delivery, status=status)
        return delivery
