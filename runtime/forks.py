"""Sockets that a forked child gives up.

A child of `os.fork` or `multiprocessing` has a copy of every descriptor. It would keep a connection open after the end
of this process, so that NATS routes requests to nobody, and the port of a server taken.
"""

import os
from collections.abc import Iterable
from typing import Protocol
from weakref import WeakSet


class SocketHolder(Protocol):
    """An object with open sockets."""

    def descriptors(self) -> Iterable[int]:
        """Return the file descriptors of the open sockets. It is called in the child."""
        ...


def close_in_children(holder: SocketHolder) -> None:
    """Close the sockets of `holder` in each child that is forked from now on, as long as `holder` lives."""
    _holders.add(holder)


_holders: WeakSet[SocketHolder] = WeakSet()


def _close() -> None:
    for holder in tuple(_holders):
        for descriptor in holder.descriptors():
            # The number stays taken: the child's copy of the socket object closes it again, at any later time.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, descriptor, inheritable=False)
            os.close(null)


os.register_at_fork(after_in_child=_close)
