"""What a delivery costs: as many parcels as the goods fill, by volume or by weight, times the fee of the country."""

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
_ELSEWHERE = 2500


def delivery_price(products: Iterable[OrderedProduct], address: Address) -> int:
    """Return the price of delivering `products` to `address`."""
    volume = weight = 0
    for product in products:
        package = product.package
        volume += package.width * package.length * package.height * product.quantity
        weight += package.weight * product.quantity
    parcels = max(_ceil(volume, PARCEL_VOLUME), _ceil(weight, PARCEL_WEIGHT))
    return parcels * _FEES.get(address.country.upper(), _ELSEWHERE)


def _ceil(amount: int, unit: int) -> int:
    return -(-amount // unit)  # in integers: a float would round large sums
