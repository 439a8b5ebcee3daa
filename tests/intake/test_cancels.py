"""Cancellations of long jobs that wait, run, have failed, have ended, or do not listen."""

import asyncio
from typing import Any

import pytest

from runtime import DeadlineExceeded, DeclarationError, NotFound, Rejected, RequestError
from runtime.actor.message import encode_message
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.server import EmbeddedServer
from runtime.storage.firing import fire
from runtime.wire import header_block
from runtime.wire.ids import key_for
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token
from tests.host.test_host import connected
from tests.support.jobs import (
    BEGUN,
    GATES,
    Bulk,
    Bulks,
    GetPages,
    Grind,
    Grinders,
    Pages,
    PartedPress,
    Press,
    Print,
    PrintNew,
    Retitle,
    Tallies,
)
from tests.support.probe import Probe, running
from tests.turns.test_checkpoints import events, until_printed


@pytest.fixture(params=[Press, PartedPress], ids=["whole", "parted"])
def press(request: pytest.FixtureRequest) -> Any:
    return request.param


async def pages(system: Probe, book: str) -> Pages:
    return await system.bus.query(GetPages(book))


async def timers(system: Probe, namespace: str, press: Any) -> list[str]:
    """Return the subjects of the jobs that are stored."""
    parts = Names("press", namespace).partitions(press.options.partitions)
    return [
        each.subject for part in parts async for each in system.jetstream.read(part.turns_stream, part.timer("*", "*"))
    ]


async def test_a_running_job_ends_at_its_last_checkpoint(
    nats_server: EmbeddedServer, namespace: str, press: Any
) -> None:
    book = f"book-{namespace}"
    async with running(press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 6, "wait 2"), id="job")
        await GATES[f"{book} begun"].wait()
        cancels = [system.bus.cancel(Print(book, 0), id="job") for _ in range(3)]
        assert await asyncio.gather(*cancels) == [True, True, True]
        assert await pages(system, book) == Pages((0, 1, 2))
        assert await system.bus.cancel(Print(book, 0), id="job") is False
        await system.bus.command(Retitle(book, "free"))
        assert BEGUN[book] == 1 and 1000 not in await events(system, namespace)
        again = await system.bus.command(Print(book, 6, "wait 2"), id="job")
        assert again.id == "job" and BEGUN[book] == 1

        async def gone() -> bool:
            return await timers(system, namespace, press) == []

        await system.until(gone)


async def test_a_job_that_catches_the_cancellation_leaves_its_outcome(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    book = f"book-{namespace}"
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 3, "catch 2"), id="job")
        await GATES[f"{book} begun"].wait()
        assert await system.bus.cancel(Print(book, 0), id="job") is True
        assert await pages(system, book) == Pages((0, 1, 2), "cancelled")

        async def emitted() -> bool:
            return await events(system, namespace) == [0, 1, 2, -2, -1]

        await system.until(emitted)


async def test_a_job_that_waits_does_not_run(nats_server: EmbeddedServer, namespace: str, press: Any) -> None:
    book = f"book-{namespace}"
    async with running(press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 3, "hold 2"), id="first")
        await GATES[f"{book} begun"].wait()
        await system.bus.tell(Print(book, 6), id="second")
        told = await system.bus.tell(Print(book, 9))
        waiting = [asyncio.ensure_future(system.bus.cancel(Print(book, 0), id=each)) for each in ("second", told)]
        await system.until(lambda: len(system.cancellations("press", book)) == 2)
        assert not any(each.done() for each in waiting)
        GATES[book].set()
        assert await asyncio.gather(*waiting) == [True, True]
        assert await pages(system, book) == Pages((0, 1, 2)) and BEGUN[book] == 1


async def test_a_job_that_waits_for_another_attempt_ends_at_once(nats_server: EmbeddedServer, namespace: str) -> None:
    book = f"book-{namespace}"
    async with running(Patient, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 6, "fail 1"), id="job")

        async def failed() -> bool:
            return BEGUN[book] == 1 and (await pages(system, book)).pages == (0, 1)

        await system.until(failed)
        assert await system.bus.cancel(Print(book, 0), id="job") is True
        assert await pages(system, book) == Pages((0, 1)) and BEGUN[book] == 1
        await system.bus.command(Retitle(book, "free"))


