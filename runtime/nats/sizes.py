"""Tables of the sizes in the first line of a frame, in place of formatting and parsing a number for each message.

A query costs 3 to 6 % more instructions if ``%`` and `int` replace the tables (`bench instructions`). Most messages are
small, so the tables cover small sizes; other sizes are formatted or parsed when they occur.
"""

from typing import Final


class _ParsedSizes(dict[bytes, int]):
    def __missing__(self, word: bytes) -> int:
        if not word.isdigit():
            raise ValueError(word)
        return int(word)


HEADER_SIZES: Final = [b" %d" % size for size in range(512)]
"""The size of a header block below `len(HEADER_SIZES)`, with a leading space.

A list costs 250 instructions less a message than a dictionary that computes missing sizes by itself.
"""

MESSAGE_SIZES: Final = [b" %d\r\n" % size for size in range(4096)]
"""The size of a message below `len(MESSAGE_SIZES)`, with a leading space and the end of the line."""

PARSED_SIZES: Final = _ParsedSizes({b"%d" % size: size for size in range(2048)})
"""The number that a word of a frame's first line contains. Raises `ValueError` for any other word."""
