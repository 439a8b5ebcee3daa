"""How far a durable consumer is, for tests that wait for it."""

from runtime.nats.jetstream.client import JetStream


async def is_idle(jetstream: JetStream, stream: str, durable: str) -> bool:
    """Whether all of `stream`, which the consumer has whole, was delivered and finished.

    Its count of pending messages alone does not tell: it learns of what was just stored a little later.
    """
    last = (await jetstream.stream_info(stream)).state.last_seq
    info = await jetstream.consumer_info(stream, durable)
    return info.num_pending == 0 and info.num_ack_pending == 0 and info.delivered.stream_seq == last
