"""The places of the boxes of a graph, in layers from left to right (Sugiyama's method).

The steps: edges that close a cycle are turned, each node gets the layer of its longest path, and each edge gets a box for its
label in a layer of labels, so that no label overlaps anything. Boxes are then ordered by the mean place of their neighbors, which
leaves few crossings, and moved towards them as far as the others allow.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

_SWEEPS = 12
_GAP = 18.0
"""The space between two boxes of a layer."""
_COLUMN = 44.0
"""The space between two layers."""


class Size(NamedTuple):
    """The size of a box."""

    width: float
    height: float


class Box:
    """A box with its center, of a node, of the label of an edge, or of a point on the way of an edge."""

    def __init__(self, layer: int, size: Size) -> None:
        self.layer = layer
        self.size = size
        self.x = 0.0
        self.y = 0.0
        self.left = self.right = 0.0
        """The edges of its layer. A line is level between them, so that it passes under no other box."""
        self.before: list[Box] = []
        self.after: list[Box] = []


class Way(NamedTuple):
    """The boxes on the way of an edge, from the left to the right."""

    boxes: list[Box]
    label: Box
    turned: bool
    """Whether the edge leads from the right to the left."""


class Layout(NamedTuple):
    """The boxes of nodes and the ways of edges, in their order, and the size of the whole."""

    nodes: list[Box]
    ways: list[Way]
    size: Size


def layout(nodes: Sequence[Size], edges: Sequence[tuple[int, int]], labels: Sequence[Size]) -> Layout:
    """Return the places of boxes.

    Args:
        nodes: The sizes of the nodes.
        edges: The numbers of two different nodes for each edge.
        labels: The size of the label of each edge.
    """
    turned = _turned(len(nodes), edges)
    forward = [(b, a) if back else (a, b) for (a, b), back in zip(edges, turned, strict=True)]
    layers = _layers(len(nodes), forward)
    boxes = [Box(2 * layer, size) for layer, size in zip(layers, nodes, strict=True)]
    every = list(boxes)
    ways: list[Way] = []
    for (a, b), back, size in zip(forward, turned, labels, strict=True):
        way = [Box(layer, Size(0, 0)) for layer in range(boxes[a].layer + 1, boxes[b].layer)]
        middle = way[0 if not back else -1]  # beside the node that sends it
        middle.size = size
        every += way
        way = [boxes[a], *way, boxes[b]]
        for left, right in pairwise(way):
            left.after.append(right)
            right.before.append(left)
        ways.append(Way(way, middle, back))
    return Layout(boxes, ways, _place(every))


def _turned(count: int, edges: Sequence[tuple[int, int]]) -> list[bool]:
    """Return for each edge whether it closes a cycle in a walk in depth from the nodes with the fewest edges to them."""
    to = [sum(b == node for _, b in edges) - sum(a == node for a, _ in edges) for node in range(count)]
    state = [0] * count
    turned = [False] * len(edges)
    for start in sorted(range(count), key=lambda node: (to[node], node)):
        stack = (
            [(start, iter([number for number, (a, _) in enumerate(edges) if a == start]))] if not state[start] else []
        )
        state[start] = state[start] or 1
        while stack:
            node, rest = stack[-1]
            number = next(rest, None)
            if number is None:
                state[node] = 2
                stack.pop()
                continue
            target = edges[number][1]
            if state[target] == 1:
                turned[number] = True
            elif not state[target]:
                state[target] = 1
                stack.append((target, iter([each for each, (a, _) in enumerate(edges) if a == target])))
    return turned


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the length of the longest path to each node. A node without one to it is beside its nearest follower."""
    layers = [0] * count
    for _ in range(count):
        for a, b in edges:
            layers[b] = max(layers[b], layers[a] + 1)
    for node in range(count):
        following = [layers[b] for a, b in edges if a == node]
        if following and not any(b == node for _, b in edges):
            layers[node] = min(following) - 1
    return layers


def _place(every: list[Box]) -> Size:
    columns: list[list[Box]] = [[] for _ in range(max((box.layer for box in every), default=-1) + 1)]
    for box in every:
        columns[box.layer].append(box)
    best = [list(column) for column in columns]
    for sweep in range(_SWEEPS):
        _order(columns, forward=sweep % 2 == 0)
        if _crossings(columns) < _crossings(best):
            best = [list(column) for column in columns]
    for column in best:
        _spread(column, [0.0] * len(column))
    for sweep in range(_SWEEPS):
        for column in best if sweep % 2 == 0 else reversed(best):
            _spread(column, [_wanted(box) for box in column])
    return _shift(best)


def _order(columns: list[list[Box]], forward: bool) -> None:
    """Sort each layer by the mean place of its neighbors in the layer before, or behind it."""
    for column in columns if forward else reversed(columns):
        places = {id(box): place for each in columns for place, box in enumerate(each)}
        means = {
            id(box): sum(places[id(each)] for each in near) / len(near) if near else float(places[id(box)])
            for box in column
            for near in [box.before if forward else box.after]
        }
        column.sort(key=lambda box: means[id(box)])


def _crossings(columns: list[list[Box]]) -> int:
    count = 0
    for left, right in pairwise(columns):
        places = {id(box): place for place, box in enumerate(right)}
        ends = [(place, places[id(each)]) for place, box in enumerate(left) for each in box.after]
        count += sum(a < c and b > d for a, b in ends for c, d in ends)
    return count


def _wanted(box: Box) -> float:
    near = [*box.before, *box.after]
    return sum(each.y for each in near) / len(near) if near else box.y


def _spread(column: list[Box], wanted: list[float]) -> None:
    """Place the boxes of a layer as near to the wanted places as their order and their sizes allow."""
    offsets = [0.0]
    for above, below in pairwise(column):
        offsets.append(offsets[-1] + (above.size.height + below.size.height) / 2 + _GAP)
    blocks: list[tuple[float, int]] = []  # the mean of the wanted places, and the number of boxes that touch each other
    for place, offset in zip(wanted, offsets, strict=False):
        mean, size = place - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, count = blocks.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        blocks.append((mean, size))
    means = [mean for mean, size in blocks for _ in range(size)]
    for box, mean, offset in zip(column, means, offsets, strict=False):
        box.y = mean + offset


def _shift(columns: list[list[Box]]) -> Size:
    """Set the horizontal places, move the boxes so that the first ones touch 0, and return the size of the whole."""
    boxes = [box for column in columns for box in column]
    if not boxes:
        return Size(0, 0)
    top = min(box.y - box.size.height / 2 for box in boxes)
    left = 0.0
    for column in columns:
        width = max((box.size.width for box in column), default=0.0)
        for box in column:
            box.x = left + width / 2
            box.left, box.right = left, left + width
            box.y -= top
        left += width + _COLUMN
    return Size(left - _COLUMN, max(box.y + box.size.height / 2 for box in boxes))
