"""The limiter: one window per client, and a report each minute."""

from collections.abc import AsyncIterator

from msgspec.structs import replace

from runtime import Actor, Index, command, query

from .messages import (
    LIMIT,
    ForgetClient,
    ListHeaviest,
    MakeReport,
    MinuteReported,
    Take,
    TooManyRequests,
    Usage,
    Window,
)


class Limiter(Actor[Window], indexes=[Index("minute", order="granted"), Index(order="minute")]):
    """Grants each client a number of requests a minute."""

    name = "limiter"

    @command
    async def take(self, message: Take) -> int:
        minute = int(self.now // 60)
        window = (self.state or Window(message.client, minute)).at(minute)
        if wait := window.wait(self.now):
            # A refusal stores nothing, so it is cheap. `Bus.retry` comes back after this time.
            raise TooManyRequests(f"{message.client} has used its {LIMIT} requests a minute", retry_after=wait)
        if window != self.state:  # the first request in this minute
            self.remind(180, ForgetClient(message.client), name="forget")
        self.state = replace(window, granted=window.granted + 1)
        return int(self.state.left(self.now))

    @command(internal=True)
    async def forget_client(self, message: ForgetClient) -> None:
        if self.state is not None and self.state.minute + 1 < self.now // 60:
            self.state = None

    @query
    async def list_heaviest(self, message: ListHeaviest) -> list[Window]:
        page = await self.list(minute=int(self.now // 60), order="-granted", limit=message.count)
        return page.items

    # The runtime sends this command ten seconds after each full minute, once over all processes. The last turns of the minute are
    # stored by then. `due` is the time of the schedule, though the command may run later.
    @command(every="10 * * * * *", internal=True)
    async def make_report(self, message: MakeReport) -> None:
        minute = int((self.due or self.now) // 60) - 1
        windows = [window async for window in self.windows()]
        newest = max((window.minute for window in windows), default=minute)
        if max(newest, self.now // 60) > minute + 1:
            return  # too late: a window knows two minutes
        granted = {window.client: window.granted_in(minute) for window in windows}
        usage = [Usage(client, count) for client, count in granted.items() if count]
        usage.sort(key=lambda one: -one.granted)
        self.emit(MinuteReported(minute, sum(granted.values()), len(usage), heaviest=tuple(usage[:10])))

    async def windows(self) -> AsyncIterator[Window]:
        """Read the windows of all clients, the oldest first.

        A window that goes on to the next minute meanwhile comes once more, since it moves towards the end of the list.
        """
        after = None
        while True:
            page = await self.list(order="minute", limit=1000, after=after)
            for window in page.items:
                yield window
            if (after := page.next) is None:
                return
