"""The handler table: an invalid declaration is refused at import, and the error names the fault."""

import re
import types
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from runtime import Accepted, Actor, Command, DeclarationError, Event, Query, command, new_key, query, react


class Thing(msgspec.Struct, frozen=True):
    name: str


class GetThing(Query[Thing], actor="things", key="name"):
    name: str


class FindThing(Query[Thing | None], actor="things"):
    name: str


class MakeThing(Command[Thing], actor="things", key=new_key):
    name: str


class DropThing(Command[None], actor="things", key="name"):
    name: str


class ShipThings(Command[None], actor="things"):
    pass


class ImportThings(Command[Accepted], actor="things", key="name"):
    name: str


class ThingMade(Event, actor="things", key="name"):
    name: str


class DayEnded(Event, actor="calendar"):
    pass


class GetBox(Query[Thing], actor="boxes", key="name"):
    name: str


class Things(Actor[Thing]):
    """An actor without faults."""

    name = "things"

    @query
    async def get_thing(self, message: GetThing) -> Thing:
        """Return a thing."""
        raise NotImplementedError

    @query
    async def find(self, message: FindThing) -> Thing | None: ...

    @command
    async def make(self, message: MakeThing) -> Thing:
        raise NotImplementedError

    @command
    async def drop(self, message: DropThing) -> None: ...

    @command(accept=True)
    async def import_things(self, message: ImportThings) -> None: ...

    @react
    async def on_thing_made(self, event: ThingMade) -> None: ...

    @react(where={"name": [{"prefix": "x"}]}, attempts=2)
    async def on_thing_made_too(self, event: ThingMade) -> None: ...

    async def not_a_handler(self, message: int) -> None: ...


def test_the_table_has_the_handlers_of_an_actor() -> None:
    table = Things.handlers
    assert sorted(table.queries) == ["find_thing", "get_thing"]
    assert sorted(table.commands) == ["drop_thing", "import_things", "make_thing"]
    first, second = table.reactions[ThingMade]
    assert {first.name, second.name} == {"on_thing_made", "on_thing_made_too"}
    assert second.attempts == 2 and second.matches is not None and second.matches({"name": "xy"})
    assert table.queries["get_thing"].doc == "Return a thing."
    assert table.commands["import_things"].accept


def test_a_reaction_that_is_added_later_changes_no_id_suffix() -> None:
    class Before(Actor[Thing]):
        name = "things"

        @react
        async def on_made(self, event: ThingMade) -> None: ...

    class After(Before):
        name = "things"

        @react
        async def a_new_reaction(self, event: ThingMade) -> None: ...

    before = {handler.name: handler.id_suffix for handler in Before.handlers.reactions[ThingMade]}
    after = {handler.name: handler.id_suffix for handler in After.handlers.reactions[ThingMade]}
    assert before["on_made"] == after["on_made"] != after["a_new_reaction"]


def test_a_decorator_returns_the_method_itself() -> None:
    async def method(self: Any, message: GetThing) -> Thing:
        raise NotImplementedError

    assert query(method) is method


def make(
    actor: str, mark: Callable[[Any], Any], message: Any, returns: Any, state: Any = Thing, name: str = "handle"
) -> Any:
    """Declare an actor with one handler of `message`."""

    async def handle(self: Any, message: Any) -> Any: ...

    handle.__annotations__ = {"message": message, "return": returns}
    handle.__qualname__ = name
    base = Actor[state] if state is not None else Actor
    namespace = {"name": actor, "handle": mark(handle), "__orig_bases__": (base,), "__module__": __name__}
    return type("Wrong", (Actor,), namespace)


@pytest.mark.parametrize(
    ("mark", "message", "returns", "text"),
    [
        (query, DropThing, None, "Wrong.handle: @query cannot handle DropThing, which is a command: use @command"),
        (command, GetThing, Thing, "Wrong.handle: @command cannot handle GetThing, which is a query: use @query"),
        (react, GetThing, None, "Wrong.handle: @react cannot handle GetThing, which is a query: use @query"),
        (query, ThingMade, None, "Wrong.handle: @query cannot handle ThingMade, which is an event: use @react"),
        (query, GetThing, None, "Wrong.handle returns None, but the reply of GetThing is Thing"),
        (query, GetThing, dict, "Wrong.handle returns dict, but the reply of GetThing is Thing"),
        (query, FindThing, Thing, "Wrong.handle returns Thing, but the reply of FindThing is .*Thing | None"),
        (command, DropThing, Thing, "Wrong.handle returns Thing, but the reply of DropThing is None"),
        (react, ThingMade, Thing, "Wrong.handle: a reaction must return None, since an event has no reply"),
        (query, GetBox, Thing, "Wrong.handle: GetBox belongs to actor 'boxes': 'things' cannot handle it"),
        (command, ShipThings, None, "Wrong.handle: ShipThings has no key, but the actor has a state for each key"),
        (react, DayEnded, None, "Wrong.handle: DayEnded has no key, but the actor has a state for each key"),
        (
            command(accept=True),
            DropThing,
            None,
            r"Wrong\.handle: accept=True needs a Command\[Accepted\], and a handler that returns None",
        ),
        (command(accept=True), ImportThings, Accepted, r"Wrong\.handle: accept=True needs a Command\[Accepted\]"),
        (react(key="nam"), ThingMade, None, "Wrong.handle: key 'nam': ThingMade has no field 'nam'"),
        (react(key=["name"]), ThingMade, None, r"Wrong.handle: key=\['name'\] must be the path of a field"),  # type: ignore[call-overload]
        (react(where={"name": []}), ThingMade, None, "Wrong.handle: where.name: an empty list"),
        (query, Thing, Thing, "Thing is not a message"),
        (query, int, Thing, "int is not a message"),
    ],
)
def test_an_invalid_declaration_is_refused(mark: Any, message: Any, returns: Any, text: str) -> None:
    with pytest.raises(DeclarationError, match=text):
        make("things", mark, message, returns)


