"""How a node reconnects to a daemon: a daemon that was killed and started again adopts the living sessions.

The daemon of a server name always listens on the same path. There, the node repeats the facts that it had sent to the
old daemon, and passes the same sockets. The session keeps copies of these sockets, so clients and engines do not notice
that the daemon was gone.
"""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from pconnect.errors import AuthenticationError
from pconnect.link.local_link import connect


class WayBack:
    """The description of a node for a daemon that does not know it.

    `path`: of the daemon's socket. `facts`: a mapping that JSON can express. `handovers`: the sockets on which the
    daemon passes connections on; the caller still owns them.
    """

    def __init__(self, path: Path, facts: Mapping[str, object], handovers: Sequence[socket.socket]) -> None:
        self._path = path
        self._facts = facts
        self._handovers = handovers

    def dial(self, *, is_detached: bool) -> socket.socket | None:
        """Return a control socket to the daemon; ``None`` if no daemon accepts the node."""
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
