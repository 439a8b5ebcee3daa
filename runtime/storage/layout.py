"""The layout of an actor: in how many partitions its keys are stored.

An actor that is one whole has no layout, unless it had several partitions before. Else the layout is a message in the stream
``<actor>-turns``, stored under a sequence check. A process that is configured for another number of partitions than the
stored one does not start.

The first layout is stored by a process that holds the lease of partition 0, which is also the lease of an actor that is one
whole. So no process can serve the actor as one whole meanwhile. The streams of all partitions are created after that, and
before the dead-letter stream of the actor. So if the dead-letter stream exists, a missing stream means that state is lost.

A repartition stores a layout three times (`runtime.admin.repartition`): as it begins, with `Layout.to`, which no process
starts on; as it switches, with `Layout.before`; and without both, as soon as nothing is left in the streams of before.
"""

from typing import Annotated, Final

import msgspec

from runtime.bounds import MOST_PARTITIONS, Partitions
from runtime.errors import ConfigurationError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import StreamConfig
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.jetstream.responses import StreamInfo
from runtime.storage.streams import turns_config
from runtime.wire import header_block
from runtime.wire.buckets import Partition
from runtime.wire.subjects import Names

_FORMAT: Final = 1
"""The newest format of a layout that this version reads."""
_PartitionsOrNone = Annotated[int, msgspec.Meta(ge=0, le=MOST_PARTITIONS)]


class WrongLayout(ConfigurationError):
    """The keys of an actor are stored in another number of partitions than its process is configured for."""


