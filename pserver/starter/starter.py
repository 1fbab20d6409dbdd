"""The starter as the daemon holds it: the process that forks sessions, see `pserver.starter.starter_process`.

The daemon never waits for it. What it has no room for is kept and sent later. When it dies, another one takes its
place at once, or after a pause that grows if they die again and again. Nothing is concluded about sessions from that.
"""

import contextlib
import json
import logging
import math
import os
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

log = logging.getLogger("pserver")

_MESSAGE_BYTES = 4096
_STABLE_SECONDS = 10.0  # a starter that lived so long has not died "again"
_PAUSES = (0.0, 0.1, 0.5, 2.0, 10.0)  # seconds before another one, by how many have died soon
_RETRY_SECONDS = 0.05  # until what the socket has no room for is tried again
_END_SECONDS = 2.0  # for the process to end

_CODE = "from pserver.starter.starter_process import main; main()"


class StarterProcess:
    """A process that has been started, and `sock`, the daemon's end of its socket.

    It loads numpy and tlslite in a third of a second, for which nobody waits. `descriptor_limit`: how many descriptors
    its processes may have. Raises `OSError` if the system allows no more.
    """

    def __init__(self, descriptor_limit: int) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        arguments = map(str, (theirs.fileno(), descriptor_limit))
        try:
            with theirs:
                # -P: no module comes from the current folder. Sessions speak UTF-8, whatever the locale is.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-X", "utf8", "-c", _CODE, *arguments],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        except BaseException:
            self.sock.close()
            raise
        self.began = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    def close(self) -> None:
        """Have it end, and reap it."""
        self.sock.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_SECONDS)


class _Unsent(NamedTuple):
    """A request for which there is no room, or no starter; the descriptors are our own copies."""

    data: bytes
    ends: Sequence[int]


class Starter:
    """The starter that lives, and what it is asked for.

    `selector`: the daemon's; each entry's data is a function to call. `on_answer`: called with each of its messages.
    `on_gone`: called when one has died; what it was sent and has not answered, it may have done or not.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_answer: Callable[[Mapping[str, Any]], object],
        on_gone: Callable[[], object],
    ) -> None:
        self._selector = selector
        self._on_answer = on_answer
        self._on_gone = on_gone
        self._process: StarterProcess | None = None
        self._descriptor_limit = 0
        self._unsent: deque[_Unsent] = deque()
        self._deaths = 0  # of starters that died soon, one after the other
        self._due = math.inf  # instant for the next one, or for what is unsent

    @property
    def pid(self) -> int | None:
        """The process number of the one that lives, ``None`` between two."""
        return self._process.pid if self._process else None

    def begin(self, descriptor_limit: int, process: StarterProcess | None = None) -> None:
        """Have a starter from now on; `process` is one that has been started already."""
        self._descriptor_limit = descriptor_limit
        self._due = time.monotonic()
        if process is not None:
            self._take(process)
        self.step()

    def request(self, words: Mapping[str, object], ends: Sequence[int] = ()) -> None:
        """Ask for something, at once or as soon as that is possible. The descriptors stay the caller's.

        Raises `OSError` if it has to be kept and there is no room for copies of the descriptors.
        """
        data = json.dumps(words).encode()
        if not self._unsent and self._send(data, ends):
            return
        with contextlib.ExitStack() as stack:
            copies = []
            for end in ends:
                copies.append(os.dup(end))
                stack.callback(os.close, copies[-1])
            stack.pop_all()
        self._unsent.append(_Unsent(data, copies))
        if self._process is not None:
            self._due = min(self._due, time.monotonic() + _RETRY_SECONDS)

    def step(self) -> None:
        """Do what is due: start another one, or send what could not be sent before."""
        if time.monotonic() < self._due:
            return
        self._due = math.inf
        if self._process is None:
            try:
                self._take(StarterProcess(self._descriptor_limit))
            except OSError as error:
                log.error("the process that starts sessions cannot be started: %s", error)
                self._plan_next()
                return
        while self._unsent:
            data, ends = self._unsent[0]
            if not self._send(data, ends):
                self._due = time.monotonic() + _RETRY_SECONDS
                return
            self._forget_first()

    def time_left(self) -> float | None:
        """Return in how many seconds `step` has something to do; ``None``: not before something happens."""
        return None if self._due == math.inf else max(0.0, self._due - time.monotonic())

    def replace(self) -> None:
        """End the present one, because it does nothing any more; its end is noticed as any."""
        if self._process is not None:
            log.error(
                "the process that starts sessions (%d) does not answer: it is replaced", self._process.pid
            )
            self._process.kill()

    def close(self) -> None:
        """End it, and forget what it was to do."""
        while self._unsent:
            self._forget_first()
        if self._process is not None:
            process, self._process = self._process, None
            self._selector.unregister(process.sock)
            process.close()
        self._due = math.inf

    def _forget_first(self) -> None:
        for end in self._unsent.popleft().ends:
            os.close(end)

    def _send(self, data: bytes, ends: Sequence[int]) -> bool:
        """Send a request; return whether there was somebody, and room."""
        if self._process is None:
            return False
        try:
            socket.send_fds(self._process.sock, [data], ends)
        except OSError:  # it is full, too many descriptors are under way, or the starter has just died
            return False
        return True

    def _take(self, process: StarterProcess) -> None:
        self._process = process
        self._selector.register(process.sock, selectors.EVENT_READ, lambda: self._hear(process))

    def _hear(self, process: StarterProcess) -> None:
        try:
            data = process.sock.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_answer(json.loads(data))
            return
        log.error("the process that starts sessions (%d) has died: another one takes its place", process.pid)
        self._process = None
        self._selector.unregister(process.sock)
        process.kill()
        process.close()
        self._deaths = 0 if process.began + _STABLE_SECONDS < time.monotonic() else self._deaths
        self._plan_next()
        self._on_gone()

    def _plan_next(self) -> None:
        self._due = time.monotonic() + _PAUSES[min(self._deaths, len(_PAUSES) - 1)]
        self._deaths += 1
