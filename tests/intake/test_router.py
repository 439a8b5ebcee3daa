"""The router of a partitioned actor: any process of it answers any request as the owner of its key does."""

import asyncio
import json
import logging
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from runtime import NotDelivered, Options
from runtime.client.breaker import BreakerPolicy
from runtime.client.bus import Bus
from runtime.errors import CircuitOpen
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import semconv
from runtime.wire.buckets import partition_of
from runtime.wire.tokens import key_token
from tests.support.handlers import gate
from tests.support.notes import PARTITIONS, CopyNote, Desk, Notes, WriteNote
from tests.support.probe import Probe, running
from tests.support.process import ROOT, running_command


class Service:
    """Processes of the actor, and a client that knows nothing of partitions."""

    def __init__(self, client: Client, namespace: str, members: list[Probe]) -> None:
        self.client = client
        self.namespace = namespace
        self.members = members

    async def ask(
        self, operation: str, body: Any = b"", headers: dict[str, str] | None = None, /, **fields: Any
    ) -> Msg:
        """Send a request to the plain subject, with a body or with `fields`."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        subject = f"{self.namespace}.notes.{operation}"
        return await self.client.request(subject, payload or json.dumps(fields).encode(), 15, headers=headers)

    def owned(self, member: int) -> set[int]:
        """Return the partitions that a member owns."""
        return self.members[member].owned("notes")


def keys_of(numbers: set[int], word: str = "key", partitions: int = PARTITIONS) -> list[str]:
    """Return a few keys whose partitions are among `numbers`, at least one for each."""
    return [key for key in (f"{word}{i}" for i in range(40)) if partition_of(key_token(key), partitions) in numbers]


@asynccontextmanager
async def service(
    server: EmbeddedServer, namespace: str, count: int = 2, share: int = 0, **options: Any
) -> AsyncIterator[Service]:
    """Run members of the actor in this process, each with a connection of its own, and wait until each owns its share."""
    async with AsyncExitStack() as stack:
        client = await nats.connect(server.url)
        stack.push_async_callback(client.close)
        members = [
            await stack.enter_async_context(running(Notes, url=server.url, namespace=namespace, **options))
            for _ in range(count)
        ]
        found = Service(client, namespace, members)
        partitions = len(members[0].owners("notes"))
        await members[0].until(lambda: all(len(found.owned(i)) == (share or partitions // count) for i in range(count)))
        yield found


def error_of(reply: Msg) -> tuple[int, str, bool | None]:
    error = json.loads(reply.data)["error"]
    return error["code"], error["kind"], error["executed"]


UNUSABLE: list[tuple[str, bytes, dict[str, str]]] = [
    ("command.write_note", b"not json", {}),
    ("command.write_note", b'{"name":5}', {}),
    ("command.write_note", b'{"name":"a","text":1}', {}),
    ("command.write_note", b"", {}),
    ("command.write_note", b'{"name":"' + b"k" * 2000 + b'"}', {}),
    ("command.write_note", b'{"name":"a"}', {"Content-Type": "text/plain"}),
    ("command.write_note", b'{"name":"a"}', {"Content-Type": "application/msgpack"}),
    ("command.write_note", b'{"name":"a"}', {"Idempotency-Key": "x" * 300}),
    ("command.write_note", b'{"name":"a"}', {"Call-Chain": "a\x01b"}),
    ("command.open_note", b"[]", {}),
    ("command.open_note", b"{}", {"Idempotency-Key": "x" * 300}),
    ("query.get_note", b'{"name":"' + b"[" * 5000, {}),
    ("query.get_note", b'{"name":"' + "ü".encode() * 600 + b'"}', {}),
    ("query.ask_size", b'{"text":1}', {}),
    ("query.get_note", b'{"name":"a"}', {"Deadline": "1000"}),
    ("command.write_note", b'{"name":"a"}', {"Deadline": "1000"}),
]
"""Requests that no owner executes."""


async def test_a_request_gets_the_same_answer_from_each_process_as_from_an_actor_that_is_one_whole(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async def answers(found: Service) -> list[Any]:
        """Return the answers to everything that needs no certain owner."""
        got: list[Any] = [(await found.ask(name, body, headers)).data for name, body, headers in UNUSABLE]
        got.append((await found.ask("query.ask_size", text="four")).data)
        for headers in ({}, {"Idempotency-Key": "chosen"}):
            keys = {(await found.ask("command.open_note", {"text": "t"}, headers)).data.decode() for _ in range(6)}
            got.append(len(keys))
            got += [(await found.ask("query.get_note", name=json.loads(key))).data for key in keys]
            other = {name: f"{value}-job" for name, value in headers.items()}
            accepted = json.loads((await found.ask("command.keep_note", {"text": "t"}, other)).data)
            got.append(list(accepted) if not headers else accepted)
        return got

    whole = {"options": {"notes": Options()}}
    async with service(nats_server, f"{namespace}w", 1, **whole) as one, service(nats_server, f"{namespace}p") as two:
        expected = [str(each) for each in await answers(one)]
        for _ in range(4):  # each process gets some of them
            assert [str(each).replace(f"{namespace}p", f"{namespace}w") for each in await answers(two)] == expected


async def test_any_process_serves_every_key_and_counts_what_it_passes_on(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with service(nats_server, namespace) as found:
        keys = keys_of(set(range(PARTITIONS)))
        relayed = 0
        for key in keys:
            reply = await found.ask("command.write_note", name=key, text=key)
            relayed += "Actorloom-Partitions" in (reply.headers or {})
            assert json.loads(reply.data) == len(key)
            assert json.loads((await found.ask("query.get_note", name=key)).data) == key
        assert 0 < relayed < len(keys), "both processes receive requests for all keys"
        # Each request is counted once, by the process of its owner, and those that are dropped by the one that receives them.
        await found.client.publish(f"{namespace}.notes.command.write_note", b"{}", reply="$JS.API.STREAM.DELETE.x")
        for _ in range(4):
            assert error_of(await found.ask("command.write_note", b"no json"))[0] == 400
        stats = await discovered(found, "STATS")
        assert [each["metadata"]["partitions"] for each in stats] == [str(PARTITIONS)] * 2
        endpoints = [each for one in stats for each in one["endpoints"] if each["name"] == "write_note"]
        assert sum(each["num_requests"] for each in endpoints) == len(keys) + 4
        assert sum(each["num_errors"] for each in endpoints) == 5
        assert {each["subject"] for each in endpoints} == {f"{namespace}.notes.command.write_note"}
        info = await discovered(found, "INFO")
        assert all(not each["name"].endswith(tuple("0123456789")) for one in info for each in one["endpoints"])
        tracers = [member.served("notes").tracer for member in found.members]
        assert sum(tracer.counter(semconv.REQUESTS_RELAYED, {}).value for tracer in tracers) >= relayed
        # One trace, through the process that passed it on.
        trace = f"{uuid.uuid4().hex}"
        for key in keys:
            await found.ask("query.get_note", {"name": key}, {"traceparent": f"00-{trace}-{'1' * 16}-01"})
        spans = [span for member in found.members for span in member.trace_of(trace)]
        assert {(span.name, span.parent_id) for span in spans} == {("notes/get_note", "1" * 16)} and len(spans) == len(
            keys
        )


async def answer_without_a_key(found: Service) -> None:
    assert error_of(await found.ask("command.write_note", b"no json")) == (400, "InvalidMessage", False)
    assert json.loads((await found.ask("query.ask_size", text="four")).data) == 4
    assert json.loads((await found.ask("command.open_note")).data)


async def discovered(found: Service, verb: str) -> list[dict[str, Any]]:
    """Return the answers of the actor's members to discovery."""
    await found.members[0].connection.flush()
    await found.members[1].connection.flush()
    replies = await found.client.subscribe(inbox := found.client.new_inbox())
    await found.client.publish(f"$SRV.{verb}.notes", reply=inbox)
    mine: list[dict[str, Any]] = []
    while len(mine) < len(found.members):
        reply = json.loads((await replies.next_msg(timeout=10)).data)
        mine += [reply] if reply["metadata"].get("namespace") == found.namespace else []
    await replies.unsubscribe()
    return mine


