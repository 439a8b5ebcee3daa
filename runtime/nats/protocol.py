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
        find, receivers, last = data.find, self._receivers, end - 2
        while at < end:
            eol = find(b"\r\n", at)
            if eol < 0:
                return at
            words = data[at:eol].split()
            start = eol + 2
            try:
                receiver = receivers[words[2]]
                stop = start + int(words[-1])
                if words[0] == b"MSG":
                    body, headers, bare = start, None, 4
                elif words[0] == b"HMSG":
                    body, bare = start + int(words[-2]), 5
                    headers = data[start:body]
                else:
                    return at
            except (LookupError, ValueError):
                return at
            if not start <= body <= stop <= last:
                return at
            count = len(words)
            if count == bare + 1:
                reply = words[3]
            elif count == bare:
                reply = b""
            else:
                return at
            at = stop + 2
            try:
                receiver(words[1], reply, headers, data[body:stop])
            except Exception as error:  # noqa: BLE001 - a receiver is a handler
                report(words[1], error)
        return at


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
