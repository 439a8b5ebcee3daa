"""Dashboards and alert rules from contracts: those of the shop are committed, and name metrics that exist."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from runtime import Actor, Event, Options, Query, RetryPolicy, query, react
from runtime.admin.discovery import Service
from runtime.contracts import expressions, panels
from runtime.contracts.alerts import alerts_of, rules_of
from runtime.contracts.dashboards import dashboards_of
from runtime.contracts.from_code import services_of
from runtime.telemetry.metrics import prometheus
from runtime.testing import running
from tests.actors.shop import SERVICES, Refused, Shop, open_shop
from tests.support.exposition import series

DEPLOY = Path(__file__).parents[2] / "deploy"
SHOP = services_of(SERVICES)

_SELECTOR = re.compile(r"(\w+)\{((?:[^{}\"]|\"[^\"]*\")*)\}")


def expressions_of(services: list[Service]) -> Iterator[str]:
    """Yield each expression of the dashboards and the alerts."""
    for each in dashboards_of(services).values():
        yield from (target["expr"] for panel in each["panels"] for target in panel["targets"])
    yield from (rule.expression for service in services for rule in rules_of(service))


def test_the_files_of_the_shop_are_up_to_date() -> None:
    files = {
        f"grafana/{name}": msgspec.json.format(msgspec.json.encode(each), indent=2).decode() + "\n"
        for name, each in dashboards_of(SHOP).items()
    } | {f"prometheus/{name}": text for name, text in alerts_of(SHOP).items()}
    committed = {
        str(path.relative_to(DEPLOY)): path.read_text()
        for path in (*DEPLOY.glob("grafana/*.json"), *DEPLOY.glob("prometheus/*.yaml"))
    }
    assert committed == files, "run: actorloom dashboards actorloom_shop --output deploy"


@pytest.mark.parametrize("name", dashboards_of(SHOP))
def test_a_dashboard_of_the_shop_is_well_formed(name: str) -> None:
    found = dashboards_of(SHOP)[name]
    assert found["schemaVersion"] >= 36 and found["title"] and len(found["uid"]) <= 40
    assert [each["type"] for each in found["templating"]["list"]] == ["datasource"]
    for panel in found["panels"]:
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["type"] == "stat" or panel["options"]["legend"]["showLegend"]
        assert all(target["legendFormat"] and target["expr"] for target in panel["targets"])
    check_places(found)


def check_places(found: dict[str, Any]) -> None:
    """Check that no panels overlap, that all fit, and that ids are unique."""
    all_ = found["panels"]
    assert len({each["id"] for each in all_}) == len(all_)
    for panel in all_:
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(set(refs)) == len(refs)
        assert panel["gridPos"]["x"] >= 0 and panel["gridPos"]["x"] + panel["gridPos"]["w"] <= panels.COLUMNS
    for one, other in combinations([each["gridPos"] for each in all_], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


sizes = st.tuples(st.integers(1, panels.COLUMNS), st.integers(1, 12), st.integers(1, 60))


@given(st.lists(sizes, max_size=12))
def test_panels_of_any_size_do_not_overlap(sizes: list[tuple[int, int, int]]) -> None:
    given = [
        panels.Panel("p", "s", tuple(panels.Query("1", "one") for _ in range(queries)), "d", width, height)
        for width, height, queries in sizes
    ]
    check_places(panels.dashboard("uid", "title", "", given))


async def test_each_metric_and_label_of_an_expression_is_served(nats_server: Any, namespace: str) -> None:
    async with open_shop(nats_server.url, namespace) as shop:
        await run_orders(shop)
        found = series(prometheus.render(shop.system.tracing.metrics.collect()))
    async with running(Odd, url=nats_server.url, namespace=namespace, sources=["panelled"], options=ONCE) as system:
        await system.bus.emit(Signed("1"))
        await system.until(lambda: system.dead_letters("panelled"))
        found += series(prometheus.render(system.tracing.metrics.collect()))
    labels: dict[str, set[str]] = {}
    for each in found:
        labels.setdefault(each.name, set()).update(each.labels)
    names = {each.labels["service_name"] for each in found}
    for expression in expressions_of(SHOP):
        selectors = _SELECTOR.findall(expression)
        assert selectors, expression
        rest = _SELECTOR.sub("", re.sub(r"by \([^)]*\)|\$__rate_interval", "", expression))
        assert set(re.findall(r"[a-z]+_\w+", rest)) <= {"histogram_quantile"}, (
            f"a metric without a selector: {expression}"
        )
        for name, matchers in selectors:
            assert name in labels, f"/metrics has no {name}: {expression}"
            used = [each for each in re.findall(r'(\w+)(=~|=|!=)"([^"]*)"', matchers) if each[1:] != ("=", "")]
            grouped = [label.strip() for each in re.findall(r"by \(([^)]*)\)", expression) for label in each.split(",")]
            assert {label for label, *_ in used} | {*grouped} - {"le"} <= labels[name], f"{name}: {expression}"
            assert all(set(value.split("|")) <= names for label, _, value in used if label == "service_name")


async def run_orders(shop: Shop) -> None:
    """Take an order through the shop, and ask for one that does not exist."""
    order = await shop.create()
    await shop.pack(order["orderId"], {"shirt": 1})
    await shop.deliver(order["orderId"])
    await shop.order_in(order["orderId"], "FULFILLED")
    with pytest.raises(Refused, match="404"):
        await shop.ask("orders.query.get_order", {"orderId": "none"})


class Signed(Event, actor="panelled", key="id"):
    id: str


class Odd(Actor[None]):
    name = "panelled"

    @react
    async def on_signed(self, event: Signed) -> None:
        raise ZeroDivisionError


ONCE = {"panelled": Options(retry=RetryPolicy(attempts=1))}


class GetBare(Query[None], actor="bare"):
    pass


class Bare(Actor[None]):
    name = "bare"

    @query
    async def get_nothing(self, message: GetBare) -> None: ...


def test_an_actor_has_the_panels_and_alerts_of_its_contract_only() -> None:
    bare, odd = services_of([Bare, Odd])
    assert [rule.name for rule in rules_of(bare)] == [
        "ActorWithoutOwner", "ActorDeadLetters", "ActorPermissionsRefused", "ActorKeysBlocked", "ActorErrorRate",
        "ActorLatency", "ActorRequestsRefused",
    ]  # fmt: skip
    assert [rule.name for rule in rules_of(odd)][-3:] == ["ActorAttemptsFail", "ActorLag", "EventsStoppedSigned"]
    assert expressions.lag("panelled", keyed=False).startswith("max by "), "all processes report the same number"
    titles = {name: [panel["title"] for panel in each["panels"]] for name, each in dashboards_of([bare, odd]).items()}
    assert "Lag" in titles["panelled.json"] and "Requests" not in titles["panelled.json"]
    assert "Lag" not in titles["bare.json"] and "Requests" in titles["bare.json"]


def test_a_foreign_name_controls_neither_file_nor_expression() -> None:
    (odd,) = services_of([Odd])
    ((kind, event),) = odd.metadata.events.items()
    hostile = {kind: replace(event, subject='a"} or vector(1) #.*'), "x.{{ .Value }}": event, "x.a b": event}
    service = replace(odd, metadata=replace(odd.metadata, events=hostile))
    assert [rule.name for rule in rules_of(service)][-2:] == ["ActorLag", "EventsStoppedSigned"]
    assert r'="a\"} or vector(1) #.{key}",' in rules_of(service)[-1].expression
    long = [replace(odd, name=f"{'a' * 50}{end}") for end in "xy"]
    uids = [each["uid"] for each in dashboards_of(long).values()]
    assert len(set(uids)) == 3 and all(len(uid) <= 40 for uid in uids)
