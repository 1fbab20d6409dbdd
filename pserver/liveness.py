"""Whether the client's machine still answers, also while the client reads nothing.

The system's own limit for unanswered data (``TCP_USER_TIMEOUT``, tcp(7)) makes no difference between a machine that is
gone and one whose program has not read for so long that no more fits: it breaks the connection in both cases. But a
client may compute for hours while its engines print. So for a command channel that limit is not set at this end, and
what the system has sent in vain is looked at here. (An idle machine that is gone is found by TCP's keep-alive.)
"""

import math
import os
import socket
import time

# Offsets in struct tcp_info of linux/tcp.h: how often data, and how often a question for room, was repeated since the
# last answer. The system may let the first such question of an idle program go unanswered.
_RETRANSMITS, _PROBES = 2, 3
_IN_VAIN = 2
_LOOKS = 6  # within the time that a machine may be silent


class Liveness:
    """The answers of the machine at the other end of a connection.

    Parameters
    ----------
    descriptor
        A TCP socket, which stays open as long as this is used.
    peer_timeout
        Seconds after which a machine that does not answer counts as gone.
    """

    def __init__(self, descriptor: int, peer_timeout: float) -> None:
        self._sock = socket.socket(fileno=os.dup(descriptor))
        self._timeout = peer_timeout
        self._silent_since = math.inf

    @property
    def is_gone(self) -> bool:
        """Whether it has not answered for so long; to be asked more often than that."""
        state = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
        if max(state[_RETRANSMITS], state[_PROBES]) < _IN_VAIN:
            self._silent_since = math.inf
            return False
        self._silent_since = min(self._silent_since, time.monotonic())
        return time.monotonic() - self._silent_since >= self._timeout

    @property
    def next_look(self) -> float:
        """In how many seconds to ask again."""
        return self._timeout / _LOOKS

    def close(self) -> None:
        """Let the socket go."""
        self._sock.close()
