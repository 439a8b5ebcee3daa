"""Dead letters on the command line: found by name or by selection, listed, shown, sent again, dropped."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from runtime.cli.client import connected, names
from runtime.cli.failures import NOBODY, Failure, usage
from runtime.cli.output import print_json, print_table, say
from runtime.host.config import Configuration
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.storage.dead_letters import DeadLetter, DeadLetters, Selection, known_services
from runtime.wire.subjects import valid_name

_WIDTH = 60


async def list_letters(
    configuration: Configuration, selection: Selection | None, limit: int | None, as_json: bool
) -> None:
    """Print a table or a JSON array of at most `limit`."""
    found: list[DeadLetter] = []
    more = False
    async with _opened(configuration) as jetstream:
        async for letter in _selected(configuration, jetstream, selection):
            if limit is not None and len(found) == limit:
                more = True
                break
            found.append(letter)
    if as_json:
        print_json([_summary(letter) for letter in found])
    elif found:
        head = ("letter", "since", "what", "reaction", "attempts", "reason")
        print_table(head, [_row(letter) for letter in found])
    else:
        say("no dead letters")
    if more:
        say(f"there are more: these are the {limit} oldest (--limit, --all)")


async def show_letters(configuration: Configuration, letters: Sequence[str]) -> None:
    """Print each in full. Raises `Failure` for one that is not there."""
    async with _opened(configuration) as jetstream:
        async for letter in _named(configuration, jetstream, letters):
            print_json(_summary(letter) | {"headers": letter.headers, "body": _body(letter.payload)})


async def redrive_letters(
    configuration: Configuration, letters: Sequence[str], selection: Selection | None, limit: int | None
) -> None:
    """Send them again, and say how many were."""
    await _act(configuration, letters, selection, limit, "sent again", DeadLetters.redrive)


async def drop_letters(
    configuration: Configuration, letters: Sequence[str], selection: Selection | None, limit: int | None
) -> None:
    """Delete them, and say how many were."""
    await _act(configuration, letters, selection, limit, "dropped", DeadLetters.drop)


async def _act(
    configuration: Configuration,
    letters: Sequence[str],
    selection: Selection | None,
    limit: int | None,
    done: str,
    act: Callable[[DeadLetters, int], Awaitable[bool]],
) -> None:
    count = 0
    async with _opened(configuration) as jetstream:
        # All are found before the first is done: what fails again meanwhile is not met a second time.
        found = _named(configuration, jetstream, letters) if letters else _selected(configuration, jetstream, selection)
        chosen: list[tuple[str, int]] = []
        async for letter in found:
            if limit is not None and len(chosen) == limit:
                break
            chosen.append((letter.service, letter.sequence))
        try:
            for service, sequence in chosen:
                count += await act(DeadLetters(jetstream, names(configuration, service)), sequence)
        finally:
            say(f"{count} {done}")
    if letters and count < len(letters):
        raise Failure(f"{len(letters) - count} were gone already", NOBODY)


@asynccontextmanager
async def _opened(configuration: Configuration) -> AsyncGenerator[JetStream]:
    async with connected(configuration) as connection:
        yield JetStream(connection, configuration.settings.timeout)


async def _selected(
    configuration: Configuration, jetstream: JetStream, selection: Selection | None
) -> AsyncIterator[DeadLetter]:
    wanted = selection or Selection()
    there = await known_services(jetstream, configuration.settings.namespace)
    if missing := [service for service in wanted.services if service not in there]:
        raise Failure(f"{', '.join(missing)}: no such service has run here (there are {', '.join(there)})", NOBODY)
    for service in wanted.services or there:
        async for letter in DeadLetters(jetstream, names(configuration, service)).read(wanted):
            yield letter


async def _named(
    configuration: Configuration, jetstream: JetStream, letters: Sequence[str]
) -> AsyncIterator[DeadLetter]:
    for text in letters:
        service, _, sequence = text.partition(":")
        if not valid_name(service) or not sequence.isdecimal():
            usage(f"{text!r}: write service:sequence, as in orders:17")
        try:
            letter = await DeadLetters(jetstream, names(configuration, service)).get(int(sequence))
        except ApiError as error:
            if error.err_code != ErrorCode.STREAM_NOT_FOUND:
                raise
            letter = None
        if letter is None:
            raise Failure(f"there is no dead letter {text}", NOBODY)
        yield letter


def _summary(letter: DeadLetter) -> dict[str, Any]:
    trace = letter.headers.get("traceparent", "").split("-")
    return {
        "letter": letter.id,
        "time": _time(letter),
        "what": letter.name,
        **msgspec.structs.asdict(letter.failure),
        "trace": trace[1] if len(trace) > 1 else None,
    }


def _row(letter: DeadLetter) -> tuple[object, ...]:
    reason = letter.failure.reason
    short = reason if len(reason) <= _WIDTH else reason[: _WIDTH - 1] + "…"
    return letter.id, _time(letter), letter.name, letter.failure.reaction, letter.failure.attempts, short


def _time(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.time, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _body(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return payload.decode("utf-8", "backslashreplace")
