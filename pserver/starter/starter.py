"""The starter as the daemon holds it: the process that forks sessions, see `pserver.starter.starter_process`.

The daemon never waits for it. What it has no room for is kept and sent later. When it dies, another one takes its
place at once, or after a pause that grows if they die again and again. Nothing is concluded about sessions from that.

While requests are unread, the daemon looks whether it is stopped (SIGSTOP), and then kills it. That it is merely slow,
as on a busy machine, is no reason: the next one would be slower.
"""

import array
import fcntl
import json
import logging
import math
import select
import selectors
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pserver.accounts.privileges import common_environment
from pserver.system.descriptors import Outbox, json_object
from pserver.system.processes import describe_exit, is_stopped
from srp_tools.errors import ConfigurationError

log = logging.getLogger("pserver")

_MESSAGE_BYTES = 4096
_STABLE_SECONDS = 10.0  # a starter that lived so long has not died "again"
_PAUSES = (0.0, 0.1, 0.5, 2.0, 10.0)  # seconds before another one, by how many have died soon
_RETRY_SECONDS = 0.05  # until what the socket has no room for is tried again
_LOOK_SECONDS = 0.5  # until one that was asked for something has it; it takes milliseconds
_END_SECONDS = 2.0  # for the process to end

_READY_SECONDS = 25.0  # for loading its modules, from a network file system perhaps; the start waits for 30

# What is advice to programmers, such as that tlslite uses an old module, must not keep it from loading.
_CODE = """# pserver: starts sessions; they, their engines and workers are forked from here and share this line
from pserver.system.clean_start import hold_warnings
hold_warnings()
from pserver.starter.starter_process import main
main()
"""


class StarterProcess:
    """A process that has been started, and `sock`, the daemon's end of its socket.

    It loads numpy and tlslite in a third of a second. `descriptor_limit`: how many descriptors its processes may have.
    `has_accounts`: they are to become other accounts, and so get nothing from the environment that is for root alone.
    Raises `OSError` if the system allows no more.
    """

    def __init__(self, descriptor_limit: int, *, has_accounts: bool = False) -> None:
        self.has_accounts = has_accounts
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        arguments = map(str, (theirs.fileno(), descriptor_limit))
        try:
            with theirs:
                # -P: no module comes from the current folder. Sessions speak UTF-8, whatever the locale is.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-X", "utf8", "-c", _CODE, *arguments],
                    stdin=subprocess.DEVNULL,
                    env=common_environment() if has_accounts else None,
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

    @property
    def has_read_all(self) -> bool:
        """Whether it has taken each request."""
        unread = array.array("i", [0])
        fcntl.ioctl(self.sock, termios.TIOCOUTQ, unread)  # what is in the other end's queue, see unix(7)
        return not unread[0]

    def await_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait for its first word: that it has loaded its modules.

        Raises `ConfigurationError` if it ends instead, or is silent for so long.
        """
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise ConfigurationError(f"the process that starts sessions was not ready within {seconds:g} s")
        try:
            is_ready = "ready" in json_object(self.sock.recv(_MESSAGE_BYTES))
        except ConnectionError:
            is_ready = False
        if not is_ready:
            how = describe_exit(self._process.wait(_END_SECONDS))
            raise ConfigurationError(
                f"the process that starts sessions ended as it began, with {how}; "
                "the log, or standard error, has its last words"
            )

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    def close(self) -> None:
        """Have it end, and reap it; nothing is done twice."""
        self.sock.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_SECONDS)


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
        self._has_accounts = False
        self._outbox = Outbox()
        # What it may not have read, of what comes without descriptors: nobody would notice that it is lost. It does no
        # harm twice.
        self._unread: list[bytes] = []
        self._deaths = 0  # of starters that died soon, one after the other
        self._due = math.inf  # instant for the next one, or for what is unsent
        self._look_due = math.inf  # instant for a look at whether it has read all

    @property
    def pid(self) -> int | None:
        """The process number of the one that lives, ``None`` between two."""
        return self._process.pid if self._process else None

    def begin(self, descriptor_limit: int, process: StarterProcess | None = None) -> None:
        """Have a starter from now on; `process` is one that has been started already."""
        self._descriptor_limit = descriptor_limit
        self._due = time.monotonic()
        if process is not None:
            self._has_accounts = process.has_accounts
            self._take(process)
        self.step()

    def request(self, words: Mapping[str, object], ends: Sequence[int] = ()) -> None:
        """Ask for something, at once or as soon as that is possible. The descriptors stay the caller's.

        Raises `OSError` if it has to be kept and there is no room for copies of the descriptors.
        """
        data = json.dumps(words).encode()
        if not ends:
            self._unread.append(data)
        sock = self._process.sock if self._process else None
        is_sent = self._outbox.post(sock, data, ends, topic="" if ends else data.decode()) is None
        if self._process is not None:
            self._plan(is_sent=is_sent)

    def step(self) -> None:
        """Do what is due: start another one, send what could not be sent before, or see whether this one is stopped."""
        now = time.monotonic()
        if now >= self._look_due:
            self._look()
        if now < self._due:
            return
        self._due = math.inf
        if self._process is None:
            try:
                self._take(StarterProcess(self._descriptor_limit, has_accounts=self._has_accounts))
            except OSError as error:
                log.error("the process that starts sessions cannot be started: %s", error)
                self._plan_next()
                return
        assert self._process is not None  # noqa: S101 - there is one by now
        if len(self._outbox):
            self._plan(is_sent=self._outbox.send(self._process.sock) is None)

    def time_left(self) -> float | None:
        """Return in how many seconds `step` has something to do; ``None``: not before something happens."""
        first = min(self._due, self._look_due)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def _look(self) -> None:
        self._look_due = math.inf
        if self._process is None:
            return
        if self._process.has_read_all:
            if not len(self._outbox):
                self._unread.clear()
        elif is_stopped(self._process.pid):
            self.replace("is stopped")
        else:
            self._look_due = time.monotonic() + _LOOK_SECONDS

    def replace(self, why: str = "does not answer") -> None:
        """End the present one, because it does nothing any more; its end is noticed as any."""
        if self._process is not None:
            log.error("the process that starts sessions (%d) %s: it is replaced", self._process.pid, why)
            self._process.kill()

    def close(self) -> None:
        """End it, and forget what it was to do."""
        self._outbox.clear()
        if self._process is not None:
            process, self._process = self._process, None
            self._selector.unregister(process.sock)
            process.close()
        self._due = math.inf

    def _plan(self, *, is_sent: bool) -> None:
        """Plan what follows an attempt to send: to try again, and to look whether it was read."""
        now = time.monotonic()
        if not is_sent:  # it is full, too many descriptors are under way, or the starter has just died
            self._due = min(self._due, now + _RETRY_SECONDS)
        self._look_due = min(self._look_due, now + _LOOK_SECONDS)

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
            self._on_answer(json_object(data))
            return
        log.error("the process that starts sessions (%d) has died: another one takes its place", process.pid)
        self._process = None
        self._selector.unregister(process.sock)
        process.kill()
        process.close()
        for request in self._unread:
            self._outbox.post(None, request, topic=request.decode())
        self._deaths = 0 if process.began + _STABLE_SECONDS < time.monotonic() else self._deaths
        self._plan_next()
        self._on_gone()

    def _plan_next(self) -> None:
        self._due = time.monotonic() + _PAUSES[min(self._deaths, len(_PAUSES) - 1)]
        self._deaths += 1
