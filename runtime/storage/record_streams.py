"""The streams of a layout: opened, closed, and emptied by a repartition.

A *closed* stream stores nothing more: its subjects are narrowed to one on which no owner publishes. What it holds stays
readable. So a commit that a former owner has sent is refused, however late it arrives. The stream of an actor that is one
whole also holds the layout, and still takes that. The server's scheduler is different: it stores a timer that is due in a
closed stream as well.

Each change is made by the holder of a lease, which `require` checks directly before the request. A process that was paused could
otherwise delete the streams of a later layout with the same names.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.storage.streams import KINDS, TIMERS, turns_config
from runtime.wire.buckets import Partition
from runtime.wire.subjects import Names

_OWN: Final = ("description", "first_seq", "sources", "mirror", "republish", "subject_transform")
"""The settings of a stream that another one does not take over, besides those that `turns_config` sets."""


def sharing(partition: Partition, others: int) -> list[int]:
    """Return the partitions, of a layout with `others` of them, that share keys with a partition of another layout."""
    common = min(partition.total, others)
    return [number for number in range(others) if (number - partition.number) % common == 0]


async def close(jetstream: JetStream, names: Names, require: Callable[[], None]) -> None:
    """Close the stream of a partition, if it exists."""
    info = await jetstream.find_stream(names.turns_stream)
    subject = names.layout() if names.partition.total == 1 else names.closed()
    if info is not None and info.config["subjects"] != [subject]:
        require()
        await jetstream.update_stream({**info.config, "subjects": [subject]})


async def reopen(jetstream: JetStream, names: Names, require: Callable[[], None]) -> None:
    """Let the stream of a partition take messages, whether it was closed, or held only the layout."""
    info = await jetstream.find_stream(names.turns_stream)
    if info is not None:
        wanted = _wanted(names, info.config)
        if not set(wanted["subjects"]) <= set(info.config["subjects"]):
            require()
            await jetstream.update_stream({**info.config, **wanted})


async def create(
    jetstream: JetStream, names: Names, first: int, like: Mapping[str, Any], require: Callable[[], None]
) -> None:
    """Create the stream of a partition, without messages. What an earlier attempt has left is deleted first.

    Args:
        jetstream: The client.
        names: The names of the partition.
        first: The sequence of its first message. The stream of one whole is never created again, and keeps its sequences.
        like: The configuration of a stream of the former layout. The new one has its replicas, its placement, and all else that
            an operator has set.
        require: Raises if the lease of the caller is lost.
    """
    await remove(jetstream, names, require)
    wanted = _wanted(names, like)
    if names.partition.total == 1:
        found = (await jetstream.stream_info(names.turns_stream)).config
        moved = {field: like[field] for field in ("placement", "compression") if field in like}
        replicas = max(found["num_replicas"], like["num_replicas"])
        require()
        await jetstream.update_stream({**found, **moved, **wanted, "num_replicas": replicas})
        return
    kept = {field: value for field, value in like.items() if field not in _OWN}
    metadata = {name: text for name, text in (like.get("metadata") or {}).items() if not name.startswith("_nats.")}
    config = {**kept, **wanted, "description": turns_config(names).description, "metadata": metadata}
    require()
    await jetstream.create_stream({**config, "first_seq": first})


def _wanted(names: Names, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the stream of a partition must have, with the replicas of `like`."""
    wanted: dict[str, Any] = msgspec.to_builtins(turns_config(names, like["num_replicas"]))
    del wanted["description"]  # an existing stream keeps its own
    return wanted


async def remove(jetstream: JetStream, names: Names, require: Callable[[], None]) -> None:
    """Delete the stream of a partition. The stream of one whole is closed, and loses all but the layout."""
    info = await jetstream.find_stream(names.turns_stream)
    if info is None:
        return
    if names.partition.total > 1:
        require()
        await jetstream.delete_stream(names.turns_stream)
        return
    await close(jetstream, names, require)
    last = (await jetstream.stream_info(names.turns_stream)).state.last_seq
    for kind in KINDS:
        require()
        await jetstream.purge(names.turns_stream, f"{names.own}.{kind}.>", last)
    require()
    await jetstream.purge(names.turns_stream, names.checkpoint(), last)
    if any(consumer.name == TIMERS for consumer in await jetstream.consumers(names.turns_stream)):
        require()
        await jetstream.delete_consumer(names.turns_stream, TIMERS)
