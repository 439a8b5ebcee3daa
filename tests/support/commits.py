"""Faults of commits: both ways in which a record is sent, with and without a task that waits for its answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.storage.draft import Draft
from runtime.storage.journal import Journal

_tasks: set[asyncio.Task[None]] = set()
"""Refers to the tasks that run, since the event loop refers to them weakly."""


def replace_commit(patch: pytest.MonkeyPatch, journal: Journal, commit: Callable[[Draft], Awaitable[int]]) -> None:
    """Let `commit` store the records of a journal. It may call the former `Journal.commit`."""

    def send(draft: Draft, callback: Callable[[int, Exception | None], None]) -> None:
        _call_back(commit(draft), callback)

    async def resolve(draft: Draft, error: Exception) -> int:
        raise error

    for name, replacement in (("commit", commit), ("send", send), ("resolve", resolve)):
        patch.setattr(journal, name, replacement)


def replace_publish(patch: pytest.MonkeyPatch, jetstream: JetStream | type[JetStream], publish: Any) -> None:
    """Let ``publish(subject, payload, headers=…)`` store the messages of a client, or of all, except for the relay's."""
    publish_callback: Any = jetstream.publish_callback

    def send(*arguments: Any) -> None:
        subject, _, headers, callback = arguments[-4:]
        if ".turn." in subject:
            _call_back(_sequence(publish(*arguments[:-2], headers=headers)), callback)
        else:
            publish_callback(*arguments)

    patch.setattr(jetstream, "publish", publish)
    patch.setattr(jetstream, "publish_callback", send)


async def _sequence(ack: Awaitable[Any]) -> int:
    return int((await ack).sequence)


def _call_back(stored: Awaitable[int], callback: Callable[[int, Exception | None], None]) -> None:
    async def run() -> None:
        try:
            sequence = await stored
        except (ActorError, TimeoutError) as error:
            callback(0, error)
        else:
            callback(sequence, None)

    task = asyncio.get_running_loop().create_task(run())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
