"""The contracts of the payment service."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime import Event, Query

from ..products.messages import Id

Operation = Literal["process_payment", "cancel_payment", "update_amount"]


class PaymentValidation(Struct, frozen=True):
    ok: bool


class ValidatePayment(Query[PaymentValidation], actor="payment", rename="camel"):
    """Is this token good for that much?"""

    payment_token: Id
    total: Annotated[int, Meta(ge=0)]


class PaymentAlertRaised(Event, actor="payment", key="order_id", rename="camel"):
    """A person has to look: the provider did not do `operation` for an order, and will not be asked again."""

    order_id: str
    operation: Operation
    reason: str
