"""Dead letters on the command line: selected by name or by flags, then listed, shown, redriven or dropped."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from runtime.cli.client import connected, names
from runtime.cli.failures import NOT_FOUND, Failure, usage
from runtime.cli.output import print_json, print_note, print_table, time_text
from runtime.host.config import Configuration
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.storage.dead_letters import DeadLetter, DeadLetters, Selection, known_services
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import valid_name

_WIDTH = 60
"""Characters of the reason in a table."""


async def list_letters(
    configuration: Configuration, selection: Selection | None, limit: int | None, as_json: bool
) -> None:
    """Print the oldest dead letters, at most `limit`, as a table or a JSON array."""
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
        head = ("letter", "since", "name", "key", "reaction", "attempts", "reason")
        print_table(head, [_row(letter) for letter in found])
    else:
        print_note("no dead letters")
    if more:
        print_note(f"there are more: these are the {limit} oldest (see --limit and --all)")


async def show_letters(configuration: Configuration, letters: Sequence[str]) -> None:
    """Print dead letters in full, as JSON. Raises `Failure` for one that does not exist."""
    async with _opened(configuration) as jetstream:
        async for letter in _named(configuration, jetstream, letters):
            print_json(_summary(letter) | {"headers": letter.headers, "body": _body(letter.payload)})


async def redrive_letters(
    configuration: Configuration, letters: Sequence[str], selection: Selection | None, limit: int | None
) -> None:
    """Redrive dead letters and print their number. Raises `Failure` if one of `letters` does not exist."""
    await _act(configuration, letters, selection, limit, "redriven", DeadLetters.redrive)


async def drop_letters(
    configuration: Configuration, letters: Sequence[str], selection: Selection | None, limit: int | None
) -> None:
    """Delete dead letters and print their number. Raises `Failure` if one of `letters` does not exist."""
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
        # Find all letters first: a letter that fails again during this loop is not found a second time.
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
            print_note(f"{count} {done}")
    if letters and count < len(letters):
        raise Failure(f"{len(letters) - count} did not exist any more", NOT_FOUND)


@asynccontextmanager
async def _opened(configuration: Configuration) -> AsyncGenerator[JetStream]:
    async with connected(configuration) as connection:
        yield JetStream(connection, configuration.settings.timeout)


async def _selected(
    configuration: Configuration, jetstream: JetStream, selection: Selection | None
) -> AsyncIterator[DeadLetter]:
    wanted = selection or Selection()
    known = await known_services(jetstream, configuration.settings.namespace)
    if missing := [service for service in wanted.services if service not in known]:
        raise Failure(
            f"{', '.join(missing)}: no such service has run here; known services: {', '.join(known)}", NOT_FOUND
        )
    for service in wanted.services or known:
        async for letter in DeadLetters(jetstream, names(configuration, service)).read(wanted):
            yield letter


async def _named(
    configuration: Configuration, jetstream: JetStream, letters: Sequence[str]
) -> AsyncIterator[DeadLetter]:
    for text in letters:
        service, _, sequence = text.partition(":")
        if not valid_name(service) or not sequence.isdecimal():
            usage(f"{text!r}: write service:sequence, for example orders:17")
        try:
            letter = await DeadLetters(jetstream, names(configuration, service)).get(int(sequence))
        except ApiError as error:
            if error.err_code != ErrorCode.STREAM_NOT_FOUND:
                raise
            letter = None
        if letter is None:
            raise Failure(f"no dead letter {text} exists", NOT_FOUND)
        yield letter


def _summary(letter: DeadLetter) -> dict[str, Any]:
    trace = letter.headers.get("traceparent", "").split("-")
    return {
        "letter": letter.id,
        "time": time_text(letter.time),
        "name": letter.name,
        "key": letter.key,
        **msgspec.structs.asdict(letter.failure),
        "trace": trace[1] if len(trace) > 1 else None,
    }


def _row(letter: DeadLetter) -> tuple[object, ...]:
    failure, since = letter.failure, time_text(letter.time)
    reason = failure.reason if len(failure.reason) <= _WIDTH else failure.reason[: _WIDTH - 1] + "…"
    return letter.id, since, letter.name, letter.key or "", failure.reaction, failure.attempts, reason


def _body(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except UNDECODABLE:
        return payload.decode("utf-8", "backslashreplace")
