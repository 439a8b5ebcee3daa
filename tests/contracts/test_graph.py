"""The graph of services: from code with its calls, its forms, and the places of boxes."""

import json
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from runtime.actor.metadata import ServiceMetadata
from runtime.admin.discovery import Service
from runtime.cli import actorloom
from runtime.cli.targets import find_actors
from runtime.contracts.from_code import services_of
from runtime.contracts.graph import Edge, Graph, Node, Rates, RuleEdge, graph_of
from runtime.contracts.graph_layout import Size, layout
from runtime.contracts.graph_svg import as_svg
from runtime.contracts.graph_text import as_dot, as_mermaid
from runtime.contracts.wiring import Request

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def drawn(*arguments: str) -> str:
    result = CliRunner().invoke(actorloom, ["graph", *arguments])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_the_graph_of_the_shop_has_its_events_and_calls() -> None:
    edges = {(each["source"], each["kind"], each["target"]): each["messages"]
             for each in json.loads(drawn("actors", "--format", "json"))["edges"]}  # fmt: skip
    assert edges["orders", "query", "products"] == ["ValidateProducts"]
    assert edges["payment", "command", "payment-3p"] == ["CancelPayment", "ProcessPayment", "UpdateAmount"]
    assert edges["warehouse", "event", "orders"] == ["PackageCreated", "PackagingFailed"]
    assert ("delivery", "query", "orders") in edges


def test_the_graph_of_the_router_has_its_calls() -> None:
    text = drawn("runtime.router")
    assert "  targets -. ListRules .-> rules\n" in text
    assert "  any_actor -- any event --> router\n" in text


def test_a_request_goes_by_the_method_that_sends_it() -> None:
    text = drawn("examples.hybrid", "--format", "mermaid")
    assert text == (
        "flowchart LR\n  bills[bills]\n  kitchen[kitchen]\n  menu[menu]\n"
        "  bills == CookDish ==> kitchen\n  bills -. GetPrice .-> menu\n  kitchen -- DishCooked --> bills\n"
    )
    assert '  "bills" -> "kitchen" [label="CookDish", style=bold];' in drawn("examples.hybrid", "--format", "dot")


def test_rules_rates_and_services_that_are_not_there_are_nodes() -> None:
    services = services_of(find_actors(["actors.payment"]))
    rule = RuleEdge("points", "orders", "OrderCreated", "loyalty", "AddPoints")
    graph = graph_of(
        services, [Request("payment", "payment", "Later", "remind")], [rule], {"payment": Rates(2, 0.5, 1)}
    )
    kinds = {node.name: node.kind for node in graph.nodes}
    assert (kinds["payment"], kinds["orders"], kinds["rule points"]) == ("service", "outside", "rule")
    assert Edge("rule points", "loyalty", "rule", ["AddPoints"]) in graph.edges
    assert all(edge.source != edge.target for edge in graph.edges)
    for text in (as_svg(graph), as_mermaid(graph), as_dot(graph)):
        assert "2 requests/s, 0.5 errors/s, 1 events/s" in text


def test_a_reaction_to_any_event_has_a_name_for_it(audited: list[Service]) -> None:
    graph = graph_of(audited)
    assert Edge("any actor", "audit", "event", ["any event"]) in graph.edges
    assert Edge("stockroom", "audit", "event", ["any event"]) in graph.edges
    assert "  any_actor -- any event --> audit" in as_mermaid(graph).splitlines()
    assert '  "any actor" -> "audit" [label="any event"];' in as_dot(graph).splitlines()


def test_names_from_outside_are_escaped() -> None:
    name = 'a"]<script>&\x07'
    graph = graph_of([Service(name, "", "1", "</title>", ServiceMetadata(), [])], [Request(name, "end", '"', "query")])
    ET.fromstring(as_svg(graph))
    assert "<script" not in as_svg(graph)
    assert as_mermaid(graph).splitlines()[1:] == [
        "  a___script___[a___script___]",
        "  end_[end]",
        "  a___script___ -. _ .-> end_",
    ]
    assert as_dot(graph).count('"') == 2 * 5


def test_services_with_similar_names_stay_apart() -> None:
    graph = Graph([Node("a-b"), Node("a_b")], [Edge("a-b", "a_b", "event", ["X"])])
    assert as_mermaid(graph).splitlines()[1:] == ["  a_b[a-b]", "  a_b_[a_b]", "  a_b -- X --> a_b_"]


def test_no_name_is_a_word_of_mermaid_or_the_end_of_an_arrow() -> None:
    edges = [Edge("call", "_self", "event", ["a--b", "X"]), Edge("call", "_self", "query", ["a--b", "X"])]
    graph = Graph([Node("_self"), Node("call")], edges)
    assert as_mermaid(graph).splitlines()[1:] == [
        "  self_[_self]",
        "  call_[call]",
        '  call_ -- "a--b<br>X" --> self_',
        '  call_ -. "a--b<br>X" .-> self_',
    ]
    words = [
        "call",
        "class",
        "click",
        "default",
        "direction",
        "end",
        "graph",
        "href",
        "interpolate",
        "style",
        "subgraph",
    ]
    lines = as_mermaid(Graph([Node(each) for each in words], [])).splitlines()[1:]
    assert lines == [f"  {each}_[{each}]" for each in words]


def test_the_picture_is_xml_and_always_the_same() -> None:
    first = drawn("actors", "--format", "svg")
    assert drawn("actors", "--format", "svg") == first
    root = ET.fromstring(first)
    names = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "name"]
    assert names == ["delivery", "orders", "payment", "payment-3p", "products", "warehouse"]
    assert len([path for path in root.iter(f"{SVG}path") if "marker-end" in path.attrib]) == 14 + 3  # edges and legend


NUMBERS = st.integers(0, 7)
ENDS = st.lists(st.tuples(NUMBERS, NUMBERS).filter(lambda ends: ends[0] != ends[1]), max_size=14)


@given(ENDS)
def test_no_boxes_overlap_whatever_the_edges_are(edges: list[tuple[int, int]]) -> None:
    found = layout(
        [Size(90 + 10 * each, 40) for each in range(8)],
        edges,
        [Size(70, 20 + number) for number, _ in enumerate(edges)],
    )
    boxes = [*found.nodes, *(way.label for way in found.ways)]
    for a, b in combinations(boxes, 2):
        apart = (
            abs(a.x - b.x) >= (a.size.width + b.size.width) / 2 or abs(a.y - b.y) >= (a.size.height + b.size.height) / 2
        )
        assert apart
    for (start, end), way in zip(edges, found.ways, strict=True):
        ends = (found.nodes[end], found.nodes[start]) if way.turned else (found.nodes[start], found.nodes[end])
        assert (way.boxes[0], way.boxes[-1]) == ends
        assert way.boxes[0].x < way.label.x < way.boxes[-1].x
    for box in boxes:
        assert box.x + box.size.width / 2 <= found.size.width + 0.01
        assert box.y - box.size.height / 2 >= -0.01


def test_an_empty_graph_is_a_picture() -> None:
    ET.fromstring(as_svg(Graph([], [])))


@pytest.mark.parametrize("form", ["svg", "json"])
def test_without_a_service_there_is_no_graph(form: str) -> None:
    result = CliRunner().invoke(actorloom, ["graph", "no_such_package", "--format", form])
    assert (result.exit_code, result.stdout) == (2, "")
