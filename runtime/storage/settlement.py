"""Settling: whether a record is stored whose publish has ended without an acknowledgement."""

import asyncio

from runtime.errors import ActorError, PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import STORAGE_CODES, ApiError, ErrorCode, NotJetStream, WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.draft import Draft, RecordTooLarge
from runtime.storage.fence import Fence
from runtime.storage.record import Unreadable, decode_record

_VERIFY_PAUSES = (0.0, 0.1, 0.5, 1.0)
"""Seconds before each attempt to read the newest record after a commit without a clear answer."""


class Conflict(ActorError):
    """Another writer has committed to this key. Forget the key, load it, and run the turns again.

    Args:
        text: The reason.
        refused: Whether the stream has refused the commit. Otherwise it got no answer, and may be stored later.
    """

    def __init__(self, text: str, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


class NotStored(ActorError):
    """The commit is certainly not stored: the server refused it, or could not be reached."""


class Unsettled(ActorError):
    """Whether the commit is stored is unknown: the stream does not answer."""


class Settlement:
    """Settles the records of one actor type, and tells the fence what may be stored later.

    Args:
        jetstream: The client.
        stream: The turns stream.
        fence: The fence.
    """

    def __init__(self, jetstream: JetStream, stream: str, fence: Fence) -> None:
        self._jetstream = jetstream
        self._stream = stream
        self._fence = fence

    async def settle(self, draft: Draft, error: Exception, verify: bool = True) -> int:
        """Return the sequence of a record that is stored, though its publish has ended with `error`.

        Args:
            draft: The record.
            error: The error.
            verify: Find out by a read whether the record is stored if there is no clear answer.

        Raises:
            Conflict: Another writer has committed to the key.
            RecordTooLarge: The record does not fit one message.
            NotStored: The record is certainly not stored.
            Unsettled: The record may or may not be stored.
        """
        subject, commit_id, token, fence = draft.subject, draft.commit_id, draft.key.token, self._fence
        try:
            raise error
        except WrongSequence:
            fence.sending.discard(token)
            if not verify:
                raise Conflict(f"{subject}: another writer has committed", refused=True) from None
            return await self._find_stored(subject, commit_id, refused=True)
        except (TimeoutError, NotJetStream) as error:
            fence.suspect(token)
            if not verify:
                raise Unsettled(f"{subject}: the stream did not answer") from error
            return await self._find_stored(subject, commit_id)
        except PublishError as error:
            fence.sending.discard(token)
            size = len(draft.headers)
            if error.err_code == ErrorCode.MESSAGE_TOO_LARGE:
                raise RecordTooLarge(subject, len(draft.payload), await self._stream_limit(size)) from error
            if error.err_code in STORAGE_CODES and await self._is_replicated():
                fence.suspect(token)
                raise Unsettled(f"{subject}: the leader of the stream did not store the record: {error}") from error
            raise NotStored(str(error)) from error

    async def _is_replicated(self) -> bool:
        """Return whether a record that the leader has failed to store may be in another replica, the leader of later."""
        try:
            info = await self._jetstream.stream_info(self._stream)
        except (ApiError, PublishError, TimeoutError):
            return True
        return int(info.config.get("num_replicas", 1)) > 1

    async def _stream_limit(self, headers: int) -> int:
        """Return the most bytes of a record that the stream takes, if somebody has given it a limit of its own."""
        try:
            info = await self._jetstream.stream_info(self._stream)
        except (ApiError, PublishError, TimeoutError) as error:
            raise NotStored(f"stream {self._stream} refuses a record for its size") from error
        return max(int(info.config.get("max_msg_size", 0)) - headers, 0)

    async def _find_stored(self, subject: str, commit_id: str, refused: bool = False) -> int:
        """Return the sequence of a record that was sent without a clear answer, or `refused`, if it is the newest one.

        A commit that timed out may have been stored; in one measurement 18 of 112 were. Sending it again would not tell:
        the stream checks the expected sequence before it looks for a duplicate message id, so it would refuse the
        repetition in either case. So nothing is sent again. The newest record is read from the leader of the stream, and
        its `commit_id` decides: with ours, the commit is done, and with another one, it is lost. A refused commit is
        verified in the same way; that costs one read, and only if two owners race.

        Raises:
            Conflict: The newest record is that of another writer.
            Unsettled: The stream cannot be read.
        """
        for pause in _VERIFY_PAUSES:
            await asyncio.sleep(pause)
            try:
                stored = await self._jetstream.get_last(self._stream, subject)
            except (TimeoutError, PublishError, ApiError):
                continue
            if stored is not None and _is_same(stored, commit_id):
                return stored.sequence
            raise Conflict(f"{subject}: another writer has committed", refused)
        raise Unsettled(f"{subject}: it is not known whether the commit is stored")


def _is_same(stored: StoredMessage, commit_id: str) -> bool:
    """Return whether a stored message is the record with `commit_id`."""
    try:
        return decode_record(stored.payload, stored.subject).commit_id == commit_id
    except Unreadable:
        return False  # this process has not written it
