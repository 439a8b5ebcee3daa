"""Names on the wire: subjects and streams.

The subject of a message contains its kind: a client with a permission on ``*.query.>`` can read and nothing else.
"""

import re
from functools import lru_cache
from typing import Final

from runtime.errors import ConfigurationError
from runtime.wire.buckets import WHOLE, Partition
from runtime.wire.tokens import key_token, token_of

QUEUE: Final = "q"
"""The queue group of all endpoints (the default of NATS ADR-32)."""

REDRIVE: Final = "redrive"
"""The consumer of redriven dead letters, on the dead-letter stream."""

KINDS: Final = frozenset({"query", "command", "cancel", "event", "tell", "dead", "redrive"})
"""The tokens of subjects that tell the kind of a message. No actor and no namespace has one of these names.

With an actor ``query`` in a namespace, a permission on ``*.query.>`` would permit all commands of that actor.
"""

_PARTITION = re.compile(r"p(\d{1,2})-(\d{1,2})")
_NAME = re.compile(r"(?!p\d+-\d+\Z)[a-z][a-z0-9_-]*\Z")
_PART = re.compile(r"@p\d+-\d+(@|\Z)").match
"""Match what follows the name of an actor in that of a consumer of one of its partitions."""
_VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]+\Z")
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@lru_cache(maxsize=4096)  # the arguments are class names, which are few
def snake_case(name: str) -> str:
    """Return the operation's name for a class name: ``GetOrder`` is ``get_order``, ``SKUAdded`` is ``sku_added``."""
    return _WORD.sub("_", name).lower()


def valid_name(name: str) -> bool:
    """Return whether `name` can be the name of an actor: a lower-case token that is also a service name by ADR-32.

    The names of partitions are reserved: ``orders.p8-3.turn.…`` belongs to the actor ``orders``.
    """
    return _NAME.match(name) is not None


def valid_version(version: str) -> bool:
    """Return whether `version` can be the version of a service by ADR-32: a semantic version, such as ``1.2.3``."""
    return _VERSION.fullmatch(version) is not None


def valid_namespace(name: str) -> bool:
    """Return whether `name` can be a namespace, the prefix of subjects and streams.

    The names in `KINDS` are reserved, and so are names that begin with ``_``, as the subjects of inboxes do.
    """
    return _NAMESPACE.match(name) is not None and name[0] != "_" and name not in KINDS


NAMESPACE_RULE: Final = (
    f"letters, digits, dashes and underscores, with a letter or digit first; {', '.join(sorted(KINDS))} are reserved"
)
"""The rule for namespaces, for error texts."""


def check_namespace(namespace: str) -> None:
    """Raise `ConfigurationError` if a namespace is neither empty nor one token of subjects and streams."""
    if namespace and not valid_namespace(namespace):
        raise ConfigurationError(f"namespace = {namespace[:40]!r}: use {NAMESPACE_RULE}")


