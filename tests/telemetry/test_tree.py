"""The trace tree shows the hierarchy, the services and the asynchronous branches."""

from opentelemetry.trace import SpanKind

from runtime.telemetry import Tracing, finish, inject, tree
from runtime.wire import header_block


def order(tracing: Tracing) -> None:
    client = tracing.service("client").template("orders/create_order", SpanKind.CLIENT).start()
    server = (
        tracing.service("orders")
        .template("orders/create_order", SpanKind.SERVER)
        .receive(header_block.START + inject(client) + header_block.END)
    )
    emit = tracing.service("orders").template("publish orders.event.order_created", SpanKind.PRODUCER).start(server)
    block = header_block.START + inject(emit) + header_block.END
    finish(emit)
    finish(server, 409, "Out[Of]Stock")
    finish(client, 409)
    finish(tracing.service("payment").template("process orders.event.order_created", SpanKind.CONSUMER).receive(block))


def test_a_tree_shows_service_span_kind_and_asynchronous_branches() -> None:
    tracing = Tracing(in_memory=True)
    order(tracing)
    lines = tree.render(tracing.finished()).splitlines()
    assert "4 spans, 3 services" in lines[0]
    starts = [line[:40].split("  ")[0:2] for line in lines[1:]]
    assert [line.rstrip() for line in (text.split("  orders")[0] for text in lines[1:2])] == ["└─ client"]
    assert lines[2].startswith("   └─ orders  orders/create_order")
    assert lines[3].startswith("      └─ orders  publish orders.event.order_created")
    assert lines[4].startswith("         └╌ payment  process orders.event.order_created")
    assert "client" in lines[1]
    assert "server" in lines[2]
    assert lines[2].endswith("! Out[Of]Stock")
    assert "consumer" in lines[4]
    assert len(starts) == 4


def test_the_trace_with_the_most_spans_is_drawn_and_markup_is_escaped() -> None:
    tracing = Tracing(in_memory=True)
    tracing.service("alone").template("alone").start().end()
    order(tracing)
    assert "alone" not in tree.render(tracing.finished())
    only = tracing.finished()[0]
    assert "alone" in tree.render(tracing.finished(), trace_id=only.trace_id)
    assert "\\[Of]" in tree.render(tracing.finished(), rich=True)
    assert tree.render([]) == "no spans"


def test_a_chain_deeper_than_the_stack_is_drawn() -> None:
    tracing = Tracing(in_memory=True)
    template = tracing.service("a").template("b")
    span = template.start()
    for _ in range(3000):
        below = template.start(span)
        span.end()
        span = below
    span.end()
    assert len(tree.render(tracing.finished()).splitlines()) == 3002