class Patient(Press):
    name = "press"
    options = Press.options.__class__(retry=Press.options.retry.__class__(attempts=3, first=600.0))


async def test_the_id_of_a_job_may_begin_as_the_name_of_a_recurring_command(
    nats_server: EmbeddedServer, namespace: str, press: Any
) -> None:
    book = f"book-{namespace}"
    async with running(press, Tallies, url=nats_server.url, namespace=namespace) as system:
        assert (await system.bus.command(Print(book, 3, "wait 2"), id="@job")).id == "@job"
        await GATES[f"{book} begun"].wait()
        assert await system.bus.cancel(Print(book, 0), id="@job") is True
        assert await pages(system, book) == Pages((0, 1, 2))


async def test_a_redriven_job_is_cancelled_by_the_id_that_its_caller_knows(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Grinders, url=nats_server.url, namespace=namespace) as system:
        for number, told in enumerate((False, True)):
            grain = f"grain-{number}-{namespace}"
            if told:
                await system.bus.tell(Grind(grain), id="job")
            else:
                await system.bus.command(Grind(grain), id="job")
            await system.until(lambda: system.dead_letters("grinder"))
            redriven = asyncio.ensure_future(system.redrive("grinder"))
            await GATES[f"{grain} begun"].wait()
            assert await system.bus.cancel(Grind(grain), id="job") is True
            await redriven
            assert await system.bus.cancel(Grind(grain), id="job") is False
            assert not await system.dead_letters("grinder") and BEGUN[grain] == 2


async def test_a_job_that_does_not_listen_is_left_and_ends_later(nats_server: EmbeddedServer, namespace: str) -> None:
    book = f"book-{namespace}"
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 3, "deaf 2"), id="job")
        await GATES[f"{book} begun"].wait()
        with pytest.raises(DeadlineExceeded) as caught:
            await system.bus.cancel(Print(book, 0), id="job", timeout=0.3)
        assert caught.value.executed is None
        assert await system.bus.cancel(Print(book, 0), id="job", timeout=20) is True
        assert await pages(system, book) == Pages((0, 1, 2))
        await system.bus.command(Retitle(book, "free"))


async def test_a_job_that_has_ended_or_is_unknown_is_not_cancelled(
    nats_server: EmbeddedServer, namespace: str, press: Any
) -> None:
    book = f"book-{namespace}"
    async with running(press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 3), id="job")
        await until_printed(system, book, (0, 1, 2))

        async def ended() -> bool:
            return await timers(system, namespace, press) == []

        await system.until(ended)
        assert await system.bus.cancel(Print(book, 0), id="job") is False
        assert await system.bus.cancel(Print(book, 0), id="unknown") is False
        assert await system.bus.cancel(Print("never", 0), id="job") is False
        assert not system.cancellations("press", book)


async def test_a_job_that_creates_its_key_is_cancelled_by_its_id(
    nats_server: EmbeddedServer, namespace: str, press: Any
) -> None:
    async with running(press, url=nats_server.url, namespace=namespace) as system:
        for number in range(4):  # Each waits for a tally, which does not run.
            accepted = await system.bus.command(PrintNew(3), id=f"new-{number}")
            assert accepted.key == key_for(f"new-{number}")
            assert await system.bus.cancel(PrintNew(3), id=f"new-{number}") is True
            assert await pages(system, accepted.key) == Pages()


async def test_a_drain_answers_cancellations(nats_server: EmbeddedServer, namespace: str) -> None:
    book = f"book-{namespace}"
    async with connected(nats_server, namespace) as bus:
        async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
            await system.bus.command(Print(book, 3, "hold 2"), id="first")
            await GATES[f"{book} begun"].wait()
            await system.bus.tell(Print(book, 6), id="second")
            waiting = asyncio.ensure_future(bus.cancel(Print(book, 0), id="second", timeout=30))
            await system.until(lambda: len(system.cancellations("press", book)) == 1)
            system.drain("press")
            GATES[book].set()
            assert await waiting is True
        async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
            await until_printed(system, book, (0, 1, 2))