class Layout(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the keys of an actor are stored."""

    partitions: Partitions = 1
    """The number of partitions."""
    before: _PartitionsOrNone = 0
    """The number of partitions before, as long as something in their streams is still to be moved; 0 if there is nothing."""
    to: _PartitionsOrNone = 0
    """The number of partitions of a repartition that has begun, and has not switched yet; 0 if none has."""
    above: int = 0
    """The highest sequence that the stream of any partition has ever had before this layout.

    A stream of a partition that is created again begins above it. So a commit of a former owner, which carries a sequence of
    the stream before, is refused however late it arrives.
    """
    format: int = _FORMAT

    def __post_init__(self) -> None:
        for number in (self.partitions, self.before, self.to):
            if number & (number - 1):
                raise ValueError(f"{number} is no power of two")


WHOLE_LAYOUT: Final = Layout()
"""The layout of an actor for which none is stored."""


class Layouts:
    """Reads and stores the layout of one actor.

    Args:
        jetstream: The client.
        names: The names of the actor, as one whole.
        replicas: The number of replicas of streams that are created.
    """

    def __init__(self, jetstream: JetStream, names: Names, replicas: int = 1) -> None:
        self._jetstream = jetstream
        self._names = names
        self._replicas = replicas

    async def find(self) -> tuple[Layout, int]:
        """Do the same as `read`, by one request more if none is stored, and refuse a layout that was deleted.

        Raises:
            WrongLayout: Somebody has deleted the layout, or a newer version of this package has stored it.
            ApiError, PublishError, TimeoutError: The stream cannot be read now.
        """
        layout, sequence, _ = await self._look()
        return layout, sequence

    async def read(self) -> tuple[Layout, int]:
        """Return the stored layout and its sequence; `WHOLE_LAYOUT` and 0 if none is stored.

        Raises:
            WrongLayout: A newer version of this package has stored it.
            ApiError, PublishError, TimeoutError: The stream cannot be read now.
        """
        stored = await self._jetstream.find_last(self._names.layout_stream, self._names.layout())
        if stored is None:
            return WHOLE_LAYOUT, 0
        try:
            layout = msgspec.json.decode(stored.payload, type=Layout)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WrongLayout(f"{self._names.layout()}: the stored layout is unreadable: {error}") from None
        if layout.format > _FORMAT:
            raise WrongLayout(f"{self._names.layout()}: a newer version of this package has stored the layout")
        return layout, stored.sequence

    async def require(self, partitions: int) -> Layout:
        """Return the stored layout. Raises the errors of `read`.

        Raises:
            WrongLayout: The layout has another number of partitions, or a repartition was not finished.
        """
        layout, _ = await self.read()
        if layout.to:
            raise WrongLayout(f"{self._names.actor}: {unfinished(layout)}: {finish(self._names.actor, layout)}")
        if layout.partitions != partitions:
            actor, stored = self._names.actor, layout.partitions
            raise WrongLayout(
                f"{actor}: its keys are stored in {counted(stored)}, and this process is configured for {partitions}: set "
                f"partitions = {stored}, or stop all processes of it and run `actorloom repartition {actor} {partitions}`"
            )
        return layout

    async def begun(self, partitions: int) -> bool:
        """Return whether a layout is stored.

        Raises:
            WrongLayout: None is, because the actor has run as one whole, or somebody has deleted the layout.
            ApiError, PublishError, TimeoutError: The stream cannot be used now.
        """
        _, sequence, info = await self._look()
        if info is not None and self._has_records(info):
            await self.require(partitions)
        return sequence > 0

    async def begin(self, partitions: int) -> None:
        """Store the layout of an actor that has never run. The caller holds the lease of partition 0.

        Raises:
            WrongLayout: The actor has run with another number of partitions, or somebody has deleted the layout.
            StreamConflict: Another process has created the stream of an actor that is one whole.
            ApiError, PublishError, TimeoutError: The stream cannot be used now.
        """
        _, sequence = await self.read()
        if sequence == 0:
            await self._jetstream.ensure_stream(layout_config(self._names, self._replicas))
            if await self.find() == (WHOLE_LAYOUT, 0):
                await self.store(Layout(partitions), 0)
        await self.require(partitions)

    async def store(self, layout: Layout, sequence: int) -> int:
        """Store a layout, if the stored one still has the given sequence. Return the sequence of the new one.

        Raises:
            WrongLayout: Another process has stored a layout meanwhile.
            PublishError, TimeoutError: It is not stored, or nobody knows.
        """
        headers = (
            header_block.START + header_block.line(header_block.EXPECTED_SEQUENCE, b"%d" % sequence) + header_block.END
        )
        try:
            ack = await self._jetstream.publish(
                self._names.layout(), msgspec.json.encode(layout), headers=headers, new_stream=sequence == 0
            )
        except WrongSequence:
            raise WrongLayout(f"{self._names.actor}: another process has changed the layout") from None
        return ack.sequence

    async def create_streams(self, partitions: int) -> None:
        """Create the streams of all partitions, unless the actor has run. Raises the errors of `ensure_stream`."""
        if await self._jetstream.find_stream(self._names.dead_stream) is None:
            for number in range(partitions):
                config = turns_config(self._names.of(Partition(partitions, number)), self._replicas)
                await self._jetstream.ensure_stream(config)

    async def _look(self) -> tuple[Layout, int, StreamInfo | None]:
        """Return the layout, its sequence, and the stream if none is stored. Raises the errors of `find`."""
        layout, sequence = await self.read()
        if sequence > 0:
            return layout, sequence, None
        info = await self._jetstream.find_stream(self._names.layout_stream)
        if info is not None and info.state.last_seq > 0 and not self._has_records(info):
            layout, sequence = await self.read()  # Another process may have stored it between the two answers.
            if sequence == 0:
                raise self._deleted()
        return layout, sequence, info

    def _has_records(self, info: StreamInfo) -> bool:
        """Return whether a process that ran the actor as one whole has created the stream."""
        return self._names.turn(">") in info.config.get("subjects", ())

    def _deleted(self) -> WrongLayout:
        """Return the error for a partitioned actor whose layout somebody has deleted."""
        actor, stream = self._names.actor, self._names.layout_stream
        return WrongLayout(
            f"{actor}: its layout was deleted from stream {stream}. Its keys are in the streams {stream}-p<P>-0 to "
            f"{stream}-p<P>-<P-1>, which `nats stream ls` shows: store the layout again by `nats pub {self._names.layout()} "
            "'{\"partitions\":<P>}'`"
        )


def layout_config(names: Names, replicas: int = 1) -> StreamConfig:
    """Return the configuration of the stream that holds the layout of a partitioned actor, and no records."""
    return StreamConfig(
        name=names.layout_stream,
        description=f"Actorloom: the layout of {names.actor}",
        subjects=(names.layout(),),
        discard="old",
        max_msgs_per_subject=1,
        replicas=replicas,
    )


def counted(partitions: int) -> str:
    """Return a number of partitions as text."""
    return "1 partition" if partitions == 1 else f"{partitions} partitions"


def unfinished(layout: Layout) -> str:
    """Return which repartition has begun and has not switched."""
    return f"a repartition from {counted(layout.partitions)} to {counted(layout.to)} has not ended"


def finish(actor: str, layout: Layout) -> str:
    """Return how to finish or undo a repartition that has begun and has not switched."""
    return (
        f"run `actorloom repartition {actor} {layout.to}` again, or `actorloom repartition {actor} {layout.partitions}` to "
        "undo it"
    )
