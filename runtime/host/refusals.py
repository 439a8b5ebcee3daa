"""What the server refuses to a process: publications and subscriptions that the runtime itself needs.

The server reports a refusal by an ``-ERR`` line that no caller waits for: a pull request, an acknowledgement or a reply has
no reply of its own. A process with such a refusal is not ready. It finds out that the permission is back

- for subscriptions, by subscribing again (`runtime.nats.resubscribing`);
- for replies, acknowledgements, pull requests and private streams, by a message on the refused subject that has no effect;
- for everything else by silence: the runtime repeats its publications of events, leases and requests within seconds.

A request that a handler sends to another service is not looked at here: its caller gets the error.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from runtime.errors import PublishError
from runtime.nats.connection import Connection, PermissionDenied
from runtime.wire import header_block
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.host")

_TICK: Final = 1.0
"""Seconds between two probes."""
_SILENCE: Final = 10.0
"""Seconds without another refusal after which a subject without a probe counts as permitted."""

_PART: Final = re.compile(r"p\d+-\d+")
"""The token of a partition, as in ``orders.p8-3.turn.…``."""
_INBOXES: Final = ("_inbox.", "_r_.", "_gr_.")
"""The prefixes of reply subjects, in lower case."""
_ACKS: Final = "$js.ack."
_PULLS: Final = "$js.api.consumer.msg.next."

_NOT_STORED: Final = header_block.encode([("Nats-Expected-Stream", "none")])
"""The headers of a message that every stream refuses to store."""


class _Probe(NamedTuple):
    """A message that shows whether a subject is permitted, and has no effect."""

    subject: str
    payload: bytes = b""
    headers: bytes | None = None


class _Refused(msgspec.Struct, eq=False):
    """A kind of publication that the server refuses."""

    text: str
    actor: str
    """The actor whose publication it is; empty for one of the whole process."""
    probe: _Probe | None
    at: float
    """The time of the last refusal, by the clock of the event loop."""


class Refusals:
    """The refusals of one connection, for the actors of a process.

    Args:
        connection: The connection.
        names: The names of all partitions of the actors.
    """

    def __init__(self, connection: Connection, names: Sequence[Names]) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._inboxes = (*_INBOXES, f"{connection.options.inbox_prefix.lower()}.")
        self._own = {f"{each.prefix}{each.actor}.".lower(): each.actor for each in names}
        self._streams = {
            stream.lower(): each.actor
            for each in names
            for stream in (
                each.turns_stream,
                each.layout_stream,
                each.events_stream,
                each.dead_stream,
                each.tells_stream,
            )
        }
        self._buckets = {f"kv_{bucket}".lower() for each in names for bucket in (each.lease_bucket, each.schema_bucket)}
        self._refused: dict[str, _Refused] = {}
        connection.on_error.append(self._on_error)

    def reasons(self, actor: str | None = None) -> list[str]:
        """Return what the server refuses now: to all actors of the process, or to one of them. Any thread may call it."""
        subscriptions = self._connection.refused_subscriptions
        found = [
            f"NATS refuses the subscription to {subject}" for subject in subscriptions if self._is_of(subject, actor)
        ]
        return found + [
            each.text for each in tuple(self._refused.values()) if actor is None or each.actor in ("", actor)
        ]

    async def run(self) -> None:
        """Find out which permissions are back, until the task is cancelled."""
        try:
            while True:
                await asyncio.sleep(_TICK)
                if self._refused and self._connection.is_connected:
                    try:
                        await self._probe()
                    except (PublishError, TimeoutError) as error:
                        logger.debug("the refused subjects were not tried: %s", error)
        finally:
            self._connection.on_error.remove(self._on_error)

    async def _probe(self) -> None:
        sent = self._loop.time()
        for refused in self._refused.values():
            if refused.probe is not None:
                subject, payload, headers = refused.probe
                self._connection.publish(subject, payload, headers=headers)
        await self._connection.flush()
        for kind, refused in list(self._refused.items()):
            if refused.at < (sent if refused.probe is not None else sent - _SILENCE):
                del self._refused[kind]
                logger.info("the server no longer refuses: %s", kind)

    def _on_error(self, error: Exception) -> None:
        if not isinstance(error, PermissionDenied) or error.operation != "publish":
            return
        found = self._classify(error.subject)
        if found is None:
            return
        kind, actor, probe = found
        if kind not in self._refused:
            logger.error("the server refuses to publish to %s", error.subject)
        text = f"NATS refuses to publish to {error.subject}"
        self._refused[kind] = _Refused(text, actor, probe, self._loop.time())

    def _classify(self, subject: str) -> tuple[str, str, _Probe | None] | None:
        """Return the kind of a publication, its actor and its probe; None if the runtime does not depend on it."""
        lower = subject.lower()
        tokens = lower.split(".")
        if lower.startswith(self._inboxes):
            # Another subject below the inbox: the caller, if it still waits, must not receive the probe.
            return "replies", "", _Probe(f"{subject.rpartition('.')[0]}.actorloom-probe")
        if lower.startswith(_ACKS):
            stream, consumer = (tokens[2:4] if len(tokens) < 11 else tokens[4:6]) if len(tokens) > 4 else ("", "")
            return f"acknowledgements of {stream} {consumer}", "", _Probe(subject, b"+WPI")
        if lower.startswith(_PULLS):
            return lower, "", _Probe(subject)  # A pull request without a reply subject is ignored.
        if lower.startswith("$js.api."):
            stream = next((token for token in tokens if token in self._streams or token in self._buckets), None)
            return None if stream is None else (lower, self._streams.get(stream, ""), None)
        if lower.startswith("$kv."):
            # The status of a process (`runtime.storage.status`) is for the doctor only: $KV.leases.<actor>.status.<process>
            return None if tokens[3:4] == ["status"] else (lower, "", None)
        for prefix, actor in self._own.items():
            if lower.startswith(prefix):
                return self._classify_own(subject, prefix, actor)
        return None

    @staticmethod
    def _classify_own(subject: str, prefix: str, actor: str) -> tuple[str, str, _Probe | None] | None:
        """Classify a subject of an actor of this process: ``orders.turn.…``, ``orders.event.…``."""
        tokens = subject[len(prefix) :].split(".")
        kind = next((token for token in tokens if not _PART.fullmatch(token)), "")
        if kind in ("query", "command"):
            return None
        probed = kind in ("turn", "dedup", "relay", "positions", "dead")
        return f"{prefix}{kind}", actor, _Probe(subject, headers=_NOT_STORED) if probed else None

    def _is_of(self, subject: str, actor: str | None) -> bool:
        owners = [owner for prefix, owner in self._own.items() if subject.lower().startswith(prefix)]
        return actor is None or not owners or actor in owners
