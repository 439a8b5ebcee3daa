"""JetStream by a few JSON calls: acknowledged publish, reads at the stream's leader, streams and consumers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from runtime.errors import ConfigurationError, PublishError
from runtime.nats.connection import Connection, NoResponders, NotConnected, Response
from runtime.nats.jetstream import reader
from runtime.nats.jetstream.acks import InProcess, decode_ack, no_stream
from runtime.nats.jetstream.configs import (
    AccountInfo,
    Ack,
    Answer,
    ApiError,
    ConsumerConfig,
    ConsumerInfo,
    Fault,
    ResetInfo,
    SequencePair,
    Stored,
    StreamConfig,
    StreamInfo,
    changed_consumer,
    widen_stream,
)

API: Final = "$JS.API."

_NO_MESSAGE: Final = 10037
_NO_SEQUENCE: Final = 10043
_STREAM_EXISTS: Final = 10058
_CONSUMER_EXISTS: Final = 10148

# The API level of nats-server 2.14, the first with CONSUMER.RESET (ADR-44).
_RESET_LEVEL: Final = 4

# The status by which a server says that nobody subscribes.
_NOBODY: Final = 503

_AnswerT = TypeVar("_AnswerT", bound=Answer)


# Seconds after which what is in process is asked for again.
_ASK_AGAIN: Final = 0.02


class _Message(msgspec.Struct):
    subject: str
    seq: int
    time: datetime
    hdrs: bytes | None = None
    data: bytes = b""


class _MessageAnswer(Answer):
    message: _Message | None = None


class _Deleted(Answer):
    success: bool = False


class _Names(Answer):
    total: int = 0
    streams: list[str] | None = None


class _Consumers(Answer):
    total: int = 0
    consumers: list[ConsumerInfo] | None = None


_encode = msgspec.json.Encoder().encode


class JetStream:
    """JetStream over one `Connection`, which the caller closes. `timeout` (seconds) is each call's default.

    Beside what they say, all calls raise `TimeoutError` where no answer came in time (whether it was done is unknown),
    `PublishError` where the request was not sent, and `ApiError` where JetStream refused it.
    """

    def __init__(self, connection: Connection, timeout: float = 5.0) -> None:
        self.connection = connection
        self.timeout = timeout
        self._loop = asyncio.get_running_loop()

    async def publish(
        self, subject: str | bytes, payload: bytes, *, headers: bytes | None = None, timeout: float | None = None
    ) -> Ack:
        """Store a message; return when the server has it, also where another with its id was quicker.

        Raises `WrongSequence`, `PublishError` with the server's reason (nothing was stored), or `TimeoutError` (it may
        have been stored).
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
                return decode_ack(await reply, subject)
            except NoResponders as error:
                raise no_stream(subject) from error
            except InProcess as error:
                # Several replicas: the first one with this id is not agreed on yet.
                if self._loop.time() + _ASK_AGAIN >= expires_at:
                    raise TimeoutError(str(error)) from error
            await asyncio.sleep(_ASK_AGAIN)

    def publish_told(
        self,
        subject: str,
        payload: bytes,
        headers: bytes | None,
        told: Callable[[int, Exception | None], None],
    ) -> None:
        """Send a message, and have `told` called with its sequence, or with 0 and the error that `publish` would raise.

        For the background of the hot path: no task, no future. Raises `PublishError` where it was not sent.
        """

        def answered(response: Response | None, error: Exception | None) -> None:
            sequence = 0
            if response is not None:
                try:
                    sequence = decode_ack(response, subject).sequence
                except PublishError as refused:
                    error = refused
            elif isinstance(error, NoResponders):
                error = no_stream(subject)
            told(sequence, error)

        self.connection.request_told(subject.encode(), payload, headers, self._loop.time() + self.timeout, answered)

    async def get_last(self, stream: str, subject: str, timeout: float | None = None) -> Stored | None:
        """Return the last message on `subject` (wildcards allowed), read at the stream's leader; None where none is."""
        return await self._get(stream, {"last_by_subj": subject}, timeout)

    async def get(self, stream: str, sequence: int, timeout: float | None = None) -> Stored | None:
        """Return the message at `sequence`, read at the stream's leader; None where it is not there."""
        return await self._get(stream, {"seq": sequence}, timeout)

    def read(
        self, stream: str, subject_filter: str, *, start_sequence: int = 1, last_per_subject: bool = False
    ) -> AsyncIterator[Stored]:
        """Iterate over the messages on `subject_filter` from `start_sequence` on, in the order of the stream.

        It ends at the last one that the leader had when it began. With `last_per_subject` only the newest of each
        subject is read. Memory is bounded however many there are. Raises `TimeoutError` where nothing comes for long.
        """
        return reader.read(self, stream, subject_filter, start_sequence, last_per_subject)

    async def account(self, timeout: float | None = None) -> AccountInfo:
        """Return what this account uses of JetStream and may use."""
        return await self._call("INFO", None, AccountInfo, timeout)

    async def stream_names(self, subject: str, timeout: float | None = None) -> list[str]:
        """Return the names of the streams with a subject that `subject` (wildcards allowed) overlaps, sorted."""
        found: list[str] = []
        while True:
            page = await self._call("STREAM.NAMES", {"subject": subject, "offset": len(found)}, _Names, timeout)
            found += page.streams or []
            if not page.streams or len(found) >= page.total:
                return sorted(found)

    async def stream_info(self, stream: str, timeout: float | None = None, *, subjects: str = "") -> StreamInfo:
        """Return a stream's configuration and state; with `subjects` (wildcards allowed) the messages of each of these."""
        body = {"subjects_filter": subjects} if subjects else None
        return await self._call(f"STREAM.INFO.{stream}", body, StreamInfo, timeout)

    async def delete_message(self, stream: str, sequence: int, timeout: float | None = None) -> bool:
        """Delete one message; return False where it is not there (any more)."""
        body = {"seq": sequence, "no_erase": True}
        try:
            await self._call(f"STREAM.MSG.DELETE.{stream}", body, _Deleted, timeout)
        except ApiError as error:
            # Beyond the stream's end; or within it, which has a code that it shares with other failures.
            if error.err_code == _NO_SEQUENCE or "no message found" in str(error):
                return False
            raise
        return True

    async def purge(self, stream: str, subject: str, last: int, timeout: float | None = None) -> None:
        """Delete all messages on `subject` up to the sequence `last`, for good.

        Unlike what a newer message on the subject has put out of the stream, they do not come back when that goes and the
        server is killed (2.15.1).
        """
        body = {"filter": subject, "seq": last + 1}
        await self._call(f"STREAM.PURGE.{stream}", body, _Deleted, timeout)

    def forget(self, stream: str, sequence: int) -> None:
        """Delete one message, without waiting for it. Raises `PublishError` where that was not sent."""
        self.connection.publish(f"{API}STREAM.MSG.DELETE.{stream}", _encode({"seq": sequence, "no_erase": True}))

    async def ensure_stream(self, config: StreamConfig, timeout: float | None = None) -> StreamInfo:
        """Create the stream, or widen the one that stands so that it covers `config`.

        Raises `StreamConflict` where it stands with a field that cannot be had by widening.
        """
        try:
            return await self._call(f"STREAM.CREATE.{config.name}", config, StreamInfo, timeout)
        except ApiError as error:
            if error.err_code != _STREAM_EXISTS:
                raise
        info = await self.stream_info(config.name, timeout)
        changed = widen_stream(config, info.config)
        if changed is None:
            return info
        return await self._call(f"STREAM.UPDATE.{config.name}", changed, StreamInfo, timeout)

    async def delete_stream(self, stream: str, timeout: float | None = None) -> None:
        """Delete a stream with all that it holds."""
        await self._call(f"STREAM.DELETE.{stream}", None, _Deleted, timeout)

    async def consumer_info(self, stream: str, consumer: str, timeout: float | None = None) -> ConsumerInfo:
        """Return a consumer's configuration and how far it is."""
        return await self._call(f"CONSUMER.INFO.{stream}.{consumer}", None, ConsumerInfo, timeout)

    async def consumers(self, stream: str, timeout: float | None = None) -> list[ConsumerInfo]:
        """Return all consumers of a stream."""
        found: list[ConsumerInfo] = []
        while True:
            page = await self._call(f"CONSUMER.LIST.{stream}", {"offset": len(found)}, _Consumers, timeout)
            found += page.consumers or []
            if not page.consumers or len(found) >= page.total:
                return found

    async def ensure_consumer(self, stream: str, config: ConsumerConfig, timeout: float | None = None) -> ConsumerInfo:
        """Create the durable consumer, or change the one that stands to `config`; its place in the stream is kept.

        Raises `StreamConflict` where it began elsewhere or acknowledges otherwise.
        """
        operation = f"CONSUMER.CREATE.{stream}.{config.durable}"
        body = {"stream_name": stream, "config": config, "action": "create"}
        try:
            return await self._call(operation, body, ConsumerInfo, timeout)
        except ApiError as error:
            if error.err_code != _CONSUMER_EXISTS:
                raise
        info = await self.consumer_info(stream, config.durable, timeout)
        changed = changed_consumer(config, info.config)
        if changed is None:
            return info
        body = {"stream_name": stream, "config": changed, "action": "update"}
        return await self._call(operation, body, ConsumerInfo, timeout)

    async def delete_consumer(self, stream: str, consumer: str, timeout: float | None = None) -> None:
        """Delete a consumer."""
        await self._call(f"CONSUMER.DELETE.{stream}.{consumer}", None, _Deleted, timeout)

    async def reset_consumer(
        self, stream: str, consumer: str, sequence: int = 0, timeout: float | None = None
    ) -> ConsumerInfo:
        """Let a consumer deliver again, in order, from `sequence` on, or from its ack floor (0).

        Nothing is pending then and delivery counts begin at one again; what was acknowledged above the floor comes
        again too. `sequence` needs a consumer that began with `all` or at a sequence. Source: ADR-60.

        Raises `ConfigurationError` where the server is older than 2.14.
        """
        # An older server, or one without this consumer, would not answer at all.
        info = await self.consumer_info(stream, consumer, timeout)
        level = info.config.get("metadata", {}).get("_nats.level", "0")
        if int(level) < _RESET_LEVEL:
            raise ConfigurationError(
                f"consumer {stream}/{consumer} cannot be reset: nats-server 2.14 or later is needed"
            )
        body = {"seq": sequence} if sequence else None
        info = await self._call(f"CONSUMER.RESET.{stream}.{consumer}", body, ResetInfo, timeout)
        # The answer's own figures may be those of before: nats-server 2.15 takes them, at floor 0, from a file to which it
        # writes beside that.
        place = SequencePair(0, max(info.reset_seq - 1, 0))
        return msgspec.structs.replace(info, delivered=place, ack_floor=place)

    async def _get(self, stream: str, body: dict[str, Any], timeout: float | None) -> Stored | None:
        try:
            answer = await self._call(f"STREAM.MSG.GET.{stream}", body, _MessageAnswer, timeout)
        except ApiError as error:
            if error.err_code == _NO_MESSAGE:
                return None
            raise
        found = answer.message
        if found is None:
            return None
        return Stored(found.subject, found.seq, found.hdrs, found.data, found.time.timestamp())

    async def _call(self, operation: str, body: Any, answer: type[_AnswerT], timeout: float | None) -> _AnswerT:
        payload = b"" if body is None else _encode(body)
        try:
            response = await self.connection.request(
                API + operation, payload, timeout=self.timeout if timeout is None else timeout
            )
        except NoResponders as error:
            raise ApiError(operation, Fault(_NOBODY, 0, "nobody answers: JetStream is not enabled there")) from error
        return _decode(response, operation, answer)


def _decode(response: Response, operation: str, answer: type[_AnswerT]) -> _AnswerT:
    try:
        found = msgspec.json.decode(response.payload, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(operation, Fault(500, 0, f"the answer cannot be read: {error}")) from error
    if found.error is not None:
        raise ApiError(operation, found.error)
    return found
