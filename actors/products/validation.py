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
        The reasons why products are invalid, joined in the order of `claimed`, and the stored data of each product (the
        caller's, if the catalog has none).
    """
    reasons = [reason for claim in claimed for reason in _reasons(claim, stored.get(claim.product_id))]
    if not reasons:
        return ProductsValidation(VALID, [])
    corrected = [_partial(stored[claim.product_id]) if claim.product_id in stored else claim for claim in claimed]
    return ProductsValidation(". ".join(reasons), corrected)


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


def _partial(product: Product) -> PartialProduct:
    return msgspec.convert(product, PartialProduct, from_attributes=True)
