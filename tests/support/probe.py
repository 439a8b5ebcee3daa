"""A probe: actors that run for a test, with a view of the runtime's internals. For the tests of the runtime itself.

Tests name an actor and a key. Only this module knows the path from there to the parts inside, so a change of that path
changes one file.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from runtime import testing
from runtime.actor.base import Actor
from runtime.client.bus import Bus
from runtime.errors import ActorError
from runtime.host.host import Host
from runtime.host.owner import Owner
from runtime.host.process import Runner
from runtime.host.serving import Serving
from runtime.intake.consumers import Consumers
from runtime.intake.router import Router
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.puller import Puller
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.lease import Lease
from runtime.storage.index import Indexes
from runtime.storage.journal import Journal
from runtime.storage.key_dedup import KeyDedup
from runtime.storage.record import Record, decode_record
from runtime.storage.relay import Relay
from runtime.turns.key import Key
from runtime.turns.served import Served
from runtime.wire.buckets import partition_of
from runtime.wire.tokens import key_token


@asynccontextmanager
async def running(*actors: type[Actor[Any]], url: str, **options: Any) -> AsyncGenerator["Probe"]:
    """Run actors as `runtime.testing.running` does, and yield a probe. The sources that do not run have their streams."""
    named = [actor for actor in actors if hasattr(actor, "name")]
    reacting = {event.__contract__.actor for actor in named for event in actor.handlers.reactions}
    options.setdefault("sources", reacting - {actor.name for actor in named})
    async with testing.running(*actors, url=url, **options) as system:
        yield Probe(system.runner, system.bus, system.tracing)


class Probe(testing.System):
    """Actors that run in this process. Every method takes the `name` of one of them."""

    @classmethod
    def of(cls, runner: Runner) -> "Probe":
        """Return a probe for the actors of `runner`."""
        tracer = runner.tracing.service("test")
        return cls(runner, Bus(runner.connection, tracer, namespace=runner.hosts[0].served.namespace), runner.tracing)

    @property
    def jetstream(self) -> JetStream:
        """A JetStream client on the connection of the actors."""
        return JetStream(self.connection)

    # Service: start, failure, end

    def is_ready(self, actor: str) -> bool:
        """Return whether this process serves `actor`."""
        return self._host(actor).ready.is_set()

    def is_serving(self, actor: str) -> bool:
        """Return whether the parts of `actor` run here. During a drain they do, though the actor is not ready any more."""
        return bool(self._host(actor).serving)

    async def until_ready(self, actor: str, timeout: float = 20.0) -> None:
        """Return when this process serves `actor`."""
        await self.until(lambda: self.is_ready(actor), timeout)

    def crash(self, actor: str, error: BaseException | None = None) -> None:
        """Report the failure of a part, which takes the host back to standby."""
        self._owner(actor).crashed(error or ActorError("crashed on purpose"))

    def fail_for_good(self, actor: str) -> None:
        """Report a failure that exceeds the restart limit of the host, which then ends its process."""
        restarts = self._owner(actor).restarts._counted
        restarts.extend([time.monotonic()] * (restarts.maxlen or 0))
        self.crash(actor)

    def pretend_refused(self, actor: str, texts: list[str]) -> None:
        """Have the host of `actor` report that the server refuses something to it."""
        self._host(actor).refusals = lambda _: texts

    def holder(self, actor: str) -> str:
        """Return the name of this process as an owner of keys."""
        return self._host(actor).holder

    def is_standby(self, actor: str) -> bool:
        """Return whether this process waits for the keys of `actor`."""
        return self._host(actor).standby

    def restarts(self, actor: str) -> int:
        """Return how many failures the host counts toward its restart limit."""
        return len(self._owner(actor).restarts._counted)

    def ownership(self, actor: str) -> object:
        """Return an object that stays the same for one ownership; None in standby."""
        return self._owner(actor).serving

    def expire(self, actor: str) -> None:
        """Let the lease of `actor` be over by the clock of this process, as after a pause."""
        lease = self._owner(actor)._lease
        assert lease is not None
        lease._valid_until = 0.0

    def note_exits(self) -> list[BaseException]:
        """Return a list that gets each exception by which an actor asks for the end of the process. It does not end then."""
        asked: list[BaseException] = []
        for host in self.runner.hosts:
            host.on_exit = asked.append
        return asked

    def lease(self, actor: str) -> Lease:
        """Return the lease of the keys of `actor` in its newest ownership, or the one that this process waits for."""
        lease = self._owner(actor)._lease
        assert lease is not None, f"{actor} has no state, or no ownership has begun"
        return lease

    def checkpoint_lease(self, actor: str) -> Lease:
        """Return the lease of the checkpoint of `actor`, which has no state."""
        lease = self._serving(actor)._checkpoint_lease
        assert lease is not None, f"{actor} has a state, or does not wait for the lease yet"
        return lease

    def is_settled(self, actor: str) -> bool:
        """Return whether no commit of `actor` is under way, or has an unknown outcome."""
        return self._serving(actor).settled

    def disown(self, actor: str) -> None:
        """Let the clock say that the lease has ended, as after a pause, before the host has noticed it."""
        turns = self._serving(actor).turns
        turns.owns = turns.commits._owns = turns.attempts._owns = lambda: False

    def cancellations(self, actor: str, key: str) -> list[str]:
        """Return the ids of the jobs of a key whose cancellations are not answered."""
        jobs = self._serving(actor, key).turns.jobs
        return [each for token, each in jobs._cancelled if token == key_token(key)]

    def unfinished(self, actor: str) -> list[str]:
        """Return the commands and events that run here, or whose commit is under way."""
        return self._serving(actor).turns.unfinished()

    def awaits_commits(self, actor: str) -> bool:
        """Return whether a drain of `actor` waits for commits under way."""
        return bool(self._serving(actor).turns.commits._idle)

    async def close_turns(self, actor: str) -> None:
        """End the turns, as at the end of an ownership, before anything else runs."""
        await self._serving(actor).turns.close()

    def drain(self, actor: str) -> None:
        """Drain one actor."""
        self._host(actor).drain()

    def is_draining(self, actor: str) -> bool:
        """Return whether the turns of `actor` take no more messages."""
        return self._serving(actor).turns._stopping

    # Storage: records, events, dead letters

    async def stored_turn(self, actor: str, key: str) -> StoredMessage | None:
        """Return the message that holds the newest record of `key`."""
        names = self._owner(actor, key).served.names
        return await self.jetstream.get_last(names.turns_stream, names.turn(key_token(key)))

    async def record(self, actor: str, key: str) -> Record | None:
        """Return the newest stored record of `key`."""
        stored = await self.stored_turn(actor, key)
        return None if stored is None else decode_record(stored.payload, stored.subject)

    async def state(self, actor: str, key: str) -> Any:
        """Return the stored state of `key`."""
        record = await self.record(actor, key)
        return None if record is None else self.journal(actor).decode_state(record, key)

    async def wait_published(self, actor: str, timeout: float = 15.0) -> None:
        """Return when every event and timer that `actor` has committed is published."""
        async with asyncio.timeout(timeout):
            await self.relay(actor).wait_idle()

    def adopt_outbox(self, actor: str, stored: StoredMessage) -> None:
        """Publish the outbox of a stored turn, as the next owner does if its writer ended before it published."""
        outbox = decode_record(stored.payload, stored.subject).outbox
        self.relay(actor)._adopt(stored.subject, outbox, stored.sequence)

    async def stored_events(self, actor: str) -> list[StoredMessage]:
        """Return the events of `actor` in stream order, once all are published."""
        await self.wait_published(actor)
        return [each async for each in self.jetstream.read(self.served(actor).names.events_stream, ">")]

    async def stored_dead_letters(self, actor: str) -> list[StoredMessage]:
        """Return the dead letters of `actor`, oldest first."""
        names = self.served(actor).names
        return [each async for each in self.jetstream.read(names.dead_stream, names.dead("*"))]

    # Memory: the keys of an actor

    def resident(self, actor: str) -> int:
        """Return how many keys are in memory; 0 in standby."""
        serving = self._owner(actor).serving
        return 0 if serving is None else len(serving.turns.keys)

    def is_resident(self, actor: str, key: str) -> bool:
        """Return whether `key` is in memory."""
        return key_token(key) in self._serving(actor, key).turns.keys

    def is_running(self, actor: str, key: str) -> bool:
        """Return whether a message of `key` is running."""
        return self._key(actor, key).active

    def queries(self, actor: str, key: str) -> int:
        """Return how many queries of `key` run, or wait for its record."""
        return self._key(actor, key).queries

    def waiting(self, actor: str, key: str) -> int:
        """Return how many messages wait in the lane of `key`."""
        return self._key(actor, key).depth

    def has_in_record(self, actor: str, key: str, message_id: str) -> bool:
        """Return whether the record of `key` in memory still lists the handled message."""
        return self._key(actor, key).find(message_id) is not None

    def forget(self, actor: str, key: str | None = None) -> None:
        """Forget the stored half of `key`, or of every key: the next turn loads the record again."""
        for entry in list(self._serving(actor).turns.keys.values()) if key is None else [self._key(actor, key)]:
            entry.forget()

    async def evict(self, actor: str, key: str) -> int:
        """Remove every idle key from memory once `key` has nothing to publish; return the number removed."""
        entry = self._key(actor, key)
        await self.until(lambda: not entry.outbox)
        return self._serving(actor).turns.keys.evict(0.0)

    # Memory: handled messages that have left the record

    def dedup(self, actor: str, key: str) -> KeyDedup | None:
        """Return the dedup state of `key` in memory; None if no message has left its record."""
        return self._key(actor, key).dedup

    async def until_dedup_stored(self, actor: str, key: str) -> None:
        """Return when messages have left the record of `key` and all their dedup entries are stored."""
        entry = self._key(actor, key)
        await self.until(lambda: entry.dedup is not None and not entry.dedup.writing)

    def forget_recent(self, actor: str, key: str) -> int:
        """Forget the ids that left the record lately, as happens after ten seconds; return their number."""
        dedup, count = self.dedup(actor, key), 0
        while dedup is not None and dedup.recent:
            dedup.forgotten_until = max(dedup.forgotten_until, dedup.recent.popitem(last=False)[1])
            count += 1
        return count

    # Intake: events in hand, queries

    def in_hand(self, actor: str) -> int:
        """Return how many events the first consumer of `actor` has delivered and not finished."""
        return self._puller(actor).in_hand

    def room(self, actor: str) -> tuple[int, int, int]:
        """Return the limit of events in hand of the first consumer, and the number and bytes of its parked events."""
        puller = self._puller(actor)
        return puller._credit.limit, len(puller._parked), puller._parked._bytes

    def waiting_queries(self, actor: str) -> int | None:
        """Return how many queries wait for a worker; None if no worker is busy."""
        workers = self._serving(actor).workers
        return len(workers) if workers.busy else None

    def in_mailbox(self, actor: str) -> int:
        """Return how many commands and events of `actor` wait to run."""
        return self._serving(actor).turns.admission.waiting

    def requests(self, actor: str) -> int:
        """Return how many requests this process has received for `actor`."""
        return sum(endpoint.stats.requests for endpoint in self._serving(actor).endpoints)

    # Partitions

    def owners(self, actor: str) -> list[Owner]:
        """Return the owners of all partitions of `actor`, those that other processes serve included."""
        return list(self._host(actor).owners)

    def owned(self, actor: str) -> set[int]:
        """Return the partitions of `actor` that this process serves."""
        return {owner.partition.number for owner in self.owners(actor) if owner.ready}

    def all_drain(self, actor: str) -> bool:
        """Return whether no owner of `actor` in this process receives requests of other processes any more."""
        return all(each.serving is None or each.serving._drain.begun for each in self.owners(actor))

    def router(self, actor: str) -> Router:
        """Return the router, which receives the requests of `actor`, which has several partitions."""
        sharing = self._host(actor)._sharing
        assert sharing is not None
        return sharing.router

    # Parts, for the tests of that part

    def served(self, actor: str) -> Served:
        """Return the names and clients that the parts of `actor` share."""
        return self._owner(actor).served

    def journal(self, actor: str) -> Journal:
        """Return the journal of `actor`."""
        return self._serving(actor).journal

    def relay(self, actor: str) -> Relay:
        """Return the relay of `actor`."""
        return self._serving(actor).relay

    def indexes(self, actor: str) -> Indexes:
        """Return the indexes of `actor`, which declares some."""
        indexes = self._serving(actor).indexes
        assert indexes is not None
        return indexes

    def consumers(self, actor: str) -> Consumers:
        """Return the consumers of `actor`."""
        return self._serving(actor).consumers

    def created_streams(self, actor: str) -> dict[str, Any]:
        """Return the creation time of each stream, as the host has seen it."""
        return dict(self.served(actor).streams._created)

    def _host(self, actor: str) -> Host:
        return next(host for host in self.runner.hosts if host.name == actor)

    def _owner(self, actor: str, key: str | None = None) -> Owner:
        """Return the owner of the partition of `key`; without a key the first one, which has all keys unless there are several."""
        owners = self._host(actor).owners
        return owners[0 if key is None else partition_of(key_token(key), len(owners))]

    def _serving(self, actor: str, key: str | None = None) -> Serving:
        serving = self._owner(actor, key).serving
        assert serving is not None, f"{actor} is not served by this process"
        return serving

    def _key(self, actor: str, key: str) -> Key[Any]:
        return self._serving(actor, key).turns.keys[key_token(key)]

    def _puller(self, actor: str) -> Puller:
        return self.consumers(actor).pullers[0]
