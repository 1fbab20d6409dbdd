"""Pass descriptors between processes of this machine, and inspect them."""

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
    """Descriptors were lost: more arrived than expected, or this process has no room for them."""

    def __init__(self, message: bytes) -> None:
        super().__init__(errno.EMFILE, os.strerror(errno.EMFILE))
        self.message = message  #: the message that they belonged to


def receive_descriptors(sock: socket.socket, max_bytes: int, most: int) -> tuple[bytes, list[int]]:
    """Return a message and its descriptors; an empty message means that the other end is closed.

    Raises `BlockingIOError` if no message is waiting. Raises `NoRoomError` if this process has no room for all of the
    descriptors, which the system reports by truncating them; none of them is open then. Messages without descriptors
    are not affected.
    """
    data, descriptors, flags, _ = socket.recv_fds(sock, max_bytes, most, socket.MSG_CMSG_CLOEXEC)
    if flags & socket.MSG_CTRUNC:
        for descriptor in descriptors:
            os.close(descriptor)
        raise NoRoomError(data)
    return data, descriptors


def receive_from(sock: socket.socket, max_bytes: int) -> tuple[bytes, int]:
    """Return a message on a socket with ``SO_PASSCRED``, and the sender's process id as reported by the system.

    The process id is 0 if the other end is closed. Raises `BlockingIOError` if no message is waiting.
    """
    data, facts, _, _ = sock.recvmsg(max_bytes, socket.CMSG_SPACE(CREDENTIALS.size))
    for level, kind, content in facts:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return data, int(CREDENTIALS.unpack(content)[0])
    return data, 0


_Found = TypeVar("_Found")


class SpareDescriptor:
    """A reserve descriptor, released for an important operation when this process has no room for another one."""

    def __init__(self) -> None:
        self._descriptor: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def use(self, work: Callable[[], _Found]) -> _Found:
        """Return the result of `work`; if it runs out of descriptors, call it again with the reserve released."""
        try:
            return work()
        except OSError as error:
            if self._descriptor is None or error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            self.close()
            try:
                return work()
            finally:
                # If another thread has taken the free descriptor, there is no reserve any longer.
                with contextlib.suppress(OSError):
                    self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Release the reserve for good."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class _Unsent(NamedTuple):
    data: bytes
    ends: Sequence[int]  # this process's own copies
    topic: str


class Outbox:
    """A queue of messages to another process that does not always read, in order, with copies of their descriptors."""

    def __init__(self) -> None:
        self._unsent: deque[_Unsent] = deque()

    def __len__(self) -> int:
        return len(self._unsent)

    def post(
        self, sock: socket.socket | None, data: bytes, ends: Sequence[int] = (), *, topic: str = ""
    ) -> OSError | None:
        """Send a message after all earlier ones, or keep it for `send`; return the error that prevented sending.

        With a topic, it replaces an unsent message on the same topic. `sock`: ``None`` if there is no receiver. The
        caller keeps its descriptors. Raises `OSError` if there is no room for copies of them; then nothing is kept.
        """
        for unsent in [unsent for unsent in self._unsent if topic and unsent.topic == topic]:
            self._unsent.remove(unsent)
            close_descriptors(unsent.ends)
        met: OSError | None = ConnectionError("there is no receiver") if sock is None else self.send(sock)
        if sock is not None and met is None:
            try:
                socket.send_fds(sock, [data], ends)
            except OSError as error:
                met = error
        if met is not None:
            self._unsent.append(_Unsent(data, _copies(ends), topic))
        return met

    def send(self, sock: socket.socket) -> OSError | None:
        """Send as many messages as the receiver accepts; return the error that prevented sending the rest, if any."""
        while self._unsent:
            data, ends, _ = self._unsent[0]
            try:
                socket.send_fds(sock, [data], ends)
            except OSError as error:
                return error
            close_descriptors(self._unsent.popleft().ends)
        return None

    def clear(self) -> None:
        """Discard all unsent messages."""
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
    """Close all of these descriptors."""
    for end in ends:
        os.close(end)


def json_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in a message from another process; an empty one if there is none."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def is_process(descriptor: int) -> bool:
    """Whether a descriptor is a pidfd: the sender could make descriptors of other kinds readable at will."""
    try:
        signal.pidfd_send_signal(descriptor, 0)
    except (ProcessLookupError, PermissionError):  # it has exited, or now belongs to another user
        return True
    except OSError:
        return False
    return True


def stands_for(descriptor: int, pid: int) -> bool:
    """Whether a descriptor is a pidfd of this process id, or of a process that has already exited.

    Returns false if this process has no descriptor left to check it.
    """
    try:
        facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    except OSError:
        return False
    return not {f"Pid:\t{pid}", "Pid:\t-1"}.isdisjoint(facts)  # pidfd_open(2)


def takes_messages(descriptor: int) -> bool:
    """Whether a descriptor is a Unix socket that preserves message boundaries and has room for descriptors."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return False
    kind = (sock.family, sock.type)
    sock.detach()
    return kind == (socket.AF_UNIX, socket.SOCK_SEQPACKET)
