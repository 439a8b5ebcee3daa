"""The server's ``-ERR`` texts, as nats-py reports them, become errors with fields."""

import nats.errors
import pytest

from runtime.nats.errors import is_authorization_violation, permission_denied


@pytest.mark.parametrize(
    ("text", "operation", "subject"),
    [
        ('nats: permissions violation for publish to "orders.get"', "publish", "orders.get"),
        ('nats: permissions violation for subscription to "orders.>"', "subscription", "orders.>"),
        ('nats: permissions violation for subscription to "a" using queue "q"', "subscription", "a"),
        ('nats: permissions violation for publish with reply of "b"', "", ""),
    ],
)
def test_a_refusal_by_permissions_names_operation_and_subject(text: str, operation: str, subject: str) -> None:
    refusal = permission_denied(nats.errors.Error(text))
    assert refusal is not None
    assert (refusal.operation, refusal.subject) == (operation, subject)
    assert str(refusal) == f"the server refused: {text.removeprefix('nats: ')}"


@pytest.mark.parametrize("error", [nats.errors.Error("nats: 'Authorization Violation'"), OSError("refused")])
def test_another_error_is_not_a_refusal_by_permissions(error: Exception) -> None:
    assert permission_denied(error) is None


def test_refused_credentials_are_recognized() -> None:
    assert is_authorization_violation(nats.errors.Error("nats: 'Authorization Violation'"))
    assert not is_authorization_violation(nats.errors.Error("nats: 'Maximum Connections Exceeded'"))
