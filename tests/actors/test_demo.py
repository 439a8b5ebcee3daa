"""The demo as a real process: its steps, its trace, the next commands it prints, and its exit."""

import re
import signal
import socket
from pathlib import Path

from tests.support.process import run_command, running_command

STEPS = (
    "delivery.get_delivery_pricing", "payment-3p.preauth", "orders.create_order", "warehouse has a packaging request",
    "warehouse.start_packaging", "warehouse.complete_packaging", "orders knows that it is PACKAGED",
    "delivery has a parcel", "delivery.start_delivery", "delivery.complete_delivery",
    "orders knows that it is FULFILLED", "payment has taken the money",
)  # fmt: skip


async def test_an_order_goes_through_the_shop_in_one_trace(tmp_path: Path) -> None:
    done = await run_command("demo", "--exit", "--port", "0", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    at = [done.out.index(step) for step in STEPS]
    assert at == sorted(at)
    assert all(re.search(rf"{re.escape(step)}.* \d+\.\d ms\n", done.out) for step in STEPS)
    assert re.search(r"trace [0-9a-f]{32}: \d+ spans, 7 services", done.out)
    tree = done.out[done.out.index("trace ") :]
    assert tree.count("└─ customer  order ") == 1  # the only span without a parent
    assert re.search(r"─ orders  publish orders\.event\.order_created\.\{key\} +producer", tree)
    for service, event in (
        ("warehouse", "orders.event.order_created"),
        ("payment", "orders.event.order_created"),
        ("orders", "warehouse.event.package_created"),
        ("delivery", "warehouse.event.package_created"),
        ("orders", "delivery.event.delivery_completed"),
        ("payment", "delivery.event.delivery_completed"),
    ):
        assert re.search(rf"╌ {service}  process {re.escape(event)}\.\{{key\}} +consumer", tree), (service, event)
    assert re.search(r"Order [0-9a-f-]{36} is FULFILLED and paid: \d+\n", done.out)


async def test_it_runs_until_ctrl_c_and_prints_commands_that_work(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running_command(
            "demo", "--port", str(port), cwd=tmp_path, ready="runs until you press Ctrl-C"
        ) as demo:
            assert f"(port {port} is taken)" in demo.text
            line = next(line for line in demo.text.splitlines() if "query orders.get_order" in line)
            own = line.split(" query ")[1].split()
            shown = await run_command("query", *own, cwd=tmp_path)
            assert shown.code == 0, shown
            assert '"status":"FULFILLED"' in shown.out
            demo.signal(signal.SIGINT)
            assert await demo.wait() == 0
            assert "Traceback" not in demo.text


async def test_an_interrupt_during_the_start_leaves_no_stack_trace(tmp_path: Path) -> None:
    async with running_command("demo", "--port", "0", cwd=tmp_path, ready="NATS ") as demo:
        demo.signal(signal.SIGINT)
        assert await demo.wait() in (0, 130)
        assert "Traceback" not in demo.text


async def test_a_missing_server_is_one_error_message(tmp_path: Path) -> None:
    done = await run_command("demo", "--nats-server", "/nowhere/nats-server", cwd=tmp_path)
    assert (done.code, done.err) == (2, "Error: --nats-server: not an executable file: /nowhere/nats-server\n")
    broken = tmp_path / "nats-server"
    broken.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    broken.chmod(0o755)
    done = await run_command("demo", cwd=tmp_path, env={"ACTORLOOM_NATS_SERVER": str(broken)})
    assert done.code == 2
    assert "broken" in done.err and "Traceback" not in done.err


async def test_it_runs_if_no_trace_is_sampled(tmp_path: Path) -> None:
    done = await run_command("demo", "--exit", "--port", "0", cwd=tmp_path, env={"OTEL_TRACES_SAMPLER": "always_off"})
    assert done.code == 0, done
    assert "no spans" in done.out
