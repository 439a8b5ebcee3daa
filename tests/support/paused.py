"""An actor with a handler that blocks its process, for longer than its lease if the test wants that."""

import time

import msgspec

from runtime import Actor, Command, Query, command, query


class Sum(msgspec.Struct, frozen=True):
    value: int = 0


class GetSum(Query[int], actor="vault", key="name"):
    name: str


class Put(Command[int], actor="vault", key="name"):
    """Adds one. The process is blocked for `seconds` before that."""

    name: str
    seconds: float = 0.0


class Vault(Actor[Sum]):
    """Keeps one sum per key."""

    name = "vault"

    @query
    async def get(self, message: GetSum) -> int:
        return (self.state or Sum()).value

    @command
    async def put(self, message: Put) -> int:
        if message.seconds:
            time.sleep(message.seconds)  # noqa: ASYNC251
        self.state = Sum((self.state or Sum()).value + 1)
        return self.state.value
