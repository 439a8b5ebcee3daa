"""Senders: how a delivery goes to each kind of target."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from runtime.actor.any_command import AnyCommand
from runtime.client.bus import Bus
from runtime.errors import CodecError, Forbidden, IdReused, InvalidMessage, Rejected, TooLarge
from runtime.nats.jetstream.client import JetStream
from runtime.router.inputs import Input, InputError, compile_input
from runtime.router.outcomes import Delivered, Outcome, Permanent
from runtime.router.parcel import Parcel, Sender
from runtime.router.target import REPLAY_NAME, CommandKind, EventKind, HttpKind, LogKind, SubjectKind, Target
from runtime.telemetry import inject
from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers
from runtime.wire.subjects import Names, snake_case
from runtime.wire.tokens import NO_KEY, key_token

logger = logging.getLogger("actorloom.router")

_REFUSALS = (InvalidMessage, Forbidden, IdReused, TooLarge)
"""The answers to a command after which another attempt gets the same one."""

_DELIVERED = Delivered(0)


class _Plain:
    """A sender without resources, made of one function."""

    def __init__(self, send: Callable[[Any, Parcel], Awaitable[Outcome]]) -> None:
        self._send = send

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    async def send(self, actor: Any, parcel: Parcel) -> Outcome:
        return await self._send(actor, parcel)


def make_sender(target: Target, bus: Bus) -> Sender:
    """Return the sender of a target.

    Args:
        target: The target.
        bus: The bus of its actor.

    Raises:
        ConfigurationError: The target needs a package that is not installed.
    """
    jetstream = JetStream(bus.connection)
    match target.to:
        case CommandKind() as kind:
            return _Plain(lambda actor, parcel: _command(kind, target, actor, parcel))
        case EventKind() as kind:
            names = Names(kind.type.rpartition(".")[0], bus.namespace if kind.namespace is None else kind.namespace)
            place = f"target {target.name}: to.key"
            key = None if kind.key is None else compile_input([kind.key], where=place)
            return _Plain(lambda _, parcel: _event(kind, names, key, target, jetstream, parcel))
        case SubjectKind() as kind:
            return _Plain(lambda _, parcel: _subject(kind, target, jetstream, parcel))
        case LogKind() as kind:
            return _Plain(lambda _, parcel: _log(kind, target, parcel))
        case HttpKind() as kind:
            from runtime.router.http_deliveries import HttpDeliveries

            return HttpDeliveries(kind, target)


async def _command(kind: CommandKind, target: Target, actor: Any, parcel: Parcel) -> Outcome:
    message = AnyCommand(kind.actor, kind.command, parcel.body)
    try:
        await actor.command(message, id=parcel.id, timeout=target.timeout)
    except Rejected as error:
        if error.retry_after is not None:
            raise
        return Permanent(f"{kind.actor} has refused {kind.command}: {error}")
    except _REFUSALS as error:
        return Permanent(f"{kind.actor} has refused {kind.command}: {error}")
    return _DELIVERED


async def _event(
    kind: EventKind, names: Names, key: Input | None, target: Target, jetstream: JetStream, parcel: Parcel
) -> Outcome:
    name, token = kind.type.rpartition(".")[2], _token(key, parcel)
    replay = parcel.event.extensions.get(REPLAY_NAME, "")
    mark = header_block.encode_lines([(f"ce-{REPLAY_NAME}", replay)]) if replay.isprintable() and replay else b""
    headers = event_headers(names.actor, name, parcel.id, token, jetstream.connection.clock.now(), inject() + mark)
    subject, body = names.event(snake_case(name), token), msgspec.json.encode(parcel.body)
    await jetstream.publish(subject, body, headers=headers, timeout=target.timeout)
    return _DELIVERED


def _token(path: Input | None, parcel: Parcel) -> str:
    """Return the key of an event as a token, given its path in a list. Raises `InputError` if the value is no key."""
    if path is None:
        return NO_KEY
    found = path.make(parcel.occurrence)
    key = found[0] if isinstance(found, list) and found else None
    if key is None:
        return NO_KEY
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise InputError(path.where, f"{str(key)[:80]!r} is no key: a text or an integer is one")
    try:
        return key_token(str(key))
    except CodecError as error:
        raise InputError(path.where, str(error)) from None


async def _subject(kind: SubjectKind, target: Target, jetstream: JetStream, parcel: Parcel) -> Outcome:
    event = parcel.event
    name, token = event.type.rpartition(".")[2], NO_KEY if event.key is None else key_token(event.key)
    subject = kind.subject.replace("{key}", token).replace("{source}", event.source).replace("{name}", snake_case(name))
    block = event_headers(event.source, name, event.id, token, event.stored, inject())
    own = header_block.line(header_block.MESSAGE_ID, event.id.encode())
    lines = block.removeprefix(header_block.START).removesuffix(header_block.END).replace(own, b"")
    extensions = [(f"ce-{name}", value) for name, value in event.extensions.items() if value.isprintable()]
    facts = [("Nats-Msg-Id", parcel.id), ("Rule", parcel.occurrence.rule), ("Target", target.name), *extensions]
    headers = header_block.join(lines, header_block.encode_lines(facts))
    body = msgspec.json.encode(parcel.body)
    if kind.stored:
        await jetstream.publish(subject, body, headers=headers, timeout=target.timeout)
    else:
        jetstream.connection.publish(subject, body, headers=headers)
    return _DELIVERED


async def _log(kind: LogKind, target: Target, parcel: Parcel) -> Outcome:
    event = parcel.event
    logger.log(
        getattr(logging, kind.level.upper()), "%s: %s %s of key %s: %s",
        target.name, event.type, event.id, event.key, msgspec.json.encode(parcel.body).decode(),
    )  # fmt: skip
    return _DELIVERED
