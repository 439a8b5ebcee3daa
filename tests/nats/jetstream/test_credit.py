"""Credit: the number of requested messages, and the time of each request."""

import asyncio

import pytest

from runtime.nats.jetstream.credit import Credit


class Requests:
    """Records the requests of a credit; refuses them while `open` is False."""

    def __init__(self, limit: int) -> None:
        self.in_hand: list[int] = []
        self.sent: list[int] = []
        self.open = True
        self.credit = Credit(limit, self.in_hand, self.send)

    def send(self, batch: int) -> bool:
        if self.open:
            self.sent.append(batch)
        return self.open

    def deliver(self, count: int) -> None:
        for _ in range(count):
            self.credit.requested -= 1
            self.in_hand.append(0)

    def finish(self) -> None:
        self.in_hand.pop()
        self.credit.request_after_finish()


@pytest.fixture
async def requests() -> Requests:
    return Requests(limit=5)


async def test_the_first_request_asks_for_the_whole_limit(requests: Requests) -> None:
    requests.credit.request()
    requests.credit.request()
    assert requests.sent == [5] and requests.credit.requested == 5


async def test_a_request_is_due_when_half_of_the_limit_is_free(requests: Requests) -> None:
    requests.credit.request()
    requests.deliver(5)
    requests.credit.request_soon()
    await asyncio.sleep(0)
    assert requests.sent == [5], "no place is free"
    requests.finish()
    requests.finish()
    assert requests.sent == [5], "less than half is free, and the rest of this turn may free more"
    await asyncio.sleep(0)
    assert requests.sent == [5, 2], "no request is open"
    requests.finish()
    assert requests.sent == [5, 2], "two places are free and requested, one is not"
    requests.deliver(2)
    requests.finish()
    requests.finish()
    assert requests.sent == [5, 2, 3]


async def test_a_request_that_cannot_be_sent_is_not_counted(requests: Requests) -> None:
    requests.open = False
    requests.credit.request()
    assert requests.credit.requested == 0
    requests.open = True
    requests.credit.request_if_due()
    assert requests.sent == [5]


async def test_room_is_scarce_beyond_half_of_the_limit_and_exhausted_at_the_limit(requests: Requests) -> None:
    requests.credit.request()
    requests.deliver(2)
    assert not requests.credit.is_scarce
    requests.deliver(1)
    assert requests.credit.is_scarce and not requests.credit.is_exhausted
    requests.deliver(2)
    assert requests.credit.is_exhausted
    requests.credit.limit += 1
    assert not requests.credit.is_exhausted
