"""JetStream's client: acknowledged publishes, reads at the stream's leader, streams and consumers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from runtime.errors import ConfigurationError
from runtime.nats.connection import Connection, ConnectionLost, NoResponders, NotConnected
from runtime.nats.jetstream import api, reader
from runtime.nats.jetstream.acks import AckCallback, decode_ack, no_stream
from runtime.nats.jetstream.configs import ConsumerConfig, StreamConfig, update_consumer, widen_stream
from runtime.nats.jetstream.errors import ApiError, DuplicateInProcess, ErrorCode
from runtime.nats.jetstream.responses import (
    AccountInfo,
    Ack,
    ApiResponse,
    ConsumerInfo,
    ConsumerList,
    MessageResponse,
    ResetInfo,
    SequencePair,
    StoredMessage,
    StreamInfo,
    StreamNames,
    SuccessResponse,
)

_OVERLAP: Final = 1000
"""Subjects that two pages have in common. Those behind move forward if a subject disappears between the two requests."""

_RESET_LEVEL: Final = 4
"""The API level of nats-server 2.14, the first with ``CONSUMER.RESET`` (ADR-44 and ADR-60 of NATS)."""

_FIRST_WAIT: Final = 0.5
"""Seconds after which a question is asked again for the first time. Each wait is twice as long as the one before."""
_SHORTLY: Final = 0.02
"""Seconds before a publish is repeated whose message id, or whose stream, is being replicated."""

_ResponseT = TypeVar("_ResponseT", bound=ApiResponse)


class JetStream:
    """A client of JetStream over one `Connection`, which the caller closes.

    All calls raise `TimeoutError` if no response came in time (whether the call was executed is then unknown),
    `PublishError` if the request was not sent, and `ApiError` if JetStream refused it.

    Args:
        connection: The connection that carries all calls.
        timeout: The default timeout of a call, in seconds.
    """

    def __init__(self, connection: Connection, timeout: float = 5.0) -> None:
        self.connection = connection
        self.timeout = timeout
        self._loop = asyncio.get_running_loop()

    async def publish(
        self,
        subject: str | bytes,
        payload: bytes,
        *,
        headers: bytes | None = None,
        timeout: float | None = None,
        new_stream: bool = False,
    ) -> Ack:
        """Store a message and return the acknowledgement of the server.

        The acknowledgement is a duplicate's if a message with the same id was stored before.

        Args:
            subject: The subject.
            payload: The body.
            headers: The block of headers.
            timeout: Seconds to wait for the acknowledgement; by default those of the client.
            new_stream: Whether the stream was created just now. For a moment the other nodes of a cluster may not know the
                stream; the message is sent again until they do.

        Raises:
            WrongSequence: The expected sequence in `headers` is stale; nothing was stored.
            PublishError: The stream refused the message (see `err_code`) or it was not sent; nothing was stored.
            TimeoutError: No acknowledgement came in time; the message may have been stored.
        """
        expires_at = self._loop.time() + (self.timeout if timeout is None else timeout)
        encoded = subject.encode() if isinstance(subject, str) else subject
        while True:
            try:
                try:
                    reply = self.connection.request_nowait(encoded, payload, headers, expires_at)
                except NotConnected:
                    left = expires_at - self._loop.time()
                    reply = self.connection.request(subject, payload, headers=headers, timeout=left)
                return decode_ack(await reply, subject, self.connection.domain)
            except NoResponders as error:
                if not new_stream or self._loop.time() + _SHORTLY >= expires_at:
                    raise no_stream(subject) from error
            except DuplicateInProcess as error:
                # The replicas have not agreed yet on the first message with this id.
                if self._loop.time() + _SHORTLY >= expires_at:
                    raise TimeoutError(str(error)) from error
            await asyncio.sleep(_SHORTLY)

    def publish_callback(
        self,
        subject: str,
        payload: bytes,
        headers: bytes | None,
        callback: Callable[[int, Exception | None], None],
    ) -> None:
        """Send a message, and call `callback(sequence, None)` or `callback(0, error)` when the outcome is known.

        The error is one that `publish` would raise. This costs neither a task nor a future, and is meant for background
        work of the hot path.

        Raises:
            PublishError: The message was not sent; `callback` is not called.
        """

        connection = self.connection
        expires_at = self._loop.time() + self.timeout
        reply = AckCallback(callback, subject, connection.domain)
        connection.request_callback(subject.encode(), payload, headers, expires_at, reply)

    async def get_last(self, stream: str, subject: str, timeout: float | None = None) -> StoredMessage | None:
        """Read the last message on `subject` (wildcards allowed) at the stream's leader; None if there is none."""
        return await self._get(stream, {"last_by_subj": subject}, timeout)

    async def find_last(self, stream: str, subject: str, timeout: float | None = None) -> StoredMessage | None:
        """Return what `get_last` returns, or None if there is no such stream."""
        try:
            return await self.get_last(stream, subject, timeout)
        except ApiError as error:
            if error.err_code != ErrorCode.STREAM_NOT_FOUND:
                raise
            return None

    async def get(self, stream: str, sequence: int, timeout: float | None = None) -> StoredMessage | None:
        """Read the message at `sequence` at the stream's leader; None if there is none."""
        return await self._get(stream, {"seq": sequence}, timeout)

    async def get_next(
        self, stream: str, subject_filter: str, sequence: int, timeout: float | None = None
    ) -> StoredMessage | None:
        """Read the first message on `subject_filter` (wildcards allowed) from `sequence` on, at the stream's leader."""
        return await self._get(stream, {"seq": sequence, "next_by_subj": subject_filter}, timeout)

    def read(
        self, stream: str, subject_filter: str, *, start_sequence: int = 1, last_per_subject: bool = False
    ) -> AsyncIterator[StoredMessage]:
        """Iterate over the messages on `subject_filter`, in the order of the stream and in bounded memory.

        The iteration ends at the message that is the last one at the leader when it begins.

        Args:
            stream: The name of the stream.
            subject_filter: A subject; wildcards are allowed.
            start_sequence: The first sequence to read.
            last_per_subject: Read the newest message of each subject only.

        Raises:
            TimeoutError: No message arrived for the client's timeout.
        """
        return reader.read(self, stream, subject_filter, start_sequence, last_per_subject)

    async def account(self, timeout: float | None = None) -> AccountInfo:
        """Return the account's use of JetStream and its limits."""
        return await self._ask("INFO", None, AccountInfo, timeout)

    async def stream_names(self, subject: str = "", timeout: float | None = None) -> list[str]:
        """Return the sorted names of the streams that have a subject which overlaps `subject` (wildcards allowed).

        Without a subject, return those of all streams of the account.
        """
        found: list[str] = []
        while True:
            page = await self._ask("STREAM.NAMES", {"subject": subject, "offset": len(found)}, StreamNames, timeout)
            found += page.streams or []
            if not page.streams or len(found) >= page.total:
                return sorted(found)

    async def stream_info(
        self, stream: str, timeout: float | None = None, *, subjects: str = "", offset: int = 0
    ) -> StreamInfo:
        """Return a stream's configuration and state; `subjects` (wildcards allowed) adds the messages per subject.

        The server sends 100,000 subjects at most, in their order. `offset` is the number of subjects to leave out.
        """
        body = {"subjects_filter": subjects, "offset": offset} if subjects else None
        return await self._ask(f"STREAM.INFO.{stream}", body, StreamInfo, timeout)

    async def subjects(self, stream: str, subject_filter: str, timeout: float | None = None) -> list[str]:
        """Return the subjects of a stream's messages that match `subject_filter` (wildcards allowed), as the leader has them."""
        found: dict[str, None] = {}
        offset = 0
        while True:
            info = await self.stream_info(stream, timeout, subjects=subject_filter, offset=offset)
            page = info.state.subjects
            found |= dict.fromkeys(page)
            offset += len(page)
            if offset >= info.total or len(page) <= _OVERLAP:
                return list(found)
            offset -= _OVERLAP

    async def find_stream(self, stream: str, timeout: float | None = None, *, subjects: str = "") -> StreamInfo | None:
        """Return what `stream_info` returns, or None if there is no such stream, by one request."""
        try:
            return await self.stream_info(stream, timeout, subjects=subjects)
        except ApiError as error:
            if error.err_code != ErrorCode.STREAM_NOT_FOUND:
                raise
            return None

    async def delete_message(self, stream: str, sequence: int, timeout: float | None = None) -> bool:
        """Delete one message; return False if there is none at `sequence`."""
        body = {"seq": sequence, "no_erase": True}
        try:
            await self._call(f"STREAM.MSG.DELETE.{stream}", body, SuccessResponse, timeout)
        except ApiError as error:
            if error.err_code == ErrorCode.SEQUENCE_NOT_FOUND:
                return False
            # Sent for a message that was deleted before, but also if the storage fails.
            if error.err_code == ErrorCode.MESSAGE_DELETE_FAILED and await self.get(stream, sequence, timeout) is None:
                return False
            raise
        return True

    async def purge(self, stream: str, subject: str, last: int, timeout: float | None = None) -> None:
        """Delete the messages on `subject` up to the sequence `last`, permanently.

        A message that was merely replaced by a newer one on its subject is different: nats-server 2.15.1 restores it if
        the newer message is deleted and the server is killed then.
        """
        body = {"filter": subject, "seq": last + 1}
        await self._call(f"STREAM.PURGE.{stream}", body, SuccessResponse, timeout)

    def delete_message_nowait(self, stream: str, sequence: int) -> None:
        """Send the request that deletes one message, without waiting for the response.

        Raises:
            PublishError: The request was not sent.
        """
        body = api.encode({"seq": sequence, "no_erase": True})
        self.connection.publish(f"{api.API}STREAM.MSG.DELETE.{stream}", body)

    async def ensure_stream(
        self, config: StreamConfig, timeout: float | None = None, *, known: StreamInfo | None = None
    ) -> StreamInfo:
        """Find the stream. Create it if it is missing, and widen it if it does not cover `config`.

        The right to create or to change it is needed for that only.

        Args:
            config: The configuration.
            timeout: Seconds for each request.
            known: The stream, if the caller has just asked for it.

        Raises:
            StreamConflict: The existing stream has a field that widening cannot bring in line.
        """
        expires_at = self._loop.time() + (self.timeout if timeout is None else timeout)
        info = known or await self.find_stream(config.name, timeout)
        while info is None:
            try:
                await self._call(f"STREAM.CREATE.{config.name}", config, StreamInfo, timeout)
            except ApiError as refusal:
                if refusal.err_code != ErrorCode.STREAM_NAME_IN_USE:  # Another process has created it meanwhile.
                    raise
            # The answer to a creation is of no use: if two processes create the stream at the same time, one of them gets
            # the time of its own request. And the node that answers the question may not know yet that there is a stream.
            info = await self.find_stream(config.name, timeout)
            if info is None:
                if self._loop.time() > expires_at:
                    raise TimeoutError(f"stream {config.name} was created, and no node knows it")
                await asyncio.sleep(_SHORTLY)
        widened = widen_stream(config, info.config)
        if widened is None:
            return info
        return await self._call(f"STREAM.UPDATE.{config.name}", widened, StreamInfo, timeout)

    async def create_stream(self, config: Mapping[str, Any], timeout: float | None = None) -> StreamInfo:
        """Create a stream with all given fields, such as a mirror. It must not exist."""
        return await self._call(f"STREAM.CREATE.{config['name']}", config, StreamInfo, timeout)

    async def update_stream(self, config: Mapping[str, Any], timeout: float | None = None) -> StreamInfo:
        """Give a stream another configuration: all fields, as the server reports them."""
        return await self._call(f"STREAM.UPDATE.{config['name']}", config, StreamInfo, timeout)

    async def delete_stream(self, stream: str, timeout: float | None = None) -> None:
        """Delete a stream with its messages and consumers."""
        await self._call(f"STREAM.DELETE.{stream}", None, SuccessResponse, timeout)

    async def consumer_info(self, stream: str, consumer: str, timeout: float | None = None) -> ConsumerInfo:
        """Return a consumer's configuration and position."""
        return await self._ask(f"CONSUMER.INFO.{stream}.{consumer}", None, ConsumerInfo, timeout)

    async def consumers(self, stream: str, timeout: float | None = None) -> list[ConsumerInfo]:
        """Return all consumers of a stream."""
        found: list[ConsumerInfo] = []
        while True:
            page = await self._ask(f"CONSUMER.LIST.{stream}", {"offset": len(found)}, ConsumerList, timeout)
            found += page.consumers or []
            if not page.consumers or len(found) >= page.total:
                return found

    async def ensure_consumer(self, stream: str, config: ConsumerConfig, timeout: float | None = None) -> ConsumerInfo:
        """Find the durable consumer. Create it if it is missing, and update it if it differs from `config`.

        An existing consumer keeps its start and its position. The right to create one is needed for a change only.

        Raises:
            StreamConflict: The existing consumer has another kind of acknowledgement.
        """
        operation = f"CONSUMER.CREATE.{stream}.{config.durable}"
        try:
            info = await self.consumer_info(stream, config.durable, timeout)
        except ApiError as error:
            if error.err_code != ErrorCode.CONSUMER_NOT_FOUND:
                raise
            body = {"stream_name": stream, "config": config, "action": "create"}
            try:
                await self._call(operation, body, ConsumerInfo, timeout)
            except ApiError as refusal:
                if refusal.err_code != ErrorCode.CONSUMER_ALREADY_EXISTS:  # Another process has created it meanwhile.
                    raise
            # The answer to a creation may have the time of the request as `created`, after a restart of nats-server.
            info = await self.consumer_info(stream, config.durable, timeout)
        updated = update_consumer(config, info.config)
        if updated is None:
            return info
        await self._call(
            operation, {"stream_name": stream, "config": updated, "action": "update"}, ConsumerInfo, timeout
        )
        return await self.consumer_info(stream, config.durable, timeout)

    async def create_consumer(
        self, stream: str, config: Mapping[str, Any], timeout: float | None = None
    ) -> ConsumerInfo:
        """Create a durable consumer with all given fields. One that exists with the same fields stays as it is."""
        body = {"stream_name": stream, "config": config, "action": ""}
        operation = f"CONSUMER.CREATE.{stream}.{config['durable_name']}"
        return await self._call(operation, body, ConsumerInfo, timeout)

    async def delete_consumer(self, stream: str, consumer: str, timeout: float | None = None) -> None:
        """Delete a consumer."""
        await self._call(f"CONSUMER.DELETE.{stream}.{consumer}", None, SuccessResponse, timeout)

    async def reset_consumer(
        self,
        stream: str,
        consumer: str,
        sequence: int = 0,
        timeout: float | None = None,
        *,
        found: ConsumerInfo | None = None,
    ) -> ConsumerInfo:
        """Make a consumer deliver again, in order, from `sequence` on (0: from its ack floor). Source: ADR-60 of NATS.

        Pass the description of the consumer as `found` if the server has just sent it; otherwise it is asked for.

        After the reset no message is pending and delivery counts begin at one. Messages above the ack floor that were
        acknowledged are delivered again as well. A `sequence` other than 0 needs a consumer whose deliver policy is
        ``all`` or a start sequence.

        Raises:
            ConfigurationError: The server is older than 2.14.
        """
        # An older server would not respond at all, and neither would a newer one without this consumer.
        if found is None:
            found = await self.consumer_info(stream, consumer, timeout)
        level = found.config.get("metadata", {}).get("_nats.level", "0")
        if int(level) < _RESET_LEVEL:
            raise ConfigurationError(
                f"consumer {stream}/{consumer} cannot be reset: nats-server 2.14 or later is needed"
            )
        body = {"seq": sequence} if sequence else None
        info = await self._call(f"CONSUMER.RESET.{stream}.{consumer}", body, ResetInfo, timeout)
        # The response's own positions may be those from before the reset: for the ack floor, nats-server 2.15 reads them
        # from a file that it writes concurrently. `reset_seq` is right.
        position = SequencePair(0, max(info.reset_seq - 1, 0))
        return msgspec.structs.replace(info, delivered=position, ack_floor=position)

    async def _get(self, stream: str, body: dict[str, Any], timeout: float | None) -> StoredMessage | None:
        try:
            response = await self._ask(f"STREAM.MSG.GET.{stream}", body, MessageResponse, timeout)
        except ApiError as error:
            if error.err_code == ErrorCode.MESSAGE_NOT_FOUND:
                return None
            raise
        found = response.message
        if found is None:
            return None
        return StoredMessage(found.subject, found.seq, found.hdrs, found.data, found.time.timestamp())

    async def _ask(
        self, operation: str, body: Any, response_type: type[_ResponseT], timeout: float | None
    ) -> _ResponseT:
        """Call an operation that changes nothing, again and again while there is no answer.

        A stream or consumer that was created just now, or has lost its leader, answers nobody until it has one.
        """
        expires_at = self._loop.time() + (self.timeout if timeout is None else timeout)
        wait = _FIRST_WAIT
        while True:
            try:
                left = expires_at - self._loop.time()
                return await self._call(operation, body, response_type, min(wait, left))
            except ConnectionLost:
                raise  # It is a TimeoutError, too: nobody knows whether the request has arrived.
            except TimeoutError:
                if self._loop.time() >= expires_at:
                    raise
            wait *= 2

    async def _call(
        self, operation: str, body: Any, response_type: type[_ResponseT], timeout: float | None
    ) -> _ResponseT:
        timeout = self.timeout if timeout is None else timeout
        return await api.call(self.connection, operation, body, response_type, timeout)
