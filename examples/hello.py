"""Hello: the smallest actor. It has no state, and answers one query from the question alone.

    python examples/hello.py                 # all in one process: a NATS server, the actor and one who asks
    python -m runtime run examples.hello     # the actor alone, until Ctrl-C; ask it from another terminal:
    python -m runtime query hello.greet name=Ada
    nats req hello.query.greet '{"name": "Ada"}'

It prints::

    Hello, Ada!
    Hello, world!
    nobody serves bye.query.wave
"""

import asyncio

from msgspec import Struct

from runtime import Actor, NotDelivered, Query, local, query


# What is sent and what comes back are frozen structs: the contract between this actor and those who ask it. A message
# names its actor, and a query its reply, so that `await bus.query(Greet("Ada"))` is a Greeting to a type checker.
class Greeting(Struct, frozen=True):
    text: str


class Greet(Query[Greeting], actor="hello"):
    name: str = "world"


# The actor: a name, and a method for each message, found by its annotation. On the wire this is the subject
# `hello.query.greet`, plain JSON in and out.
class Hello(Actor):
    """Greets."""

    name = "hello"

    @query
    async def greet(self, message: Greet) -> Greeting:
        return Greeting(f"Hello, {message.name}!")


class Wave(Query[None], actor="bye"):
    """A query to an actor that does not run."""


async def main() -> None:
    async with local(Hello) as bus:
        print((await bus.query(Greet("Ada"))).text)
        print((await bus.query(Greet())).text)
        try:
            await bus.query(Wave())
        except NotDelivered:  # after a second, not a time-out: NATS knows that nobody listens there
            print("nobody serves bye.query.wave")


if __name__ == "__main__":
    asyncio.run(main())
