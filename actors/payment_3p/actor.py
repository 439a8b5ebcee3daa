"""The payment provider's stand-in: reserves amounts on cards, and takes or returns them; `faults` says how it fails."""

import os

from msgspec import Struct

from runtime import Actor, command, query

from .faults import Faults
from .messages import (
    Authorized,
    CancelPayment,
    Check,
    Outcome,
    Preauth,
    ProcessPayment,
    UpdateAmount,
)


class Authorization(Struct, frozen=True):
    """The stored state: the amount that a token stands for."""

    amount: int


class PaymentProvider(Actor[Authorization]):
    """One authorization for each payment token, until it is spent."""

    name = "payment-3p"
    faults: Faults = Faults({}, 0)

    async def on_start(self) -> None:
        self.faults = Faults.from_env(os.environ)

    @query
    async def check(self, message: Check) -> Outcome:
        await self.faults.befall("check")
        return Outcome(self.state is not None and self.state.amount >= message.amount)

    @command
    async def preauth(self, message: Preauth) -> Authorized:
        await self.faults.befall("preauth")
        self.state = Authorization(message.amount)
        return Authorized(self.key)

    @command
    async def process_payment(self, message: ProcessPayment) -> Outcome:
        """A repeated command is answered from the key's record and never comes here: what is spent was another's."""
        await self.faults.befall("process_payment")
        return self._spend()

    @command
    async def cancel_payment(self, message: CancelPayment) -> Outcome:
        await self.faults.befall("cancel_payment")
        return self._spend()

    @command
    async def update_amount(self, message: UpdateAmount) -> Outcome:
        await self.faults.befall("update_amount")
        if self.state is None or message.amount > self.state.amount:
            return Outcome(False)
        self.state = Authorization(message.amount)
        return Outcome(True)

    def _spend(self) -> Outcome:
        if self.state is None:
            return Outcome(False)
        self.state = None
        return Outcome(True)
