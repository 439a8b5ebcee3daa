"""The `shop` fixture: the six services of the reference shop on the server of the session."""

from collections.abc import AsyncIterator

import pytest

from runtime.nats.server import EmbeddedServer
from tests.actors.shop import Shop, open_shop


@pytest.fixture
async def shop(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Shop]:
    """The running shop, with a filled catalog."""
    async with open_shop(nats_server.url, namespace) as running:
        yield running
