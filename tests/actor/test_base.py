"""The checks of an actor's class, and the methods of `self` inside and outside a handler."""

from collections import deque
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from runtime import Actor, Command, DeclarationError, Event, Index, Options, Query, command, query
from runtime.actor.state_type import StateCodec
from runtime.testing import worker

K = TypeVar("K")
S = TypeVar("S")


class Box(msgspec.Struct, frozen=True):
    name: str
    size: int = 0
    tags: list[str] = []


class GetBox(Query[int], actor="boxes", key="name"):
    name: str


class ResizeBox(Command[int], actor="boxes", key="name"):
    name: str
    size: int


class BoxResized(Event, actor="boxes", key="name"):
    name: str


class LidOpened(Event, actor="lids", key="name"):
    name: str


class OpenLid(Command[None], actor="lids", key="name"):
    name: str


class Boxes(Actor[Box], indexes=[Index("name", order="size"), Index()]):
    name = "boxes"

    @query
    async def get(self, message: GetBox) -> int:
        return self.state.size if self.state else 0

    @command
    async def resize(self, message: ResizeBox) -> int:
        self.state = Box(message.name, message.size)
        self.emit(BoxResized(message.name))
        return message.size


@pytest.mark.parametrize("name", ["Boxes", "my boxes", "a.b", "", "3d", 7])
def test_the_name_of_an_actor_must_be_one_lower_case_token(name: object) -> None:
    with pytest.raises(DeclarationError, match=r"Wrong\.name = .* is not a valid name: use lower-case letters"):
        type("Wrong", (Actor,), {"name": name})


def test_a_state_must_be_a_frozen_struct() -> None:
    class Open(msgspec.Struct):
        pass

    for state in (Open, dict, int):
        with pytest.raises(DeclarationError, match=r"must be a msgspec\.Struct with frozen=True"):

            class Wrong(Actor[state]):  # type: ignore[valid-type]
                name = "wrong"


def test_a_state_with_a_dict_of_integer_keys_is_refused() -> None:
    class Open(msgspec.Struct, frozen=True):
        by_number: dict[int, int]

    with pytest.raises(DeclarationError, match="hash-collision bomb"):

        class Wrong(Actor[Open]):
            name = "wrong"


def test_a_state_with_a_part_that_json_cannot_be_read_as_is_refused() -> None:
    for part in (deque, deque[int], complex, list[Exception]):
        kind = msgspec.defstruct("Closed", [("part", part)], frozen=True)
        with pytest.raises(
            DeclarationError, match=r"^Closed: no state can have a .*, since JSON cannot be read as one"
        ):
            StateCodec(kind)
    for part in (object, Hashable, Any, list[object]):
        StateCodec(msgspec.defstruct("Open", [("part", part)], frozen=True))


def _hook(self: object) -> None: ...


def _needs(self: object, database: str, *, size: int = 0) -> None: ...


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("options", {"limit": 3}),
        ("options", Options),
        ("version", "one"),
        ("version", "1.0"),
        ("version", 1),
        ("upgrades", [print]),
        ("upgrades", {"1": print}),
        ("upgrades", {0: print}),
        ("upgrades", {1: None}),
        ("on_start", _hook),
        ("on_stop", _hook),
        ("__init__", _needs),
    ],
)
def test_an_attribute_of_another_type_is_refused_by_name(attribute: str, value: object) -> None:
    with pytest.raises(DeclarationError, match=rf"^Wrong\.{attribute}\b"):
        type("Wrong", (Actor,), {"name": "wrong", attribute: value})


def test_a_constructor_without_required_arguments_is_allowed() -> None:
    def init(self: object, size: int = 0, *more: int, **others: int) -> None: ...

    type("Right", (Actor,), {"name": "right", "__init__": init})


def test_an_index_needs_fields_whose_values_have_an_order() -> None:
    with pytest.raises(DeclarationError, match="an index names the field 'weight', which Box does not have"):

        class Wrong(Actor[Box], indexes=[Index("weight")]):
            name = "wrong"

    for indexes in (["name"], Index("name"), "name"):
        with pytest.raises(DeclarationError, match=r"^Wrong3: indexes=.* is not a list of Index"):

            class Wrong3(Actor[Box], indexes=indexes):  # type: ignore[arg-type]
                name = "wrong"

    for field in ((), ("name", "name"), ("name", 1), 1, ["name"], ("name", None)):
        with pytest.raises(
            DeclarationError, match=r"^Wrong4: Index\(.*\): a filter is the name of a field, or a tuple"
        ):

            class Wrong4(Actor[Box], indexes=[Index(field)]):  # type: ignore[arg-type]
                name = "wrong"

    with pytest.raises(DeclarationError, match="without state cannot have indexes"):

        class Without(Actor, indexes=[Index()]):  # type: ignore[type-arg]
            name = "wrong"

    for index in (Index("tags"), Index("name", order="tags")):
        with pytest.raises(DeclarationError, match=r"an index names Box\.tags, whose values have no order"):

            class Wrong2(Actor[Box], indexes=[index]):
                name = "wrong"