@pytest.mark.parametrize("where", [{"nam": [{"prefix": "x"}]}, '{"nam": [{"prefix": "x"}]}'])
def test_a_pattern_is_checked_against_its_event_at_import(where: dict[str, Any] | str) -> None:
    with pytest.raises(
        DeclarationError, match=r"where\.nam: ThingMade has no field 'nam' on the wire; did you mean 'name'"
    ):

        class Wrong(Actor):
            name = "wrong"

            @react(where=where)
            async def on_thing_made(self, event: ThingMade) -> None: ...


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("first", "first"),
        ("new", "new"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01 02:30+02:30", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00.25-01:00", "2026-01-01T01:00:00.250000Z"),
        ("", None),
        ("First", None),
        ("last", None),
        ("1h", None),
        ("2026-01-01", None),
        ("2026-01-01T00:00:00", None),
        ("2026-02-30T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("1969-12-31T23:59:59Z", None),
        ("2262-01-01T00:00:00Z", None),
        (None, None),
        (0, None),
        (datetime(2026, 1, 1, tzinfo=UTC), None),
    ],
)
def test_the_start_of_a_reaction_is_checked(since: Any, expected: str | None) -> None:
    def declare() -> Any:
        async def on_sold(self: Any, event: DayEnded) -> None: ...

        return type("Shop", (Actor,), {"name": "shop", "on_sold": react(since=since)(on_sold)})

    if expected is None:
        with pytest.raises(DeclarationError, match=r"Shop\.on_sold: since=.*(use \"first\"|from 1970 to 2261)"):
            declare()
    else:
        assert declare().handlers.all_reactions()[0].since == expected


@pytest.mark.parametrize("name", ["", "a b", "a.b", "1a", "é", "x" * 101, 5])
def test_the_name_of_a_reaction_is_checked(name: Any) -> None:
    async def on_sold(self: Any, event: DayEnded) -> None: ...

    with pytest.raises(DeclarationError, match=r"Shop\.on_sold: name="):
        type("Shop", (Actor,), {"name": "shop", "on_sold": react(name=name)(on_sold)})


def test_an_actor_without_state_needs_no_key() -> None:
    assert make("things", command, ShipThings, None, state=None).handlers.commands["ship_things"].key_of is None


def test_a_handler_must_be_a_coroutine_function() -> None:
    with pytest.raises(DeclarationError, match=r"on_it: a handler must be a coroutine function: use async def"):

        @query
        def on_it(self: Any, message: GetThing) -> Thing: ...  # type: ignore[empty-body]


def test_a_message_cannot_have_two_handlers() -> None:
    with pytest.raises(DeclarationError, match=r"Twice\.two: GetThing has a handler already: Twice\.one"):

        class Twice(Actor[Thing]):
            name = "things"

            @query
            async def one(self, message: GetThing) -> Thing: ...  # type: ignore[empty-body]

            @query
            async def two(self, message: GetThing) -> Thing: ...  # type: ignore[empty-body]


def test_a_handler_must_take_one_message() -> None:
    with pytest.raises(DeclarationError, match=r"Wrong\.get: a handler must have two parameters, self and the message"):

        class Wrong(Actor[Thing]):
            name = "things"

            @query
            async def get(self, message: GetThing, more: int) -> Thing: ...  # type: ignore[empty-body]


def test_a_handler_must_be_annotated() -> None:
    with pytest.raises(
        DeclarationError, match=r"Wrong\.get: annotate the type of the message and the type of the reply"
    ):

        class Wrong(Actor[Thing]):
            name = "things"

            @query
            async def get(self, message): ...  # type: ignore[no-untyped-def]