class Names:
    """All subjects and streams of one actor, or of one partition of its keys, under an optional namespace.

    The prefix of subjects is empty or ends with a dot. The names of streams cannot contain dots, so a dash joins namespace
    and actor there. What an owner alone writes has the name of its partition in it (``orders.p8-3.turn.<key>``), unless the
    actor is one whole (``orders.turn.<key>``).

    Args:
        actor: The name of the actor.
        namespace: The namespace; empty for none.
        partition: The partition of the keys.

    Raises:
        ConfigurationError: The namespace is not valid.
    """

    __slots__ = (
        "actor",
        "dead_stream",
        "durable",
        "events_stream",
        "layout_stream",
        "lease_bucket",
        "namespace",
        "own",
        "partition",
        "prefix",
        "redrive_durable",
        "replay_bucket",
        "schema_bucket",
        "stream_prefix",
        "tells_stream",
        "turns_stream",
    )  # fmt: skip

    def __init__(self, actor: str, namespace: str = "", partition: Partition = WHOLE) -> None:
        check_namespace(namespace)
        self.actor = actor
        self.namespace = namespace
        self.partition = partition
        self.prefix = f"{namespace}." if namespace else ""
        self.stream_prefix = f"{namespace}-" if namespace else ""
        self.lease_bucket = f"{self.stream_prefix}leases"
        self.replay_bucket = f"{self.stream_prefix}replays"
        self.schema_bucket = f"{self.stream_prefix}schemas"
        self.events_stream = f"{self.stream_prefix}{actor}-events"
        self.layout_stream = self.turns_stream = f"{self.stream_prefix}{actor}-turns"
        self.dead_stream = f"{self.stream_prefix}{actor}-dead"
        self.tells_stream = f"{self.stream_prefix}{actor}-tells"
        self.own = f"{self.prefix}{actor}"
        self.durable = actor
        self.redrive_durable = REDRIVE
        if partition.total > 1:
            part = f"p{partition.total}-{partition.number}"
            self.turns_stream += f"-{part}"
            self.own += f".{part}"
            self.durable += f"@{part}"
            self.redrive_durable += f"@{part}"

    @property
    def label(self) -> str:
        """The actor's name for a log line, with the partition if this is one of several."""
        return self.actor if self.partition.total == 1 else f"{self.actor}, partition {self.partition.number}"

    def consumer_suffix(self, stream: str, durable: str) -> str | None:
        """Return what follows the name of this partition in that of a consumer: ``@on_paid``, or "" for the shared one.

        None if it is no consumer of this partition on the events stream of an actor, or on the streams of dead letters and of commands by `tell` of
        this one.
        """
        name = self.redrive_durable if stream == self.dead_stream else self.durable
        suffix = durable.removeprefix(name)
        if not durable.startswith(name) or (suffix and (suffix[0] != "@" or _PART(suffix) is not None)):
            return None
        return suffix

    def of(self, partition: Partition) -> "Names":
        """Return the names of a partition of this actor."""
        return Names(self.actor, self.namespace, partition)

    def partitions(self, total: int) -> "list[Names]":
        """Return the names of all partitions of this actor; its own ones if it is one whole."""
        return [self.of(Partition(total, number)) for number in range(total)]

    def request(self, op: str, name: str) -> str:
        """``orders.query.get_order``: the subject on which anybody sends a request."""
        return f"{self.prefix}{self.actor}.{op}.{name}"

    def cancel(self, name: str) -> str:
        """``orders.cancel.pack_order``: the subject on which anybody cancels a long job."""
        return self.request("cancel", name)

    def owner(self, kind: str, name: str = "") -> str:
        """``orders.query.get_order.3``: the subject on which the owner of this partition receives, if there are several."""
        subject = f"{self.prefix}{self.actor}.{kind}" + (f".{name}" if name else "")
        return subject if self.partition.total == 1 else f"{subject}.{self.partition.number}"

    def standby(self) -> str:
        """``orders.standby``: the subject on which a standby process answers the owner of the keys."""
        return self.owner("standby")

    def hand_on(self) -> str:
        """``orders.handon.3``: the subject on which the owner of this partition receives events of others for its keys."""
        return self.owner("handon")

    def handover(self, holder: str) -> str:
        """``orders.handover.<holder>``: the subject on which a former owner reports the keys that it has finished."""
        return self.owner("handover", token_of(holder))

    def events(self, name: str) -> str:
        """``orders.event.order_created``: the beginning of the subjects of an event."""
        return f"{self.prefix}{self.actor}.event.{name}"

    def event(self, name: str, token: str) -> str:
        """``orders.event.order_created.<key token>``: the subject on which an event is published."""
        return f"{self.prefix}{self.actor}.event.{name}.{token}"

    def stored_event(self, name: str, bucket: int | str = "*", token: str = "*") -> str:
        """``orders.event.order_created.<bucket>.<key token>``: the subject under which the server stores an event."""
        return f"{self.prefix}{self.actor}.event.{name}.{bucket}.{token}"

    def tell(self, name: str, token: str) -> str:
        """``orders.tell.cancel_order.<key token>``: the subject of a command by `tell`."""
        return f"{self.told(name)}.{token}"

    def told(self, name: str = "*") -> str:
        """``orders.tell.cancel_order``: the beginning of the subjects of a command by `tell`."""
        return f"{self.prefix}{self.actor}.tell.{name}"

    def filters(self, subject: str) -> tuple[str, ...]:
        """Return the filters of a consumer of what is published on ``<subject>.<key token>`` for keys of this partition.

        The stream stores it under ``<subject>.<bucket>.<key token>``.
        """
        buckets = self.partition.buckets if self.partition.total > 1 else "*"
        return tuple(f"{subject}.{bucket}.*" for bucket in buckets)

    def turn(self, token: str) -> str:
        """``orders.turn.<key token>``: the record of a key."""
        return f"{self.own}.turn.{token}"

    def dedup_entry(self, token: str, message_id: str) -> str:
        """``orders.dedup.<key token>.<id token>``: the dedup entry of a handled message that has left its record."""
        return f"{self.own}.dedup.{token}.{token_of(message_id)}"

    def dedup_bucket(self, token: str, bucket: int, part: int) -> str:
        """``orders.dedup.<key token>.<bucket>.<part>``: one dedup entry of several messages with ids of one time bucket."""
        return f"{self.own}.dedup.{token}.{bucket:x}.{part}"

    def layout(self) -> str:
        """``orders.relay.layout``: the number of partitions, in the layout stream. Nothing is stored for one whole."""
        return f"{self.prefix}{self.actor}.relay.layout"

    def checkpoint(self) -> str:
        """``orders.relay.checkpoint``: the sequence up to which all events of this actor are published."""
        return f"{self.own}.relay.checkpoint"

    def position(self, stream: str, durable: str) -> str:
        """``orders.positions.<stream>.<consumer>``: the position of a consumer."""
        return f"{self.own}.positions.{stream}.{durable}"

    def attempts(self, stream: str, durable: str, sequence: int) -> str:
        """``orders.positions.<stream>.<consumer>.<sequence>``: the attempts of one poison-message candidate."""
        return f"{self.position(stream, durable)}.{sequence}"

    def running(self, stream: str, durable: str) -> str:
        """``orders.positions.<stream>.<consumer>.running``: the events of a consumer whose handlers run."""
        return f"{self.position(stream, durable)}.running"

    def survival(self, holder: str) -> str:
        """``orders.positions.<process>``: the last ownership that a process has survived."""
        return f"{self.own}.positions.{key_token(holder)}"

    def closed(self) -> str:
        """``orders.p8-3.relay.closed``: the only subject of a closed stream. Nothing is published on it."""
        return f"{self.own}.relay.closed"

    def timer(self, token: str, timer_id: str) -> str:
        """``orders.timer.<key token>.<id>``: a timer that is due."""
        return f"{self.own}.timer.{token}.{timer_id}"

    def schedule(self, token: str, timer_id: str) -> str:
        """``orders.schedule.<key token>.<id>``: a timer that is not due yet."""
        return f"{self.own}.schedule.{token}.{timer_id}"

    def parked(self, token: str, target: str, tell_id: str) -> str:
        """``orders.parked.<key token>.payment.<id token>``: a command by `tell` that its target does not take now."""
        return f"{self.own}.parked.{token}.{target}.{tell_id}"

    def dead(self, name: str) -> str:
        """``orders.dead.<event or command>``."""
        return f"{self.prefix}{self.actor}.dead.{name}"

    def dead_part(self, name: str) -> str:
        """``orders.dead.<event or command>.part``: a part of the body of a dead letter that is too large for one message."""
        return f"{self.dead(name)}.part"

    def redrive(self, name: str, token: str) -> str:
        """``orders.redrive.<event or command>.<key token>``: a dead letter, published to the reaction that gave it up."""
        return f"{self.redriven(name)}.{token}"

    def redriven(self, name: str = "*") -> str:
        """``orders.redrive.<event or command>``: the beginning of the subjects of redriven dead letters."""
        return f"{self.prefix}{self.actor}.redrive.{name}"


def partition_in(name: str) -> Partition | None:
    """Return the partition that a token of a subject or a part of a name tells, such as ``p8-3``; None if it tells none."""
    found = _PARTITION.fullmatch(name)
    return None if found is None else Partition(int(found[1]), int(found[2]))


def published(subject: str) -> str:
    """Return the subject on which a message was published, given the one under which a stream stores it with a bucket."""
    head, _, token = subject.rpartition(".")
    return f"{head.rpartition('.')[0]}.{token}"
