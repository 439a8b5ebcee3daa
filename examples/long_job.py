"""Long job: a command that is accepted at once, runs in the background, stores what it has done page by page, and ends with an
event. It can be cancelled.

    python examples/long_job.py
    actorloom run examples.long_job    # or serve it, and in another terminal:
    nats req reports.command.make_report '{"reportId": "q3", "pages": 3}' -H 'Idempotency-Key: report-q3'
    nats sub 'reports.event.report_made.*'

It prints::

    accepted as report-q3
    it runs: 1 page of q3
    ann has mail: 3 pages of q3
    sent again: accepted as report-q3
    and made once: ann has 1 mail
    cancelled: True, and it ends with 1 page of q4
"""

import asyncio

from msgspec import Struct

from runtime import Accepted, Actor, Bus, Command, Event, NotFound, Query, command, local, not_found, query, react


class Report(Struct, frozen=True):
    report_id: str
    pages: int


# The reply to a long job is `Accepted` with the id of the command: the command is stored and will run.
class MakeReport(Command[Accepted], actor="reports", key="report_id", rename="camel"):
    report_id: str
    pages: int
    reader: str = "ann"


class GetReport(Query[Report], actor="reports", key="report_id", rename="camel"):
    report_id: str


class ReportMade(Event, actor="reports", key="report_id", rename="camel"):
    report_id: str
    reader: str
    pages: int


class Reports(Actor[Report]):
    """Makes reports, slowly."""

    name = "reports"

    # With `accept=True` the reply is sent when the command is stored, and the handler runs after that. A checkpoint stores what it
    # has done so far. If the process dies, the job begins again with the state of the last checkpoint. Meanwhile other commands
    # of the same report wait; commands of other reports and all queries do not.
    @command(accept=True)
    async def make_report(self, message: MakeReport) -> None:
        while (pages := self.state.pages if self.state else 0) < message.pages:
            await asyncio.sleep(0.2)
            self.state = Report(message.report_id, pages + 1)
            await self.checkpoint()
        self.emit(ReportMade(message.report_id, message.reader, message.pages))

    @query
    async def get_report(self, message: GetReport) -> Report:
        return self.state or not_found(f"the report {message.report_id} is not there")


# Another actor, keyed by the reader, reacts to the event at the end of the job.
class Mail(Struct, frozen=True):
    texts: tuple[str, ...] = ()


class GetMail(Query[Mail], actor="mail", key="reader"):
    reader: str


class Mailbox(Actor[Mail]):
    """Keeps the mail of each reader."""

    name = "mail"

    @react(key="reader")
    async def on_report_made(self, event: ReportMade) -> None:
        self.state = Mail((*(self.state or Mail()).texts, f"{event.pages} pages of {event.report_id}"))

    @query
    async def get_mail(self, message: GetMail) -> Mail:
        return self.state or Mail()


async def main() -> None:
    async with local(Reports, Mailbox) as bus:
        accepted = await bus.command(MakeReport("q3", pages=3), id="report-q3")
        print(f"accepted as {accepted.id}")
        print(f"it runs: {(await first_page(bus, 'q3')).pages} page of q3")
        while not (mail := await bus.query(GetMail("ann"))).texts:
            await asyncio.sleep(0.05)
        print(f"ann has mail: {', '.join(mail.texts)}")

        # The same id is the same job, even after a restart: the reply is the stored one and nothing runs.
        accepted = await bus.command(MakeReport("q3", pages=3), id="report-q3")
        print(f"sent again: accepted as {accepted.id}")
        print(f"and made once: ann has {len((await bus.query(GetMail('ann'))).texts)} mail")

        # The cancellation is answered when the end of the job is stored. What the job has done since its last checkpoint is dropped.
        await bus.command(MakeReport("q4", pages=3000), id="report-q4")
        await first_page(bus, "q4")
        ended = await bus.cancel(MakeReport("q4", pages=3000), id="report-q4")
        print(f"cancelled: {ended}, and it ends with {(await bus.query(GetReport('q4'))).pages} page of q4")


async def first_page(bus: Bus, report_id: str) -> Report:
    """Return a report as soon as it has a page: queries see the last checkpoint while the job runs."""
    while True:
        try:
            return await bus.query(GetReport(report_id))
        except NotFound:
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
