"""The payment service: its command to the provider for each event, retries, and alerts."""

import logging
from typing import Any

import pytest
from msgspec.structs import replace

from actorloom_shop.delivery.messages import DeliveryCompleted, DeliveryFailed
from actorloom_shop.orders.messages import GetOrder, OrderCreated, OrderDeleted, OrderModified
from actorloom_shop.payment.actor import Payment, Payments
from actorloom_shop.payment.messages import PaymentAlertRaised, PaymentValidation, ValidatePayment
from actorloom_shop.payment_3p.messages import CancelPayment, Check, Outcome, ProcessPayment, UpdateAmount
from actorloom_shop.warehouse.messages import PackagingFailed
from runtime import HandlerFailed, NotDelivered, NotFound, RequestError, Retry
from runtime.testing import worker
from tests.actors.samples import ADDRESS, ORDER, order

PENDING = Payment("1", "token")
MODIFIED = OrderModified(ORDER, order(total=4000), ("total",))
DELIVERED = DeliveryCompleted("1", ADDRESS)

COMMANDS: list[tuple[Any, Any, str]] = [
    (DELIVERED, ProcessPayment("token"), "PROCESSED"),
    (DeliveryFailed("1", ADDRESS), CancelPayment("token"), "CANCELLED"),
    (PackagingFailed("1"), CancelPayment("token"), "CANCELLED"),
    (OrderDeleted.of(ORDER), CancelPayment("token"), "CANCELLED"),
    (MODIFIED, UpdateAmount("token", 4000), "PENDING"),
]
"""Each event to which the payment service reacts with a command to the provider, that command, and the next status."""


def react(payments: Any, event: Any) -> Any:
    return getattr(payments, f"on_{event.__contract__.name}")(event)


@pytest.mark.parametrize("ok", [True, False])
async def test_a_token_is_checked_with_the_provider(ok: bool) -> None:
    payments = worker(Payments, replies={Check: Outcome(ok)})
    assert await payments.validate_payment(ValidatePayment("token", 5000)) == PaymentValidation(ok)
    assert payments.sent == [Check("token", 5000)]


async def test_the_payment_token_of_an_order_is_stored() -> None:
    payments = worker(Payments, key="1")
    await payments.on_order_created(OrderCreated.of(ORDER))
    assert payments.state == PENDING


@pytest.mark.parametrize(("event", "sent", "status"), COMMANDS)
async def test_an_event_sends_its_command_to_the_provider(event: Any, sent: Any, status: Any) -> None:
    payments = worker(Payments, key="1", state=PENDING, replies={type(sent): Outcome(True)})
    await react(payments, event)
    assert payments.sent == [sent]
    assert payments.state == replace(PENDING, status=status)
    assert payments.emitted == []


@pytest.mark.parametrize(("event", "sent"), [(event, sent) for event, sent, status in COMMANDS if status != "PENDING"])
async def test_a_refusal_is_retried_then_raises_an_alert(
    event: Any, sent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    refused = {type(sent): Outcome(False)}
    payments = worker(Payments, key="1", state=PENDING, replies=refused, attempt=4, attempts=5)
    with pytest.raises(Retry, match="refused"):
        await react(payments, event)
    assert payments.emitted == []
    payments = worker(Payments, key="1", state=PENDING, replies=refused, attempt=5, attempts=5)
    await react(payments, event)
    with caplog.at_level(logging.ERROR):
        payments.commit()
    assert payments.emitted == [PaymentAlertRaised("1", sent.__contract__.name, "refused")]
    assert payments.state == PENDING
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        f"payment of order 1 needs a person: {sent.__contract__.name}: refused"
    ]


@pytest.mark.parametrize("error", [HandlerFailed("out of order"), NotDelivered("no service")])
@pytest.mark.parametrize(("event", "sent", "status"), COMMANDS)
async def test_a_missing_reply_is_retried_then_raises_an_alert(
    event: Any, sent: Any, status: str, error: RequestError
) -> None:
    payments = worker(Payments, key="1", state=PENDING, replies={type(sent): error}, attempt=1, attempts=5)
    with pytest.raises(Retry, match=str(error)):
        await react(payments, event)
    payments = worker(Payments, key="1", state=PENDING, replies={type(sent): error}, attempt=5, attempts=5)
    await react(payments, event)
    reason = f"{type(error).__name__}: {error}"
    assert payments.emitted == [PaymentAlertRaised("1", sent.__contract__.name, reason)]


@pytest.mark.parametrize(("event", "sent", "status"), COMMANDS)
async def test_an_event_that_overtook_order_created_queries_the_token(event: Any, sent: Any, status: str) -> None:
    payments = worker(Payments, key="1", replies={GetOrder: ORDER, type(sent): Outcome(True)})
    await react(payments, event)
    assert payments.sent[-1] == sent
    settled = payments.state
    assert settled is None if status == "PENDING" else settled == replace(PENDING, status=status)
    await payments.on_order_created(OrderCreated.of(ORDER))
    assert payments.state == (settled or PENDING)


@pytest.mark.parametrize("event", [DELIVERED, DeliveryFailed("1", ADDRESS), PackagingFailed("1")])
async def test_an_unknown_order_is_retried_then_raises_an_alert(event: Any) -> None:
    replies = {GetOrder: NotFound("Order not found")}
    with pytest.raises(Retry, match="not known: NotFound: Order not found"):
        await react(worker(Payments, key="1", replies=replies, attempt=1, attempts=5), event)
    payments = worker(Payments, key="1", replies=replies, attempt=5, attempts=5)
    await react(payments, event)
    assert payments.sent == [GetOrder("1")]
    assert [type(event) for event in payments.emitted] == [PaymentAlertRaised]


@pytest.mark.parametrize(("event", "sent", "status"), [row for row in COMMANDS if row[2] != "PENDING"])
async def test_a_finished_payment_sends_no_command(event: Any, sent: Any, status: Any) -> None:
    payments = worker(Payments, key="1", state=replace(PENDING, status=status))
    await react(payments, event)
    assert payments.sent == []
    assert payments.emitted == []


def test_only_changes_of_the_total_match() -> None:
    [handler] = Payments.handlers.reactions[OrderModified]
    assert handler.matches is not None
    assert handler.matches({"changed": ["products", "total"]})
    assert not handler.matches({"changed": ["status", "products"]})
