"""Detect machines that no longer answer, even while their programs are not reading.

The system's own limit for unanswered data (``TCP_USER_TIMEOUT``, tcp(7)) does not distinguish a machine that is gone
from one whose receive window is full because its program is not reading: it breaks the connection in both cases. But an
engine may compute for hours while a value waits to be sent to it, and so may a client while its engines print. So that
limit is not set; this module counts unanswered retransmits instead. (TCP keep-alive detects the loss of an idle
machine.)
"""

import time
from collections.abc import Iterable
from typing import Protocol, TypeVar

# Number of unanswered retransmits or window probes that count as silence. The system may let the first probe to an idle
# program go unanswered.
_TOO_MANY = 2
_LOOK_EVERY = 1.0  # seconds


class Link(Protocol):
    """A connection, as far as `Liveness` needs it."""

    @property
    def unanswered_retransmits(self) -> int:
        """Number of retransmits since the last answer."""

    @property
    def peer_timeout(self) -> float:
        """Seconds without an answer after which a machine counts as gone."""


L = TypeVar("L", bound=Link)


class Liveness:
    """Tracks the answers of all machines to which one loop is connected."""

    def __init__(self) -> None:
        self.next_look = 0.0  #: the instant of the next check in `gone`
        self._silent_since: dict[Link, float] = {}

    def gone(self, links: Iterable[L]) -> list[L]:
        """Return the links whose machines have been silent for too long. Does nothing before `next_look`."""
        now = time.monotonic()
        if now < self.next_look:
            return []
        self.next_look = now + _LOOK_EVERY
        silent = [link for link in links if link.unanswered_retransmits >= _TOO_MANY]
        self._silent_since = {link: self._silent_since.get(link, now) for link in silent}
        return [link for link in silent if now - self._silent_since[link] >= link.peer_timeout]
