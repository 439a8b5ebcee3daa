"""Messages: their contracts, and the checks when a class is created."""

import enum
import types
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import msgspec
import pytest

from runtime import Accepted, Actor, CodecError, Command, DeclarationError, Event, Query, command, new_key, query
from runtime.actor.message import NamingWarning, codec_of, contract_of, message_token
from runtime.nats.server import EmbeddedServer
from tests.support.probe import running


class Thing(msgspec.Struct, frozen=True):
    order_id: str


class GetThing(Query[Thing], actor="things", key="thing_id"):
    thing_id: str


class CreateThing(Command[None], actor="things", key=new_key):
    name: str


class ThingCreated(Event, actor="things", key="new.order_id"):
    new: Thing
    amount: int = 0


def test_a_contract_has_owner_name_key_and_reply() -> None:
    contract = contract_of(GetThing)
    assert (contract.op, contract.actor, contract.name, contract.reply) == ("query", "things", "get_thing", Thing)
    assert contract.key_of is not None and contract.key_of(GetThing("7")) == "7"
    assert contract_of(GetThing("7")) is contract
    assert contract_of(CreateThing).reply is type(None) and contract_of(CreateThing).key is new_key
    created = contract_of(ThingCreated)
    assert (created.op, created.type_name, created.reply) == ("event", "things.ThingCreated", None)
    assert created.key_of is not None and created.key_of(ThingCreated(Thing("9"))) == "9"


def test_a_message_is_a_frozen_struct() -> None:
    with pytest.raises(AttributeError):
        GetThing("7").thing_id = "8"  # type: ignore[misc]
    assert msgspec.json.encode(GetThing("7")) == b'{"thing_id":"7"}'


def test_an_integer_key_becomes_decimal_text() -> None:
    class GetCount(Query[int], actor="things", key="number"):
        number: Annotated[int, msgspec.Meta(ge=0)]

    assert contract_of(GetCount).key_of(GetCount(12)) == "12"  # type: ignore[misc]


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Floor(enum.IntEnum):
    GROUND = 0
    FIRST = 1


UserId = NewType("UserId", str)
ORDER_ID = UUID("0b7c5c1e-5a46-4f0e-8f8f-0123456789ab")


@pytest.mark.parametrize(
    ("kind", "value", "text", "wire"),
    [
        (UUID, ORDER_ID, str(ORDER_ID), str(ORDER_ID).upper()),
        (UUID, ORDER_ID, str(ORDER_ID), ORDER_ID.hex),
        (date, date(2026, 2, 3), "2026-02-03", "2026-02-03"),
        (Color, Color.BLUE, "blue", "blue"),
        (Floor, Floor.FIRST, "1", 1),
        (UserId, UserId("u-1"), "u-1", "u-1"),
        (NewType("OrderId", UUID), ORDER_ID, str(ORDER_ID), str(ORDER_ID)),
        (Annotated[UserId, msgspec.Meta(min_length=1)], "u-1", "u-1", "u-1"),
        (Literal["a", "b"], "b", "b", "b"),
        (Literal[1, 2], 2, "2", 2),
        (int, 12, "12", 12),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_value_of_a_key_has_one_text_however_it_is_written(
    kind: Any, value: Any, text: str, wire: Any, nested: bool
) -> None:
    part = msgspec.defstruct("Part", [("thing_id", kind)], frozen=True)
    fields, path = ({"part": part | None}, "part.thing_id") if nested else ({"thing_id": kind}, "thing_id")
    namespace = {"__annotations__": fields, "__module__": __name__}
    moved: Any = type(Event)("ThingMoved", (Event,), namespace, actor="things", key=path)
    event = moved(part(value) if nested else value)
    assert message_token(event) == contract_of(moved).key_of(event) == text  # type: ignore[misc]
    body = {"thing_id": wire}
    received = codec_of(moved).decode(msgspec.json.encode({"part": body} if nested else body))
    assert message_token(received) == text


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (UUID, str(ORDER_ID), "a UUID"),
        (date, datetime(2026, 2, 3, tzinfo=UTC), "a date"),
        (Color, "blue", "a Color"),
        (int, True, "an integer"),
    ],
)
def test_a_key_of_another_type_is_refused(kind: Any, value: Any, expected: str) -> None:
    namespace = {"__annotations__": {"thing_id": kind}, "__module__": __name__}
    moved: Any = type(Event)("ThingMoved", (Event,), namespace, actor="things", key="thing_id")
    with pytest.raises(CodecError, match=f"ThingMoved has no key: 'thing_id' is not {expected}"):
        message_token(moved(value))


