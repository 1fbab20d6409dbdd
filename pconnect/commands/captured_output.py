"""Bounded capture of a command's output on one stream: keeps the end, and counts missing bytes."""

from collections.abc import Callable

from pconnect.commands.print_filter import without_colours

#: Limit for each stream of each command.
KEPT_BYTES = 2**20

DROPPED = "{} bytes of output were dropped: this client read nothing for a second"
_LAST_LINES = 10
_CUT = "{} bytes before the last {} were cut off"


class CapturedOutput:
    """The end of a stream's output.

    Examples
    --------
    >>> captured = CapturedOutput(limit=4)
    >>> captured.add(b"abcdef", dropped=0)
    >>> print(captured.text())
    (2 bytes before the last 4 were cut off)
    cdef
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._cut = 0
        self._dropped = 0

    def add(self, data: bytes, dropped: int) -> None:
        """Add the next output, and the number of bytes that were dropped before it."""
        self._dropped += dropped
        self._kept += data
        if len(self._kept) > self._limit:
            excess = len(self._kept) - self._limit
            del self._kept[:excess]
            self._cut += excess

    def text(self) -> str:
        """Return the text; if a part is missing, the first line says how much.

        Bytes that are not valid UTF-8 become U+FFFD, as does a character whose other bytes are missing.
        """
        words = [DROPPED.format(self._dropped)] if self._dropped else []
        start = 0
        if self._cut:
            start = _first(self._kept, lambda byte: byte & 0xC0 != 0x80)
            words.insert(0, _CUT.format(self._cut + start, len(self._kept) - start))
        notice = f"({'; '.join(words)})\n" if words else ""
        return notice + self._kept[start:].decode("utf-8", "replace")


def with_last_words(account: str, printed: str) -> str:
    """Return a report of how a process ended, followed by the last lines of its output, if there are any."""
    lines = without_colours(printed).splitlines()[-_LAST_LINES:]
    return "\n".join([f"{account}; its last output:", *lines]) if lines else account


def _first(data: bytearray, holds: Callable[[int], bool]) -> int:
    """Return the position of the first whole character: after at most three bytes of another one."""
    return next((place for place, byte in enumerate(data[:4]) if holds(byte)), 0)