async def test_a_cancellation_whose_process_ends_is_asked_for_again(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    book = f"book-{namespace}"
    async with connected(nats_server, namespace) as bus:
        async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
            await system.bus.command(Print(book, 3, "deaf 1"), id="job")
            await GATES[f"{book} begun"].wait()
            waiting = asyncio.ensure_future(bus.cancel(Print(book, 0), id="job", timeout=4))
            await system.until(lambda: len(system.cancellations("press", book)) == 1)
            await system.close_turns("press")
        with pytest.raises(RequestError):
            await waiting
        GATES[f"{book} deaf"].set()
        GATES[book].set()
        async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
            await until_printed(system, book, (0, 1, 2))


async def test_a_job_that_is_told_for_later_is_cancelled_once_it_is_due(
    nats_server: EmbeddedServer, namespace: str, press: Any
) -> None:
    book = f"book-{namespace}"
    async with running(press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 3, "hold 2"), id="first")
        await GATES[f"{book} begun"].wait()
        await system.bus.tell(Print(book, 6), id="later", after=3600)

        async def set_aside() -> list[StoredMessage]:
            parts = Names("press", namespace).partitions(press.options.partitions)
            found = [system.jetstream.read(part.turns_stream, part.schedule(key_token(book), "*")) for part in parts]
            return [stored for each in found async for stored in each]

        [waiting] = await system.until(set_aside)
        with pytest.raises(Rejected, match="the job later is told for later: cancel it when it is due") as refused:
            await system.bus.cancel(Print(book, 0), id="later")
        assert refused.value.executed is False
        await fire(system.jetstream, waiting, on_time=False)
        cancel = asyncio.ensure_future(system.bus.cancel(Print(book, 0), id="later"))
        await system.until(lambda: system.cancellations("press", book))
        GATES[book].set()
        assert await cancel is True
        assert await pages(system, book) == Pages((0, 1, 2)) and BEGUN[book] == 1


async def test_what_cannot_be_cancelled_is_refused(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Press, Bulks, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(DeclarationError, match="Retitle is not the command of a long job"):
            await system.bus.cancel(Retitle("a", "b"), id="x")  # type: ignore[arg-type]
        with pytest.raises(NotFound, match="an actor without state"):
            await system.bus.cancel(Bulk(1), id="x")
        names = Names("press", namespace)
        reply = await system.connection.request(names.cancel("print"), b'{"book":"a","pages":1}', timeout=5)
        assert b"the id of the job is missing" in reply.payload
        reply = await system.connection.request(
            names.cancel("print"), b"{}", headers=b"NATS/1.0\r\nIdempotency-Key: x\r\n\r\n", timeout=5
        )
        assert b"book" in reply.payload and b"InvalidMessage" in reply.payload


async def test_of_the_firings_of_a_long_job_one_runs_and_the_newest_waits(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    book, names = f"book-{namespace}", Names("press", namespace)
    headers = header_block.encode(
        [("Actorloom-Command", "Print"), ("Actorloom-Recurring", "1"), ("Idempotency-Key", "daily")]
    )
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 3, "hold 2"), id="first")
        await GATES[f"{book} begun"].wait()
        for pages_wanted in (4, 5, 6):
            body = encode_message(Print(book, pages_wanted))
            await system.jetstream.publish(names.timer(book, "daily"), body, headers=headers)
        await system.until(lambda: system.in_hand("press") == 2)
        waiting = asyncio.ensure_future(system.bus.cancel(Print(book, 0), id="daily"))
        await system.until(lambda: len(system.cancellations("press", book)) == 1)
        GATES[book].set()
        assert await waiting is True
        assert await pages(system, book) == Pages((0, 1, 2)) and BEGUN[book] == 1
        await system.jetstream.publish(names.timer(book, "daily"), encode_message(Print(book, 6)), headers=headers)
        await until_printed(system, book, (0, 1, 2, 3, 4, 5))
        assert BEGUN[book] == 2


async def test_a_process_stops_while_a_job_is_cancelled_that_it_does_not_get(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    book = f"book-{namespace}"
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        # The job is acknowledged, and its message stays, as if the server had been killed in between.
        monkeypatch.setattr(JetStream, "delete_message_nowait", lambda *_: None)
        await system.bus.command(Print(book, 1), id="job")
        await until_printed(system, book, (0,))
        with pytest.raises(DeadlineExceeded):
            await system.bus.cancel(Print(book, 0), id="job", timeout=1)
    assert "the drain was cut short" not in caplog.text