def test_a_message_type_must_be_imported_at_run_time() -> None:
    with pytest.raises(
        DeclarationError, match=r"Wrong\.get: .*import message types at run time, not under TYPE_CHECKING"
    ):

        class Wrong(Actor[Thing]):
            name = "things"

            @query
            async def get(self, message: "OnlyChecked") -> Thing: ...  # type: ignore[name-defined,empty-body]  # noqa: F821


def test_a_message_with_a_dict_of_integer_keys_is_refused() -> None:
    class CountThings(Query[int], actor="things"):
        counts: dict[int, int]

    with pytest.raises(DeclarationError, match="hash-collision bomb"):
        make("things", query, CountThings, int)


def test_a_reply_with_a_dict_of_integer_keys_is_refused() -> None:
    class CountThings(Query[dict[int, int]], actor="things"):
        pass

    with pytest.raises(DeclarationError, match="hash-collision bomb"):
        make("things", query, CountThings, dict[int, int])


class Parcel(msgspec.Struct, frozen=True):
    weight: complex
    label: str = ""


class Shipment(msgspec.Struct, frozen=True):
    parcels: list[Parcel]


class SendShipment(Command[None], actor="shipments", key="name"):
    name: str
    shipment: Shipment


class GetShipment(Query[Shipment], actor="shipments", key="name"):
    name: str


class ShipmentSent(Event, actor="shippers", key="name"):
    name: str
    shipment: Shipment | None


@pytest.mark.parametrize(
    ("mark", "message", "returns", "text"),
    [
        (command, SendShipment, None, "SendShipment: field shipment.parcels.weight has a type without a JSON Schema"),
        (
            query,
            GetShipment,
            Shipment,
            "the reply of GetShipment: field parcels.weight has a type without a JSON Schema",
        ),
        (react, ShipmentSent, None, "ShipmentSent: field shipment.parcels.weight has a type without a JSON Schema"),
    ],
)
def test_a_type_without_a_json_schema_is_refused_with_message_and_field(
    mark: Any, message: Any, returns: Any, text: str
) -> None:
    with pytest.raises(DeclarationError, match=re.escape(text)):
        make("shipments", mark, message, returns, Thing)


def test_an_emitted_event_without_a_json_schema_is_refused() -> None:
    with pytest.raises(DeclarationError, match=re.escape("ShipmentSent: field shipment.parcels.weight has a type")):

        class Shippers(Actor):
            name = "shippers"


@pytest.mark.parametrize(
    ("message", "decorator"), [(GetThing, "query"), (DropThing, "command"), (ThingMade, "react"), (DayEnded, "react")]
)
def test_a_handler_without_its_decorator_is_refused(message: Any, decorator: str) -> None:
    async def handle(self: Any, message: Any) -> None: ...

    handle.__annotations__["message"] = message
    with pytest.raises(
        DeclarationError, match=f"Wrong.handle takes a {message.__name__} and has no decorator: add @{decorator}"
    ):
        type("Wrong", (Actor,), {"name": "things", "handle": handle})


def test_a_helper_of_a_handler_needs_no_decorator() -> None:
    class Helped(Actor[Thing]):
        name = "things"

        @command
        async def drop(self, message: DropThing) -> None:
            await self.really_drop(message)

        async def really_drop(self, message: DropThing) -> None: ...

        async def _make(self, message: MakeThing) -> None: ...

        def describe(self, message: GetThing) -> str:
            return message.name

    assert list(Helped.handlers.commands) == ["drop_thing"]


class RemoveThing(Command[None], actor="bins", key="name", formerly=("DeleteThing", "EraseThing")):
    name: str


class EraseThing(Command[None], actor="bins", key="name"):
    name: str


@pytest.mark.parametrize(
    ("base", "formerly", "text"),
    [
        (Query[None], "GetIt", "formerly= is for commands only"),
        (Event, "ItWentWrong", "formerly= is for commands only"),
        (Command[None], "drop_it", None),
        (Command[None], "drop it", "formerly='drop it' must be the former name of the class, or a tuple of them"),
        (Command[None], ("Drop", 5), "formerly=('Drop', 5) must be the former name of the class, or a tuple of them"),
        (Command[None], "DropIt", "formerly='DropIt' must be the former name of the class, or a tuple of them"),
    ],
)
def test_former_names_are_checked(base: Any, formerly: Any, text: str | None) -> None:
    def declare() -> Any:
        return types.new_class("DropIt", (base,), {"actor": "bins", "formerly": formerly, "naming": False})

    if text is None:
        assert declare().__contract__.formerly == (formerly,)
    else:
        with pytest.raises(DeclarationError, match=re.escape(f"DropIt: {text}")):
            declare()


def test_two_commands_cannot_have_one_former_name() -> None:
    with pytest.raises(DeclarationError, match="RemoveThing: formerly='EraseThing' is also a name of EraseThing"):

        class Bins(Actor):
            name = "bins"

            @command
            async def remove(self, message: RemoveThing) -> None: ...

            @command
            async def erase(self, message: EraseThing) -> None: ...
