"""IP addresses and CIDR blocks in event patterns, in the notations that EventBridge reads."""

import re
import socket
from collections.abc import Callable

from runtime.errors import DeclarationError

__all__ = ["Address", "address_of", "network_of"]

Address = tuple[int, int]
"""The number of bits, 32 or 128, and the address as an integer."""

_V4 = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)")
_V6 = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*")
_LONGEST_V4 = 15
_MAPPED = 0xFFFF << 32
"""The first 96 bits of an IPv6 address that stands for an IPv4 address: ``::ffff:0:0/96``."""


def address_of(value: object) -> Address | None:
    """Return the address that a string denotes; None for other strings and values. Never raises.

    An IPv6 address that contains an IPv4 address (``::ffff:a00:1``) is that IPv4 address.
    """
    if type(value) is not str:
        return None
    if (parts := _V4.fullmatch(value)) is not None:
        numbers = [int(part) for part in parts.groups()] if len(value) <= _LONGEST_V4 else [256]
        return (32, int.from_bytes(bytes(numbers))) if max(numbers) < 256 else None
    if _V6.fullmatch(value) is None:
        return None
    try:
        number = int.from_bytes(socket.inet_pton(socket.AF_INET6, value))
    except OSError:
        return None
    return (32, number - _MAPPED) if number >> 32 == 0xFFFF else (128, number)


def network_of(text: str, path: str) -> Callable[[Address], bool]:
    """Compile a CIDR block such as ``10.0.0.0/8`` or ``2001:db8::/32`` into a predicate over addresses.

    Raises:
        DeclarationError: `text` is not a block, or its prefix is as long as an address.
    """
    address, _, length = text.partition("/")
    base = address_of(address)
    if base is None or not re.fullmatch("[0-9]{1,3}", length):
        raise DeclarationError(f"{path}: expected a CIDR block such as 10.0.0.0/8 or 2001:db8::/32, got {text!r}")
    bits, number = base
    free = bits - int(length)
    if free < 1:
        raise DeclarationError(
            f"{path}: the prefix must be shorter than {bits} bits, got {text!r}; list one address as the string {address!r}"
        )
    network = (bits, number >> free)
    return lambda candidate: (candidate[0], candidate[1] >> free) == network
