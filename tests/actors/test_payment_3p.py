"""The payment provider: amounts of tokens, and injected faults."""

import pytest

from actorloom_shop.payment_3p.actor import Authorization, PaymentProvider
from actorloom_shop.payment_3p.faults import DELAY, FAIL, Faults, ProviderUnavailable
from actorloom_shop.payment_3p.messages import (
    Authorized,
    CancelPayment,
    Check,
    Outcome,
    Preauth,
    ProcessPayment,
    UpdateAmount,
)
from runtime import ConfigurationError
from runtime.testing import worker


async def test_preauth_authorizes_the_amount_under_a_new_token() -> None:
    provider = worker(PaymentProvider, key="token")
    assert await provider.preauth(Preauth("1234567890123456", 5000)) == Authorized("token")
    assert provider.state == Authorization(5000)


@pytest.mark.parametrize(("amount", "ok"), [(0, True), (4999, True), (5000, True), (5001, False)])
async def test_a_token_covers_the_authorized_amount(amount: int, ok: bool) -> None:
    provider = worker(PaymentProvider, key="token", state=Authorization(5000))
    assert await provider.check(Check("token", amount)) == Outcome(ok)


async def test_an_unknown_token_covers_nothing() -> None:
    provider = worker(PaymentProvider, key="token")
    assert await provider.check(Check("token", 0)) == Outcome(False)
    assert await provider.process_payment(ProcessPayment("token")) == Outcome(False)
    assert await provider.cancel_payment(CancelPayment("token")) == Outcome(False)
    assert await provider.update_amount(UpdateAmount("token", 0)) == Outcome(False)


async def test_a_token_is_spent_once() -> None:
    provider = worker(PaymentProvider, key="token", state=Authorization(5000))
    assert await provider.process_payment(ProcessPayment("token")) == Outcome(True)
    assert provider.state is None
    assert await provider.cancel_payment(CancelPayment("token")) == Outcome(False)


@pytest.mark.parametrize(("amount", "ok", "stored"), [(4999, True, 4999), (5000, True, 5000), (5001, False, 5000)])
async def test_an_amount_is_lowered_and_never_raised(amount: int, ok: bool, stored: int) -> None:
    provider = worker(PaymentProvider, key="token", state=Authorization(5000))
    assert await provider.update_amount(UpdateAmount("token", amount)) == Outcome(ok)
    assert provider.state == Authorization(stored)


async def test_the_first_calls_of_an_operation_fail_as_configured() -> None:
    faults = Faults.from_env({FAIL: "process_payment:2, check", DELAY: "1"})
    await faults.inject("preauth")
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await faults.inject("process_payment")
    await faults.inject("process_payment")
    for _ in range(5):
        with pytest.raises(ProviderUnavailable, match="check is out of order"):
            await faults.inject("check")


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({FAIL: "proces_payment"}, f"{FAIL}: unknown operation 'proces_payment'"),
        ({FAIL: "check:-1"}, f"{FAIL}: expected a whole number, got '-1'"),
        ({DELAY: "1s"}, f"{DELAY}: expected a whole number, got '1s'"),
    ],
)
def test_a_wrong_configuration_is_refused(variables: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Faults.from_env(variables)


def test_no_configuration_means_no_faults() -> None:
    assert vars(Faults.from_env({})) == vars(Faults({}, 0))
