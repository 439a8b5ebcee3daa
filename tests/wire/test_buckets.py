"""The bucket of a key: computed here as the server computes it."""

import random

import pytest

from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.streams import dead_config, events_config
from runtime.wire.buckets import BUCKETS, WHOLE, Partition, bucket_of, partition_of
from runtime.wire.subjects import Names, published, valid_name
from runtime.wire.tokens import NO_KEY, key_token


def random_keys(number: int) -> list[str]:
    rng = random.Random(12)
    alphabet = "abcXYZ019_-=+@,;:. /%\"'ü漢😀\x00\n"
    return ["", "_", "a", *("".join(rng.choices(alphabet, k=rng.randint(1, 24))) for _ in range(number))]


async def test_the_server_stores_each_event_and_redriven_letter_under_the_bucket_of_its_key(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    names = Names("orders", namespace)
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream = JetStream(connection)
        await jetstream.ensure_stream(events_config(names))
        await jetstream.ensure_stream(dead_config(names))
        for token in {NO_KEY, *map(key_token, random_keys(200))}:
            for stream, subject, stored_as in (
                (names.events_stream, names.event("paid", token), names.stored_event("paid", bucket_of(token), token)),
                (
                    names.dead_stream,
                    names.redrive("paid", token),
                    f"{names.redriven('paid')}.{bucket_of(token)}.{token}",
                ),
            ):
                ack = await jetstream.publish(subject, b"{}")
                stored = await jetstream.get(stream, ack.sequence)
                assert stored is not None and stored.subject == stored_as
                assert published(stored.subject) == subject


def test_the_partitions_of_an_actor_share_all_buckets() -> None:
    for total in (1, 2, 4, 8, 16, 32, 64):
        buckets = [bucket for number in range(total) for bucket in Partition(total, number).buckets]
        assert sorted(buckets) == list(range(BUCKETS))
        for key in random_keys(50):
            token = key_token(key)
            assert bucket_of(token) in Partition(total, partition_of(token, total)).buckets


def test_only_what_an_owner_writes_has_the_name_of_its_partition() -> None:
    whole, part = Names("orders", "eu"), Names("orders", "eu", Partition(8, 3))
    assert whole.partition == WHOLE and whole.of(Partition(8, 3)).turn("a") == part.turn("a") == "eu.orders.p8-3.turn.a"
    assert (whole.turns_stream, part.turns_stream) == ("eu-orders-turns", "eu-orders-turns-p8-3")
    assert whole.turn("a") == "eu.orders.turn.a"
    assert (whole.durable, part.durable, part.redrive_durable) == ("orders", "orders@p8-3", "redrive@p8-3")
    assert (whole.owner("query", "get"), part.owner("query", "get")) == ("eu.orders.query.get", "eu.orders.query.get.3")
    for shared in ("events_stream", "dead_stream", "lease_bucket", "layout_stream", "prefix"):
        assert getattr(whole, shared) == getattr(part, shared)
    assert part.event("paid", "a") == whole.event("paid", "a")
    assert part.filters("eu.x.event.paid") == tuple(f"eu.x.event.paid.{bucket}.*" for bucket in range(3, 64, 8))


@pytest.mark.parametrize(("name", "valid"), [("p8-3", False), ("p64-63", False), ("p8", True), ("p8-3a", True)])
def test_no_actor_has_the_name_of_a_partition(name: str, valid: bool) -> None:
    assert valid_name(name) is valid
