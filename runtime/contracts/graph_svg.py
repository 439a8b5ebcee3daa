"""The graph of services as an SVG picture that needs nothing else: no script, no font, no network.

It follows the light or dark scheme of the reader. The same graph always gives the same bytes.
"""

import re
from html import escape
from itertools import pairwise

from runtime.contracts.graph import EDGE_KINDS, Edge, EdgeKind, Graph, Node
from runtime.contracts.graph_layout import Box, Layout, Size, Way, layout
from runtime.contracts.graph_text import rates_text

_CHARACTER = 0.61
"""The width of a character of a monospaced font, in parts of its size."""
_LINES = 8
"""The most messages that a label lists."""
_MARGIN = 24.0
_LEGEND = 34.0
_SHORT = 0.1

_LIGHT = {"event": "#1f6feb", "command": "#b35900", "query": "#2a7f3f", "tell": "#8a4fbf", "rule": "#b3267a"}
_DARK = {"event": "#79b8ff", "command": "#ffab5c", "query": "#7ee2a0", "tell": "#cda6ff", "rule": "#ff9bd0"}
_DASHES: dict[EdgeKind, str] = {"query": "5 3", "tell": "2 3"}

_Point = tuple[float, float]
_Ports = dict[tuple[int, int, bool], float]
"""A height by the number of the edge, the identity of the box, and whether the edge leaves the box to the right."""

_unprintable = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_svg(graph: Graph) -> str:
    """Return a graph as an SVG document."""
    places = {node.name: number for number, node in enumerate(graph.nodes)}
    between = [edge for edge in graph.edges if edge.source != edge.target]
    own = {name: [edge for edge in graph.edges if edge.source == edge.target == name] for name in places}
    found = layout(
        [_node_size(node, own[node.name]) for node in graph.nodes],
        [(places[edge.source], places[edge.target]) for edge in between],
        [_label_size(edge) for edge in between],
    )
    kinds: list[EdgeKind] = [kind for kind in EDGE_KINDS if any(edge.kind == kind for edge in graph.edges)]
    width = max(found.size.width, 104.0 * len(kinds)) + 2 * _MARGIN
    height = found.size.height + 2 * _MARGIN + _LEGEND
    ports = _ports(found)
    parts = [
        _path(number, way, edge, ports) for number, (way, edge) in enumerate(zip(found.ways, between, strict=True))
    ]
    parts += [_label(way.label, edge) for way, edge in zip(found.ways, between, strict=True)]
    parts += [_node(box, node, own[node.name]) for box, node in zip(found.nodes, graph.nodes, strict=True)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img"><title>Services and their messages</title>'
    )
    return "\n".join(
        [
            head,
            _style(),
            _markers(),
            f'<rect class="page" width="{width:.0f}" height="{height:.0f}"/>',
            f'<g transform="translate({_MARGIN:.0f} {_MARGIN:.0f})">',
            *parts,
            "</g>",
            *_legend(kinds, height - _LEGEND / 2),
            "</svg>",
        ]
    )


def _node_size(node: Node, own: list[Edge]) -> Size:
    lines = [node.name, *_own_lines(own)]
    small = [rates_text(node.rates)] if node.rates is not None else []
    width = max([15 * _CHARACTER * len(lines[0]), *(11 * _CHARACTER * len(line) for line in [*lines[1:], *small])])
    return Size(max(width + 28, 96), 36 + 15 * (len(lines) - 1 + len(small)))


def _own_lines(own: list[Edge]) -> list[str]:
    return [f"↻ {line}" for edge in own for line in _lines(edge)]


def _lines(edge: Edge) -> list[str]:
    if len(edge.messages) <= _LINES:
        return edge.messages
    return [*edge.messages[: _LINES - 1], f"and {len(edge.messages) - _LINES + 1} more"]


def _label_size(edge: Edge) -> Size:
    lines = _lines(edge)
    return Size(11 * _CHARACTER * max(map(len, lines)) + 16, 15 * len(lines) + 8)


def _ports(found: Layout) -> _Ports:
    """Return the heights at which the ways leave and enter each box: beside each other, in the order of their other ends."""
    ends: dict[tuple[int, bool], list[tuple[float, int, Box]]] = {}
    for number, way in enumerate(found.ways):
        for left, right in pairwise(way.boxes):
            ends.setdefault((id(left), True), []).append((right.y, number, left))
            ends.setdefault((id(right), False), []).append((left.y, number, right))
    ports: _Ports = {}
    for (identity, leaves), each in ends.items():
        for place, (_, number, box) in enumerate(sorted(each, key=lambda end: end[:2]), 1):
            step = box.size.height / (len(each) + 1)
            ports[number, identity, leaves] = box.y - box.size.height / 2 + step * place
    return ports


def _path(number: int, way: Way, edge: Edge, ports: _Ports) -> str:
    """Return the lines of an edge: one to its label, and one with an arrow from its label to its end."""
    pieces: list[list[_Point]] = [[]]
    for left, right in pairwise(way.boxes):
        out, into = ports[number, id(left), True], ports[number, id(right), False]
        pieces[-1] += [(left.x + left.size.width / 2, out), (left.right, out), (right.left, into)]
        pieces[-1] += [(right.x - right.size.width / 2, into)]
        if right is way.label:
            pieces.append([])
    if way.turned:
        pieces = [piece[::-1] for piece in pieces[::-1]]
    first, last = (_line(piece) for piece in pieces)
    return (
        f'<path class="edge {edge.kind}" d="{first}"/>'
        f'<path class="edge {edge.kind}" marker-end="url(#{edge.kind})" d="{last}"/>'
    )


