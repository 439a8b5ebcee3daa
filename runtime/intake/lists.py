"""Lists over all partitions of an actor: each partition is asked for its part of the page, and the parts are merged.

A partition that this process owns is asked in memory, another one on ``<actor>.list.<partition>`` (`list_endpoint`). Each of
them answers with the positions that it has at one moment after the request, as many as the page may have, so that a key which
moves meanwhile is neither missing nor twice on the page. The states of the first ones come with them. Which keys belong to
the page is known when all have answered, and the states that are missing then are asked for by their keys.

A partition that does not answer fails the list: a page is never shorter because a partition is missing. While a partition
changes its owner, its request is repeated, as the requests of handlers are.
"""

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from opentelemetry.trace import Span, SpanKind

from runtime.actor.indexes import Page
from runtime.backoff import Backoff
from runtime.client.sender import RESEND_PERIOD
from runtime.clocks import elapsed
from runtime.errors import DeadlineExceeded, NotDelivered, PublishError
from runtime.intake.list_endpoint import ListAnswer, ListEndpoint, ListRequest
from runtime.nats.connection import NoResponders
from runtime.storage.listing import Declared, Position, Selection
from runtime.storage.record import Unreadable
from runtime.storage.state import States
from runtime.storage.unreadable import UnreadableRecords
from runtime.telemetry import NO_SPAN, finish, get_context, inject, semconv
from runtime.turns.served import Served
from runtime.wire import header_block
from runtime.wire.buckets import Partition
from runtime.wire.codec import UNDECODABLE, encode
from runtime.wire.envelope import write
from runtime.wire.replies import read_error

T = TypeVar("T")

_BACKOFF: Final = Backoff(first=0.01, longest=0.1)
"""The pauses between two requests to a partition."""
_MARGIN: Final = 0.25
"""Seconds before the deadline of the caller at which a list fails at the latest, so that the caller learns why."""
_MOST_KEYS: Final = 256
"""Keys whose states one request asks for: their tokens must fit a message."""

_decode_answer = msgspec.json.Decoder(ListAnswer).decode


class Part(NamedTuple):
    """What one partition has of a page."""

    number: int
    """The number of the partition."""
    positions: list[Position]
    """Its first positions, in order."""
    cut: bool
    """Whether it has more positions, which did not fit its answer."""
    states: dict[str, Any]
    """The states of some of the keys, by token."""


