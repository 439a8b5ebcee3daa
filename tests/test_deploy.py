"""The manifests of `deploy/kubernetes` agree with each other and with the code. `make check-manifests` checks their form."""

import re
import textwrap
from pathlib import Path

from actorloom_shop.orders.actor import Orders
from runtime.host.config import load
from runtime.telemetry import Tracing
from runtime.telemetry.metrics import prometheus
from runtime.telemetry.semconv import RPC_SERVER_CALL_DURATION
from runtime.wire.subjects import Names

KUBERNETES = Path(__file__).parents[1] / "deploy" / "kubernetes"


def test_the_settings_are_those_of_the_autoscaler(tmp_path: Path) -> None:
    actor, keda = (KUBERNETES / "actor.yaml").read_text(), (KUBERNETES / "keda.yaml").read_text()
    found = re.search(r"(?ms)^  actorloom\.toml: \|\n(.*?)^---", actor)
    assert found is not None
    (tmp_path / "actorloom.toml").write_text(
        re.sub(r"(?m)^creds = .*\n", "", textwrap.dedent(found[1]))  # the file exists in the pod only
    )
    configuration = load(file=tmp_path / "actorloom.toml", environ={})
    partitions, workers = configuration.options(Orders).partitions, configuration.settings.workers
    sources = {event.__contract__.actor for event in Orders.handlers.reactions}
    consumers = re.findall(r"stream: (\S+)-events\n\s+consumer: (\S+)", keda)
    assert {durable for _, durable in consumers} == {each.durable for each in Names("orders").partitions(partitions)}
    assert {source for source, _ in consumers} <= sources
    most = re.search(r"maxReplicaCount: (\d+)", keda)
    assert most is not None and int(most[1]) * workers == partitions


def test_the_query_of_the_autoscaler_finds_the_replies_with_429() -> None:
    tracing = Tracing(in_memory=True)
    calls = tracing.service("orders").durations(RPC_SERVER_CALL_DURATION, {})
    calls.record_error(1000, 429, "Overloaded")
    text = prometheus.merge({"0": prometheus.render(tracing.metrics.collect())})
    query = re.search(r"(\w+)\{(\S+)\}\[1m\]", (KUBERNETES / "keda.yaml").read_text())
    assert query is not None
    (series,) = [line for line in text.splitlines() if line.startswith(f"{query[1]}{{") and "429" in line]
    assert all(label in series for label in query[2].split(","))
