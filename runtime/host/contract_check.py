"""The check of the contract of an actor before its process serves, and its registration."""

from functools import cached_property

from runtime.contracts.entries import Entry, entries_of_actor
from runtime.contracts.registry import Registry
from runtime.contracts.versions import Start
from runtime.host.announcement import description_of
from runtime.turns.served import Served


class ContractCheck:
    """The check of one host.

    Args:
        served: The actor.
        allow_breaking: Whether a change that breaks others is only logged.
    """

    def __init__(self, served: Served, allow_breaking: bool) -> None:
        self._served = served
        self._allow_breaking = allow_breaking
        self._registry = Registry(served.jetstream, served.namespace, served.replicas)

    @cached_property
    def _entries(self) -> list[Entry]:
        return entries_of_actor(type(self._served.actor), description_of(self._served))

    async def register(self) -> None:
        """Register the schemas of the actor. A start with the schemas of the last start costs one request.

        Raises:
            ContractBroken: A change breaks others, and is not allowed.
            ApiError, PublishError, TimeoutError: The registry cannot be used now.
        """
        served = self._served
        start = Start(served.actor.version, served.holder, self._registry.now())
        await self._registry.register(served.names.actor, self._entries, start, allow_breaking=self._allow_breaking)
