"""How a node finds a daemon again: one that was killed and started anew adopts the sessions that live.

The daemon of a name always listens at the same path. There the node says what it had told the old daemon, and hands
over the same ends. Its session keeps copies of all of them, so nobody else has seen that a daemon was gone.
"""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from pconnect.errors import AuthenticationError
from pconnect.link.local_link import connect


class WayBack:
    """What a node says of itself to a daemon that does not know it.

    `path`: where the daemon listens. `facts`: what JSON can express. `handovers`: where the daemon passes connections
    on; they stay the caller's.
    """

    def __init__(self, path: Path, facts: Mapping[str, object], handovers: Sequence[socket.socket]) -> None:
        self._path = path
        self._facts = facts
        self._handovers = handovers

    def dial(self, *, is_detached: bool) -> socket.socket | None:
        """Return a control socket to the daemon, ``None`` if there is none that takes us."""
        try:
            sock = connect(self._path, socket.SOCK_SEQPACKET)
        except (OSError, AuthenticationError):
            return None
        words = {"back": {**self._facts, "pid": os.getpid(), "detached": is_detached}}
        own = -1
        try:
            own = os.pidfd_open(os.getpid())
            ends = [own, *(end.fileno() for end in self._handovers)]
            socket.send_fds(sock, [json.dumps(words).encode()], ends)
        except OSError:
            sock.close()
            return None
        finally:
            if own >= 0:
                os.close(own)
        return sock
