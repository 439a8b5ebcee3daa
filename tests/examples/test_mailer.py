"""The mailer: pauses, retries and dead letters, and the list of mail."""

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from examples.mailer.mail import MailList
from examples.mailer.mailer import Mailer, MailRefused
from examples.mailer.messages import ListMail, Mail, MailSent, OrderPaid, RegisterUser, UserRegistered
from examples.mailer.shop import Users
from runtime import Bus, Event, Options, Retry, RetryPolicy, react
from runtime.testing import Actors, EmbeddedServer, System, worker
from runtime.testing.faults import FAULTS, survive
from tests.support.process import run_command

ROOT = Path(__file__).parents[2]
SOURCES = ["users", "orders"]
QUICK = {"mailer": Options(retry=RetryPolicy(attempts=3, first=0.01, permanent=("MailRefused",)))}
ANN = UserRegistered("ann", "ann@example.org")


class MailService:
    """A service that answers with the statuses of `answers`, and then with 200. `keys` has the key of each request."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.keys: list[str] = []
        self.retry_after: str | None = "1"
        self.seconds = 0.0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                service.keys.append(self.headers["Idempotency-Key"])
                time.sleep(service.seconds)  # the time that the service takes
                self.answer(service.answers.pop(0) if service.answers else 200)

            def do_GET(self) -> None:
                self.answer(200)

            def answer(self, status: int) -> None:
                self.send_response(status)
                if service.retry_after is not None:
                    self.send_header("Retry-After", service.retry_after)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/mail"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailService]:
    service = MailService()
    monkeypatch.setenv("MAIL_URL", service.url)
    thread = threading.Thread(target=service.server.serve_forever)
    thread.start()
    yield service
    service.server.shutdown()
    thread.join()
    service.server.server_close()


async def sent(system: System, event: Event) -> MailSent:
    """Emit an event, and wait for its mail."""
    async with system.bus.events(MailSent) as mail, asyncio.timeout(30):
        await system.bus.emit(event)
        return await anext(mail)


async def listed(system: System, *subjects: str) -> None:
    """Wait until the list of Ann's mail has these subjects."""

    async def is_listed() -> bool:
        page = await system.bus.query(ListMail("ann"))
        return [mail.subject for mail in page.items] == list(subjects)

    await system.until(is_listed)


async def actorloom(*arguments: str) -> str:
    """Run the command line, and return its output."""
    ran = await run_command(*arguments, cwd=ROOT)
    assert ran.code == 0, ran
    return ran.out


async def test_the_mail_of_both_events_is_listed(actors: Actors, service: MailService) -> None:
    async with actors(Mailer, MailList, sources=SOURCES) as system:
        await sent(system, ANN)
        await sent(system, OrderPaid("7", "ann", "ann@example.org", total=12))
        await listed(system, "You have paid 12", "Welcome")


async def test_the_list_covers_all_partitions(actors: Actors, service: MailService) -> None:
    subjects = [f"You have paid {total}" for total in range(30, 0, -1)]
    options = {"mail": Options(partitions=4)}
    async with actors(Mailer, MailList, sources=SOURCES, options=options) as system:
        for total in range(1, 31):
            await sent(system, OrderPaid(str(total), "ann", "ann@example.org", total))

        async def is_listed() -> bool:
            first = await system.bus.query(ListMail("ann"))
            second = await system.bus.query(ListMail("ann", after=first.next))
            assert len(first.items) <= 20
            return [mail.subject for mail in (*first.items, *second.items)] == subjects

        await system.until(is_listed)


async def test_a_failure_is_repeated_under_the_same_key(actors: Actors, service: MailService) -> None:
    service.answers = [500, 429]
    async with actors(Mailer, sources=SOURCES, options=QUICK) as system:
        mail = await sent(system, ANN)
        assert service.keys == [mail.mail_id] * 3


