"""Sending descriptors to another process of this machine, receiving them, and looking at what they are."""

import contextlib
import errno
import json
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pconnect.link.local_link import CREDENTIALS


class NoRoomError(OSError):
    """Descriptors were cut off: there were more than expected, or this process has no room for them."""

    def __init__(self, message: bytes) -> None:
        super().__init__(errno.EMFILE, os.strerror(errno.EMFILE))
        self.message = message  #: what came with them


def receive_descriptors(sock: socket.socket, max_bytes: int, most: int) -> tuple[bytes, list[int]]:
    """Return a message and the descriptors that came with it; no message means that the other end is closed.

    Raises `BlockingIOError` if nothing is there. Raises `NoRoomError` if this process has no room for all of the
    descriptors, which the system says by cutting them off: none of them is open. What is sent without descriptors
    arrives in any case.
    """
    data, descriptors, flags, _ = socket.recv_fds(sock, max_bytes, most, socket.MSG_CMSG_CLOEXEC)
    if flags & socket.MSG_CTRUNC:
        for descriptor in descriptors:
            os.close(descriptor)
        raise NoRoomError(data)
    return data, descriptors


def receive_from(sock: socket.socket, max_bytes: int) -> tuple[bytes, int]:
    """Return a message on a socket with ``SO_PASSCRED``, and which process has sent it, as the system says.

    The number is 0 if the other end is closed. Raises `BlockingIOError` if nothing is there.
    """
    data, facts, _, _ = sock.recvmsg(max_bytes, socket.CMSG_SPACE(CREDENTIALS.size))
    for level, kind, content in facts:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return data, int(CREDENTIALS.unpack(content)[0])
    return data, 0


_Found = TypeVar("_Found")


class SpareDescriptor:
    """A descriptor for nothing, which is given up for what needs one while there is no room for more."""

    def __init__(self) -> None:
        self._descriptor: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def use(self, work: Callable[[], _Found]) -> _Found:
        """Return what `work` returns; if it has no room for a descriptor, it is called again with more."""
        try:
            return work()
        except OSError as error:
            if self._descriptor is None or error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            self.close()
            try:
                return work()
            finally:
                # If another thread has taken the place, there is no spare one any longer.
                with contextlib.suppress(OSError):
                    self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close it for good."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class _Unsent(NamedTuple):
    data: bytes
    ends: Sequence[int]  # our own copies
    topic: str


class Outbox:
    """Messages to another process that does not take them at once, in their order, with copies of descriptors."""

    def __init__(self) -> None:
        self._unsent: deque[_Unsent] = deque()

    def __len__(self) -> int:
        return len(self._unsent)

    def post(
        self, sock: socket.socket | None, data: bytes, ends: Sequence[int] = (), *, topic: str = ""
    ) -> OSError | None:
        """Send a message after all others, or keep it for `send`; return what kept us from sending all, if so.

        It takes the place of what is unsent on the same topic, if it has one. `sock`: ``None`` if nobody is there. The
        descriptors stay the caller's. Raises `OSError` if there is no room for copies of them; nothing is kept.
        """
        for unsent in [unsent for unsent in self._unsent if topic and unsent.topic == topic]:
            self._unsent.remove(unsent)
            close_descriptors(unsent.ends)
        met: OSError | None = ConnectionError("nobody is there") if sock is None else self.send(sock)
        if sock is not None and met is None:
            try:
                socket.send_fds(sock, [data], ends)
            except OSError as error:
                met = error
        if met is not None:
            self._unsent.append(_Unsent(data, _copies(ends), topic))
        return met

    def send(self, sock: socket.socket) -> OSError | None:
        """Send what the other side takes; return what kept us from sending all, if so."""
        while self._unsent:
            data, ends, _ = self._unsent[0]
            try:
                socket.send_fds(sock, [data], ends)
            except OSError as error:
                return error
            close_descriptors(self._unsent.popleft().ends)
        return None

    def clear(self) -> None:
        """Forget all."""
        while self._unsent:
            close_descriptors(self._unsent.popleft().ends)


def _copies(ends: Sequence[int]) -> Sequence[int]:
    with contextlib.ExitStack() as stack:
        copies = []
        for end in ends:
            copies.append(os.dup(end))
            stack.callback(os.close, copies[-1])
        stack.pop_all()
    return copies


def close_descriptors(ends: Sequence[int]) -> None:
    """Close them all."""
    for end in ends:
        os.close(end)


def json_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that another process has sent; an empty one if there is none."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def is_process(descriptor: int) -> bool:
    """Tell whether a descriptor stands for a process: others could be made readable by whoever sent them."""
    try:
        signal.pidfd_send_signal(descriptor, 0)
    except (ProcessLookupError, PermissionError):  # it has ended already, or has become another user's
        return True
    except OSError:
        return False
    return True


def stands_for(descriptor: int, pid: int) -> bool:
    """Tell whether a descriptor stands for the process of this number, or for one that has ended already.

    It does not if that cannot be seen, because this process has no room for one more descriptor.
    """
    try:
        facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    except OSError:
        return False
    return not {f"Pid:\t{pid}", "Pid:\t-1"}.isdisjoint(facts)  # pidfd_open(2)


def takes_messages(descriptor: int) -> bool:
    """Tell whether a descriptor is a Unix socket that keeps messages apart, with room for descriptors in them."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return False
    kind = (sock.family, sock.type)
    sock.detach()
    return kind == (socket.AF_UNIX, socket.SOCK_SEQPACKET)
