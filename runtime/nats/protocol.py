"""The frame scanner: cuts the server's byte stream into frames, delivers ours, and yields all others whole.

The grammar is NATS's client protocol: ``MSG subject sid [reply] size`` and ``HMSG subject sid [reply] header_size size``,
each followed by that many bytes and a line end. Every other frame is one line.
"""

from collections.abc import Iterator

from nats.errors import ProtocolError

from runtime.nats.receive import Receiver, log_exception
from runtime.nats.sizes import PARSED_SIZES

MAX_LINE = 1024 * 1024
"""The upper limit for the bytes of one line. The INFO of a large cluster has a few kilobytes."""
MAX_FRAME = 128 * 1024 * 1024
"""The upper limit for the bytes of one frame. The server's own limit for a message is 64 MiB."""


class FrameScanner:
    """Scans the stream of one connection.

    Args:
        receivers: The receivers by subscription id. The caller owns the dictionary and may change it at any time.
    """

    def __init__(self, receivers: dict[bytes, Receiver]) -> None:
        self._receivers = receivers
        self._held: list[bytes] = []
        self._missing = 0

    def reset(self) -> None:
        """Discard an unfinished frame, because a new stream begins."""
        self._held.clear()
        self._missing = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Scan the bytes of one read: call the receivers, and yield every whole frame without a receiver, in order.

        An unfinished frame at the end is kept for the next call. Exceptions of receivers are logged.

        Raises:
            ProtocolError: A frame exceeds the limits without an end.
        """
        if self._held:
            self._held.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._held)
            self._held.clear()
        end = len(data)
        at = self._scan(data, 0, end)
        while at < end:
            stop = _end_of_frame(data, at)
            if stop > end or stop < 0:
                self._held.append(data[at:])
                self._missing = max(stop - end, 1)
                return
            yield data[at:stop]
            at = self._scan(data, stop, end)

    def _scan(self, data: bytes, at: int, end: int) -> int:
        """Deliver our whole frames from `at` on; return the start of the first foreign or unfinished frame."""
        find, receivers, sizes, last = data.find, self._receivers, PARSED_SIZES, end - 2
        while at < end:
            eol = find(b"\r\n", at)
            if eol < 0:
                return at
            words = data[at:eol].split(b" ")
            count, start, headers = len(words), eol + 2, None
            try:
                if count == 6:
                    verb, subject, sid, reply, head, size = words
                    if verb != b"HMSG":
                        return at
                elif count == 4:
                    verb, subject, sid, size = words
                    reply = head = b""
                    if verb != b"MSG":
                        return at
                else:
                    verb, subject, sid, reply, size = words
                    head = b""
                    if verb == b"HMSG":
                        reply, head = b"", reply
                    elif verb != b"MSG":
                        return at
                receiver = receivers[sid]
                stop = start + sizes[size]
                if head:
                    body = start + sizes[head]
                    headers = data[start:body]
                    start = body
            except (LookupError, ValueError):
                return at
            if not start <= stop <= last:
                return at
            at = stop + 2
            try:
                receiver(subject, reply, headers, data[start:stop])
            except BaseException as error:  # noqa: BLE001 - a receiver runs application code
                log_exception(subject, error)
        return at


def _end_of_frame(data: bytes, at: int) -> int:
    """Return the end of the frame at `at` (it may be beyond the data), or -1 if its first line is incomplete."""
    eol = data.find(b"\r\n", at)
    if eol < 0:
        if len(data) - at > MAX_LINE:
            raise ProtocolError
        return -1
    words = data[at:eol].split()
    if len(words) < 4 or words[0] not in (b"MSG", b"HMSG") or not words[-1].isdigit():
        return eol + 2
    size = int(words[-1])
    if size > MAX_FRAME:
        raise ProtocolError
    return eol + 2 + size + 2