async def test_a_refused_mail_is_a_dead_letter_until_it_is_redriven(
    actors: Actors, service: MailService, nats_server: EmbeddedServer
) -> None:
    service.answers = [400]
    flags = ("--service", "mailer", "--nats", nats_server.url, "--namespace", "refused")
    async with actors(Mailer, sources=SOURCES, options=QUICK, namespace="refused") as system:
        await system.bus.emit(ANN)

        async def refused() -> bool:
            return "MailRefused: 400" in await actorloom("dlq", "ls", *flags)

        await system.until(refused)
        async with system.bus.events(MailSent) as mail:
            await actorloom("dlq", "redrive", *flags)
            assert service.keys == [(await anext(mail)).mail_id] * 2


class WrongList(MailList):
    @react
    async def on_mail_sent(self, event: MailSent) -> None:
        self.state = Mail(event.mail_id, event.user_id, "a mail", event.time)


async def test_the_list_is_rebuilt(actors: Actors, service: MailService, nats_server: EmbeddedServer) -> None:
    async with actors(Mailer, WrongList, sources=SOURCES, namespace="rebuilt") as system:
        await sent(system, ANN)
        await listed(system, "a mail")
    async with actors(Mailer, MailList, sources=SOURCES, namespace="rebuilt") as system:
        flags = ("--since", "first", "--mode", "again", "--yes", "--nats", nats_server.url, "--namespace", "rebuilt")
        await actorloom("replay", "start", "mail.on_mail_sent", *flags)
        await listed(system, "Welcome")
    assert len(service.keys) == 1  # the replay goes to one reaction: no mail is sent again


async def test_a_slow_service_gets_each_mail_at_the_first_attempt(actors: Actors, service: MailService) -> None:
    service.seconds = 0.2
    options = replace(Mailer.options, limit=1, retry=RetryPolicy(attempts=1))
    async with (
        actors(Mailer, sources=SOURCES, options={"mailer": options}) as system,
        system.bus.events(MailSent) as mail,
        asyncio.timeout(30),
    ):
        for number in range(50):
            await system.bus.emit(UserRegistered(str(number), "ann@example.org"))
        assert {(await anext(mail)).user_id for _ in range(50)} == {str(number) for number in range(50)}
    assert len(service.keys) == 50


@pytest.mark.parametrize(
    ("status", "retry_after", "after"), [(429, "1", 1), (503, "7", 7), (429, None, None), (500, "Fri, 1 Jan", None)]
)
async def test_a_busy_service_says_when_to_come_back(
    service: MailService, status: int, retry_after: str | None, after: float | None
) -> None:
    service.answers, service.retry_after = [status], retry_after
    mailer = started(service)
    with pytest.raises(Retry) as retry:
        await mailer.on_user_registered(ANN)
    assert retry.value.after == after
    assert mailer.emitted == []


@pytest.mark.parametrize("status", [302, 307, 400])
async def test_a_mail_that_is_not_taken_is_not_sent(service: MailService, status: int) -> None:
    service.answers = [status]
    mailer = started(service)
    with pytest.raises(MailRefused):
        await mailer.on_user_registered(ANN)
    assert mailer.emitted == []


def started(service: MailService) -> Any:
    class StartedMailer(Mailer):  # `worker` runs no `on_start`
        url = service.url

    return worker(StartedMailer)


async def test_a_mail_survives_a_fault_at_each_step(nats_server: EmbeddedServer, service: MailService) -> None:
    keys: set[str] = set()

    async def drive(bus: Bus) -> None:
        await bus.retry(RegisterUser("ann", "ann@example.org"), id="ann")

    async def verify(bus: Bus) -> None:
        mails = (await bus.query(ListMail("ann"))).items
        assert [mail.subject for mail in mails] == ["Welcome"]
        keys.add(mails[0].mail_id)

    faults = [fault for fault in FAULTS if "handler" in fault or "ack" in fault]
    assert await survive([Users, Mailer, MailList], drive, verify, url=nats_server.url, faults=faults) == faults
    assert set(service.keys) == keys
