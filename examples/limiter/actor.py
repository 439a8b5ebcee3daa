"""The limiter: one window per client, and a report each minute."""

from msgspec.structs import replace

from runtime import Actor, Index, Overloaded, command, query

from .messages import LIMIT, ForgetClient, ListHeaviest, MakeReport, MinuteReported, Take, Usage, Window


class Limiter(Actor[Window], indexes=[Index("minute", order="granted")]):
    """Grants each client a number of requests a minute."""

    name = "limiter"

    @command
    async def take(self, message: Take) -> int:
        minute = int(self.now // 60)
        window = (self.state or Window(message.client, minute)).at(minute)
        if wait := window.wait(self.now):
            # A refusal stores nothing, so it is cheap. `Bus.retry` comes back after this time.
            raise Overloaded(f"{message.client} has used its {LIMIT} requests a minute", retry_after=wait)
        if window != self.state:  # the first request in this minute
            self.remind(180, ForgetClient(message.client), name="forget")
        self.state = replace(window, granted=window.granted + 1)
        return LIMIT - self.state.granted

    @command(internal=True)
    async def forget_client(self, message: ForgetClient) -> None:
        if self.state is not None and self.state.minute + 1 < self.now // 60:
            self.state = None

    @query
    async def list_heaviest(self, message: ListHeaviest) -> list[Window]:
        page = await self.list(minute=int(self.now // 60), order="-granted", limit=message.count)
        return page.items

    # The runtime sends this command at each full minute, once over all processes. `due` is that minute, though it may run later.
    @command(every="0 * * * * *", internal=True)
    async def make_report(self, message: MakeReport) -> None:
        minute = int((self.due or self.now) // 60) - 1
        # A client that has been granted a request since then is in the next minute already.
        usage = [Usage(window.client, window.granted) for window in await self.windows(minute)]
        usage += [Usage(window.client, window.before) for window in await self.windows(minute + 1) if window.before]
        usage.sort(key=lambda one: -one.granted)
        granted = sum(one.granted for one in usage)
        self.emit(MinuteReported(minute, granted, len(usage), heaviest=tuple(usage[:10])))

    async def windows(self, minute: int) -> list[Window]:
        page = await self.list(minute=minute, order="-granted", limit=1000)
        windows = page.items
        while page.next:
            page = await self.list(minute=minute, order="-granted", limit=1000, after=page.next)
            windows += page.items
        return windows
