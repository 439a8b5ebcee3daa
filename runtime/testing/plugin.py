"""A plugin of pytest: a nats-server for the session, and actors on it for each test.

pytest finds it by its entry point, `actorloom`. All fixtures are synchronous, so they work under pytest-asyncio in both modes and under
the plugin of anyio. Nothing of the runtime is imported before a test uses one of them.
"""

import asyncio
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from runtime.actor.base import Actor
    from runtime.nats.server import EmbeddedServer
    from runtime.testing.system import Actors, System


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[EmbeddedServer]":
    """Return a nats-server with JetStream on a free port, for all tests of this process: one for each worker of pytest-xdist.

    Tests keep apart by their namespaces. A test that kills or stops the server needs one of its own.
    """
    from runtime.nats.server import EmbeddedServer

    # A directory that pytest removes: the files of many tests take longer than a test, or a fixture, may take.
    server = EmbeddedServer(port=0, store_dir=tmp_path_factory.mktemp("nats"))
    _run(server.start())
    try:
        yield server
    finally:
        _run(server.stop())


@pytest.fixture
def actors(nats_server: "EmbeddedServer") -> "Actors":
    """Return `running` for this test: on `nats_server`, and in a namespace that no other test has.

    All systems of one test are in the same namespace. Arguments by name are those of `running`.

    Example:
        async def test_a_booking_is_counted(actors: Actors) -> None:
            async with actors(Tickets, Ushers) as system:
                await system.bus.command(BookSeats("hamlet", 2))
    """
    namespace = f"t{uuid.uuid4().hex[:12]}"

    def run(*classes: "type[Actor[Any]]", **settings: Any) -> "AbstractAsyncContextManager[System]":
        from runtime.testing.system import running

        settings = {"url": nats_server.url, "namespace": namespace, **settings}
        return running(*classes, **settings)

    return run


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine. `asyncio.run` would leave the thread without the event loop that another plugin has set for it."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(work)
