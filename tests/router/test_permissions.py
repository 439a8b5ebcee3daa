"""The permissions of the page are enough for a router, and for a client that puts rules."""

import re
from pathlib import Path
from typing import Any

import msgspec

from runtime import connect, testing
from runtime.nats.server import EmbeddedServer
from runtime.router import Router, Rules, Targets
from runtime.router.in_force import wait_in_force
from runtime.router.rule import PutRule, RuleFields
from runtime.router.target import PutTarget, TargetFields
from tests.support.till import LEDGER, GetEntries, Ledger, Sell, Till

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def users() -> str:
    """Return the users of the page, and one with all permissions, as configuration of nats-server."""
    router = re.search(r"(?ms)^{ user: router, .*?^} }$", PAGE)
    client = re.search(r"A client that puts and reads rules and targets needs (.*?), and has", " ".join(PAGE.split()))
    assert router is not None and client is not None
    subjects = msgspec.json.encode(re.findall(r"`([^`]+)`", client[1])).decode()
    plain = router[0].replace("$ROUTER_PASSWORD", "router")
    tool = f'{{ user: tool, password: tool, permissions: {{ publish: {subjects}, subscribe: ["_INBOX.>"] }} }}'
    return f"authorization {{ users: [{{ user: admin, password: admin }}, {plain}, {tool}] }}\nno_auth_user: admin"


async def test_a_router_delivers_with_the_permissions_of_the_page(tmp_path: Path, caplog: Any) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path / "nats", config=users()) as server:
        url = f"nats://router:router@127.0.0.1:{server.port}"
        async with (
            testing.running(Till, Ledger, url=server.url) as shop,
            testing.running(Rules, Targets, Router, url=url),
            connect(f"nats://tool:tool@127.0.0.1:{server.port}") as bus,
        ):
            for name in ("ledger", "other"):
                await bus.command(PutTarget(name, msgspec.convert({"to": LEDGER}, TargetFields)))
            book = {"account": "$.till", "amount": "$.total"}
            targets = [{"target": name, "input": book} for name in ("other", "ledger")]
            rule = await bus.command(PutRule("book", msgspec.convert({"targets": targets}, RuleFields)))
            assert await wait_in_force(bus, rule)
            for total in (1, 2):
                await shop.bus.command(Sell("north", total))

            async def booked() -> bool:
                return await shop.bus.query(GetEntries("north")) == ("1", "2")

            await shop.until(booked)
    refused = {found for each in caplog.messages for found in re.findall(r"to publish to (\S+)", each)}
    assert refused and all(".target-other." in f".{each}." or each.startswith("target-other") for each in refused), (
        refused
    )
