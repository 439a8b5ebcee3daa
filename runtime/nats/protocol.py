"""The server's byte stream cut into frames: ours go to their receivers, all others come out whole.

The grammar is NATS's client protocol: ``MSG subject sid [reply] size`` and ``HMSG subject sid [reply] header_size size``,
each followed by that many bytes and a line end; everything else is one line.
"""

from collections.abc import Iterator

from nats.errors import ProtocolError

from runtime.nats.receive import Receiver, report

# An INFO of a large cluster is a few kilobytes; the server's own limit for a message is 64 MiB.
MAX_LINE = 1024 * 1024
MAX_FRAME = 128 * 1024 * 1024


class FrameScanner:
    """Cuts one connection's stream; `receivers` (by subscription id) belongs to the caller, who may change it any time."""

    def __init__(self, receivers: dict[bytes, Receiver]) -> None:
        self._receivers = receivers
        self._held: list[bytes] = []
        self._missing = 0

    def reset(self) -> None:
        """Forget the frame that was begun: a new stream begins."""
        self._held.clear()
        self._missing = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what was read; call the receivers, and yield every whole frame that belongs to none, all in order.

        The tail of an unfinished frame is kept for the next call. Raises `ProtocolError` where a frame has no end within
        the limits. What a receiver raises is logged.
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
        """Deliver the whole frames of ours from `at` on; return where the first other or unfinished one begins."""
        find, receivers, sizes, last = data.find, self._receivers, _SIZES, end - 2
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
            except Exception as error:  # noqa: BLE001 - a receiver is a handler
                report(subject, error)
        return at


class _Sizes(dict[bytes, int]):
    """The numbers in frames: most are small, and a look-up costs a quarter of reading them."""

    def __missing__(self, word: bytes) -> int:
        if not word.isdigit():
            raise ValueError(word)
        return int(word)


_SIZES = _Sizes({b"%d" % size: size for size in range(2048)})


def _end_of_frame(data: bytes, at: int) -> int:
    """Return where the frame at `at` ends (maybe beyond the data), or -1 where its first line is not all here."""
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