def test_a_message_whose_key_is_absent_is_refused() -> None:
    class ThingMoved(Event, actor="things", key="new.order_id"):
        new: Thing | None = None
        also: Any = None

    class ThingLost(Event, actor="things", key="also"):
        also: Any = None

    for event in (ThingMoved(), ThingLost(), ThingLost(1.5), ThingLost(["a"])):
        with pytest.raises(CodecError, match=r"has no key: .* is not a string"):
            contract_of(event).key_of(event)  # type: ignore[misc]
    assert contract_of(ThingMoved).key_of(ThingMoved(Thing("3"))) == "3"  # type: ignore[misc]


def test_an_event_copies_the_fields_of_another_object() -> None:
    class Source:
        new = Thing("1")
        amount = 3
        other = "ignored"

    assert ThingCreated.of(Source()) == ThingCreated(Thing("1"), 3)
    assert ThingCreated.of(Source(), amount=9) == ThingCreated(Thing("1"), 9)


class GetNodes(Query[list["Node"]], actor="trees"):
    pass


class MoveNode(Command["Node"], actor="trees", key="path"):
    path: str
    child: "MoveNode | None" = None


class FillNode(Command[None], actor="trees", key="under.name"):
    under: "Node"
    leaves: list["Leaf"] = []


class NodeFilled(Event, actor="trees", key="under.name"):
    under: "Node"


class GrowNode(FillNode, actor="trees"):
    by: int = 1


class Leaf(msgspec.Struct, frozen=True):
    color: str


class Node(msgspec.Struct, frozen=True):
    name: str
    nodes: list["Node"] = []


class Trees(Actor[Node]):
    name = "trees"

    @command
    async def fill_node(self, message: FillNode) -> None:
        self.state = message.under
        self.emit(NodeFilled(message.under))

    @command
    async def grow_node(self, message: GrowNode) -> None:
        self.state = Node(message.under.name, [Node("new")] * message.by)

    @query
    async def get_nodes(self, message: GetNodes) -> list[Node]:
        return [Node("k", [Node("l")])]

    @command
    async def move_node(self, message: MoveNode) -> Node:
        return Node(message.path, [Node(message.child.path)] if message.child else [])


async def test_recursive_and_later_types_are_carried(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Trees, url=nats_server.url, namespace=namespace) as system:
        assert await system.bus.command(MoveNode("a", MoveNode("b", MoveNode("c")))) == Node("a", [Node("b")])
        assert await system.bus.query(GetNodes()) == [Node("k", [Node("l")])]
        await system.bus.command(FillNode(Node("k", [Node("l")]), [Leaf("red")]))
        assert await system.state("trees", "k") == Node("k", [Node("l")])
        assert [each.subject.rpartition(".")[2] for each in await system.stored_events("trees")] == ["k"]


