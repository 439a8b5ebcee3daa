"""The payment service: keeps the payment token of each order, and charges, lowers or releases its amount."""

import logging
from functools import partial
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace
from opentelemetry import metrics

from runtime import Actor, Command, RequestError, Retry, query, react

from ..delivery.messages import DeliveryCompleted, DeliveryFailed
from ..orders.messages import GetOrder, OrderCreated, OrderDeleted, OrderModified
from ..payment_3p.messages import CancelPayment, Check, Outcome, ProcessPayment, UpdateAmount
from ..warehouse.messages import PackagingFailed
from .messages import Operation, PaymentAlertRaised, PaymentValidation, ValidatePayment

logger = logging.getLogger(__name__)

PAYMENTS = metrics.get_meter("actorloom_shop.payment").create_counter(
    "shop.payments", unit="{payment}", description="Payments, by outcome: processed, cancelled, updated, alert"
)


class Payment(Struct, frozen=True):
    """The stored state: the payment token of an order and the status of its payment."""

    order_id: str
    payment_token: str
    status: Literal["PENDING", "PROCESSED", "CANCELLED"] = "PENDING"


class Payments(Actor[Payment]):
    """One payment per order. A failed operation of the provider is retried, and raises an alert after the last attempt."""

    name = "payment"

    @query
    async def validate_payment(self, message: ValidatePayment) -> PaymentValidation:
        return PaymentValidation((await self.query(Check(message.payment_token, message.total))).ok)

    @react
    async def on_order_created(self, event: OrderCreated) -> None:
        if self.state is None:
            self.state = Payment(event.order_id, event.payment_token)

    @react(where={"changed": ["total"]})
    async def on_order_modified(self, event: OrderModified) -> None:
        """Change the authorized amount. A refusal is final, so it raises an alert at once instead of a retry."""
        try:
            outcome = await self.command(UpdateAmount(event.new.payment_token, event.new.total))
        except RequestError as error:
            self._retry_or_alert("update_amount", _reason(error))
            return
        if outcome.ok:
            self._count("updated")
        else:
            self._alert("update_amount", f"refused to change the amount from {event.old.total} to {event.new.total}")

    @react
    async def on_delivery_completed(self, event: DeliveryCompleted) -> None:
        payment = await self._payment("process_payment")
        if payment is None or payment.status == "PROCESSED":
            return
        if await self._ask_provider("process_payment", ProcessPayment(payment.payment_token)):
            self.state = replace(payment, status="PROCESSED")
            self._count("processed")

    @react
    async def on_delivery_failed(self, event: DeliveryFailed) -> None:
        await self._cancel()

    @react
    async def on_packaging_failed(self, event: PackagingFailed) -> None:
        await self._cancel()

    @react
    async def on_order_deleted(self, event: OrderDeleted) -> None:
        if self.state is None:
            self.state = Payment(event.order_id, event.payment_token)
        await self._cancel()

    async def _cancel(self) -> None:
        payment = await self._payment("cancel_payment")
        if payment is None or payment.status == "CANCELLED":
            return
        if await self._ask_provider("cancel_payment", CancelPayment(payment.payment_token)):
            self.state = replace(payment, status="CANCELLED")
            self._count("cancelled")

    async def _ask_provider(self, operation: Operation, command: Command[Outcome]) -> bool:
        """Send `command` to the provider and return True if it was carried out.

        A retry of the reaction sends the same command id, so the provider carries it out once.
        """
        try:
            outcome = await self.command(command)
        except RequestError as error:
            self._retry_or_alert(operation, _reason(error))
            return False
        if not outcome.ok:
            self._retry_or_alert(operation, "refused")
        return outcome.ok

    async def _payment(self, operation: Operation) -> Payment | None:
        """Return the payment, or None if an alert was raised.

        Events of different services arrive in any order, so the event that carries the token may still wait behind this
        one in the lane of the key. The order is then queried for its token.
        """
        if self.state is not None:
            return self.state
        try:
            order = await self.query(GetOrder(self.key))
        except RequestError as error:
            self._retry_or_alert(operation, f"the payment token is not known: {_reason(error)}")
            return None
        return Payment(order.order_id, order.payment_token)

    def _retry_or_alert(self, operation: Operation, reason: str) -> None:
        if self.attempt < self.attempts:
            raise Retry(f"{operation}: {reason}")
        self._alert(operation, reason)

    def _alert(self, operation: Operation, reason: str) -> None:
        self.emit(PaymentAlertRaised(self.key, operation, reason))
        self._count("alert")
        self.on_commit(partial(logger.error, "payment of order %s needs a person: %s: %s", self.key, operation, reason))

    def _count(self, outcome: str) -> None:
        self.on_commit(partial(PAYMENTS.add, 1, {"outcome": outcome}))


def _reason(error: RequestError) -> str:
    return f"{type(error).__name__}: {error}"
