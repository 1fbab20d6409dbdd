"""Sessions that have lost their daemon come back here: a socket in the run-time folder, for this account alone.

Its path is made of the server's name, so a daemon takes back the sessions of that name and no others. A session says
first what it is, with descriptors: its process, and where connections are passed on.
"""

import contextlib
import json
import logging
import math
import os
import selectors
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from pconnect.errors import AuthenticationError
from pconnect.link.local_link import check_account, listen
from pserver.daemon.session_registry import Returned
from pserver.system.descriptors import is_process, takes_messages

log = logging.getLogger("pserver")

_MESSAGE_BYTES = 4096
_ENDS = 4  # a descriptor of the process, and three of where connections are passed on


class ReturningSessions:
    """The socket at which sessions come back.

    `selector`: the daemon's; each entry's data is a function to call. `take_back`: takes over a control socket, what
    its node has said, and the descriptors, the process's first.
    """

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        take_back: Callable[[socket.socket, Returned, int, Sequence[int]], object],
    ) -> None:
        self._selector = selector
        self._take_back = take_back
        self._path = path
        self._listener: socket.socket | None = None
        try:
            self._listener = listen(path, socket.SOCK_SEQPACKET)
        except (OSError, AuthenticationError) as error:
            log.warning(
                "if this server is killed, its sessions are lost: cannot listen at %s: %s", path, error
            )
            return
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Take no more sessions back."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - it is watched
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                log.warning("a session cannot come back: %s", error)
            return
        try:
            check_account(sock)
        except AuthenticationError as error:
            log.warning("a session cannot come back: %s", error)
            sock.close()
            return
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._hear(sock))

    def _hear(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        try:
            data, ends, _, _ = socket.recv_fds(sock, _MESSAGE_BYTES, _ENDS, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, ends = b"", []
        facts = _read(data, sock)
        if facts is None or not _are_right(ends):
            log.warning(
                "a session cannot come back: its words or descriptors make no sense, or there is no room for these"
            )
            for end in ends:
                os.close(end)
            sock.close()
            return
        self._take_back(sock, facts, ends[0], ends[1:])


def _read(data: bytes, sock: socket.socket) -> Returned | None:
    """Return what a node says of itself, ``None`` if it makes no sense or is another process."""
    try:
        words = json.loads(data)["back"]
        facts = Returned(
            pid=int(words["pid"]),
            user=str(words["user"]),
            network=str(words["network"]),
            key=bytes.fromhex(words["key"]),
            node=int(words["node"]),
            peer=str(words["peer"]),
            since=float(words["since"]),
            folder=str(words["folder"]),
            mark=int(words["mark"]),
            is_detached=words["detached"] is True,
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    credentials = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    is_right = credentials[0] == facts.pid and facts.node > 0 and math.isfinite(facts.since)
    return facts if is_right else None


def _are_right(ends: Sequence[int]) -> bool:
    return len(ends) == _ENDS and is_process(ends[0]) and all(map(takes_messages, ends[1:]))