class MergedLists:
    """The lists of one partitioned actor in one process.

    Args:
        served: The actor, as one whole.
        local: Returns the lists of a partition that this process owns; None for another one.
    """

    def __init__(self, served: Served, local: Callable[[int], ListEndpoint | None]) -> None:
        actor = served.actor
        assert actor.state_codec is not None, "an actor with indexes has a state"
        self._served = served
        self._local = local
        self._total = served.options.partitions
        self._names = [served.names.of(Partition(self._total, number)) for number in range(self._total)]
        self._subjects = [names.owner("list").encode() for names in self._names]
        self._declared = Declared(served.name, actor.indexes, actor.scales)
        self._copy = actor.state_codec.copy
        self._decode = States(served.name, actor.state_type, actor.state_version, actor.upgrades).read
        self._unreadable = UnreadableRecords(served.name)
        attributes = semconv.rpc_attributes(f"{served.name}/list", served.connection.server_address)
        self._template = served.tracer.template(f"{served.name}/list", SpanKind.CLIENT, attributes)
        self._traced = served.tracer.tracing.records

    async def page(
        self, filters: dict[str, Any], order: str | None, limit: int, after: str | None, deadline: float = 0.0
    ) -> Page[Any]:
        """Return one page of a list; see `Actor.list`.

        Raises:
            DeclarationError: No declared index serves this filter and order.
            InvalidMessage: The page token is invalid.
            NotDelivered: A partition has no owner, or its owner does not answer.
            DeadlineExceeded: The deadline, by `elapsed`, has passed.
        """
        selection = self._declared.select(filters, order, limit, after)
        expires_at = self._expires_at(deadline)
        states = _share(selection.limit, self._total)
        parts = await self._each(
            range(self._total), expires_at, lambda number: self._part(number, selection, states, expires_at)
        )
        chosen, more = merge(list(parts.values()), selection)
        missing: dict[int, list[str]] = {}
        for (_, _, token), number in chosen:
            if token not in parts[number].states:
                missing.setdefault(number, []).append(token)
        await self._each(
            missing, expires_at, lambda number: self._add_states(parts[number], missing[number], expires_at)
        )
        found = (parts[number].states[token] for (_, _, token), number in chosen)
        # A key that was deleted while the page was read has no state any more, and an unreadable one is logged.
        items = [state for state in found if state is not None]
        return Page(items, self._declared.token(selection.number, chosen[-1][0]) if more else None)

    def _expires_at(self, deadline: float) -> float:
        """Return the loop's time at which the list fails if a partition has not answered."""
        seconds = self._served.options.timeout
        if deadline:
            seconds = min(seconds, deadline - elapsed())
            if seconds <= 0:
                raise DeadlineExceeded(f"{self._served.name}: list: the caller's deadline has passed", executed=False)
        return asyncio.get_running_loop().time() + seconds - min(_MARGIN, seconds / 10)

    async def _each(
        self, numbers: Iterable[int], expires_at: float, work: Callable[[int], Awaitable[T]]
    ) -> dict[int, T]:
        """Return the result of `work` for each partition. What fails is repeated; see `_repeat`.

        The partitions of this process come one after another, since they rarely wait, and a task costs more than such a
        work. The others are asked together.
        """
        found: dict[int, T] = {}
        others: list[int] = []
        for number in numbers:
            if self._local(number) is None:
                others.append(number)
                continue
            try:
                found[number] = await work(number)
            except NotDelivered:
                others.append(number)
        if others:
            repeated = (self._repeat(number, expires_at, partial(work, number)) for number in others)
            found.update(zip(others, await _all(repeated), strict=True))
        return found

    async def _repeat(self, number: int, expires_at: float, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`, which is repeated while its partition changes its owner.

        Raises:
            NotDelivered: It fails for longer than `RESEND_PERIOD`, or until `expires_at`. The text names the partition.
        """
        time = asyncio.get_running_loop().time
        pauses = _BACKOFF.pauses(RESEND_PERIOD)
        while True:
            try:
                return await work()
            except NotDelivered as error:
                pause = next(pauses, None)
                if pause is None or time() + pause >= expires_at:
                    text = f"{self._served.name}: list: partition {number} does not answer: {error}"
                    raise NotDelivered(text) from error
            await asyncio.sleep(pause)

    async def _part(self, number: int, selection: Selection, states: int, expires_at: float) -> Part:
        """Ask a partition for its part of a page, and for some of the states. Raises `NotDelivered`."""
        local = self._local(number)
        if local is not None:
            return Part(number, await local.positions(selection, selection.limit + 1), False, {})
        declared, after = self._declared, selection.after
        index = declared.indexes[selection.number]
        request = ListRequest(
            partitions=self._total,
            fields=index.fields,
            order=index.order,
            group=declared.store_group(selection.number, selection.group),
            descending=selection.descending,
            after=None if after is None else declared.store(selection.number, after),
            count=selection.limit + 1,
            states=states,
        )
        answer = await self._request(number, request, expires_at)
        try:
            positions = [declared.load(selection.number, each) for each in answer.positions]
        except ValueError:
            raise NotDelivered("its owner runs a version of the actor that orders other values") from None
        part = Part(number, positions, answer.cut, {})
        self._read_states(part, [token for _, _, token in positions], answer)
        return part

    async def _add_states(self, part: Part, tokens: list[str], expires_at: float) -> None:
        """Add the missing states of some keys to a part. Raises `NotDelivered`."""
        while missing := [token for token in tokens if token not in part.states]:
            local = self._local(part.number)
            if local is not None:
                part.states.update(zip(missing, map(self._copy, await local.states(missing)), strict=True))
                return
            asked = missing[:_MOST_KEYS]
            answer = await self._request(part.number, ListRequest(partitions=self._total, keys=asked), expires_at)
            self._read_states(part, asked, answer)
            if not answer.states:
                raise NotDelivered("its owner has sent no states")

    def _read_states(self, part: Part, tokens: list[str], answer: ListAnswer) -> None:
        """Add the states of an answer, which are those of the first of some keys, to a part."""
        version = self._served.actor.state_version
        if answer.version > version:
            raise NotDelivered(
                f"its owner runs a newer version of the actor (state version {answer.version}; this process knows {version})"
            )
        turn = self._names[part.number].turn
        for token, state in zip(tokens, answer.states, strict=False):
            try:
                part.states[token] = self._decode(answer.version, state, turn(token))
            except Unreadable as error:
                self._unreadable.report(error, "a key is missing from a list")
                part.states[token] = None

    async def _request(self, number: int, request: ListRequest, expires_at: float) -> ListAnswer:
        """Return the answer of the owner of a partition. Raises `NotDelivered` if there is none, or if it is an error."""
        connection, span, trace = self._served.connection, NO_SPAN, b""
        if self._traced or get_context():
            span = self._template.child()
            trace = inject(span)
        left = expires_at - asyncio.get_running_loop().time()
        block = write(trace, int((connection.clock.now() + left) * 1000))
        try:
            response = await connection.request_nowait(self._subjects[number], encode(request), block, expires_at)
            if response.headers is not None and header_block.SERVICE_ERROR_CODE in response.headers:
                raise NotDelivered(str(read_error(response.headers, response.payload)))
            answer = _decode_answer(response.payload)
        except NoResponders:
            raise _failed(span, NotDelivered("no process owns it")) from None
        except TimeoutError:
            raise _failed(span, NotDelivered("no answer in time")) from None
        except (PublishError, *UNDECODABLE) as error:
            raise _failed(span, NotDelivered(str(error))) from error
        except NotDelivered as error:
            raise _failed(span, error) from None
        except BaseException as error:
            finish(span, None, type(error).__name__)
            raise
        span.end()
        return answer


def merge(parts: list[Part], selection: Selection) -> tuple[list[tuple[Position, int]], bool]:
    """Return the positions of a page, in order and each with the number of its partition, and whether more follow.

    Behind the last position of a part that is cut, positions are missing, so the page ends there at the latest.
    """
    descending = selection.descending
    streams = ([(position, part.number) for position in part.positions] for part in parts)
    merged: Iterable[tuple[Position, int]] = heapq.merge(*streams, reverse=descending)
    ends = [part.positions[-1] for part in parts if part.cut]
    chosen: list[tuple[Position, int]] = []
    end = None if not ends else max(ends) if descending else min(ends)
    for each in merged:
        if len(chosen) == selection.limit:
            return chosen, True
        chosen.append(each)
        if each[0] == end:
            return chosen, True
    return chosen, False


def _share(limit: int, partitions: int) -> int:
    """Return how many states to ask a partition for: all that it has on a page, in most cases.

    The keys are spread by a hash. So a partition has that many of a page, give or take three standard deviations.
    """
    mean = limit / partitions
    return min(limit, math.ceil(mean + 3 * math.sqrt(mean)))


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines together, and return their results. The first failure cancels the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _failed(span: Span, error: NotDelivered) -> NotDelivered:
    finish(span, error.code, type(error).__name__, str(error))
    return error
