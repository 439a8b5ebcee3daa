"""A delivery on its way to its target, and the interface of the senders."""

from typing import Any, Protocol

import msgspec

from runtime.router.inputs import Occurrence
from runtime.router.outcomes import Outcome
from runtime.router.target import Source


class Parcel(msgspec.Struct, frozen=True):
    """One delivery on its way to its target."""

    id: str
    """The id of the delivery."""
    event: Source
    body: object
    """The input of the target, as data that JSON can express."""
    occurrence: Occurrence
    """The values for paths."""


class Sender(Protocol):
    """Sends the deliveries of one target."""

    async def start(self) -> None:
        """Acquire what it needs."""
        ...

    async def stop(self) -> None:
        """Release it."""
        ...

    async def send(self, actor: Any, parcel: Parcel) -> Outcome:
        """Send a delivery. Called in the handler of the target's actor.

        Raises:
            InputError: A path of the target has no value in the event.
            ActorError, TimeoutError: This attempt has failed, or its outcome is unknown.
        """
        ...
