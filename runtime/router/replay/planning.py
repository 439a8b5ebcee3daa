"""The plan of a replay to targets: which rules and targets get which events, and how many they are."""

import math
from collections.abc import Sequence
from difflib import get_close_matches

import msgspec

from runtime.admin.archive_config import rule_subject
from runtime.admin.replay import Refused, refusal
from runtime.admin.replay.reading import read_events
from runtime.admin.replay.stretches import archive_of, of_archive, of_stream
from runtime.client.bus import Bus
from runtime.errors import CodecError, NotFound
from runtime.nats.jetstream.client import JetStream
from runtime.router.files import list_rules
from runtime.router.replay.matching import Matcher
from runtime.router.rule import GetRule, Rule
from runtime.router.target import GetTarget, actor_of, remembered
from runtime.storage.replays import Mode, Part, Replay, ReplayedRule, ReplayedTarget, Replays, Source
from runtime.wire.buckets import bucket_of
from runtime.wire.subjects import Names, snake_case, valid_name
from runtime.wire.tokens import key_token


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The wish for a replay to targets. The other fields are those of `Replay`."""

    name: str
    targets: tuple[str, ...] = ()
    """The names of the targets; empty for all of the rules."""
    mode: Mode = "missing"
    since: float = 0.0
    until: float | None = None
    """None for all events that are stored at the start."""
    key: str | None = None
    rate: float
    archive: str | None = None


class Count(msgspec.Struct, frozen=True):
    """The events of one type that a replay would send to one target by one rule."""

    rule: str
    target: str
    event: str
    events: int
    first: float
    """Unix seconds at which the first of them was stored; of an archive, at which it was emitted."""
    last: float
    forgotten: int
    """Those that are stored for longer than the actor of the target remembers deliveries. It may make them again."""


class Plan(msgspec.Struct, frozen=True):
    """A replay that has not begun, and the counts of its events."""

    replay: Replay
    counts: tuple[Count, ...]
    """One for each rule, target and type of which there are events, in the order of these names."""
    forgotten: int
    """The events that a target may get again in the mode ``missing``. An event counts once, however many targets it has."""
    remember: float
    """Seconds for which each of the targets remembers a delivery."""

    @property
    def deliveries(self) -> int:
        """The events, each as often as it has targets."""
        return sum(each.events for each in self.counts)


async def prepare(bus: Bus, rules: Sequence[str], request: Request) -> Plan:
    """Return the plan of a replay to targets of rules. All events of the stretch are read once, and counted.

    Args:
        bus: A bus in the namespace of the router.
        rules: The names of the rules, which may be disabled.
        request: The replay.

    Raises:
        NotFound: There is no such rule or archive, or there are no events to send.
        Refused: There is a replay of this name, or a target belongs to none of the rules.
        CodecError: The key is too long, or the entry of a replay of this name cannot be read.
        ActorError, TimeoutError: The server or the router does not answer, or refuses it.
    """
    return await prepare_rules(bus, [await _rule(bus, name) for name in dict.fromkeys(rules)], request)


async def prepare_rules(bus: Bus, rules: Sequence[Rule], request: Request) -> Plan:
    """Return what `prepare` returns, for rules that are at hand. Raises the same errors."""
    jetstream = JetStream(bus.connection, bus.timeout)
    if await Replays(jetstream, bus.namespace).find(request.name) is not None:
        raise refusal.taken(request.name)
    chosen = _chosen(rules, request.targets)
    remember = await _remembered(bus, {each.target for rule in chosen for each in rule.targets})
    now = jetstream.connection.clock.now()
    sources = await _sources(jetstream, bus.namespace, chosen, request)
    replay = Replay(
        name=request.name,
        rules=chosen,
        mode=request.mode,
        since=request.since,
        until=now if request.until is None else request.until,
        key=request.key,
        rate=request.rate,
        archive=request.archive,
        started=now,
        total=0,
        sources=tuple(sources),
    )
    plan = await _counted(jetstream, replay, remember)
    if not plan.replay.total:
        of_key = "" if request.key is None else f" of key {request.key!r}"
        raise refusal.NotFound(f"{replay.receiver}: no event{of_key} that these rules match is stored in this time")
    return plan


def refuse_forgotten(plan: Plan) -> None:
    """Raise `Refused` if the mode is ``missing``, and events are older than a target remembers what it has delivered."""
    if plan.replay.mode == "missing" and plan.forgotten:
        raise Refused(
            f"{plan.forgotten} of the {plan.replay.total} events are older than the {plan.remember:g} s for which a target "
            "remembers what it has delivered, and may be delivered again: allow that by --forgotten, or begin later"
        )


async def _rule(bus: Bus, name: str) -> Rule:
    try:
        return await bus.query(GetRule(name))
    except (NotFound, CodecError):
        known = [each.name for each in await list_rules(bus)]
        near = get_close_matches(name, known, 3)
        hint = f": did you mean {' or '.join(near)}?" if near else ""
        raise refusal.NotFound(f"there is no rule {name[:80]!r}{hint}") from None


def _chosen(rules: Sequence[Rule], targets: Sequence[str]) -> tuple[ReplayedRule, ...]:
    """Return the form of rules in a replay, with the chosen targets only."""
    known = sorted({each.target for rule in rules for each in rule.targets})
    for target in targets:
        if target not in known:
            named = ", ".join(rule.name for rule in rules)
            raise Refused(f"{target[:80]!r} is no target of {named}: the targets are {', '.join(known)}")
    found: list[ReplayedRule] = []
    for rule in rules:
        kept = [each for each in rule.targets if not targets or each.target in targets]
        if not kept:
            raise Refused(f"the rule {rule.name} has none of the targets {', '.join(targets)}")
        of_rule = tuple(ReplayedTarget(each.target, actor_of(each.target), each.input) for each in kept)
        found.append(ReplayedRule(rule.name, rule.version, of_rule, (*rule.sources,), (*rule.types,), rule.where))
    return tuple(found)


async def _remembered(bus: Bus, targets: set[str]) -> dict[str, float]:
    """Return the seconds for which each target remembers what it has delivered."""
    return {name: remembered(await bus.query(GetTarget(name))) for name in targets}


async def _sources(
    jetstream: JetStream, namespace: str, rules: Sequence[ReplayedRule], request: Request
) -> list[Source]:
    """Return the stretches of all streams that may have events of the rules."""
    if request.archive is None:
        wanted = _wanted(rules, await _actors(jetstream, namespace))
        found = [
            await of_stream(
                jetstream, names.events_stream, request.since, request.until, _parts(names, types, request.key)
            )
            for names, types in ((Names(actor, namespace), types) for actor, types in wanted.items())
        ]
        return [each for each in found if each is not None]
    archive = await archive_of(jetstream, namespace, request.archive)
    if not archive.archive.events:
        parts = [Part("", filter=rule_subject(namespace, request.archive))]
        return [await of_archive(jetstream, archive, request.since, request.until, parts, by_headers=True)]
    has = {each.partition(".")[0] for each in archive.archive.events}
    wanted = {actor: types for actor, types in _wanted(rules, sorted(has)).items() if actor in has}
    return [
        await of_archive(
            jetstream, archive, request.since, request.until, _parts(Names(actor, namespace), types, request.key)
        )
        for actor, types in wanted.items()
    ]


def _wanted(rules: Sequence[ReplayedRule], known: Sequence[str]) -> dict[str, set[str] | None]:
    """Return the types of events that rules may match, by actor; None for those of all types. `known` has all actors."""
    wanted: dict[str, set[str] | None] = {}
    for rule in rules:
        for type_ in rule.types:
            actor = type_.rpartition(".")[0]
            before = wanted.setdefault(actor, set())
            if before is not None and (not rule.sources or actor in rule.sources):
                before.add(type_)
        if not rule.types:
            wanted |= dict.fromkeys(rule.sources or known)
    return wanted


def _parts(names: Names, types: set[str] | None, key: str | None) -> list[Part]:
    """Return the events of an actor that are read, those of one key if it is given."""
    token = "*" if key is None else key_token(key)
    bucket = "*" if key is None else bucket_of(token)
    if types is None:
        return [Part("", filter=names.stored_event("*", bucket, token))]
    words = {snake_case(each.rpartition(".")[2]): each for each in types}
    return [Part(type_, filter=names.stored_event(word, bucket, token)) for word, type_ in sorted(words.items())]


async def _actors(jetstream: JetStream, namespace: str) -> list[str]:
    """Return the names of the actors that have a stream of events."""
    own = Names("", namespace)
    found: list[str] = []
    for stream in await jetstream.stream_names(Names("*", namespace).event("*", ">")):
        actor = stream.removeprefix(own.stream_prefix).removesuffix("-events")
        if valid_name(actor) and Names(actor, namespace).events_stream == stream:
            found.append(actor)
    return sorted(found)


async def _counted(jetstream: JetStream, replay: Replay, remember: dict[str, float]) -> Plan:
    """Return the plan of a replay, whose total is not known yet."""
    matcher, counts = Matcher(replay.rules, replay.key), dict[tuple[str, str, str], Count]()
    total = forgotten = 0
    async for found in read_events(jetstream, replay.sources):
        matched = matcher.find(replay.sources[found.source], found.stored)
        if matched is None:
            continue
        event, rules = matched
        total, old = total + 1, False
        for rule in rules:
            for target in (each.target for each in rule.targets):
                is_old = event.stored < replay.started - remember[target]
                old = old or is_old
                place = rule.name, target, event.type
                counts[place] = _with(counts.get(place) or Count(*place, 0, math.inf, 0.0, 0), event.stored, is_old)
        forgotten += old
    ordered = tuple(counts[place] for place in sorted(counts))
    return Plan(msgspec.structs.replace(replay, total=total), ordered, forgotten, min(remember.values()))


def _with(count: Count, time: float, is_old: bool) -> Count:
    """Return a count with one event more."""
    return msgspec.structs.replace(
        count,
        events=count.events + 1,
        first=min(count.first, time),
        last=max(count.last, time),
        forgotten=count.forgotten + is_old,
    )
