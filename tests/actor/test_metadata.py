"""The description of an actor, and its form on the wire."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import Actor, Command, Event, Query, Rejected, command, new_key, not_found, query, react
from runtime.actor.error_kinds import ErrorKind
from runtime.actor.metadata import (
    EventMetadata,
    OperationMetadata,
    Reaction,
    ServiceMetadata,
    describe_operation,
    describe_service,
)
from runtime.actor.metadata_texts import read_operation, read_service, write_operation, write_service
from runtime.admin import discovery
from runtime.nats.server import EmbeddedServer
from tests.support.probe import running


class Parcel(msgspec.Struct, frozen=True, rename="camel"):
    parcel_id: str


class ParcelSent(Event, actor="bundles", key="parcel.parcel_id"):
    """A parcel has left."""

    parcel: Parcel


class ParcelsCounted(Event, actor="bundles"):
    count: int


class ParcelLost(Event, actor="bundles", key="parcel_id"):
    parcel_id: str
    count: int


class FindParcel(Query[Parcel], actor="bundles", key="parcel_id", rename="camel"):
    parcel_id: str


class SendParcel(Command[None], actor="bundles", key=new_key):
    """Send a parcel.

    More about it.
    """


class TooHeavy(Rejected):
    """The parcel is too heavy."""


def weigh() -> None:
    raise TooHeavy("30 kg")


class Parcels(Actor[Parcel]):
    name = "bundles"

    @query
    async def find_parcel(self, message: FindParcel) -> Parcel:
        """Find a parcel.

        More about it.
        """
        return self.state or not_found(message.parcel_id)

    @command
    async def send_parcel(self, message: SendParcel) -> None:
        self.check()

    def check(self) -> None:
        weigh()

    @react(where={"count": [{"numeric": [">", 1]}]})
    async def on_many_lost(self, event: ParcelLost) -> None:
        """Search for it."""

    @react
    async def on_parcel_lost(self, event: ParcelLost) -> None:
        pass


class Stateless(Actor):
    name = "stateless"


REACTIONS = ["bundles.ParcelLost", 'bundles.ParcelLost where {"count":[{"numeric":[">",1]}]}']


def test_a_service_is_described() -> None:
    described = describe_service(Parcels, "shop")
    assert (described.runtime, described.keyed, described.namespace) == ("actorloom", True, "shop")
    assert list(described.emits) == ["bundles.ParcelSent", "bundles.ParcelsCounted", "bundles.ParcelLost"]
    sent = described.events["bundles.ParcelSent"]
    assert (sent.subject, sent.stream) == ("shop.bundles.event.parcel_sent.*", "shop-bundles-events")
    assert sent.filter == "shop.bundles.event.parcel_sent.*.*"
    assert (sent.key, sent.description) == ("parcel.parcelId", "A parcel has left.")
    assert described.events["bundles.ParcelsCounted"].key == ""
    assert described.streams == {
        "events": "shop-bundles-events",
        "dead letters": "shop-bundles-dead",
        "tells": "shop-bundles-tells",
    }
    assert [each.code for each in described.errors] == [400, 408, 429, 500, 503, 508]
    assert [str(reaction) for reaction in described.reacts] == REACTIONS
    assert {(each.subject, each.stream, each.filter) for each in described.reacts} == {
        ("shop.bundles.event.parcel_lost.*", "shop-bundles-events", "shop.bundles.event.parcel_lost.*.*")
    }
    assert [(each.reaction, each.method) for each in described.reacts] == [
        ("on_parcel_lost", "on_parcel_lost"), ("on_many_lost", "on_many_lost")
    ]  # fmt: skip
    assert (described.remember, describe_service(Stateless).remember) == (86_400.0, 0.0)
    assert [each.description for each in described.reacts] == ["", "Search for it."]


def test_an_operation_is_described() -> None:
    found = describe_operation(Parcels.handlers.queries["find_parcel"])
    assert (found.op, found.key, found.description) == ("query", "parcelId", "Find a parcel.")
    assert found.request is not None
    assert found.request["$defs"]["FindParcel"]["required"] == ["parcelId"]
    assert found.response is not None
    assert found.response["$ref"] == "#/$defs/Parcel"
    assert [(each.kind, each.code) for each in found.errors] == [("NotFound", 404)]
    sent = describe_operation(Parcels.handlers.commands["send_parcel"])
    assert (sent.op, sent.key, sent.description) == ("command", "", "Send a parcel.")
    assert sent.response == {"type": "null"}
    assert [each.kind for each in sent.errors] == ["IdReused", "TooHeavy"]
    assert sent.errors[1] == ErrorKind("TooHeavy", 409, "The parcel is too heavy.")


def test_the_texts_of_a_service_and_an_operation() -> None:
    texts = write_service(describe_service(Parcels, "shop"))
    assert list(texts) == [
        "runtime",
        "keyed",
        "namespace",
        "remember",
        "emits",
        "events",
        "reacts",
        "streams",
        "errors",
    ]
    assert (texts["runtime"], texts["keyed"], texts["namespace"]) == ("actorloom", "true", "shop")
    assert [each["where"] for each in msgspec.json.decode(texts["reacts"]) if "where" in each] == [
        {"count": [{"numeric": [">", 1]}]}
    ]
    assert list(write_service(describe_service(Stateless))) == ["runtime", "keyed", "streams", "errors"]
    texts = write_operation(describe_operation(Parcels.handlers.queries["find_parcel"]))
    assert list(texts) == ["op", "request", "response", "key", "types", "description", "errors"]


def test_the_source_of_a_reaction_is_its_service() -> None:
    reaction = Reaction("orders.OrderCreated", {"a": ["b. c"]})
    assert (reaction.source, reaction.name) == ("orders", "OrderCreated")
    assert str(reaction) == 'orders.OrderCreated where {"a":["b. c"]}'


TEXT = st.text(st.characters(codec="utf-8"))
SCHEMAS = st.dictionaries(TEXT, TEXT | st.booleans() | st.dictionaries(TEXT, TEXT))
REACTION = st.builds(
    Reaction,
    st.from_regex(r"[a-z-]+\.[A-Z][A-Za-z]*", fullmatch=True),
    st.none() | st.dictionaries(TEXT, SCHEMAS, min_size=1),
    TEXT,
    TEXT,
    TEXT,
    TEXT,
)
ERRORS = st.lists(st.builds(ErrorKind, TEXT, st.integers(0, 999), TEXT), max_size=3)
EVENTS = st.dictionaries(TEXT, st.builds(EventMetadata, TEXT, TEXT, TEXT, TEXT, TEXT), max_size=3)
SERVICES = st.builds(
    ServiceMetadata,
    TEXT,
    st.booleans(),
    TEXT,
    st.integers(1, 64),
    st.floats(0, 1e9),
    st.dictionaries(TEXT, SCHEMAS),
    EVENTS,
    st.lists(REACTION),
    st.dictionaries(TEXT, TEXT),
    ERRORS,
)


@given(SERVICES)
def test_a_service_is_read_as_it_was_written(metadata: ServiceMetadata) -> None:
    assert read_service(write_service(metadata)) == metadata


@given(st.builds(OperationMetadata, TEXT, st.none() | SCHEMAS, st.none() | SCHEMAS, TEXT, st.lists(TEXT), TEXT, ERRORS))
def test_an_operation_is_read_as_it_was_written(metadata: OperationMetadata) -> None:
    assert read_operation(write_operation(metadata)) == metadata


@pytest.mark.parametrize("text", ["", "x", "null", "[1]", "{", '{"a": 1}', '"\ud800"'])
def test_texts_of_another_framework_are_read_without_an_error(text: str) -> None:
    service = read_service({"emits": text, "reacts": text, "keyed": text})
    assert service == ServiceMetadata(runtime="")
    operation = read_operation({"request": text, "description": "Does it."})
    expected = {"a": 1} if text == '{"a": 1}' else None
    assert operation == OperationMetadata(request=expected, description="Does it.")


async def test_a_running_service_announces_all_that_a_contract_document_needs(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Parcels, url=nats_server.url, namespace=namespace) as system:
        found = [
            each
            for each in await discovery.services(system.connection, "bundles")
            if each.metadata.namespace == namespace
        ]
        [service] = found
        for type_name, event in service.metadata.events.items():
            assert type_name in service.metadata.emits
            assert event.subject.startswith(f"{namespace}.bundles.event.") and event.subject.endswith(".*")
            assert event.stream == service.metadata.streams["events"] == f"{namespace}-bundles-events"
            assert (await system.jetstream.stream_info(event.stream)) is not None
        assert [each.stream for each in service.metadata.reacts] == [f"{namespace}-bundles-events"] * 2
        assert service.metadata.reacts[1].where == {"count": [{"numeric": [">", 1]}]}
        assert all(each.metadata.description for each in service.endpoints)
        common = {each.kind for each in service.metadata.errors}
        assert {"InvalidMessage", "HandlerFailed", "NotDelivered"} <= common
        [lost] = [each for each in service.endpoints if each.name == "find_parcel"]
        _, payload = await system.connection.request(lost.subject, b'{"parcelId": "none"}', timeout=5)
        assert msgspec.json.decode(payload)["error"]["kind"] in {each.kind for each in lost.metadata.errors} - common
