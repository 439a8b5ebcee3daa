"""Recurring commands: schedules that a class declares with ``@command(every=…)``, and that nobody has to set.

Each one is a message of JetStream's scheduler under the name ``@<command>``, which no other timer can have. The owner of its
key stores it if it is missing, and replaces it if it differs; for an actor without state, the owner of the checkpoint does. So there is one over all processes, and an older version of the actor that takes over brings back its own.

A schedule that is declared no more, or paused by a setting, is found when it fires: the owner drops that firing, and takes the
schedule back. Nothing has to be read for it at the start of an actor without recurring commands.
"""

import re
from typing import Final

import msgspec

from runtime.actor.handler import HandlerTable
from runtime.actor.message import encode_message, message_token
from runtime.actor.schedules import schedule_fault
from runtime.errors import ConfigurationError, PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import INVALID_SCHEDULE_CODES, WrongSequence
from runtime.options import Options
from runtime.storage.schedules import recurring_header
from runtime.wire import header_block
from runtime.wire.buckets import partition_of
from runtime.wire.subjects import Names
from runtime.wire.tokens import NO_KEY

MARK: Final = "@"
"""The first character of the names of recurring commands, and of no other timer."""
_IS_NAME: Final = re.compile(f"{MARK}\\w+").fullmatch
"""Matches the names of recurring commands, and not those of commands by `tell` that are set aside."""
OFF: Final = "off"
"""The value of a setting that pauses a recurring command."""
_BEATEN: Final = 8
"""Times that another owner may be faster, before it counts as an error."""


class Recurring(msgspec.Struct, frozen=True):
    """A recurring command with its schedule."""

    name: str
    """``@sweep_orders``."""
    command: str
    """The name of its class."""
    token: str
    """The key of the command as a token."""
    every: str
    zone: str
    body: bytes
    """The JSON of the command."""

    def headers(self, names: Names) -> list[tuple[bytes, str]]:
        """Return the headers of the schedule."""
        headers = [
            (b"Nats-Schedule", self.every),
            (b"Nats-Schedule-Target", names.timer(self.token, self.name)),
            (header_block.TIMER_COMMAND, self.command),
            (header_block.TIMER_RECURRING, recurring_header(self.every, self.zone)),
            (header_block.IDEMPOTENCY_KEY, self.name),
        ]
        return headers + ([(b"Nats-Schedule-Time-Zone", self.zone)] if self.zone else [])


def recurring_commands(handlers: HandlerTable, options: Options, names: Names) -> list[Recurring]:
    """Return the recurring commands of an actor whose keys are in the partition of `names`, without those that are paused.

    Raises:
        ConfigurationError: `Options.every` names another command, or has an expression that is no schedule.
    """
    found: list[Recurring] = []
    declared = {handler.method: handler for handler in handlers.commands.values() if handler.every}
    for method in options.every:
        if method not in declared:
            known = ", ".join(declared) or "none"
            raise ConfigurationError(
                f"{names.actor}: Options.every: no command {method!r} is declared with every=…; those that are: {known}"
            )
    for method, handler in declared.items():
        assert handler.recurring is not None
        every, zone = options.every.get(method, handler.every), handler.zone
        if every == OFF:
            continue
        if every.startswith("@every "):
            zone = ""
        if (fault := schedule_fault(every, zone)) is not None:
            raise ConfigurationError(f"{names.actor}: Options.every.{method}: {fault}")
        token = message_token(handler.recurring) if handler.keyed else NO_KEY
        if partition_of(token, names.partition.total) == names.partition.number:
            body = encode_message(handler.recurring)
            name = f"{MARK}{handler.contract.name}"
            found.append(Recurring(name, handler.contract.type.__name__, token, every, zone, body))
    return found


def is_recurring(tokens: list[str]) -> bool:
    """Return whether a timer is that of a recurring command, given the tokens of its key and its name."""
    return len(tokens) > 1 and _IS_NAME(tokens[1]) is not None


async def reconcile(jetstream: JetStream, names: Names, commands: list[Recurring]) -> None:
    """Store the schedules of recurring commands that are missing, and replace those that differ.

    A schedule that is stored as it is declared stays, so the phase of an interval does not change with its owner.

    Raises:
        ConfigurationError: The server refuses a schedule, whose time zone it does not know for example.
        ApiError, PublishError, TimeoutError: The stream cannot be used now.
    """
    for each in commands:
        await _store(jetstream, names, each)


async def take_back_recurring(jetstream: JetStream, names: Names, token: str, name: str) -> None:
    """Delete the schedule of a recurring command. Raises the errors of `JetStream.purge`."""
    subject = names.schedule(token, name)
    stored = await jetstream.get_last(names.turns_stream, subject)
    if stored is not None:
        await jetstream.purge(names.turns_stream, subject, stored.sequence)


async def _store(jetstream: JetStream, names: Names, command: Recurring) -> None:
    subject, headers = names.schedule(command.token, command.name), command.headers(names)
    wanted = {name.decode(): value for name, value in headers}
    lines = [header_block.line(name, value.encode()) for name, value in headers]
    block = header_block.join(*lines, header_block.line(header_block.EXPECTED_SEQUENCE, b"0"))
    for _ in range(_BEATEN):
        stored = await jetstream.get_last(names.turns_stream, subject)
        if stored is not None:
            present = header_block.parse(stored.headers)
            zones = present.get("Nats-Schedule-Time-Zone", "") == command.zone
            if zones and stored.payload == command.body and wanted.items() <= present.items():
                return
            await jetstream.purge(names.turns_stream, subject, stored.sequence)
        try:
            await jetstream.publish(subject, command.body, headers=block)
        except WrongSequence:
            continue  # Another owner, which this one follows or which follows this one, has stored it meanwhile.
        except PublishError as error:
            if error.err_code in INVALID_SCHEDULE_CODES:
                raise ConfigurationError(
                    f"{names.actor}: nats-server refuses the schedule {command.every!r} of {command.name[1:]} "
                    f"in the zone {command.zone!r}: {error}"
                ) from error
            raise
        return
    raise TimeoutError(f"{subject}: another process stores the schedule again and again")
