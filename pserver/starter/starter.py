"""The daemon's handle on the starter, the process that forks sessions; see `pserver.starter.starter_process`.

The daemon never waits for it. Requests that do not fit into the socket are kept and sent later. If the starter dies, a
new one replaces it immediately, or after a pause that grows if starters die repeatedly. The daemon draws no conclusions
about sessions from that.

While requests are unread, the daemon checks whether the starter is stopped (SIGSTOP), and then kills it. A slow
starter, as on a busy machine, is not replaced: the next one would be even slower.
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
_STABLE_SECONDS = 10.0  # a starter that lived this long resets the count of deaths
_PAUSES = (0.0, 0.1, 0.5, 2.0, 10.0)  # seconds until the next start, by the number of early deaths
_RETRY_SECONDS = 0.05  # until a request that did not fit into the socket is resent
_CHECK_SECONDS = 0.5  # between checks whether requests have been read; that takes milliseconds
_END_SECONDS = 2.0  # for the process to end

_READY_SECONDS = 25.0  # for loading its modules, perhaps from a network file system; a start waits for 30

# Warnings for programmers, for example that tlslite uses a deprecated module, must not keep it from loading.
_CODE = """# pserver: starts sessions; they, their engines and workers are forked from here and share this line
from pserver.system.clean_start import hold_warnings
hold_warnings()
from pserver.starter.starter_process import main
main()
"""


class StarterProcess:
    """A starter that has been launched, and `sock`, the daemon's end of its socket.

    It loads numpy and tlslite in a third of a second. `descriptor_limit`: descriptor limit of its processes.
    `has_accounts`: whether they will switch to other accounts; then they do not inherit root's own environment.
    Raises `OSError` if the system allows no further processes.
    """

    def __init__(self, descriptor_limit: int, *, has_accounts: bool = False) -> None:
        self.has_accounts = has_accounts
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        arguments = map(str, (theirs.fileno(), descriptor_limit))
        try:
            with theirs:
                # -P: import no module from the current folder. Sessions use UTF-8, whatever the locale is.
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
        """Whether it has read every request."""
        unread = array.array("i", [0])
        fcntl.ioctl(self.sock, termios.TIOCOUTQ, unread)  # unread bytes at the other end, see unix(7)
        return not unread[0]

    def await_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait for its first message, which says that it has loaded its modules.

        Raises `ConfigurationError` if it ends instead, or sends nothing within `seconds`.
        """
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise ConfigurationError(
                f"timed out after {seconds:g} s waiting for the process that starts sessions to get ready"
            )
        try:
            is_ready = "ready" in json_object(self.sock.recv(_MESSAGE_BYTES))
        except ConnectionError:
            is_ready = False
        if not is_ready:
            how = describe_exit(self._process.wait(_END_SECONDS))
            raise ConfigurationError(
                f"the process that starts sessions ended on startup, with {how}: "
                "see its last lines in the log or on standard error"
            )

    def kill(self) -> None:
        """Kill it in any state."""
        self._process.kill()

    def close(self) -> None:
        """Let it end, and reap it; may be called repeatedly."""
        self.sock.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_SECONDS)


class Starter:
    """The current starter, and the requests to it.

    `selector`: the daemon's; the data of each entry is the function to call. `on_answer`: called with each message of
    the starter. `on_gone`: called when a starter has died; it may have handled unanswered requests or not.
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
        # Requests without descriptors that the starter may not have read; nobody would notice their loss. Repeating
        # them does no harm.
        self._unread: list[bytes] = []
        self._deaths = 0  # of starters that died early, in a row
        self._due = math.inf  # when to start the next one, or to resend requests
        self._check_due = math.inf  # when to check whether it has read everything

    @property
    def pid(self) -> int | None:
        """The process number of the current starter; ``None`` while there is none."""
        return self._process.pid if self._process else None

    def begin(self, descriptor_limit: int, process: StarterProcess | None = None) -> None:
        """Keep a starter running from now on. `process`: one that has been started already."""
        self._descriptor_limit = descriptor_limit
        self._due = time.monotonic()
        if process is not None:
            self._has_accounts = process.has_accounts
            self._take(process)
        self.step()

    def request(self, words: Mapping[str, object], ends: Sequence[int] = ()) -> None:
        """Send a request now, or as soon as possible. The descriptors stay the caller's.

        Raises `OSError` if the request must be kept, and no descriptors are free for copies of the given ones.
        """
        data = json.dumps(words).encode()
        if not ends:
            self._unread.append(data)
        sock = self._process.sock if self._process else None
        is_sent = self._outbox.post(sock, data, ends, topic="" if ends else data.decode()) is None
        if self._process is not None:
            self._schedule(is_sent=is_sent)

    def step(self) -> None:
        """Do what is due: start a new starter, resend unsent requests, or check whether the current one is stopped."""
        now = time.monotonic()
        if now >= self._check_due:
            self._check_unread()
        if now < self._due:
            return
        self._due = math.inf
        if self._process is None:
            try:
                self._take(StarterProcess(self._descriptor_limit, has_accounts=self._has_accounts))
            except OSError as error:
                log.error("cannot start the process that starts sessions: %s", error)
                self._schedule_start()
                return
        assert self._process is not None  # noqa: S101 - there is one at this point
        if len(self._outbox):
            self._schedule(is_sent=self._outbox.send(self._process.sock) is None)

    def time_left(self) -> float | None:
        """Return the seconds until `step` has something to do; ``None``: not until an event occurs."""
        first = min(self._due, self._check_due)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def _check_unread(self) -> None:
        self._check_due = math.inf
        if self._process is None:
            return
        if self._process.has_read_all:
            if not len(self._outbox):
                self._unread.clear()
        elif is_stopped(self._process.pid):
            self.replace("is stopped")
        else:
            self._check_due = time.monotonic() + _CHECK_SECONDS

    def replace(self, why: str = "does not answer") -> None:
        """Kill the current starter because it does not respond; its end is handled like any other."""
        if self._process is not None:
            log.error("the process that starts sessions (%d) %s: replacing it", self._process.pid, why)
            self._process.kill()

    def close(self) -> None:
        """End the starter, and drop its requests."""
        self._outbox.clear()
        if self._process is not None:
            process, self._process = self._process, None
            self._selector.unregister(process.sock)
            process.close()
        self._due = math.inf

    def _schedule(self, *, is_sent: bool) -> None:
        """Schedule the steps after an attempt to send: try again, and check whether the starter has read everything."""
        now = time.monotonic()
        if not is_sent:  # the socket is full, too many descriptors are in flight, or the starter just died
            self._due = min(self._due, now + _RETRY_SECONDS)
        self._check_due = min(self._check_due, now + _CHECK_SECONDS)

    def _take(self, process: StarterProcess) -> None:
        self._process = process
        self._selector.register(process.sock, selectors.EVENT_READ, lambda: self._on_message(process))

    def _on_message(self, process: StarterProcess) -> None:
        try:
            data = process.sock.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_answer(json_object(data))
            return
        log.error("the process that starts sessions (%d) has died: starting a new one", process.pid)
        self._process = None
        self._selector.unregister(process.sock)
        process.kill()
        process.close()
        for request in self._unread:
            self._outbox.post(None, request, topic=request.decode())
        self._deaths = 0 if process.began + _STABLE_SECONDS < time.monotonic() else self._deaths
        self._schedule_start()
        self._on_gone()

    def _schedule_start(self) -> None:
        self._due = time.monotonic() + _PAUSES[min(self._deaths, len(_PAUSES) - 1)]
        self._deaths += 1