async def test_a_derived_message_keeps_its_own_fields_and_the_key_of_its_base(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Trees, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(GrowNode(Node("k"), by=3))
        assert await system.state("trees", "k") == Node("k", [Node("new")] * 3)


def test_a_derived_message_must_declare_its_owner() -> None:
    with refused("ThingGone derives from ThingCreated, but is a message of its own: .* actor='things'"):

        class ThingGone(ThingCreated):
            reason: str = ""


@pytest.mark.parametrize(
    ("first", "second"), [("GetURL", "GetUrl"), ("GetHTTPPage", "GetHttpPage"), ("GetItem", "Get_Item")]
)
def test_two_names_that_are_one_name_on_the_wire_are_refused(first: str, second: str) -> None:
    def declare(base: type, name: str) -> Any:
        origin = {"__orig_bases__": (Query[None],)} if base is Query else {}
        return type(Event)(name, (base,), {"__module__": __name__, **origin}, actor="pages", naming=False)

    for base in (Query, Event):
        declare(base, first)
        declare(base, first)  # as a module that is loaded again does
        with refused(f"{second} and {first} have the same name on the wire, (query|event) '[a-z_]+' of actor 'pages'"):
            declare(base, second)


def test_a_type_that_is_never_defined_is_refused_with_its_name() -> None:
    class GetLost(Query[None], actor="lost", key="at"):
        at: str
        where: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    class Lost(msgspec.Struct, frozen=True):
        where: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    async def get_lost(self: Any, message: GetLost) -> None: ...

    get_lost.__annotations__ = {"message": GetLost, "return": None}
    with refused("GetLost: name 'Nowhere' is not defined; define the types of its fields at the top level"):
        type("Losts", (Actor,), {"name": "lost", "get_lost": query(get_lost)})

    class GetFound(Query["Nowhere"], actor="lost"):  # type: ignore[name-defined]
        pass

    with refused("GetFound: name 'Nowhere' is not defined"):
        print(contract_of(GetFound).reply)
    with refused("Lost: name 'Nowhere' is not defined"):
        types.new_class("Losts", (Actor[Lost],), exec_body=lambda body: body.update(name="lost"))
    with refused("GetLost: name 'Nowhere' is not defined"):
        contract_of(GetLost).key_of(GetLost("a", None))  # type: ignore[misc]


def refused(text: str, **keywords: Any) -> Any:
    """Expect the declaration in the block to be refused with `text`."""
    return pytest.raises(DeclarationError, match=text)


def test_a_key_must_name_a_field() -> None:
    with refused("GetOther: key 'thing': GetOther has no field 'thing'"):

        class GetOther(Query[Thing], actor="things", key="thing"):
            thing_id: str


def test_the_path_of_a_key_must_exist() -> None:
    with refused("key 'thing.user_id': Thing has no field 'user_id'"):

        class GetOther(Query[Thing], actor="things", key="thing.user_id"):
            thing: Thing


class Mixed(enum.Enum):
    ONE = 1
    TWO = "2"


@pytest.mark.parametrize(
    "kind",
    [float, bool, Decimal, datetime, time, list[str], bytes, Thing, Mixed, str | None, str | UUID, Literal[1, "1"]],
)
def test_a_key_must_have_one_text_for_each_value(kind: Any) -> None:
    with refused("key 'thing_id' must be a str, int, UUID, date, or an enum of texts or integers, not"):
        msgspec_ns = {"__annotations__": {"thing_id": kind}, "__module__": __name__}
        type(Event)("ThingMoved", (Event,), msgspec_ns, actor="things", key="thing_id")


@pytest.mark.parametrize("actor", ["Things", "my things", "a.b", "3p", "", "ü", "*"])
def test_the_name_of_the_owner_must_be_one_token(actor: str) -> None:
    with refused("GetOther: actor=.* is not a valid name: use lower-case letters"):

        class GetOther(Query[Thing], actor=actor):
            pass


def test_the_name_of_a_message_must_be_a_token() -> None:
    with refused("ÄrgerAdded has no valid name on the wire"):

        class ÄrgerAdded(Event, actor="things"):  # noqa: PLC2401
            pass

    with refused("_HiddenAdded has no valid name on the wire"):

        class _HiddenAdded(Event, actor="things"):
            pass


def test_a_key_without_an_owner_is_refused() -> None:
    with refused("GetOther: key= without actor="):

        class GetOther(Query[Thing], key="thing_id"):
            thing_id: str


def test_a_query_must_declare_its_reply() -> None:
    with refused(r"GetOther: declare the type of the reply: Query\[Reply\], or Query\[None\]"):

        class GetOther(Query, actor="things"):  # type: ignore[type-arg]
            pass


def test_an_event_cannot_declare_a_reply() -> None:
    with pytest.raises(TypeError):

        class ThingMoved(Event[Thing], actor="things"):  # type: ignore[misc]
            pass


def test_only_a_command_can_create_its_key() -> None:
    with refused("ThingMoved: key=new_key is for commands only"):

        class ThingMoved(Event, actor="things", key=new_key):
            pass


def test_a_message_cannot_be_mutable() -> None:
    with refused("a message is immutable; remove frozen=False"):

        class GetOther(Query[Thing], actor="things", frozen=False):
            pass


def test_a_plain_struct_is_not_a_message() -> None:
    with refused("Thing is not a message"):
        contract_of(Thing)
    with refused("str is not a message"):
        contract_of("text")


@pytest.mark.parametrize(
    "name",
    ["OrderCreated", "MoneySent", "PackageLost", "AccountFrozen", "LimitHit", "IndexRebuilt", "FileOverwritten", "UserLoggedIn",
     "TentTornDown"],
)  # fmt: skip
def test_an_event_in_the_past_tense_causes_no_warning(name: str) -> None:
    assert contract_of(type(Event)(name, (Event,), {"__module__": __name__}, actor="things")).op == "event"


@pytest.mark.parametrize("name", ["OrderCreate", "CreateOrder", "NewOrder", "OrderReuse", "UserLogIn", "UpDown"])
def test_an_event_in_another_tense_causes_a_warning(name: str) -> None:
    with pytest.warns(NamingWarning, match=f"event {name} is not in the past tense"):
        type(Event)(name, (Event,), {"__module__": __name__}, actor="things")


def own_module(namespace: dict[str, Any]) -> None:
    namespace["__module__"] = __name__


@pytest.mark.parametrize("name", ["CreateOrder", "PingHost", "BringCup", "StringBow", "EmbedFont", "FeedCat"])
def test_an_imperative_causes_no_warning(name: str) -> None:
    assert contract_of(types.new_class(name, (Command[None],), {"actor": "things"}, own_module)).op == "command"


@pytest.mark.parametrize("name", ["PingedHost", "GoingOrder", "FedCat"])
def test_a_command_that_is_no_imperative_causes_a_warning(name: str) -> None:
    with pytest.warns(NamingWarning, match=f"command {name} is not an imperative"):
        types.new_class(name, (Command[None],), {"actor": "things"}, own_module)


def test_a_command_that_is_not_an_imperative_causes_a_warning_with_its_file() -> None:
    with pytest.warns(NamingWarning, match="command CreatedOrder is not an imperative") as caught:

        class CreatedOrder(Command[None], actor="things"):
            pass

    assert caught[0].filename == __file__


def test_naming_false_switches_the_check_of_names_off() -> None:
    class OrderCreation(Event, actor="things", naming=False):
        pass

    class BringThing(Command[Accepted], actor="things"):
        pass


@pytest.mark.parametrize("name", ["query", "command", "event", "dead", "redrive"])
def test_an_actor_cannot_have_the_name_of_a_kind(name: str) -> None:
    with refused(f"GetOther: actor='{name}' is reserved: in subjects, .* are kinds of messages"):

        class GetOther(Query[Thing], actor=name):
            pass

    with refused(f"Other.name = '{name}' is reserved"):
        type("Other", (Actor,), {"name": name})
    with refused("is reserved"):
        type(Event)(name.capitalize(), (Event,), {"__module__": __name__}, actor="things", naming=False)
