"""Long job: a command that is accepted at once, runs for as long as it takes, and ends with an event.

    python examples/long_job.py
    python -m runtime run examples.long_job                                  # or serve it, and then:
    nats req reports.command.make_report '{"reportId": "q3", "pages": 3}' -H 'Idempotency-Key: report-q3'
    nats sub 'reports.event.report_made.*'

It prints::

    accepted as report-q3
    before it is made: the report q3 is not there
    ann has mail: 3 pages of q3
    sent again: accepted as report-q3
    and made once: ann has 1 mail
"""

import asyncio

from msgspec import Struct

from runtime import Accepted, Actor, Command, Event, NotFound, Query, command, local, not_found, query, react


class Report(Struct, frozen=True):
    report_id: str
    pages: int


# The reply to a long job is `Accepted`, with the id of the command: it is stored, and will run.
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
    """Writes reports, slowly."""

    name = "reports"

    # `accept=True`: the caller is answered when the command is stored, and the handler runs after that. It is run again
    # where the process dies in it, so it may begin more than once; its effects (state, events) happen once. It keeps its
    # key busy: other commands of this report wait, those of other reports and all queries do not.
    @command(accept=True)
    async def make_report(self, message: MakeReport) -> None:
        await asyncio.sleep(0.5)
        self.state = Report(message.report_id, message.pages)
        self.emit(ReportMade(message.report_id, message.reader, message.pages))

    @query
    async def get_report(self, message: GetReport) -> Report:
        return self.state or not_found(f"the report {message.report_id} is not there")


# Who waits for the outcome reacts to the event: here another actor, keyed by the reader.
class Mail(Struct, frozen=True):
    texts: tuple[str, ...] = ()


class GetMail(Query[Mail], actor="mail", key="reader"):
    reader: str


class Mailbox(Actor[Mail]):
    """Keeps what each reader was sent."""

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
        try:
            await bus.query(GetReport("q3"))
        except NotFound as missing:
            print(f"before it is made: {missing}")

        while not (mail := await bus.query(GetMail("ann"))).texts:
            await asyncio.sleep(0.05)
        print(f"ann has mail: {', '.join(mail.texts)}")

        # Under the same id it is the same job, also after a restart: the stored reply comes again, and nothing runs.
        accepted = await bus.command(MakeReport("q3", pages=3), id="report-q3")
        print(f"sent again: accepted as {accepted.id}")
        print(f"and made once: ann has {len((await bus.query(GetMail('ann'))).texts)} mail")


if __name__ == "__main__":
    asyncio.run(main())
