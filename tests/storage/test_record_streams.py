"""The streams of a layout, as a repartition empties them."""

from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage import record_streams
from runtime.storage.streams import turns_config
from runtime.wire.subjects import Names


async def test_the_stream_of_one_whole_keeps_the_layout_and_nothing_else(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    names = Names("orders", namespace)
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream = JetStream(connection)
        config = turns_config(names)
        await jetstream.ensure_stream(config)
        for subject in config.subjects:
            if subject != f"{names.own}.relay.>":
                await jetstream.publish(f"{subject.removesuffix('>')}one", b"1")
        await jetstream.publish(names.checkpoint(), b"1")
        await jetstream.publish(names.layout(), b"{}")
        await record_streams.remove(jetstream, names, lambda: None)
        assert [each.subject async for each in jetstream.read(names.turns_stream, ">")] == [names.layout()]
        await record_streams.remove(jetstream, names, lambda: None)
