"""The arguments and the access of the commands that look into the streams of an actor: ``ACTOR`` and ``ACTOR/KEY``."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import click
import msgspec

from runtime.admin.refusal import UnknownActor
from runtime.admin.stored import StoredActor, open_actor
from runtime.cli.client import connected, names
from runtime.cli.failures import NOT_FOUND, Failure
from runtime.errors import CodecError
from runtime.host.config import Configuration
from runtime.nats.jetstream.client import JetStream
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import valid_name
from runtime.wire.tokens import key_token


class ActorKey(NamedTuple):
    """A key of an actor."""

    actor: str
    key: str
    token: str
    """The key as a token of subjects."""

    def __str__(self) -> str:
        return f"{self.actor}/{self.key}"


def actor_name(_: click.Context, __: click.Parameter, text: str) -> str:
    """Return the value of an argument ``ACTOR``. Another text ends the command."""
    if not valid_name(text):
        raise click.BadParameter(f"{text!r} cannot be the name of an actor")
    return text


def actor_key(_: click.Context, __: click.Parameter, text: str) -> ActorKey:
    """Return the value of an argument ``ACTOR/KEY``. The key may contain slashes. Another text ends the command."""
    actor, slash, key = text.partition("/")
    if not slash or not valid_name(actor):
        raise click.BadParameter(f"{text!r}: write actor/key, for example orders/17")
    try:
        return ActorKey(actor, key, key_token(key))
    except CodecError as error:
        raise click.BadParameter(str(error)) from None


@asynccontextmanager
async def opened(configuration: Configuration, actor: str) -> AsyncGenerator[StoredActor]:
    """Connect, and find the streams of an actor. Raises `Failure` if it has never run."""
    async with connected(configuration) as connection:
        jetstream = JetStream(connection, configuration.settings.timeout)
        try:
            found = await open_actor(jetstream, names(configuration, actor))
        except UnknownActor as error:
            raise Failure(str(error), NOT_FOUND) from None
        yield found


def readable(key: str) -> str:
    """Return a key as text of JSON, which has no lone surrogates."""
    return key.encode(errors="backslashreplace").decode()


def json_body(payload: bytes) -> Any:
    """Return a body for `print_json`: as it is if it is JSON, else as text."""
    try:
        msgspec.json.decode(payload)
    except UNDECODABLE:
        return payload.decode("utf-8", "backslashreplace")
    return msgspec.Raw(payload)
