"""The session's handle on the spawner, the process that starts engines; see `pserver.spawner.spawner_process`.

The session forks its spawner before the login, because the spawner's children must not inherit any secret. If the
spawner dies, the session cannot fork another one: the daemon has the starter of sessions do it. The starter needs only
one end of a socket, in which the first request is already waiting.
"""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence

from pserver.accounts.account import Account
from pserver.accounts.privileges import become
from pserver.config.limit_options import SessionLimits
from pserver.limits.cgroup import SessionCgroup, enter
from pserver.limits.limit_words import exit_words
from pserver.spawner.forked_process import ForkedProcess
from pserver.spawner.spawner_process import be_spawner
from pserver.spawner.spawner_words import ADOPT, END, FOLDER, MESSAGE_BYTES, START, node_request, read_failure
from pserver.system.process_marks import kill_marked, make_mark
from pserver.system.processes import describe_exit
from srp_tools.errors import ConnectionLostError

log = logging.getLogger("pserver")

# An answer takes a few milliseconds. The end of a process takes longer if it has much memory to release.
_TIMEOUT = 10.0
_END_TIMEOUT = 5.0


class SpawnerProcess:
    """The session process's handle on the spawner.

    `not_for_it`: the session process's open sockets, which neither the spawner nor an engine may keep. `limits`: the
    session's; if they need a cgroup, it is created here, as `cgroup`. `account`: the account of the engines, if this
    process is root's. If the system allows no further processes, the effect is as if the spawner had died.
    """

    def __init__(
        self,
        not_for_it: Sequence[socket.socket],
        limits: SessionLimits | None = None,
        account: Account | None = None,
    ) -> None:
        self.cgroup = SessionCgroup(limits or SessionLimits(), account.uid if account else None)
        self._root, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._root.settimeout(_TIMEOUT)
        self._process: ForkedProcess | None = None
        with theirs, contextlib.suppress(OSError):
            ends = [*not_for_it, self._root]
            self._process = ForkedProcess(
                lambda: _run_spawner(theirs, ends, self.cgroup.limits.cgroup, account)
            )

    @property
    def pid(self) -> int:
        """Its process number; 0 if there is none."""
        return self._process.pid if self._process else 0

    def for_node(self) -> "Spawner":
        """Return a handle for starting the engines of one more node.

        Raises `OSError` if there are no free descriptors. If the spawner has died, the node notices later.
        """
        return Spawner(self._root, make_mark(), self.cgroup)

    def close(self) -> None:
        """End the spawner, once the supervisors of all nodes have closed their ends."""
        self._root.close()
        if self._process is not None:
            self._process.end(_END_TIMEOUT)
        self.cgroup.close()


def _run_spawner(
    root: socket.socket, not_for_it: Sequence[socket.socket], cgroup: str, account: Account | None
) -> None:
    enter(cgroup)
    for end in not_for_it:  # before a debugger of the account could take them
        end.close()
    if account is not None:
        become(account, is_dumpable=True)
    be_spawner(root)


