"""The contracts of the outside payment provider."""

from typing import Annotated

from msgspec import Meta, Struct

from runtime import Command, Query, new_key

from ..products.messages import Id

Amount = Annotated[int, Meta(ge=0)]


class Authorized(Struct, frozen=True, rename="camel"):
    payment_token: str


class Outcome(Struct, frozen=True):
    """Whether the provider agrees, or did it."""

    ok: bool


class Preauth(Command[Authorized], actor="payment-3p", key=new_key, rename="camel"):
    """Reserve an amount on a card. The token is spent by `ProcessPayment` or `CancelPayment`."""

    card_number: Annotated[str, Meta(min_length=16, max_length=16)]
    amount: Annotated[int, Meta(gt=0, le=10**18)]


class Check(Query[Outcome], actor="payment-3p", key="payment_token", rename="camel"):
    """Is that much reserved? An unknown token has nothing."""

    payment_token: Id
    amount: Amount


class ProcessPayment(Command[Outcome], actor="payment-3p", key="payment_token", rename="camel"):
    """Take the reserved amount."""

    payment_token: Id


class CancelPayment(Command[Outcome], actor="payment-3p", key="payment_token", rename="camel"):
    """Give the reserved amount back."""

    payment_token: Id


class UpdateAmount(Command[Outcome], actor="payment-3p", key="payment_token", rename="camel"):
    """Reserve less; more than is reserved is refused."""

    payment_token: Id
    amount: Amount