def _line(points: list[_Point]) -> str:
    """Return a path through points. Between points of different heights it is a curve that is level at both."""
    # An arrow has the direction of the last step, so no step may be too short to have one.
    points = [points[0], *(after for before, after in pairwise(points) if _is_long(before, after))]
    steps = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x, y), (to, end) in pairwise(points):
        middle = (x + to) / 2
        steps.append(f"H{to:.1f}" if y == end else f"C{middle:.1f} {y:.1f} {middle:.1f} {end:.1f} {to:.1f} {end:.1f}")
    return "".join(steps)


def _is_long(before: _Point, after: _Point) -> bool:
    return abs(after[0] - before[0]) > _SHORT or abs(after[1] - before[1]) > _SHORT


def _label(box: Box, edge: Edge) -> str:
    left, top = box.x - box.size.width / 2, box.y - box.size.height / 2
    title = f"{edge.source} → {edge.target}: {edge.kind} {', '.join(edge.messages)}"
    rows = [
        f'<text class="{edge.kind}" x="{box.x:.1f}" y="{top + 15 * row + 16:.1f}">{_text(line)}</text>'
        for row, line in enumerate(_lines(edge))
    ]
    return (
        f'<g class="label"><title>{_text(title)}</title><rect class="{edge.kind}" x="{left:.1f}" y="{top:.1f}" '
        f'width="{box.size.width:.1f}" height="{box.size.height:.1f}" rx="6"/>{"".join(rows)}</g>'
    )


def _node(box: Box, node: Node, own: list[Edge]) -> str:
    left, top = box.x - box.size.width / 2, box.y - box.size.height / 2
    title = f"<title>{_text(node.description)}</title>" if node.description else ""
    failing = " failing" if node.rates is not None and node.rates.errors else ""
    small = [(line, "own") for line in _own_lines(own)]
    if node.rates is not None:
        small.append((rates_text(node.rates), "rates"))
    rows = [
        f'<text class="{name}" x="{box.x:.1f}" y="{top + 38 + 15 * row:.1f}">{_text(line)}</text>'
        for row, (line, name) in enumerate(small)
    ]
    return (
        f'<g class="node {node.kind}{failing}">{title}<rect x="{left:.1f}" y="{top:.1f}" width="{box.size.width:.1f}" '
        f'height="{box.size.height:.1f}" rx="8"/><text class="name" x="{box.x:.1f}" y="{top + 23:.1f}">'
        f"{_text(node.name)}</text>{''.join(rows)}</g>"
    )


def _legend(kinds: list[EdgeKind], y: float) -> list[str]:
    return [
        f'<path class="edge {kind}" marker-end="url(#{kind})" d="M{x:.0f} {y:.1f}h26"/>'
        f'<text class="legend" x="{x + 34:.0f}" y="{y + 4:.1f}">{kind}</text>'
        for x, kind in ((_MARGIN + 104 * place, kind) for place, kind in enumerate(kinds))
    ]


def _markers() -> str:
    arrows = "".join(
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path class="arrow {kind}" d="M0 0.5L7.5 4L0 7.5z"/></marker>'
        for kind in EDGE_KINDS
    )
    return f"<defs>{arrows}</defs>"


def _style() -> str:
    light, dark = (
        "".join(
            [
                f"svg{{--page:{page};--box:{box};--line:{line};--text:{text};--soft:{soft};--bad:{bad}}}",
                *(f".{kind}{{--kind:{color}}}" for kind, color in colors.items()),
            ]
        )
        for page, box, line, text, soft, bad, colors in (
            ("#ffffff", "#f4f6f8", "#6b7683", "#1c2128", "#57606a", "#c4232b", _LIGHT),
            ("#0f1419", "#1d242c", "#8b98a6", "#e6edf3", "#a3b0bd", "#ff7b72", _DARK),
        )
    )
    dashes = "".join(f".edge.{kind}{{stroke-dasharray:{dash}}}" for kind, dash in _DASHES.items())
    return (
        f"<style>{light}@media(prefers-color-scheme:dark){{{dark}}}"
        "text{font:11px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;text-anchor:middle;fill:var(--text)}"
        ".page{fill:var(--page)}.edge{fill:none;stroke:var(--kind);stroke-width:1.5}.arrow{fill:var(--kind)}"
        ".label rect{fill:var(--page);stroke:var(--kind);stroke-opacity:.45}.label text{fill:var(--kind)}"
        ".node rect{fill:var(--box);stroke:var(--line);stroke-width:1.5}.node.outside rect{stroke-dasharray:4 3}"
        ".node.rule rect{stroke:#b3267a}.node.failing rect{stroke:var(--bad)}"
        "text.name{font-size:15px;font-weight:600}text.own,text.rates{fill:var(--soft)}text.legend{text-anchor:start}"
        f"{dashes}</style>"
    )


def _text(value: str) -> str:
    """Return text for XML. Characters that XML cannot have are replaced."""
    return escape(_unprintable.sub("\ufffd", value))
