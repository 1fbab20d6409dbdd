"""Whether the machines at the other ends still answer, also while their programs read nothing.

The system's own limit for unanswered data (``TCP_USER_TIMEOUT``, tcp(7)) makes no difference between a machine that is
gone and one whose program has not read for so long that no more fits: it breaks the connection in both cases. But an
engine may compute for hours while a value waits to be sent to it, and a client while its engines print. So that limit
is not set; this module looks at retransmits without an answer instead. (TCP's keep-alive finds an idle machine that is
gone.)
"""

import time
from collections.abc import Iterable
from typing import Protocol, TypeVar

# How often data, or a question for room, has to be repeated without an answer to count: the system may let the first
# such question of an idle program go unanswered.
_TOO_MANY = 2
_LOOK_EVERY = 1.0  # seconds


class Link(Protocol):
    """What `Liveness` looks at."""

    @property
    def unanswered_retransmits(self) -> int:
        """How often the system has repeated something without an answer."""

    @property
    def peer_timeout(self) -> float:
        """Seconds after which a machine that does not answer counts as gone."""


L = TypeVar("L", bound=Link)


class Liveness:
    """The answers of the machines that one loop is connected with."""

    def __init__(self) -> None:
        self.next_look = 0.0  #: the instant when `gone` has to look again
        self._silent_since: dict[Link, float] = {}

    def gone(self, links: Iterable[L]) -> list[L]:
        """Return the links whose machines have not answered for as long as they may, if it is time to look."""
        now = time.monotonic()
        if now < self.next_look:
            return []
        self.next_look = now + _LOOK_EVERY
        silent = [link for link in links if link.unanswered_retransmits >= _TOO_MANY]
        self._silent_since = {link: self._silent_since.get(link, now) for link in silent}
        return [link for link in silent if now - self._silent_since[link] >= link.peer_timeout]
