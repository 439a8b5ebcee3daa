"""The gap before a rule: the events that were stored before it was in force are sent to its targets."""

from collections.abc import Callable
from datetime import UTC, datetime

from runtime.admin.replay import NotFound, Runner, begin
from runtime.client.bus import Bus
from runtime.nats.jetstream.client import JetStream
from runtime.router.replay.planning import Request, prepare_rules, refuse_forgotten
from runtime.router.replay.sending import ToTargets
from runtime.router.rule import Rule
from runtime.storage.replays import Replay
from runtime.wire.subjects import Names


async def replay_since(
    bus: Bus,
    rule: Rule,
    since: float,
    *,
    rate: float = 500.0,
    forgotten: bool = False,
    report: Callable[[Replay, int], None] = lambda *_: None,
) -> Replay | None:
    """Send the events of a rule from `since` until now to its targets, those that they do not remember as delivered.

    Call it when the rule is in force: then no event is left out between the replay and the live ones, and one that is in both is
    delivered once. If the program ends in between, `actorloom replay resume` goes on with the replay, whose name begins with ``since-``.

    Args:
        bus: A bus in the namespace of the router.
        rule: The rule, as `PutRule` or `EnableRule` return it.
        since: Unix seconds; 0 for the first event that is stored.
        rate: Events a second at most.
        forgotten: Send also events that are older than a target remembers deliveries. It may get these a second time, if it had them.
        report: Called each second with the replay, and the deliveries that wait.

    Returns:
        The replay as it ended; None if there is no event in this time.

    Raises:
        Refused: Events are older than a target remembers, and `forgotten` is false. Nothing is sent.
        ActorError, TimeoutError: The server or the router does not answer, or refuses it.
    """
    name = f"since-{rule.name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    try:
        plan = await prepare_rules(bus, [rule], Request(name=name, since=since, rate=rate))
    except NotFound:
        return None
    if not forgotten:
        refuse_forgotten(plan)
    jetstream = JetStream(bus.connection, bus.timeout)
    entry = await begin(jetstream, Names(plan.replay.actors[0], bus.namespace), plan.replay)
    return await Runner(jetstream, ToTargets(jetstream, bus.namespace, entry.replay), entry, report).run()
