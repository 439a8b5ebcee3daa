"""The work that every contender does: the same messages, coded by msgspec, and the same functions."""

import msgspec


class Line(msgspec.Struct, frozen=True):
    """One product of an order; the price is in cents."""

    product: str
    quantity: int
    price: int


class QuoteRequest(msgspec.Struct, frozen=True):
    """The request for a quote: 209 bytes of JSON."""

    order_id: str
    customer: str
    street: str
    city: str
    lines: tuple[Line, ...]


class Quote(msgspec.Struct, frozen=True):
    """The reply to a request for a quote; the total is in cents."""

    order_id: str
    total: int


class Deposit(msgspec.Struct, frozen=True):
    """Deposits an amount, in cents, in an account."""

    account: str
    amount: int


class Account(msgspec.Struct, frozen=True):
    """The state of one account, and the reply to a deposit."""

    account: str
    balance: int
    deposits: int


class Deposited(msgspec.Struct, frozen=True):
    """The event that follows a deposit."""

    account: str
    amount: int
    balance: int


ORDER = {
    "order_id": "o-10283",
    "customer": "c-77120",
    "street": "Lindenstrasse 12, rear house, 3rd fl.",
    "city": "Basel",
    "lines": (Line("p-100", 2, 1299), Line("p-220", 1, 4950)),
}
"""Arguments of the `QuoteRequest` that every load generator sends."""

BODY = msgspec.json.encode(ORDER)
"""The same request as JSON."""


def quote(request: QuoteRequest) -> Quote:
    """Price an order."""
    return Quote(request.order_id, sum([line.quantity * line.price for line in request.lines]))


def deposit(account: Account | None, request: Deposit) -> Account:
    """Return the account after a deposit."""
    if account is None:
        return Account(request.account, request.amount, 1)
    return Account(request.account, account.balance + request.amount, account.deposits + 1)
