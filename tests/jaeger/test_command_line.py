"""Tests of ``--jaeger``, which fetches the trace of a request from a real Jaeger and prints it as a tree."""

import re
from pathlib import Path

import pytest

from runtime.nats.server import EmbeddedServer
from tests.jaeger.conftest import Jaeger
from tests.support.process import run_command, running_command

pytestmark = pytest.mark.jaeger


async def test_a_request_prints_its_trace(
    jaeger: Jaeger, nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    connection = ("--nats", nats_server.url, "--namespace", namespace)
    telemetry = {"OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    mug = '{"productId":"mug","name":"Mug","price":1,"package":{"width":1,"length":1,"height":1,"weight":1}}'
    async with running_command("run", "actorloom_shop.products", *connection, cwd=tmp_path, env=telemetry):
        done = await run_command(
            "command", "products.create_product", mug, "--jaeger", jaeger.query_url, *connection, cwd=tmp_path
        )
    assert done.code == 0, done
    tree = done.err.splitlines()
    assert re.fullmatch(r"trace [0-9a-f]{32}", tree[0])
    assert tree[1].startswith(f"{tree[0]}: 3 spans, 1 services, ")
    assert re.match(r"└─ products  products/create_product +server ", tree[2])
    assert re.match(r"   ├─ products  commit products +internal ", tree[3])
    assert re.match(
        rf"   └─ products  publish {namespace}\.products\.event\.product_created\.\{{key\}} +producer ", tree[4]
    )
