"""The relay: publishes what committed turns left in their outbox, each with its fixed id, in order per key.

Nothing here is needed for correctness while the process lives: the newest record of a key has all that may be
unpublished. After a crash, the checkpoint (all that lies at or below it is published) says which records to look at.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable

from opentelemetry.trace import SpanKind

from runtime.errors import ActorError, CodecError, PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import INVALID_SCHEDULE_CODES, WrongSequence
from runtime.storage.checkpoint import Checkpoint
from runtime.storage.key import StoredKey
from runtime.storage.record import Outgoing, decode_record
from runtime.storage.schedules import take_back, timer_message
from runtime.telemetry import NO_SPAN, ServiceTracer, Template, finish, semconv
from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers
from runtime.wire.subjects import Names, snake_case, token_key

logger = logging.getLogger("actorloom.storage")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0


class Relay:
    """Publishes outboxes of one actor type. All state is in memory; `StoredKey.outbox` holds what is not confirmed.

    `owns` says whether this process may: by the clock, the lease may have gone before anybody was told.
    """

    def __init__(self, jetstream: JetStream, names: Names, tracer: ServiceTracer, owns: Callable[[], bool]) -> None:
        self._jetstream = jetstream
        self._owns = owns
        self._loop = asyncio.get_running_loop()
        self._names = names
        self._tracer = tracer
        self._templates: dict[str, Template] = {}
        self._keys: set[StoredKey] = set()
        self._saved = 0
        self._swept = 0
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._stopped = False
        self._clearing: set[asyncio.Task[None]] = set()
        self.checkpoint = Checkpoint()
        self.published = 0
        self.failed = 0

    def send(self, key: StoredKey, outgoing: list[Outgoing], sequence: int) -> None:
        """Publish what the record at `sequence` added; a record that added nothing is accounted for at once."""
        if not outgoing:
            self.checkpoint.mark_done(sequence)
            return
        if key.outbox is None:
            key.outbox = deque()
        key.outbox.extend((entry, sequence) for entry in outgoing)
        self.resume(key)

    def resume(self, key: StoredKey) -> None:
        """Publish the outbox of `key` from its head, unless that is under way."""
        if key.outbox and key not in self._keys and not self._stopped:
            self._keys.add(key)
            self._publish(key, _FIRST_PAUSE)

    def pending(self) -> set[int]:
        """Return the sequences of records that still have something to publish."""
        return {sequence for key in self._keys if key.outbox for _, sequence in key.outbox}

    async def wait_idle(self) -> None:
        """Return when nothing is left to publish."""
        while self._keys:
            future = self._loop.create_future()
            self._idle_waiters.append(future)
            await future

    def stop(self) -> None:
        """Publish nothing more; what is left is in the records, for the next owner."""
        self._stopped = True
        for task in self._clearing:
            task.cancel()
        self._keys.clear()
        self._settle()

    def _publish(self, key: StoredKey, pause: float) -> None:
        if not self._owns():
            self.stop()  # lost while this process was paused: the next owner has it from the record
            return
        assert key.outbox
        entry, origin = key.outbox[0]
        if entry.kind == "x":
            self._clear(key, entry, origin, pause)
            return
        template = self._template(entry)
        carried = entry.trace.encode()
        if carried or template.records:
            span = template.receive(header_block.join(carried), {semconv.MESSAGING_MESSAGE_ID: entry.id})
            trace = span.lines() + carried[carried.find(b"baggage:") :] if b"baggage:" in carried else span.lines()
        else:
            span, trace = NO_SPAN, b""
        subject, headers = self._message(entry, origin, trace)

        def answered(sequence: int, error: Exception | None) -> None:
            if isinstance(error, WrongSequence):
                # A timer of this name stands there.
                span.end()
                self._clear(key, entry, origin, pause)
                return
            if error is not None:
                finish(span, 500, type(error).__name__, str(error))
                if isinstance(error, PublishError) and error.err_code in INVALID_SCHEDULE_CODES:
                    logger.error(
                        "%s: the timer %s of key %s is not set: %s", self._names.actor, entry.timer, key.token, error
                    )
                    self._confirmed(key, entry, 0)
                else:
                    self._later(key, pause, error)
                return
            span.end()
            self._confirmed(key, entry, sequence)

        try:
            self._jetstream.publish_callback(subject, bytes(entry.body), headers, answered)
        except PublishError as error:
            finish(span, 500, type(error).__name__, str(error))
            self._later(key, pause, error)

    def _clear(self, key: StoredKey, entry: Outgoing, origin: int, pause: float) -> None:
        taking = self._take_back(key, entry, origin, pause)
        task = self._loop.create_task(taking, name=f"actorloom {self._names.actor} timer")
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    async def _take_back(self, key: StoredKey, entry: Outgoing, origin: int, pause: float) -> None:
        """Take back what stands under the name of `entry`, the head of the outbox, and publish it then, if it is one to set."""
        left = {one.id for one, _ in key.outbox or ()}
        try:
            gone = await take_back(self._jetstream, self._names, entry, origin, left)
        except (ActorError, TimeoutError) as error:
            self._later(key, pause, error)
            return
        if gone and entry.kind != "x":
            self._again(key, pause)
        else:
            self._confirmed(key, entry, 0)

    def _confirmed(self, key: StoredKey, entry: Outgoing, sequence: int) -> None:
        outbox = key.outbox
        if outbox is None or not outbox or outbox[0][0] is not entry:
            return  # forgotten meanwhile: another writer has this key now
        self.published += 1
        _, origin = outbox.popleft()
        if entry.kind != "e" and sequence:
            self.checkpoint.mark_done(sequence)
        if not outbox or outbox[0][1] != origin:
            self.checkpoint.mark_done(origin)
        if outbox:
            if not self._stopped:
                self._publish(key, _FIRST_PAUSE)
            return
        key.outbox = None
        self._keys.discard(key)
        self._settle()

    def _later(self, key: StoredKey, pause: float, error: Exception) -> None:
        self.failed += 1
        if self._stopped:
            return
        if pause > 1.0:
            logger.warning("%s: events of key %s wait to be published: %s", self._names.actor, key.token, error)
        delay = pause * (0.5 + random.random() / 2)
        self._loop.call_later(delay, self._again, key, min(pause * 2, _LONGEST_PAUSE))

    def _again(self, key: StoredKey, pause: float) -> None:
        if key.outbox and not self._stopped:
            self._publish(key, pause)

    def _settle(self) -> None:
        if not self._keys:
            for future in self._idle_waiters:
                if not future.done():
                    future.set_result(None)
            self._idle_waiters.clear()

    # What is published.

    def _message(self, entry: Outgoing, origin: int, trace: bytes) -> tuple[str, bytes]:
        """Return subject and header block of an event or timer; `trace` has the lines of its trace."""
        if entry.kind != "e":
            return timer_message(self._names, entry, origin, trace)
        subject = self._names.event(snake_case(entry.name), entry.token)
        return subject, event_headers(self._names.actor, entry.name, entry.id, entry.token, entry.time, trace)

    def _template(self, entry: Outgoing) -> Template:
        template = self._templates.get(entry.kind + entry.name)
        if template is None:
            kind = "event" if entry.kind == "e" else "timer"
            destination = f"{self._names.prefix}{self._names.actor}.{kind}.{snake_case(entry.name)}"
            attributes = {**semconv.send_attributes(destination)}
            template = self._tracer.template(f"publish {destination}", SpanKind.PRODUCER, attributes)
            self._templates[entry.kind + entry.name] = template
        return template

    # After a crash, and for what other writers left.

    async def recover(self) -> int:
        """Publish what was left by former owners, from the saved checkpoint on; return how many records had something.

        Raises `PublishError` or `TimeoutError` where the stream cannot be read.
        """
        stream = self._names.turns_stream
        saved = await self._jetstream.get_last(stream, self._names.checkpoint())
        start = int(saved.payload) if saved is not None and saved.payload.isdigit() else 0
        last = (await self._jetstream.stream_info(stream)).state.last_seq
        newest: dict[str, tuple[int, list[Outgoing]]] = {}
        if last > start:
            async for stored in self._jetstream.read(stream, self._names.turn("*"), start_sequence=start + 1):
                outbox = decode_record(stored.payload, stored.subject).outbox
                newest[stored.subject] = (stored.sequence, outbox)
        left = {subject: found for subject, found in newest.items() if found[1]}
        for subject, (sequence, outbox) in left.items():
            self._adopt(subject, outbox, sequence)
        await self.wait_idle()
        if self._stopped:
            return 0  # the keys were lost meanwhile
        self._saved = start
        self.checkpoint.begin(max(last, start))
        return len(left)

    async def sweep(self) -> None:
        """Look at sequences that are nobody's (a former owner that woke up, a crashed peer), and save the checkpoint."""
        checkpoint = self.checkpoint
        if not checkpoint.tracking:
            return
        # What was there a sweep ago and is still nobody's: a commit whose acknowledgement is on its way is not.
        limit, self._swept = self._swept, (await self._jetstream.stream_info(self._names.turns_stream)).state.last_seq
        suspects = set(checkpoint.unaccounted(limit, self.pending()))
        if suspects:
            await self._look_at(suspects)
        await self.save()

    async def _look_at(self, suspects: set[int]) -> None:
        first, last = min(suspects), max(suspects)
        async for stored in self._jetstream.read(self._names.turns_stream, self._names.turn("*"), start_sequence=first):
            if stored.sequence > last:
                break
            if stored.sequence not in suspects:
                continue
            try:
                outbox = decode_record(stored.payload, stored.subject).outbox
            except CodecError as error:
                logger.error("%s", error)
                continue
            if outbox:
                suspects.discard(stored.sequence)
                self._adopt(stored.subject, outbox, stored.sequence)
        for sequence in suspects:
            self.checkpoint.mark_done(sequence)

    async def save(self) -> None:
        """Store the checkpoint, where it has moved."""
        position = self.checkpoint.position
        if self.checkpoint.tracking and position > self._saved:
            ack = await self._jetstream.publish(self._names.checkpoint(), b"%d" % position)
            self._saved = position
            self.checkpoint.mark_done(ack.sequence)

    def _adopt(self, subject: str, outbox: list[Outgoing], sequence: int) -> None:
        token = subject.rpartition(".")[2]
        orphan = StoredKey(token_key(token), token)
        self.send(orphan, outbox, sequence)
