"""Names on the wire: tokens, subjects and streams."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import CodecError, ConfigurationError
from runtime.wire.subjects import KINDS, Names, snake_case, valid_name, valid_namespace
from runtime.wire.tokens import MAX_TOKEN, NO_KEY, key_token, token_key

TOKEN = re.compile(r"[!-~]+")


@given(st.text(max_size=60) | st.text(st.characters(categories=["Cs"]), max_size=5))
def test_a_key_becomes_one_legal_token_and_can_be_read_from_it(key: str) -> None:
    token = key_token(key)
    assert TOKEN.fullmatch(token)
    assert not set(token) & set(".*> \t\r\n$"), token
    assert token != NO_KEY
    assert token_key(token) == key


@given(st.text(max_size=30), st.text(max_size=30))
def test_two_keys_never_have_the_same_token(first: str, second: str) -> None:
    assert (key_token(first) == key_token(second)) == (first == second)


@pytest.mark.parametrize(
    ("key", "token"),
    [
        ("order-1", "order-1"),
        ("", "%"),
        ("_", "%5F"),
        ("__", "__"),
        ("a.b", "a%2Eb"),
        ("*", "%2A"),
        (">", "%3E"),
        ("%", "%25"),
        ("ü", "%C3%BC"),
        (" ", "%20"),
        ("$JS", "%24JS"),
        ("a@b.org", "a@b%2Eorg"),
    ],
)
def test_the_token_of_a_key(key: str, token: str) -> None:
    assert key_token(key) == token


def test_a_key_that_is_too_long_for_a_subject_is_refused() -> None:
    # The server ends a connection whose protocol line is longer than 4096 bytes.
    assert len(key_token("k" * MAX_TOKEN)) == MAX_TOKEN
    for key in ("k" * (MAX_TOKEN + 1), "ü" * (MAX_TOKEN // 6 + 1)):
        with pytest.raises(CodecError, match="too long"):
            key_token(key)


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("GetOrder", "get_order"),
        ("SKUAdded", "sku_added"),
        ("Get", "get"),
        ("Order2Created", "order2_created"),
        ("A", "a"),
        ("GetHTTPStatus", "get_http_status"),
        ("Payment3PFailed", "payment3_p_failed"),
    ],
)
def test_the_snake_case_of_a_class_name(name: str, snake: str) -> None:
    assert snake_case(name) == snake


@given(st.lists(st.from_regex(r"[A-Z][a-z0-9]+", fullmatch=True), min_size=1, max_size=5))
def test_snake_case_joins_words_with_underscores(words: list[str]) -> None:
    assert snake_case("".join(words)) == "_".join(words).lower()


@pytest.mark.parametrize("name", ["orders", "payment-3p", "a_b", "x1"])
def test_valid_names(name: str) -> None:
    assert valid_name(name) and valid_namespace(name)


@pytest.mark.parametrize("name", ["", "Orders", "3p", "-a", "_a", "a.b", "a b", "a*", "ü", "orders\n"])
def test_invalid_names(name: str) -> None:
    assert not valid_name(name)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", "ü", "a\n"])
def test_invalid_namespaces(name: str) -> None:
    assert not valid_namespace(name)


def test_the_subjects_of_the_wire_contract() -> None:
    names = Names("orders")
    assert names.request("query", "get_order") == "orders.query.get_order"
    assert names.event("order_created", key_token("7")) == "orders.event.order_created.7"
    assert names.turn("7") == "orders.turn.7"
    assert (
        names.dedup_entry("7", "a.b") == "orders.dedup.7.a%2Eb"
        and names.dedup_bucket("7", 255, 1) == "orders.dedup.7.ff.1"
    )
    assert names.dead("order_created") == "orders.dead.order_created"
    assert (names.turns_stream, names.events_stream, names.dead_stream) == (
        "orders-turns",
        "orders-events",
        "orders-dead",
    )


def test_a_namespace_is_the_prefix_of_subjects_and_streams() -> None:
    names = Names("orders", "test")
    assert names.turn("7") == "test.orders.turn.7" and names.turns_stream == "test-orders-turns"


@pytest.mark.parametrize("token", ["%ZZ", "a%", "%FF", "%-1"])
def test_a_token_that_belongs_to_no_key_is_refused(token: str) -> None:
    with pytest.raises(CodecError, match="is not the token of a key"):
        token_key(token)


@given(st.sampled_from(["query", "command", "event", "orders", "eu"]), st.sampled_from(["query", "command", "orders"]))
def test_a_permission_on_queries_covers_no_command(namespace: str, actor: str) -> None:
    """The subject of a command matches neither ``*.query.>`` nor ``*.*.query.>``, with and without a namespace."""
    for prefix in {"", namespace}:
        if actor in KINDS or (prefix and not valid_namespace(prefix)):
            continue
        tokens = Names(actor, prefix).request("command", "create_order").split(".")
        assert "query" not in tokens


@pytest.mark.parametrize("namespace", ["query", "command", "event", "dead", "redrive", "_INBOX", "_"])
def test_reserved_namespaces(namespace: str) -> None:
    assert not valid_namespace(namespace)
    with pytest.raises(ConfigurationError, match=f"namespace = '{namespace}': use letters, .* are reserved"):
        Names("orders", namespace)
