"""The price of a delivery: the number of parcels, by volume or by weight, times the fee of the country."""

from collections.abc import Iterable

from ..products.messages import OrderedProduct
from .messages import Address

PARCEL_VOLUME = 500**3
"""Cubic millimeters of one parcel."""
PARCEL_WEIGHT = 12_000
"""Grams of one parcel."""

_NORDIC = "DK FI NO SE"
_EUROPE = "AT BE BG CY CZ DE EE ES FR GR HR HU IE IT LT LU LV MT NL PL PT RO SI SK"
_AMERICA = "CA US"
_FEES = {
    country: fee
    for countries, fee in ((_NORDIC, 0), (_EUROPE, 1000), (_AMERICA, 1500))
    for country in countries.split()
}
"""The fee of one parcel, by ISO 3166-1 alpha-2 country code."""
_DEFAULT_FEE = 2500
"""The fee of one parcel to any other country."""


def delivery_price(products: Iterable[OrderedProduct], address: Address) -> int:
    """Return the price of delivering `products` to `address`, in the smallest unit of the shop's currency."""
    volume = weight = 0
    for product in products:
        package = product.package
        volume += package.width * package.length * package.height * product.quantity
        weight += package.weight * product.quantity
    parcels = max(_ceil(volume, PARCEL_VOLUME), _ceil(weight, PARCEL_WEIGHT))
    return parcels * _FEES.get(address.country.upper(), _DEFAULT_FEE)


def _ceil(amount: int, unit: int) -> int:
    return -(-amount // unit)  # a float would round large sums
