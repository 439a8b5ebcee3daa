"""Validates the product data of a caller against the catalog."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from .messages import PartialProduct, Product, ProductsValidation

VALID = "All products are valid"

_COMPARED = ("name", "package", "price")
"""Fields to compare. The id is equal already: it selects the stored product."""


def validate(claimed: Sequence[PartialProduct], stored: Mapping[str, Product]) -> ProductsValidation:
    """Compare each claimed product with the stored one.

    Args:
        claimed: The products of the caller.
        stored: The products of the catalog, by product id.

    Returns:
        The reasons why products are invalid, joined in the order of `claimed`. With them the invalid products, in the same
        order: the compared fields as the catalog has them, or the claim itself if the catalog has no such product.
    """
    reasons: list[str] = []
    wrong: list[PartialProduct] = []
    for claim in claimed:
        product = stored.get(claim.product_id)
        if found := list(_reasons(claim, product)):
            reasons += found
            wrong.append(claim if product is None else _compared(product))
    return ProductsValidation(". ".join(reasons) or VALID, wrong)


def _reasons(claim: PartialProduct, product: Product | None) -> Iterator[str]:
    label = f"product '{claim.product_id}'"
    if product is None:
        yield f"Product '{claim.product_id}' not found"
        return
    for name in _COMPARED:
        want, got = getattr(product, name), getattr(claim, name)
        if got is msgspec.UNSET:
            yield f"Missing '{name}' in {label}"
        elif got != want:
            yield f"Invalid value for '{name}': want '{_show(want)}', got '{_show(got)}' in {label}"


def _show(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _compared(product: Product) -> PartialProduct:
    return PartialProduct(product.product_id, **{name: getattr(product, name) for name in _COMPARED})
