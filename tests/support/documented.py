"""Actors whose contracts are unusual: equal class names, tuples, recursion, generic types, texts that look like HTML, and any event."""

from typing import Any, Generic, TypeVar

from msgspec import Struct, field

from runtime import Accepted, Actor, AnyEvent, Command, Event, Query, Rejected, command, query, react

T = TypeVar("T")


class ShelfFull(Rejected):
    """Nothing is left (409) <script>alert(1)</script>."""


def _basket_types() -> type[Struct]:
    class Item(Struct, frozen=True):
        """A line of a basket & its "price"."""

        name: str
        price: int

    return Item


BasketItem: Any = _basket_types()


class Item(Struct, frozen=True):
    """Another type with the name of `BasketItem`."""

    sku: str
    place: tuple[int, str]
    """A shelf and a row."""
    parts: list["Item"] = []


class Found(Struct, Generic[T], frozen=True):
    items: tuple[T, ...]


class PutItem(Command[None], actor="stockroom", key="item.sku"):
    """Put an <b>item</b> on a shelf."""

    item: Item
    any_of: int | list[str] | None = field(default=None, name="<img src=x>")


class FindItems(Query[Found[Item]], actor="stockroom", key="sku"):
    sku: str
    limits: dict[str, int] = {}


class CountStock(Command[Accepted], actor="stockroom", key="sku"):
    sku: str


class Recount(Command[None], actor="stockroom", key="sku"):
    sku: str


class StockCounted(Event, actor="stockroom"):
    """The stock was counted."""

    total: float


class ItemPut(Event, actor="stockroom", key="item.sku"):
    item: Item


class Depot(Actor[Item]):
    """Items on shelves."""

    name = "stockroom"

    @query
    async def find_items(self, message: FindItems) -> Found[Item]:
        return Found((self.state,) if self.state else ())

    @command
    async def put_item(self, message: PutItem) -> None:
        if self.state is not None:
            raise ShelfFull("full")
        self.emit(ItemPut(message.item))

    @command(accept=True)
    async def count_stock(self, message: CountStock) -> None:
        self.emit(StockCounted(1.0))

    @command(internal=True)
    async def recount(self, message: Recount) -> None:
        pass


class AddToBasket(Command[BasketItem], actor="basket", key="name"):
    name: str
    item: BasketItem


class Basket(Actor):
    """Baskets of customers."""

    name = "basket"
    version = "1.2.0"

    @command
    async def add_to_basket(self, message: AddToBasket) -> BasketItem:
        return message.item

    @react(where={"item": {"sku": ["</script>", "b"]}})
    async def on_item_put(self, event: ItemPut) -> None:
        """Offer it."""

    @react
    async def on_stock_counted(self, event: StockCounted) -> None:
        pass


class Audit(Actor):
    """Reads the events of others without their classes."""

    name = "audit"

    @react
    async def on_event(self, event: AnyEvent) -> None:
        pass

    @react(sources=["stockroom", "basket"], where={"total": [1]})
    async def on_stockroom(self, event: AnyEvent) -> None:
        pass