class Spawner:
    """A node supervisor's handle on the spawner; `SpawnerProcess.for_node` creates it.

    Attributes
    ----------
    mark
        The mark on all processes of the node, see `pserver.system.process_marks`.
    is_gone
        Whether the spawner is known to have ended; then `renew` replaces it.
    deaths
        Becomes readable when `read_death` has something to report.
    limits
        The session's limits.
    """

    def __init__(self, root: socket.socket, mark: int, cgroup: SessionCgroup) -> None:
        self.mark = mark
        self.limits = cgroup.limits
        self._cgroup = cgroup
        self._folder = ""
        # The number of requests that get an answer; it tells a late answer from the expected one.
        self._asked = 0
        self._open(root)

    def _open(self, root: socket.socket) -> None:
        """Have the spawner at the other end of `root` serve this node."""
        self.is_gone = False
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            pairs = []
            for _ in range(2):
                pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                ours.enter_context(pairs[-1][0])
                theirs.enter_context(pairs[-1][1])
            # If the spawner has died, this node notices as at any other time.
            with contextlib.suppress(ConnectionError, TimeoutError):
                ends = [end.fileno() for _, end in pairs]
                socket.send_fds(root, [node_request(self.mark, self.limits)], ends)
            ours.pop_all()
        self._sock, self.deaths = (end for end, _ in pairs)
        self._sock.settimeout(_TIMEOUT)
        self.deaths.setblocking(False)

    def renew(self, request_spawner: Callable[[socket.socket], object]) -> None:
        """Replace a spawner that has ended.

        `request_spawner`: has a process become the spawner at the given end of a socket, without waiting for it. Raises
        `OSError` if there are no free descriptors; then the spawner still counts as gone.
        """
        root, its_root = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with root, its_root:
            request_spawner(its_root)
            self.close()
            try:
                self._open(root)
            except OSError:
                self.is_gone = True
                raise
        if self._folder:
            self.inherit(self._folder)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there is an answer."""
        return self._sock.fileno()

    def request_engine(self, ends: Sequence[int]) -> None:
        """Request an engine without waiting for it; `engine_pid` waits.

        `ends`: descriptors for the engine: its pipe, its handover, its standard output, its standard error, and the
        socket for requests to fork workers. Raises `ConnectionLostError` if the spawner is gone.
        """
        self._ask(START, ends)

    def engine_pid(self) -> int:
        """Return the process number of the requested engine.

        Raises `ConnectionLostError` if it could not be started; the text says why.
        """
        answer = self._receive()
        if not answer.isdecimal():
            raise ConnectionLostError(f"the engine could not be started: {answer}")
        return int(answer)

    def end_engine(self) -> int | None:
        """Kill the engine and all processes of the node; return the engine's exit code, negative for a signal.

        ``None``: the engine hangs in the kernel, or the spawner is gone or stopped and could not report.
        """
        with contextlib.suppress(ConnectionLostError, ValueError):
            self._ask(END)
            answer = self._receive()
            return int(answer) if answer else None
        self._kill_all()
        return None

    def describe_exit(self, code: int | None) -> str:
        """Return how an engine or a worker ended, in words, with the limit that ended it, if there was one."""
        is_killed = code == -signal.SIGKILL
        words = exit_words(code, self.limits, was_out_of_memory=is_killed and self._cgroup.take_kill())
        return describe_exit(code) + words

    def forget_engine(self) -> None:
        """Have the engine ended without waiting for that. The spawner's answer is ignored."""
        with contextlib.suppress(ConnectionLostError):
            self._ask(END)

    def adopt(self, pid: int) -> None:
        """Have the spawner report the end of a worker, through `read_death`, once the worker's children have ended too.

        Raises `ConnectionLostError` if the spawner is gone.
        """
        self._send(ADOPT + str(pid).encode())

    def inherit(self, folder: str) -> None:
        """Have a folder removed when the supervisor and all processes that it had started are gone."""
        self._folder = folder
        with contextlib.suppress(ConnectionLostError):  # `renew` repeats it to the next spawner
            self._send(FOLDER + os.fsencode(folder))

    def read_death(self) -> tuple[int, int] | None:
        """Return the process number and the exit code of a worker that has ended; ``None`` if there is none.

        Raises `ConnectionLostError` if the spawner is gone: it will send no further reports, and no process of the node
        is left.
        """
        try:
            news = self.deaths.recv(MESSAGE_BYTES)
            if (why := read_failure(news)) is not None:
                log.error("the process that starts engines has failed: %s", why)
            pid, code = map(int, news.split())
        except BlockingIOError:
            return None
        except (ConnectionError, ValueError):
            error = self._gone()
            self._kill_all()
            raise error from None
        return pid, code

    def close(self) -> None:
        """Have the engine and all workers ended; do not wait for that."""
        self._sock.close()
        self.deaths.close()

    def _ask(self, request: bytes, descriptors: Sequence[int] = ()) -> None:
        self._asked += 1
        self._send(request + str(self._asked).encode(), descriptors)

    def _send(self, request: bytes, descriptors: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self._sock, [request], descriptors)
        except TimeoutError as error:
            raise _timed_out() from error
        except ConnectionError as error:
            raise self._gone() from error

    def _receive(self) -> str:
        """Return the answer to the last request."""
        while True:
            try:
                answer = self._sock.recv(MESSAGE_BYTES)
            except TimeoutError as error:
                raise _timed_out() from error
            except ConnectionError:
                answer = b""
            if not answer:
                raise self._gone()
            number, _, text = answer.decode(errors="replace").partition("=")
            if number == str(self._asked):
                return text

    def _kill_all(self) -> None:
        """Kill all processes of the node; used if the spawner no longer can."""
        # If no descriptor is free, the kernel ends the engine and its workers.
        with contextlib.suppress(OSError):
            kill_marked(self.mark)

    def _gone(self) -> ConnectionLostError:
        self.is_gone = True
        return ConnectionLostError("the process that starts engines has ended")


def _timed_out() -> ConnectionLostError:
    return ConnectionLostError(f"timed out after {_TIMEOUT:g} s waiting for the process that starts engines")
