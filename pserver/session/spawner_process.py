"""The spawner: a process that starts the engines of one session, and ends them with all that they started.

The supervisor forks it before the login of its client begins. At that moment the process is as the fork server made it,
with numpy loaded (which would take half a second) and without any secret; and so it stays, for it does nothing but wait
for requests. What it forks, whenever that is, inherits nothing that an engine must not have. A child of a fork server
cannot ask the fork server for another process: that would start a second fork server, cold.

It is the parent of the engines and reaps one only when it is asked to end it. Before that, the number of the engine can
be no other process's, nor that of its group, and so the group can be killed without hitting a stranger. When the
supervisor is gone, however that came, it does the same unasked, and ends. Should it be killed itself, the system kills
the engine, see `pserver.engine.engine`.

Workers are forked from the engine by a process that ends at once, and so become children of this one, which adopts all
orphans of its session. It tells of the end of those that the supervisor has named, however busy the engine is.
"""

import contextlib
import multiprocessing
import os
import select
import signal
import socket
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess

from pserver.engine.engine import engine_main
from pserver.system.processes import adopt_orphans
from pserver.system.session_folder import remove_folder

START, END, ADOPT, FOLDER = b"start", b"end", b"adopt ", b"folder "  #: requests of the supervisor
MESSAGE_BYTES = 4096
_ENDS_OF_AN_ENGINE = 6  # pipe, handover, standard output, standard error, forks, memory
_END_TIMEOUT = 5.0  # seconds for an engine to end; longer than usual if it has much memory to give back
_LOOK = 5.0  # seconds between two looks for orphans that have ended and that the supervisor has not named


def be_spawner(sock: socket.socket, deaths: socket.socket, not_for_engines: Sequence[socket.socket]) -> None:
    """Be the spawner; what its process does until the supervisor closes its end of `sock`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for end in not_for_engines:
        end.close()
    adopt_orphans()
    engine: _Engine | None = None
    workers = _Workers(deaths)
    folder = b""
    while True:
        if not workers.wait_for(sock):
            workers.reap_others(engine.pid if engine else 0)
            continue
        request, descriptors, _, _ = socket.recv_fds(
            sock, MESSAGE_BYTES, _ENDS_OF_AN_ENGINE, socket.MSG_CMSG_CLOEXEC
        )
        answer = ""
        if request.startswith(ADOPT):
            workers.adopt(int(request.removeprefix(ADOPT)))
            continue
        if request.startswith(FOLDER):
            folder = request.removeprefix(FOLDER)
            continue
        if request == START:
            engine, answer = _start([sock, deaths], descriptors)
        elif engine is not None:
            code = engine.end()
            engine, answer = None, "" if code is None else str(code)
        if not request:  # the supervisor is gone
            workers.end_all()
            if folder:
                remove_folder(os.fsdecode(folder))
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # then the next request is the end
            sock.send(f"={answer}".encode())


def _start(not_for_it: Sequence[socket.socket], descriptors: Sequence[int]) -> tuple["_Engine | None", str]:
    """Start an engine; return it with its process number, or ``None`` with the reason why there is none."""
    try:
        engine = _Engine(not_for_it, descriptors)
    except OSError as error:
        return None, error.strerror or str(error)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return engine, str(engine.pid)


class _Workers:
    """The workers of the session, as the spawner holds them."""

    def __init__(self, deaths: socket.socket) -> None:
        self._deaths = deaths
        self._pids: dict[int, int] = {}  # by descriptor that stands for the process
        self._poll = select.poll()
        self._ended_others: set[int] = set()

    def wait_for(self, sock: socket.socket) -> bool:
        """Tell of deaths until there is a request (true), or nothing has happened for a while (false)."""
        self._poll.register(sock, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in self._poll.poll(_LOOK * 1000)]
            for descriptor in ready:
                if descriptor in self._pids:
                    self._report_end(descriptor)
            if sock.fileno() in ready or not ready:
                return bool(ready)

    def adopt(self, pid: int) -> None:
        """Look after a process."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:  # it was never ours, or was taken for an orphan
            self._tell(pid, -signal.SIGKILL)
            return
        self._pids[descriptor] = pid
        self._poll.register(descriptor, select.POLLIN)

    def _report_end(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        pid = self._pids.pop(descriptor)
        os.close(descriptor)
        _kill_group(pid)  # before it is reaped: its number, and that of its group, are still its own
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:  # no child of ours yet: its parent is just ending
            code = -signal.SIGKILL
        self._tell(pid, code)

    def _tell(self, pid: int, code: int) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, which the next request tells
            self._deaths.send(f"{pid} {code}".encode())

    def end_all(self) -> None:
        """Kill all workers and what they have started."""
        for pid in self._pids.values():
            _kill_group(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for descriptor in list(self._pids):
            self._report_end(descriptor)

    def reap_others(self, engine: int) -> None:
        """Reap what the user's code has left behind, once it has been seen to have ended before."""
        with contextlib.suppress(ChildProcessError):
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            pid = found.si_pid if found else 0
            if pid and pid != engine and pid not in self._pids.values():
                if pid in self._ended_others:
                    os.waitpid(pid, os.WNOHANG)
                self._ended_others = {pid} - self._ended_others


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class _Engine:
    """An engine, as the spawner holds it."""

    def __init__(self, not_for_it: Sequence[socket.socket], descriptors: Sequence[int]) -> None:
        its_lifeline, self._lifeline = multiprocessing.Pipe(duplex=False)
        self._process: ForkProcess = multiprocessing.get_context("fork").Process(
            target=_be_engine, args=([*not_for_it, self._lifeline], descriptors, its_lifeline)
        )
        try:
            self._process.start()
        except OSError:
            self._lifeline.close()
            raise
        finally:
            its_lifeline.close()
        assert self._process.pid is not None  # noqa: S101 - it was started
        self.pid = self._process.pid

    def end(self) -> int | None:
        """Kill it with its group, if it lives; reap it, and return its exit code."""
        # In this order: the first moment it has no group of its own. What it started before that is in ours.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        # Not `join`: it waits for the end of all who have inherited a pipe, and workers may live a little longer.
        descriptor = os.pidfd_open(self.pid)
        select.select([descriptor], [], [], _END_TIMEOUT)
        os.close(descriptor)
        code = self._process.exitcode
        if code is not None:
            self._process.close()
        self._lifeline.close()
        return code


def _be_engine(
    not_for_it: Sequence[socket.socket | Connection], descriptors: Sequence[int], lifeline: Connection
) -> None:
    for end in not_for_it:
        end.close()
    pipe, handover, *outputs, forks, memory = descriptors
    engine_main(
        socket.socket(fileno=pipe),
        socket.socket(fileno=handover),
        [Connection(descriptor, readable=False) for descriptor in outputs],
        lifeline,
        socket.socket(fileno=forks),
        memory,
    )
