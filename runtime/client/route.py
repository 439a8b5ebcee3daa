"""A route: what sending one message type needs, prepared at its first use, and what its answers mean."""

from typing import Any

from runtime.actor.message import Contract
from runtime.client.breaker import Breaker, BreakerPolicy
from runtime.errors import CodecError, HandlerFailed
from runtime.nats.connection import Response
from runtime.telemetry import Durations, Template
from runtime.wire import header_block
from runtime.wire.codec import MSGPACK, Codec
from runtime.wire.replies import read_error


class Route:
    """The way to one operation. Shared by all requests for it on one bus."""

    __slots__ = ("breaker", "contract", "durations", "op", "reply", "subject", "subject_text", "template")

    def __init__(
        self, contract: Contract, subject: str, template: Template, durations: Durations, policy: BreakerPolicy
    ) -> None:
        self.contract = contract
        self.op = contract.op
        self.subject = subject.encode()
        self.subject_text = subject
        self.template = template
        self.durations = durations
        self.breaker = Breaker(policy)
        self.reply: Codec[Any] | None = Codec(contract.reply) if contract.reply not in (None, type(None)) else None

    def read(self, response: Response) -> Any:
        """Return the value of a reply. Raises the `RequestError` that an error reply stands for."""
        block, payload = response
        content_type = None
        if block is not None:
            if header_block.SERVICE_ERROR_CODE in block:
                raise read_error(block, payload)
            content_type = MSGPACK if b"application/msgpack" in block else None
        if self.reply is None:
            return None
        try:
            return self.reply.decode(payload, content_type)
        except CodecError as error:
            failed = HandlerFailed(f"{self.subject_text}: the reply does not fit {self.contract.reply}: {error}")
            failed.executed = True
            raise failed from error
