"""Each alert of an actor fires on series that show its fault, and none fires on those of a healthy actor.

The series are those of the shop after an order, with their labels. Each counter of a success then grows for hours.
"""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import pytest_asyncio

from runtime.contracts.alerts import alerts_of, rules_of
from runtime.contracts.from_code import services_of
from runtime.nats.server import EmbeddedServer
from runtime.telemetry.metrics import prometheus
from tests.actors.shop import SERVICES, open_shop
from tests.contracts.test_dashboards import DEPLOY, run_orders
from tests.promtool.conftest import Promtool
from tests.support.exposition import Series, series

pytestmark = pytest.mark.promtool

NAMESPACE = "recorded"
(ORDERS,) = [each for each in services_of(SERVICES, NAMESPACE) if each.name == "orders"]
EARLY, LATE = 60, 26 * 60
"""The minutes at which the alerts are looked at. Some rules compare with the day before."""
INTERVAL = 2
"""Minutes between two samples."""
SAMPLES = LATE // INTERVAL
"""The number of samples; promtool cuts none off, and reads them all."""

GROWS, STANDS = f"0+60x{SAMPLES}", f"0x{SAMPLES}"


@pytest_asyncio.fixture(loop_scope="function")
async def recorded(nats_server: EmbeddedServer) -> AsyncIterator[list[Series]]:
    """The series of the actor orders, after an order was delivered."""
    async with open_shop(nats_server.url, NAMESPACE) as shop:
        await run_orders(shop)
        found = series(prometheus.render(shop.system.tracing.metrics.collect()))
    used = " ".join(rule.expression for rule in rules_of(ORDERS))
    yield [
        each
        for each in found
        if each.labels["service_name"] == "orders" and f"{each.name}{{" in used and "redrive" not in each.text()
    ]


def healthy(found: list[Series]) -> dict[str, str]:
    """Return the values of each series while all is well, by its text."""
    values: dict[str, str] = {}
    for each in found:
        if each.name.startswith("actorloom_"):
            text = STANDS if each.name.endswith("_total") else f"{each.value:g}x{SAMPLES}"
        elif each.name.endswith("_bucket"):
            fast = each.labels["le"] == "+Inf" or float(each.labels["le"]) >= 0.01
            text = GROWS if fast else STANDS
        elif "error_type" in each.labels:
            text = f"0+1x{SAMPLES}"  # refusals of the domain
        else:
            text = GROWS
        values[each.text(job="actorloom", instance="a")] = text
    return values


class Fault(NamedTuple):
    """A fault, as it shows in the series."""

    alert: str
    changed: Mapping[str, str] = {}
    """The values of the series that match an expression."""
    added: Mapping[str, str] = {}
    """The values of further series."""
    at: int = EARLY
    """The minute at which the alert fires."""


def failed(code: int) -> str:
    labels = (
        f'service_name="orders",rpc_method="orders/get_order",error_type="{code}",rpc_response_status_code="{code}"'
    )
    return f"rpc_server_call_duration_seconds_count{{{labels}}}"


TEMPLATE = f'messaging_destination_template="{NAMESPACE}.%s.{{key}}"'
RAISED = f'service_name="orders",{TEMPLATE % "warehouse.event.package_created"},error_type="ZeroDivisionError"'
STOPPED = f"0+60x{24 * 60 // INTERVAL} {60 * 24 * 60 // INTERVAL}x{SAMPLES}"
"""The values of a counter that stands still after a day."""

FAULTS = [
    Fault("ActorWithoutOwner", {"^actorloom_partitions_owned": STANDS}),
    Fault("ActorDeadLetters", {"^actorloom_dead_letters_stored_total": f"0x15 1x{SAMPLES}"}),
    Fault("ActorPermissionsRefused", {"^actorloom_permissions_refused": f"1x{SAMPLES}"}),
    Fault("ActorKeysBlocked", {"^actorloom_keys_blocked": f"1x{SAMPLES}"}),
    Fault("ActorErrorRate", added={failed(500): GROWS}),
    Fault("ActorLatency", {r'^rpc_server_call_duration_seconds_bucket.*get_order.*le="(0\.\d+|1\.0)"': STANDS}),
    Fault("ActorRequestsRefused", added={failed(429): f"0+1x{SAMPLES}"}),
    Fault("ActorAttemptsFail", added={f"messaging_process_duration_seconds_count{{{RAISED}}}": f"0+600x{SAMPLES}"}),
    Fault("ActorLag", {"^actorloom_consumer_lag.*warehouse": f"1001x{SAMPLES}"}),
    Fault("EventsStoppedOrderCreated", {"^messaging_client_sent.*order_created": STOPPED}, at=LATE),
    Fault("EventsStoppedOrderModified", {"^messaging_client_sent.*order_modified": STOPPED}, at=LATE),
    Fault(
        "EventsStoppedOrderDeleted",
        added={f"messaging_client_sent_messages_total{{{TEMPLATE % 'orders.event.order_deleted'}}}": STOPPED},
        at=LATE,
    ),
]


def case(name: str, values: Mapping[str, str], firing: Mapping[int, list[str]]) -> dict[str, Any]:
    """Return a test of promtool: exactly the alerts of `firing` fire at each minute."""
    if LATE not in firing:  # promtool takes long for long series
        values = {each: text.replace(f"x{SAMPLES}", f"x{EARLY}") for each, text in values.items()}
    tests = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts],
        }
        for minute, alerts in firing.items()
    ]
    found = [{"series": each, "values": text} for each, text in values.items()]
    return {"name": name, "interval": f"{INTERVAL}m", "input_series": found, "promql_expr_test": tests}


def test_there_is_a_fault_for_each_alert() -> None:
    assert sorted(each.alert for each in FAULTS) == sorted(rule.name for rule in rules_of(ORDERS))


def test_the_rules_of_the_shop_are_valid(promtool: Promtool) -> None:
    files = sorted((DEPLOY / "prometheus").glob("*.yaml"))
    assert promtool("check", "rules", *files).count("SUCCESS") == len(SERVICES) == len(files)


def test_each_alert_fires_on_its_fault_and_none_on_healthy_series(
    promtool: Promtool, recorded: list[Series], tmp_path: Path
) -> None:
    well = healthy(recorded)
    cases = [
        case("healthy", well, {EARLY: [], LATE: []}),
        case("no process", {}, {EARLY: ["ActorWithoutOwner"]}),
    ]
    for fault in FAULTS:
        changed = {
            each: next((values for wanted, values in fault.changed.items() if re.search(wanted, each)), text)
            for each, text in well.items()
        }
        assert bool(fault.added) != (changed != well), fault
        cases.append(case(fault.alert, {**changed, **fault.added}, {fault.at: [fault.alert]}))
    (tmp_path / "orders.yaml").write_text(alerts_of([ORDERS])["orders.yaml"])
    # JSON is YAML.
    tests = {"rule_files": ["orders.yaml"], "evaluation_interval": f"{INTERVAL}m", "tests": cases}
    (tmp_path / "tests.yaml").write_bytes(msgspec.json.encode(tests))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "tests.yaml")
