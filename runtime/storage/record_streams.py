"""The streams of a layout: opened, closed, and emptied by a repartition.

A *closed* stream stores nothing more: its subjects are narrowed to one on which no owner publishes. What it holds stays
readable. So a commit that a former owner has sent is refused, however late it arrives. The stream of an actor that is one
whole also holds the layout, and still takes that. The server's scheduler is different: it stores a timer that is due in a
closed stream as well.
"""

from collections.abc import Iterator

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.nats.jetstream.responses import StreamInfo
from runtime.storage.streams import turns_config
from runtime.wire.buckets import Partition
from runtime.wire.subjects import Names


def of_layout(names: Names, partitions: int) -> Iterator[Names]:
    """Return the names of each partition of a layout. `names` are those of the actor as one whole."""
    for number in range(partitions):
        yield names.of(Partition(partitions, number))


def sharing(partition: Partition, others: int) -> list[int]:
    """Return the partitions, of a layout with `others` of them, that share keys with a partition of another layout."""
    common = min(partition.total, others)
    return [number for number in range(others) if (number - partition.number) % common == 0]


async def find(jetstream: JetStream, names: Names) -> StreamInfo | None:
    """Return the stream of a partition; None if there is none."""
    try:
        return await jetstream.stream_info(names.turns_stream)
    except ApiError as error:
        if error.err_code != ErrorCode.STREAM_NOT_FOUND:
            raise
        return None


async def close(jetstream: JetStream, names: Names) -> None:
    """Close the stream of a partition, if it exists."""
    info = await find(jetstream, names)
    subject = names.layout() if names.partition.total == 1 else names.closed()
    if info is not None and info.config["subjects"] != [subject]:
        await jetstream.update_stream({**info.config, "subjects": [subject]})


async def reopen(jetstream: JetStream, names: Names) -> None:
    """Let the stream of a partition take messages, whether it was closed, or held only the layout."""
    info = await find(jetstream, names)
    if info is not None:
        wanted = msgspec.to_builtins(turns_config(names, info.config["num_replicas"]))
        if not set(wanted["subjects"]) <= set(info.config["subjects"]):
            await jetstream.update_stream({**info.config, **wanted})


async def create(jetstream: JetStream, names: Names, first: int, replicas: int) -> None:
    """Create the stream of a partition, without messages. What an earlier attempt has left is deleted first.

    Args:
        jetstream: The client.
        names: The names of the partition.
        first: The sequence of its first message. The stream of one whole is never created again, and keeps its sequences.
        replicas: The number of replicas.
    """
    await remove(jetstream, names)
    if names.partition.total == 1:
        await reopen(jetstream, names)
    else:
        await jetstream.ensure_stream(msgspec.structs.replace(turns_config(names, replicas), first_seq=first))


async def remove(jetstream: JetStream, names: Names) -> None:
    """Delete the stream of a partition. The stream of one whole is closed, and loses all but the layout."""
    info = await find(jetstream, names)
    if info is None:
        return
    if names.partition.total > 1:
        await jetstream.delete_stream(names.turns_stream)
        return
    await close(jetstream, names)
    last = (await jetstream.stream_info(names.turns_stream)).state.last_seq
    for kind in ("turn", "dedup", "positions", "timer", "schedule"):
        await jetstream.purge(names.turns_stream, f"{names.own}.{kind}.>", last)
    await jetstream.purge(names.turns_stream, names.checkpoint(), last)
    for consumer in await jetstream.consumers(names.turns_stream):
        await jetstream.delete_consumer(names.turns_stream, consumer.name)
