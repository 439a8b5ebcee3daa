"""The HTTP endpoint of the suite: it notes each request, and sometimes fails before that, or gives no answer after it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import msgspec
from aiohttp import web

from tests.chaos.feeds import Note

_FAILURES = 0.03
"""Share of the requests that get 503 and are not noted."""
_CUTS = 0.03
"""Share of the requests that are noted, and get no answer."""


class Hook:
    """The endpoint, and its requests."""

    def __init__(self, rng: Random) -> None:
        self.url = ""
        self.notes: list[tuple[str, Note]] = []
        """The idempotency keys and the deliveries, in the order of their arrival."""
        self.failures = self.cuts = 0
        self._rng = rng

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Note a request, or fail."""
        body, chance = await request.read(), self._rng.random()
        if chance < _FAILURES:
            self.failures += 1
            return web.Response(status=503)
        self.notes.append((request.headers["Idempotency-Key"], msgspec.json.decode(body, type=Note)))
        if chance < _FAILURES + _CUTS and request.transport is not None:
            self.cuts += 1
            request.transport.close()
        return web.Response()


@asynccontextmanager
async def open_hook(rng: Random) -> AsyncIterator[Hook]:
    """Run the endpoint on a free port of 127.0.0.1 for the duration of the block."""
    hook = Hook(rng)
    runner = web.ServerRunner(web.Server(hook.answer), handle_signals=False, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield hook
    finally:
        await runner.cleanup()
