"""The graph of services as Mermaid or DOT."""

import re

from runtime.contracts.graph import Edge, EdgeKind, Graph, Node, Rates

_MERMAID: dict[EdgeKind, tuple[str, str]] = {
    "event": ("--", "-->"),
    "command": ("==", "==>"),
    "query": ("-.", ".->"),
    "tell": ("-.", ".->"),
    "rule": ("--", "-->"),
}
_MERMAID_WORDS = frozenset(
    "call class classdef click default direction end flowchart graph href interpolate linkstyle style subgraph".split()
)
"""The words that are no identifiers in a flowchart."""
_DOT: dict[EdgeKind, str] = {
    "event": "",
    "command": ", style=bold",
    "query": ", style=dashed",
    "tell": ", style=dotted",
    "rule": ", color=purple",
}


def as_mermaid(graph: Graph) -> str:
    """Return a graph as a Mermaid flowchart: events as plain arrows, commands as thick ones, queries and tells as dotted ones."""
    ids = _ids(graph.nodes)
    lines = [f"  {ids[node.name]}[{_mermaid_text(node)}]" for node in graph.nodes]
    for edge in graph.edges:
        start, end = _MERMAID[edge.kind]
        lines.append(f"  {ids[edge.source]} {start} {_mermaid_messages(edge)} {end} {ids[edge.target]}")
    return "\n".join(["flowchart LR", *lines])


def as_dot(graph: Graph) -> str:
    """Return a graph in the language of Graphviz: events as plain arrows, commands bold, queries dashed, tells dotted."""
    lines = [f'  "{_label(node.name)}"{_dot_rates(node.rates)};' for node in graph.nodes]
    for edge in graph.edges:
        text = ", ".join(map(_label, edge.messages))
        lines.append(f'  "{_label(edge.source)}" -> "{_label(edge.target)}" [label="{text}"{_DOT[edge.kind]}];')
    return "\n".join(["digraph services {", "  rankdir=LR;", *lines, "}"])


def rates_text(rates: Rates) -> str:
    """Return rates as one line: ``12 requests/s, 0.5 errors/s, 3 events/s``, without errors if there are none."""
    parts = [f"{rates.requests:.3g} requests/s"]
    if rates.errors:
        parts.append(f"{rates.errors:.3g} errors/s")
    if rates.events is not None:
        parts.append(f"{rates.events:.3g} events/s")
    return ", ".join(parts)


def _mermaid_text(node: Node) -> str:
    name = _label(node.name)
    return f'"{name}<br>{rates_text(node.rates)}"' if node.rates is not None else name


def _mermaid_messages(edge: Edge) -> str:
    """Return the names of the messages, in quotes if Mermaid would take a part of them for the end of the arrow."""
    text = "<br>".join(map(_label, edge.messages))
    return f'"{text}"' if re.search(r"[.-]", text) else text


def _dot_rates(rates: Rates | None) -> str:
    return f' [xlabel="{rates_text(rates)}"]' if rates is not None else ""


def _ids(nodes: list[Node]) -> dict[str, str]:
    """Return an identifier for each node. ``a-b`` and ``a_b`` have different ones, and none is a word of Mermaid."""
    found: dict[str, str] = {}
    for node in nodes:
        wanted = re.sub(r"\W", "_", node.name, flags=re.ASCII)
        if wanted.lower() in _MERMAID_WORDS or wanted.startswith("_"):
            wanted = f"{wanted}_".lstrip("_") or "n"
        while wanted in found.values():
            wanted += "_"
        found[node.name] = wanted
    return found


def _label(name: str) -> str:
    """Return a name without the characters that have a meaning in Mermaid or DOT. Valid names have none of them."""
    return re.sub(r"[^\w. -]", "_", name)
