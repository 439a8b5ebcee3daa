"""Checkpoints of long jobs: their records, and the place at which a job goes on after a failure, a kill, a conflict, a new owner."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from runtime import DeclarationError, HandlerFailed, Options
from runtime.nats.server import EmbeddedServer
from runtime.storage.record import decode_record
from runtime.testing import worker
from runtime.wire.ids import key_for
from runtime.wire.subjects import Names
from tests.support.jobs import (
    BEGUN,
    COMMITTED,
    GATES,
    Bulk,
    Bulks,
    GetPages,
    GetTally,
    Pages,
    PartedPress,
    Press,
    Print,
    Printed,
    PrintNew,
    Retitle,
    Tallies,
    Wrong,
)
from tests.support.probe import Probe, running
from tests.support.process import ROOT, running_command

SIX = (0, 1, 2, 3, 4, 5)


@pytest.fixture(params=[Press, PartedPress], ids=["whole", "parted"])
def press(request: pytest.FixtureRequest) -> Any:
    return request.param


async def events(system: Probe, namespace: str) -> list[int]:
    """Return the pages of the events, in the order of the stream."""
    names = Names("press", namespace)
    stored = [each async for each in system.jetstream.read(names.events_stream, names.stored_event("printed"))]
    return [int(each.payload.split(b'"page":')[1].rstrip(b"}")) for each in stored]


async def jobs_of(system: Probe, namespace: str, key: str) -> dict[str, int]:
    """Return the checkpoints of jobs in the record of a key."""
    names = Names("press", namespace)
    stored = await system.jetstream.get_last(names.turns_stream, names.turn(key))
    assert stored is not None
    return decode_record(stored.payload, stored.subject).jobs


async def until_printed(system: Probe, book: str, pages: tuple[int, ...]) -> None:
    async def printed() -> bool:
        return (await system.bus.query(GetPages(book))).pages == pages

    async def told() -> bool:
        return (await system.bus.query(GetTally(f"{book} told"))).pages == pages

    await system.until(printed)
    await system.until(told)
    assert (await system.bus.query(GetTally(book))).pages == pages


async def test_each_checkpoint_is_stored_and_seen_while_the_job_runs(
    nats_server: EmbeddedServer, namespace: str, press: Any
) -> None:
    book = f"book-{namespace}"
    async with running(press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 6, "wait 2"), id="job")
        await GATES[f"{book} begun"].wait()
        assert (await system.bus.query(GetPages(book))) == Pages((0, 1, 2))
        assert [each for each in COMMITTED if each.startswith(book)] == [f"{book} {page}" for page in (0, 1, 2)]

        async def emitted() -> bool:
            return await events(system, namespace) == [0, 1, 2]

        await system.until(emitted)
        GATES[book].set()
        await until_printed(system, book, SIX)

        async def ended() -> bool:
            return await events(system, namespace) == [0, 1, 2, 1000, 3, 4, 5, -1]

        await system.until(ended)
        assert BEGUN[book] == 1
        if press is Press:
            assert await jobs_of(system, namespace, book) == {}


async def test_a_failed_job_begins_again_at_its_last_checkpoint(
    nats_server: EmbeddedServer, namespace: str, press: Any
) -> None:
    book = f"book-{namespace}"
    async with running(press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 6, "fail 2"))
        await until_printed(system, book, SIX)
        assert BEGUN[book] == 2

        async def ended() -> bool:
            return await events(system, namespace) == [*SIX, -1]

        await system.until(ended)


async def test_two_jobs_of_one_key_have_checkpoints_of_their_own(nats_server: EmbeddedServer, namespace: str) -> None:
    book = f"book-{namespace}"
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        for pages in (3, 6):
            await system.bus.command(Print(book, pages, f"fail {pages - 2}"))
        await until_printed(system, book, SIX)

        async def ended() -> bool:
            return await events(system, namespace) == [0, 1, 2, -1, 3, 4, 5, -1]

        await system.until(ended)
        assert await jobs_of(system, namespace, book) == {}


async def test_a_job_goes_on_after_a_kill_behind_each_checkpoint(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    arguments = (
        "run",
        "tests.support.jobs:Press",
        "--nats",
        nats_server.url,
        "--namespace",
        namespace,
        "--lease-ttl",
        "1",
    )
    async with running(Tallies, url=nats_server.url, namespace=namespace) as system:
        for page in range(3):
            flag.touch()
            async with running_command(*arguments, cwd=ROOT, env={"FLAG": str(flag)}, ready="serves") as process:
                await system.bus.command(Print("abc"[page], 6, f"exit {page}"), id="job")
                assert await process.wait() == 9
        async with running_command(*arguments, cwd=ROOT, env={"FLAG": str(flag)}, ready="serves"):
            for book in ("a", "b", "c"):
                await until_printed(system, book, SIX)
        found = await events(system, namespace)
        assert sorted(found) == sorted([*SIX, -1] * 3)


async def test_a_job_whose_key_another_owner_has_written_begins_again(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    book = f"book-{namespace}"
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 6, "hold 2"), id="job")
        await GATES[f"{book} begun"].wait()
        names = Names("press", namespace)
        stored = await system.jetstream.get_last(names.turns_stream, names.turn(book))
        assert stored is not None
        await system.jetstream.publish(stored.subject, stored.payload.replace(b'"title":""', b'"title":"of another"'))
        GATES[book].set()
        await until_printed(system, book, SIX)
        assert BEGUN[book] == 2
        assert (await system.bus.query(GetPages(book))).title == "of another"

        async def ended() -> bool:
            # That of page 3 was emitted by both runs, and the first one is dropped.
            return await events(system, namespace) == [*SIX, -1]

        await system.until(ended)


async def test_a_checkpoint_that_cannot_be_stored_fails_the_run(nats_server: EmbeddedServer, namespace: str) -> None:
    spoilt, large = f"spoilt-{namespace}", f"large-{namespace}"
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(spoilt, 6, "spoil 1"))
        await until_printed(system, spoilt, SIX)
        assert (BEGUN[spoilt], (await system.bus.query(GetPages(spoilt))).title) == (2, "")
        await system.bus.command(Print(large, 6, "large 1"))
        await system.until(lambda: system.stored_dead_letters("press"))
        (letter,) = await system.stored_dead_letters("press")
        assert b"TooLarge" in (letter.headers or b"")
        assert await system.bus.query(GetPages(large)) == Pages((0, 1))
        await system.bus.command(Retitle(large, "goes on"))
        assert (await system.bus.query(GetPages(large))).title == "goes on"


async def test_the_limit_and_the_attempts_count_from_the_last_checkpoint(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    """Each page takes more than a third of the limit, and there are six."""
    book = f"book-{namespace}"
    options = {"press": Options(limit=0.9, retry=Press.options.retry)}
    async with running(Press, Slow, url=nats_server.url, namespace=namespace, options=options) as system:
        await system.bus.command(Print(book, 6))
        await until_printed(system, book, SIX)
        assert BEGUN[book] == 1


class Slow(Tallies):
    name = "tally"

    async def on_message(self, message: Any, handle: Any) -> Any:
        if message.__contract__.op == "command" and not message.book.endswith("told"):
            await asyncio.sleep(0.35)
        return await handle()


async def test_a_job_that_creates_its_key_makes_checkpoints(
    nats_server: EmbeddedServer, namespace: str, press: Any
) -> None:
    async with running(press, Tallies, url=nats_server.url, namespace=namespace) as system:
        accepted = await system.bus.command(PrintNew(6), id="new")
        assert accepted.key == key_for("new")
        await until_printed(system, accepted.key, SIX)
        told = await system.bus.tell(PrintNew(6))
        await until_printed(system, key_for(told), SIX)


async def test_only_a_long_job_of_an_actor_with_state_makes_checkpoints(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Press, Bulks, Tallies, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(HandlerFailed):
            await system.bus.command(Wrong("a"))
        await system.bus.command(Bulk(1))

        async def dead() -> bool:
            letters = await system.stored_dead_letters("bulk")
            return any(
                b"only a long job of an actor with state makes checkpoints" in (each.headers or b"") for each in letters
            )

        await system.until(dead)
    with pytest.raises(DeclarationError, match="press test: only a long job"):
        await worker(Press, key="a").wrong(Wrong("a"))
    with pytest.raises(DeclarationError, match="a query changes nothing"):
        await worker(Press, key="a", writable=False).actor.checkpoint()


async def test_a_trace_shows_each_checkpoint(nats_server: EmbeddedServer, namespace: str) -> None:
    book = f"book-{namespace}"
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 3))
        await until_printed(system, book, (0, 1, 2))

        def shown() -> bool:
            names = [span.name for span in system.trace_of(root="press/print")]
            return names.count("checkpoint press") == 3 and f"process {namespace}.press.timer.{{key}}.{{name}}" in names

        await system.until(shown)


async def test_a_worker_records_the_states_of_the_checkpoints() -> None:
    press = worker(Press, key="a", replies={})
    from tests.support.jobs import Tally

    press = worker(Press, key="a", replies={Tally: 1})
    await press.print(Print("a", 3))
    assert press.checkpoints == [Pages((0,)), Pages((0, 1)), Pages((0, 1, 2))]
    assert [each.page for each in press.emitted if isinstance(each, Printed)] == [0, 1, 2, -1]
    assert press.state == Pages((0, 1, 2))
    ids = worker(Press, key="a", replies={Tally: 1}, message_id="m")
    await ids.print(Print("a", 3))
    assert len(set(ids.sent_ids)) == 3


async def test_a_key_that_has_handled_many_messages_can_be_read_after_a_checkpoint(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    book = f"book-{namespace}"
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        for number in range(6):
            await system.bus.command(Retitle(book, str(number)))
        await system.bus.command(Print(book, 3, "hold 1"))
        await GATES[f"{book} begun"].wait()
        assert list((await jobs_of(system, namespace, book)).values()) == [2]
        GATES[book].set()
        await until_printed(system, book, (0, 1, 2))
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await until_printed(system, book, (0, 1, 2))


async def test_what_a_job_does_while_a_checkpoint_is_under_way_is_kept(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    book = f"book-{namespace}"
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 6, "beside 2"), id="job")
        await until_printed(system, book, SIX)

        async def ended() -> bool:
            return await events(system, namespace) == [0, 1, 2, 1000, 3, 4, 5, -1]

        await system.until(ended)
        assert (await system.bus.query(GetPages(book))).title == "beside"


async def test_a_job_that_ends_before_its_checkpoint_is_stored_leaves_no_number(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    book = f"book-{namespace}"
    async with running(Press, Tallies, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Print(book, 0, "leave"), id="job")

        async def ended() -> bool:
            return await events(system, namespace) == [-1]

        await system.until(ended)
        assert (await system.bus.query(GetPages(book))).title == "before"
        assert await jobs_of(system, namespace, book) == {}
