"""The contracts of the external payment provider."""

from typing import Annotated

from msgspec import Meta, Struct

from runtime import Command, Query, new_key

from ..products.messages import Id

AuthorizedAmount = Annotated[int, Meta(ge=0)]
"""Money, in the smallest unit of the shop's currency. The provider has no upper limit of its own."""


class Authorized(Struct, frozen=True, rename="camel"):
    """The reply of `Preauth`."""

    payment_token: str


class Outcome(Struct, frozen=True):
    """The reply of the other operations: True if the amount is authorized, or the operation was carried out."""

    ok: bool


class Preauth(Command[Authorized], actor="payment-3p", key=new_key, rename="camel"):
    """Authorize an amount on a card. `ProcessPayment` or `CancelPayment` spends the returned token."""

    card_number: Annotated[str, Meta(min_length=16, max_length=16)]
    amount: Annotated[int, Meta(gt=0, le=10**18)]


class Check(Query[Outcome], actor="payment-3p", key="payment_token", rename="camel"):
    """Check that an amount is authorized. An unknown token authorizes nothing."""

    payment_token: Id
    amount: AuthorizedAmount


class ProcessPayment(Command[Outcome], actor="payment-3p", key="payment_token", rename="camel"):
    """Capture the authorized amount."""

    payment_token: Id


class CancelPayment(Command[Outcome], actor="payment-3p", key="payment_token", rename="camel"):
    """Release the authorized amount."""

    payment_token: Id


class UpdateAmount(Command[Outcome], actor="payment-3p", key="payment_token", rename="camel"):
    """Lower the authorized amount. A higher amount is refused."""

    payment_token: Id
    amount: AuthorizedAmount