def test_a_class_without_a_name_is_a_base_of_other_actors() -> None:
    class Base(Actor[Box]):
        pass

    class Real(Base):
        name = "real"

    assert Real.state_type is Box and not hasattr(Base, "handlers")


def test_a_mixin_for_any_state_may_stand_before_any_actor() -> None:
    class Audited(Actor[Any]):
        pass

    class AuditedBoxes(Audited, Boxes):
        name = "boxes"

    class Prices(Audited):
        name = "prices"

    assert (AuditedBoxes.state_type, Prices.state_type) == (Box, None)
    with pytest.raises(DeclarationError, match="the state Any must be"):

        class Wrong(Actor[Any]):
            name = "wrong"


def test_a_generic_mixin_names_the_state_of_its_actor() -> None:
    class Audited(Actor[S]):
        pass

    class Labeled(Audited[S], Generic[K, S]):
        pass

    class Tagged(Actor[Any], Generic[K]):
        pass

    class Several(Labeled[int, Box], Audited[Box]):
        name = "boxes"

    class Before(Tagged[int], Actor[Box]):
        name = "boxes"

    class Without(Audited[None]):
        name = "prices"

    assert [each.state_type for each in (Several, Before, Without)] == [Box, Box, None]


async def test_a_handler_can_be_called_directly_in_a_test() -> None:
    boxes = worker(Boxes, key="a", state=Box("a", 3))
    assert await boxes.get(GetBox("a")) == 3
    assert await boxes.resize(ResizeBox("a", 5)) == 5
    assert boxes.state == Box("a", 5) and boxes.emitted == [BoxResized("a")]


async def test_a_query_cannot_change_anything() -> None:
    boxes = worker(Boxes, key="a", writable=False)
    for change, act in {
        "change state": lambda: setattr(boxes, "state", Box("a")),
        "emit": lambda: boxes.emit(BoxResized("a")),
        "set a timer": lambda: boxes.remind(1, ResizeBox("a", 1)),
    }.items():
        with pytest.raises(DeclarationError, match=f"a query changes nothing: it cannot {change}"):
            act()
    with pytest.raises(DeclarationError, match="it cannot command"):
        await boxes.command(OpenLid("a"))
    assert boxes.state is None and not boxes.emitted and not boxes.timers and not boxes.sent


def test_misuse_of_the_methods_in_a_handler_is_refused() -> None:
    boxes = worker(Boxes, key="a")
    with pytest.raises(DeclarationError, match="LidOpened belongs to 'lids': 'boxes' cannot emit it"):
        boxes.emit(LidOpened("a"))
    with pytest.raises(DeclarationError, match="ResizeBox is a command: only events are emitted"):
        boxes.emit(ResizeBox("a", 1))
    with pytest.raises(DeclarationError, match="OpenLid is no command of 'boxes'"):
        boxes.remind(1, OpenLid("a"))
    with pytest.raises(DeclarationError, match=r"boxes: self\.state must be a Box or None, not a int"):
        boxes.state = 5
    with pytest.raises(AttributeError, match=r"Boxes.*\.cache: an attribute that a handler sets is lost"):
        boxes.cache = {}


async def test_query_refuses_a_command_and_command_refuses_a_query() -> None:
    boxes = worker(Boxes, key="a", replies={GetBox: 1, OpenLid: None})
    with pytest.raises(DeclarationError, match=r"GetBox is not a command: use self\.query"):
        await boxes.command(GetBox("a"))
    with pytest.raises(DeclarationError, match=r"OpenLid is not a query: use self\.command"):
        await boxes.query(OpenLid("a"))


def test_an_actor_without_state_cannot_assign_one() -> None:
    class Stateless(Actor):  # type: ignore[type-arg]
        name = "stateless"

    with pytest.raises(DeclarationError, match=r"stateless: an actor without state cannot assign self\.state"):
        worker(Stateless).state = Box("a")


def test_the_methods_of_a_handler_fail_outside_a_handler() -> None:
    boxes = Boxes()
    boxes.pool = "a resource of the service"  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="only while a message is being handled"):
        _ = boxes.state
    with pytest.raises(RuntimeError, match="only while a message is being handled"):
        boxes.emit(BoxResized("a"))


def test_the_ids_of_nested_messages_are_the_same_in_every_run() -> None:
    first, second = (worker(Boxes, key="a", message_id="m1") for _ in range(2))
    other = worker(Boxes, key="a", message_id="m2")
    names = [[actor.remind(1, ResizeBox("a", 1)) for _ in range(3)] for actor in (first, second, other)]
    assert names[0] == names[1] and not set(names[0]) & set(names[2]) and len(set(names[0])) == 3


def test_options_refuse_an_unknown_field() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"lane": 1, "lanes": 2}, Options)
