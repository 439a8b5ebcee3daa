"""The products service: keeps the catalog, and validates product data of callers against it."""

import msgspec

from runtime import Actor, Index, Page, Rejected, command, not_found, query

from ..changes import changed, stamp
from .messages import (
    CreateProduct,
    DeleteProduct,
    GetProduct,
    ListProducts,
    ListProductsByCategory,
    ModifyProduct,
    Product,
    ProductCreated,
    ProductDeleted,
    ProductModified,
    ProductPage,
    ProductsValidation,
    ValidateProducts,
)
from .validation import validate

NOT_FOUND = "Product not found"


class Products(
    Actor[Product],
    indexes=[Index(order="created_date"), Index("category", order="created_date"), Index("product_id")],
):
    """The catalog, with one key per product."""

    name = "products"

    @query
    async def get_product(self, message: GetProduct) -> Product:
        return self.state or not_found(NOT_FOUND)

    @query
    async def list_products(self, message: ListProducts) -> ProductPage:
        return _page(await self.list(order="created_date", after=message.next_token))

    @query
    async def list_products_by_category(self, message: ListProductsByCategory) -> ProductPage:
        return _page(await self.list(category=message.category, order="created_date", after=message.next_token))

    @query
    async def validate_products(self, message: ValidateProducts) -> ProductsValidation:
        stored: dict[str, Product] = {}
        for product_id in {claim.product_id for claim in message.products}:
            for product in (await self.list(product_id=product_id, limit=1)).items:
                stored[product_id] = product
        return validate(message.products, stored)

    @command
    async def create_product(self, message: CreateProduct) -> Product:
        if self.state is not None:
            raise Rejected("Product already exists")
        now = stamp(self.now)
        product = Product(**msgspec.structs.asdict(message), created_date=now, modified_date=now)
        self.state = product
        self.emit(ProductCreated.of(product))
        return product

    @command
    async def modify_product(self, message: ModifyProduct) -> Product:
        """Set the given fields. If nothing changes, the product keeps its date and no event is emitted."""
        old = self.state or not_found(NOT_FOUND)
        given = {name: value for name, value in msgspec.structs.asdict(message).items() if value is not msgspec.UNSET}
        new = msgspec.structs.replace(old, **given)
        if new == old:
            return old
        new = msgspec.structs.replace(new, modified_date=stamp(self.now, after=old.modified_date or ""))
        self.state = new
        self.emit(ProductModified(old, new, changed(old, new)))
        return new

    @command
    async def delete_product(self, message: DeleteProduct) -> None:
        product = self.state or not_found(NOT_FOUND)
        self.state = None
        self.emit(ProductDeleted.of(product))


def _page(page: Page[Product]) -> ProductPage:
    return ProductPage(page.items, page.next)
