"""The progress of a durable consumer, for tests that wait for it."""

from runtime.nats.jetstream.client import JetStream


async def is_idle(jetstream: JetStream, stream: str, durable: str) -> bool:
    """Return whether every message of `stream` was delivered and acknowledged. The consumer must have no filter.

    The number of pending messages alone is not enough, because the server updates it a moment after it stores a message.
    """
    last = (await jetstream.stream_info(stream)).state.last_seq
    info = await jetstream.consumer_info(stream, durable)
    return info.num_pending == 0 and info.num_ack_pending == 0 and info.delivered.stream_seq == last
