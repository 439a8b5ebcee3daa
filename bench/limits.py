"""The limits of an actor, as arithmetic with measured costs: the nodes of NATS, the processes, and the stream of events."""

from typing import Final

LOAD: Final = 0.7
"""The share of a core that is in use: queues grow beyond it."""
NODES: Final = (3, 9, 27)
CORES: Final = 4
"""Cores of a node of NATS."""
HANDLERS: Final = (0.0, 0.001)
"""Seconds of CPU in the handler."""
PARTITIONS: Final = 64
MICROSECONDS: Final = 1e-6


def limits(actor: float, nodes: float, event: float) -> str:
    """Return the tables of Markdown, given the microseconds of CPU of a turn.

    Args:
        actor: In the actor, without the handler.
        nodes: In all nodes together, if each message is stored three times.
        event: In nats-server, for the event alone, stored once.
    """
    rows = [
        "| Limit | Arithmetic | Turns a second |",
        "|---|---|---|",
    ]
    for number in NODES:
        turns = number * CORES * LOAD / (nodes * MICROSECONDS)
        rows.append(
            f"| {number} nodes with {CORES} cores, 3 replicas | {number} × {CORES} × {LOAD} / {nodes:.0f} µs | {_short(turns)} |"
        )
    for handler in HANDLERS:
        name = f"handlers of {handler * 1000:.0f} ms" if handler else "cheap handlers"
        turns = PARTITIONS * LOAD / (actor * MICROSECONDS + handler)
        cost = f"({actor:.0f} + {handler / MICROSECONDS:,.0f}) µs" if handler else f"{actor:.0f} µs"
        rows.append(f"| {PARTITIONS} processes, {name} | {PARTITIONS} × {LOAD} / {cost} | {_short(turns)} |")
    rows.append(
        f"| the stream of events of one actor, one event a turn | {LOAD} / {event:.0f} µs | {_short(LOAD / (event * MICROSECONDS))} |"
    )
    return "\n".join(rows)


def _short(turns: float) -> str:
    return f"{turns:,.0f}" if turns < 1000 else f"{round(turns, -3):,.0f}"
