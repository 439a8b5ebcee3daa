"""Hello: the smallest actor. It has no state and answers one query.

    python examples/hello.py                 # a NATS server, the actor and its caller in one process
    actorloom run examples.hello             # the actor alone, until Ctrl-C; in another terminal:
    actorloom query hello.greet name=Ada
    nats req hello.query.greet '{"name": "Ada"}'

It prints::

    Hello, Ada!
    Hello, world!
    no service answers bye.query.wave
"""

import asyncio

from msgspec import Struct

from runtime import Actor, NotDelivered, Query, local, query


# Messages and replies are frozen structs: the contract between an actor and its callers. A message names its actor, and a
# query names the type of its reply, so a type checker knows that `await bus.query(Greet("Ada"))` is a Greeting.
class Greeting(Struct, frozen=True):
    text: str


class Greet(Query[Greeting], actor="hello"):
    name: str = "world"


# An actor has a name and one method per message, found by its annotation. The subject of this query is
# `hello.query.greet`, with plain JSON in both directions.
class Hello(Actor):
    """Greets."""

    name = "hello"

    @query
    async def greet(self, message: Greet) -> Greeting:
        return Greeting(f"Hello, {message.name}!")


class Wave(Query[None], actor="bye"):
    """A query to an actor that is not running."""


async def main() -> None:
    async with local(Hello) as bus:
        print((await bus.query(Greet("Ada"))).text)
        print((await bus.query(Greet())).text)
        try:
            await bus.query(Wave())
        except NotDelivered:  # after a second and not after a timeout, because NATS reports that nothing listens there
            print("no service answers bye.query.wave")


if __name__ == "__main__":
    asyncio.run(main())
