"""Actors that serve further actors by `Runner.beside`. The page of patterns has the whole use."""

import pytest

from runtime import Actor, DeclarationError, Query, Runner, query
from runtime.nats.server import EmbeddedServer
from runtime.testing import running


class GetParent(Query[str], actor="beside-parents"):
    pass


class Parent(Actor):
    name = "beside-parents"

    @query
    async def get_parent(self, message: GetParent) -> str:
        try:
            Runner.beside(self, [])
        except DeclarationError as error:
            return str(error)
        return "a runner"


async def test_the_view_of_a_turn_serves_no_further_actors(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Parent, url=nats_server.url, namespace=namespace) as system:
        assert "use self in on_start" in await system.bus.query(GetParent())


def test_an_actor_that_nobody_serves_serves_no_further_actors() -> None:
    with pytest.raises(DeclarationError, match="not an actor that this process serves: use self in on_start"):
        Runner.beside(Parent(), [])
