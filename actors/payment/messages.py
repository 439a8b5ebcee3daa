"""The contracts of the payment service."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime import Event, Query

from ..products.messages import Id

Operation = Literal["process_payment", "cancel_payment", "update_amount"]


class PaymentValidation(Struct, frozen=True):
    """The reply of `ValidatePayment`."""

    ok: bool


class ValidatePayment(Query[PaymentValidation], actor="payment", rename="camel"):
    """Check that a payment token covers a total."""

    payment_token: Id
    total: Annotated[int, Meta(ge=0)]


class PaymentAlertRaised(
    Event, actor="payment", key="order_id", rename="camel"
):  # actorloom: ignore[unread-event] - for people
    """The provider did not carry out `operation` for an order and is not asked again; a person has to look into it."""

    order_id: str
    operation: Operation
    reason: str
