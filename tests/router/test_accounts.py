"""Events go to the actors of another account of NATS, by the import of the page."""

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec

from runtime import testing
from runtime.nats.server import EmbeddedServer
from runtime.router import Router, Rules, Targets
from runtime.router.in_force import wait_in_force
from runtime.router.rule import PutRule, RuleFields
from runtime.router.target import PutTarget, TargetFields
from tests.support.till import Sell, Sold, Till

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


async def test_an_event_reaches_the_actors_of_another_account(tmp_path: Path) -> None:
    found = re.search(r"(?ms)^accounts \{$.*?^\}$", PAGE)
    assert found is not None
    async with EmbeddedServer(port=0, store_dir=tmp_path / "nats", config=found[0]) as server:
        urls = [f"nats://{user}:{user}@127.0.0.1:{server.port}" for user in ("shop", "partner")]
        async with (
            testing.running(Till, url=urls[1]) as partner,
            testing.running(Rules, Targets, Router, Till, url=urls[0]) as shop,
        ):
            to: dict[str, Any] = {"kind": "event", "type": "till.Sold", "namespace": "partner"}
            await shop.bus.command(PutTarget("there", msgspec.convert({"to": to}, TargetFields)))
            fields = msgspec.convert({"types": ["till.Sold"], "targets": [{"target": "there"}]}, RuleFields)
            assert await wait_in_force(shop.bus, await shop.bus.command(PutRule("all", fields)))
            for total in range(3):
                await shop.bus.command(Sell("north", total))
            async with partner.bus.events(Sold, since="first") as events, asyncio.timeout(20):
                assert [(await anext(events)).total for _ in range(3)] == [0, 1, 2]
