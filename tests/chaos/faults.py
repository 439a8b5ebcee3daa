"""Fault points inside an actor process of the suite: the steps of `runtime.testing.steps`, and which actors reach them."""

from random import Random

from runtime.testing.steps import DEAD_LETTERING, STEPS, arm

__all__ = ["COMMANDED", "DEAD_LETTERING", "POINTS", "REACTING", "arm", "occurrence"]

POINTS = STEPS

REACTING = frozenset(POINTS) - {"reply.before", "reply.sent"} - {p for p in POINTS if p.startswith(("relay", "check"))}
"""The points that an actor with reactions only reaches. The ledger emits no events."""

COMMANDED = frozenset(POINTS) - {"ack.before", "ack.sent"}
"""The points that an actor with commands only reaches."""


def occurrence(rng: Random, point: str, actors: int, most: int = 40) -> int:
    """Return at which occurrence of `point` a process with so many actors kills itself.

    An actor reaches ``recover`` once, when it starts, and ``checkpoint`` at the end of that and then every few seconds.
    All other points occur with each message: one of the first `most` occurrences is chosen.
    """
    step = point.partition(".")[0]
    return rng.randint(1, {"recover": 1, "checkpoint": 2 * actors}.get(step, most))
