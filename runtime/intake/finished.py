"""The events that a consumer of a former partition has finished: acknowledged, and not handled again.

A repartition that joins partitions creates one consumer in the place of several. It begins where the last of them was, so
events come again that the others have finished, perhaps longer ago than ids are remembered. The position names them.
"""

from collections.abc import Callable

from runtime.nats.jetstream.delivery import Delivery
from runtime.storage.positions import ConsumerPosition


def unfinished(position: ConsumerPosition, receive: Callable[[Delivery], None]) -> Callable[[Delivery], None]:
    """Return a receiver that passes on what no former consumer has finished, and acknowledges the rest.

    Args:
        position: The position of the consumer.
        receive: Receives the deliveries that are to be handled.
    """
    floors = position.finished
    if not floors:
        return receive
    last = max(floors)

    def deliver(delivery: Delivery) -> None:
        if delivery.stream_sequence <= last:
            bucket = delivery.subject.split(b".")[-2]
            if delivery.stream_sequence <= floors[int(bucket)]:
                delivery.ack()
                return
        receive(delivery)

    return deliver
