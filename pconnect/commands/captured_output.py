"""What one command printed on one stream: the last of it, and how much is missing."""

from collections.abc import Callable

from pconnect.commands.print_filter import without_colours

#: Of each stream of each command.
KEPT_BYTES = 2**20

DROPPED = "{} bytes of output were dropped: this client took nothing for a second"
_LAST_LINES = 10
_CUT = "{} bytes before the last {} were cut off"


class CapturedOutput:
    """The end of what was printed.

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
        """Take what was printed next, and how many bytes were dropped before it."""
        self._dropped += dropped
        self._kept += data
        if len(self._kept) > self._limit:
            excess = len(self._kept) - self._limit
            del self._kept[:excess]
            self._cut += excess

    def text(self) -> str:
        """Return the text; what is missing of it is said in a line at its beginning.

        Bytes that are no UTF-8 are U+FFFD, as is half a character where bytes are missing.
        """
        words = [DROPPED.format(self._dropped)] if self._dropped else []
        start = 0
        if self._cut:
            start = _first(self._kept, lambda byte: byte & 0xC0 != 0x80)
            words.insert(0, _CUT.format(self._cut + start, len(self._kept) - start))
        notice = f"({'; '.join(words)})\n" if words else ""
        return notice + self._kept[start:].decode("utf-8", "replace")


def with_last_words(account: str, printed: str) -> str:
    """Return an account of how a process ended, and under it the last lines that it had printed, if there are any."""
    lines = without_colours(printed).splitlines()[-_LAST_LINES:]
    return "\n".join([f"{account}; the last it printed:", *lines]) if lines else account


def _first(data: bytearray, holds: Callable[[int], bool]) -> int:
    """Return where the first whole character begins: after at most three bytes of another."""
    return next((place for place, byte in enumerate(data[:4]) if holds(byte)), 0)
