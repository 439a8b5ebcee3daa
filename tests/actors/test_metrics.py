"""Business metrics: their values, and that they count only committed turns."""

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from actorloom_shop.delivery import actor as delivery
from actorloom_shop.delivery.messages import DeliveryCompleted, DeliveryFailed
from actorloom_shop.orders import actor as orders
from actorloom_shop.payment import actor as payment
from actorloom_shop.warehouse import actor as warehouse
from actorloom_shop.warehouse.messages import PackagingFailed
from runtime.testing import worker
from tests.actors.samples import ADDRESS, order
from tests.actors.shop import Shop

COUNTERS = {
    orders: {"CREATED": "created", "ORDERED": "ordered", "FULFILLED": "fulfilled", "FAILED": "failed"},
    warehouse: {"PACKAGES": "packages"},
    delivery: {"DELIVERIES": "deliveries"},
    payment: {"PAYMENTS": "payments"},
}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that returns the sums of all counters: ``{(metric, outcome): sum}``."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    for module, counters in COUNTERS.items():
        for attribute, name in counters.items():
            monkeypatch.setattr(module, attribute, meter.create_counter(name))

    def sums() -> dict[Any, Any]:
        data = reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return {
            (metric.name, *(point.attributes or {}).values()): point.value
            for metric in metrics
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        }

    return sums


async def test_outcomes_of_orders_are_counted_once(counted: Any, shop: Shop) -> None:
    delivered, failed, unpacked = [await shop.create() for _ in range(3)]
    await shop.pack(delivered["orderId"], {"shirt": 1})
    await shop.lowered(delivered["paymentToken"], 4500)
    await shop.deliver(delivered["orderId"])
    await shop.pack(failed["orderId"])
    await shop.deliver(failed["orderId"], "fail")
    await shop.pack(unpacked["orderId"], {"shirt": 0, "shoes": 0})
    for ended, status in ((delivered, "FULFILLED"), (failed, "DELIVERY_FAILED"), (unpacked, "PACKAGING_FAILED")):
        await shop.order_in(ended["orderId"], status)
        await shop.spent(ended["paymentToken"])
    expected = {
        ("created",): 3,
        ("ordered",): 15_000,
        ("fulfilled",): 1,
        ("failed", "DELIVERY_FAILED"): 1,
        ("failed", "PACKAGING_FAILED"): 1,
        ("packages", "created"): 2,
        ("packages", "failed"): 1,
        ("deliveries", "completed"): 1,
        ("deliveries", "failed"): 1,
        ("payments", "processed"): 1,
        ("payments", "cancelled"): 2,
        ("payments", "updated"): 1,
    }
    await shop.system.until(lambda: counted() == expected)


async def test_a_repeated_outcome_is_not_counted(counted: Any) -> None:
    ended = worker(orders.Orders, key="1", state=order(status="FULFILLED"))
    await ended.on_packaging_failed(PackagingFailed("1"))
    await ended.on_delivery_failed(DeliveryFailed("1", ADDRESS))
    ended.commit()
    assert counted() == {}


async def test_a_turn_that_does_not_commit_is_not_counted(counted: Any) -> None:
    packaged = worker(orders.Orders, key="1", state=order(status="PACKAGED"))
    await packaged.on_delivery_completed(DeliveryCompleted("1", ADDRESS))
    assert counted() == {}
    packaged.commit()
    assert counted() == {("fulfilled",): 1}