async def test_a_reply_of_the_largest_size_is_relayed_without_the_header(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with service(nats_server, namespace) as found:
        small = await found.ask("query.get_note", name="a")
        headers = "".join(
            f"{name}: {value}\r\n" for name, value in (small.headers or {}).items() if name == "traceresponse"
        )
        most = found.client.max_payload - len(f"NATS/1.0\r\n{headers}\r\n") - len('""')
        for key in keys_of(found.owned(0))[:8]:
            reply = await found.ask("query.get_note", name=key, size=most)
            assert len(reply.data) == most + 2


async def test_the_requests_in_flight_to_one_partition_are_bounded(nats_server: EmbeddedServer, namespace: str) -> None:
    options = {"notes": Options(partitions=2, mailbox=1, concurrency=2, lane=1)}
    async with service(nats_server, namespace, options=options) as found:
        other = found.members[1]
        stuck, free = keys_of(found.owned(0), f"{namespace}-s", 2), keys_of(found.owned(1), f"{namespace}-f", 2)
        # Leave the queue group of the plain subjects to the second member.
        await found.members[0].router("notes").stop()
        relays, owner = other.router("notes").relays, found.members[0]
        held: list[asyncio.Future[Msg]] = []
        for key in stuck[:3]:
            held.append(asyncio.ensure_future(found.ask("command.hold_note", name=key)))
            await owner.until(lambda key=key: owner.is_resident("notes", key) and len(relays) == len(held))
            if len(held) < 3:
                await owner.until(lambda key=key: owner.is_running("notes", key))
        refused = await found.ask("command.hold_note", name=stuck[3])
        assert error_of(refused) == (429, "Overloaded", False)
        body = json.loads(refused.data)["error"]
        assert body["retryAfter"] > 0 and "requests wait for the owner of partition" in body["message"]
        assert json.loads((await found.ask("command.write_note", name=free[0], text="a")).data) == 1
        for key in stuck:
            gate(key).set()
        assert [json.loads((await each).data) for each in held] == stuck[:3]
        assert len(relays) == 0
        # A request without a usable key goes to any owner, if this process has no partition.
        [gone] = [each for each in other.owners("notes") if each.ready]
        gone.drain()
        await other.until(lambda: gone.serving is None)
        for _ in range(3):
            await answer_without_a_key(found)


async def test_a_partition_without_an_owner_is_refused_at_once_and_others_are_served(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with service(nats_server, namespace, 1) as found:
        [member] = found.members
        tracer = member.tracing.service("test")
        bus = Bus(member.connection, tracer, namespace=namespace, breaker=BreakerPolicy(failures=3, min_duration=0.0))
        gone = member.owners("notes")[0]
        gone.drain()
        await member.until(lambda: gone.serving is None)
        # An owner refuses the keys of others, as a process does that does not know the number of partitions.
        for name in ("command.write_note.1", "query.get_note.1"):
            reply = await found.ask(name, name=keys_of({3})[0])
            assert error_of(reply) == (503, "NotDelivered", False) and reply.headers
            assert (reply.headers["Actorloom-Partitions"], reply.headers["Actorloom-Unserved"]) == ("4", "3")
        with caplog.at_level(logging.INFO, "actorloom.intake"):
            for key in keys_of({0}):
                reply = await found.ask("command.write_note", name=key)
                assert error_of(reply) == (503, "NotDelivered", False)
                assert reply.headers == {
                    **reply.headers, "Actorloom-Partitions": str(PARTITIONS), "Actorloom-Unserved": "0",
                }  # fmt: skip
                with pytest.raises(NotDelivered) as refused:
                    await bus.command(WriteNote(key), timeout=0.05)
            for _ in range(8):
                await answer_without_a_key(found)
            # The circuit of the partition has opened, and those of the others have not.
            assert isinstance(refused.value, CircuitOpen)
            for key in keys_of({1, 2, 3}):
                assert await bus.command(WriteNote(key, "ab")) == 2
            await member.until(lambda: [each for each in caplog.records if "no process owns" in each.getMessage()])


async def test_handlers_of_a_process_that_drains_still_ask_their_own_actor(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    names = [f"{namespace}-{key}" for key in "ab"]
    async with AsyncExitStack() as stack:
        client = await nats.connect(nats_server.url)
        stack.push_async_callback(client.close)
        member = await stack.enter_async_context(running(Notes, Desk, url=nats_server.url, namespace=namespace))
        for name in names:
            await member.bus.command(WriteNote(name, "text"))
        copies = [asyncio.ensure_future(member.bus.command(CopyNote(name, name))) for name in names]
        await member.until(lambda: all(member.is_resident("desk", name) for name in names))
        member.runner.stop()
        await member.until(lambda: member.all_drain("notes") and member.all_drain("desk"))
        # Nothing from outside gets in.
        with pytest.raises(nats.errors.NoRespondersError):
            await client.request(f"{namespace}.notes.command.write_note", b'{"name":"a"}')
        for name in names:
            gate(name).set()
        assert await asyncio.gather(*copies) == ["text", "text"]


async def test_the_outcome_is_unknown_as_soon_as_the_owner_is_known_to_be_dead(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    flags = ("--nats", nats_server.url, "--namespace", namespace, "--lease-ttl", "1")
    async with (
        running_command("run", "tests.support.notes:Notes", *flags, cwd=ROOT) as process,
        service(nats_server, namespace, 1, lease_ttl=1.0, share=2) as found,
    ):
        [member] = found.members
        mine, relays = found.owned(0), member.router("notes").relays
        keys = keys_of(set(range(PARTITIONS)) - mine, f"{namespace}-")
        asked = [asyncio.ensure_future(found.ask("command.hold_note", name=key)) for key in keys]
        await member.until(lambda: len(relays))
        await member.connection.flush()  # the server has passed it on
        process.signal(signal.SIGKILL)
        # No request had a deadline, and one that the dead process itself was to relay gets no answer.
        await member.until(lambda: not len(relays))
        await member.connection.flush()
        done, _ = await asyncio.wait(asked, timeout=1.0)
        # One that had not been passed on yet when the owner was killed was certainly not executed.
        answers = {error_of(each.result()) for each in done}
        assert (408, "DeadlineExceeded", None) in answers
        assert answers <= {(408, "DeadlineExceeded", None), (503, "NotDelivered", False)}
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
