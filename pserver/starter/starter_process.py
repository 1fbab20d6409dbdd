"""The starter: a process that forks sessions, each within milliseconds, because it has loaded everything they need.

The daemon starts it and holds the other end of its only socket, see `pserver.starter.starter`. The socket has no port,
and no path in a folder that someone could remove. Each request is one message with descriptors:

* ``{"session": 7, "settings": ..., "received": ...}`` with a client's connection and the session's end of its control
  socket. The session itself reports that it exists: ``{"here": PID}`` with a descriptor of its process.
* ``{"spawner": 4711, "uid": null}`` with the spawner's end of a socket: starts a new spawner for the session with this
  process number, whose own spawner has died. Where sessions have accounts, ``uid`` is that of this session.
* ``{"remove": FOLDER, "mark": 0, "uid": null}``: removes the rest of a node whose session was killed, in a process of
  its own because the folder may be large. `pserver.system.process_marks` explains the mark.
* ``{"sweep": FOLDER, "days": 7.0, "log": ...}``: removes old results, see `pserver.jobs.job_store`, in its own process.
* ``{"announce": ORDER}`` with an end of a socket for the answers: logs in to other servers and announces this one,
  see `pserver.pool.announcer`, in its own process.
* ``{"clean": NAME, "before": 1.7e9, "log": ...}``: removes folders of sessions that earlier servers of this name have
  left behind, see `pserver.system.session_folder`, in its own process.

Its first message is ``{"ready": PID}``, sent when it has loaded its modules. It sends answers only about sessions:
``{"failed": 7, "why": ...}`` and ``{"ended": 7, "code": 0}``. If no descriptor or process is free for a request, only
that request fails: its descriptors are closed, and the process at the other end notices.
"""

import contextlib
import errno
import json
import logging
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pserver.starter.first_use  # noqa: F401 - initializes libraries once for all sessions
from pserver.accounts.account import account_of
from pserver.accounts.privileges import acting_as_owner, become
from pserver.accounts.session_account import account_folders
from pserver.config.log_options import LogForm
from pserver.config.session_settings import SessionSettings
from pserver.jobs.job_store import sweep
from pserver.limits.cgroup import enter_that_of
from pserver.pool.announcer import Order, announce
from pserver.session.session import session_main
from pserver.spawner.spawner_process import be_spawner
from pserver.system.descriptors import NoRoomError, json_object, receive_descriptors
from pserver.system.log import set_up
from pserver.system.process_marks import kill_marked
from pserver.system.processes import limit_descriptors, name_process
from pserver.system.session_folder import remove_folder, remove_left

log = logging.getLogger("pserver")

MESSAGE_BYTES = 2**16
_MAX_ENDS = 2


def main() -> None:
    """Run the starter; the arguments are the descriptor of its socket, and the descriptor limit of its processes."""
    descriptor, limit = map(int, sys.argv[1:])
    sys.argv[1:] = []
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    name_process("starter")
    limit_descriptors(limit)
    with contextlib.suppress(ConnectionError):  # the daemon is gone, as the loop will notice
        sock.send(json.dumps({"ready": os.getpid()}).encode())
    _Starter(sock).run()


class _Starter:
    """The starter's loop. It ends with the daemon, when `sock` is closed; sessions run on."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sessions: dict[int, int] = {}  # the numbers of their requests, by process number
        self._sweeping: int | None = None  # the process that removes old results
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)

    def run(self) -> None:
        """Handle the daemon's requests until the daemon is gone."""
        try:
            self._run()
        finally:
            signal.set_wakeup_fd(-1)  # do not write to a socket that is being closed

    def _run(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in its terminal is for the daemon alone
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        for sock in (self._sock, self._wake_reader):
            poll.register(sock, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._wake_reader.fileno() in ready:
                self._wake_reader.recv(1000)
                self._reap()
            if self._sock.fileno() in ready and not self._on_request():
                return

    def _on_request(self) -> bool:
        """Handle one request; return False if the daemon is gone."""
        try:
            data, ends = receive_descriptors(self._sock, MESSAGE_BYTES, _MAX_ENDS)
        except ConnectionError:
            return False
        except NoRoomError as error:
            data, ends = error.message, []  # the request needs them, and is therefore refused
        except OSError as error:  # out of memory; the request stays in the queue
            log.warning("cannot read a request: %s", error)
            return True
        if not data:
            return False
        request = json_object(data)  # empty if it makes no sense
        try:
            self._do(request, ends)
        except OSError as error:
            if "session" in request:
                self._answer({"failed": request["session"], "why": error.strerror or str(error)})
        finally:
            for end in ends:
                os.close(end)
        return True

    def _do(self, request: dict[str, Any], ends: Sequence[int]) -> None:
        match request:
            case {"session": int(number), "settings": dict(settings), "received": str(received)}:
                _check(ends, 2)
                pid = self._fork(lambda: _run_session(ends, settings, bytes.fromhex(received)))
                self._sessions[pid] = number
            case {"spawner": int(session), "uid": uid}:
                _check(ends, 1)
                self._fork(lambda: _run_spawner(ends[0], session, uid))
            case {"announce": dict(order)}:
                _check(ends, 1)
                self._fork(lambda: _announce(ends[0], order))
            case {"remove": str(folder), "mark": int(mark), "uid": uid}:
                self._fork(lambda: _clear(folder, mark, uid))
            case {"sweep": str(kept), "days": days, "log": dict(log_settings)}:
                if self._sweeping is None:  # a sweep may wait long for a file system
                    self._sweeping = self._fork(lambda: _sweep(Path(kept), float(days), **log_settings))
            case {"clean": str(name), "before": before, "log": dict(log_settings)}:
                self._fork(lambda: _clean(name, float(before), **log_settings))

    def _fork(self, work: Callable[[], object]) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            self._close_own()
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - no caller is left that would show it
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            os._exit(code)

    def _close_own(self) -> None:
        """Close the starter's own resources, and restore the default handling of signals."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for end in (self._sock, self._wake_reader, self._wake_writer):
            end.close()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):  # there are no children
            while (pid := (ended := os.waitpid(-1, os.WNOHANG))[0]) != 0:
                if pid == self._sweeping:
                    self._sweeping = None
                number = self._sessions.pop(pid, None)
                if number is not None:
                    self._answer({"ended": number, "code": os.waitstatus_to_exitcode(ended[1])})

    def _answer(self, words: dict[str, object]) -> None:
        with contextlib.suppress(ConnectionError):  # the daemon is gone, as the next read will show
            self._sock.send(json.dumps(words).encode())


def _check(ends: Sequence[int], count: int) -> None:
    if len(ends) != count:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _run_session(ends: Sequence[int], settings: dict[str, Any], received: bytes) -> None:
    sock, control = (socket.socket(fileno=end) for end in ends)
    own = os.pidfd_open(os.getpid())
    socket.send_fds(control, [json.dumps({"here": os.getpid()}).encode()], [own])
    os.close(own)
    session_main(sock, control, SessionSettings.from_json(settings), received)


def _run_spawner(end: int, session: int, uid: int | None) -> None:
    os.setsid()
    enter_that_of(session)  # not possible after switching to another account
    if uid is not None:
        become(account_of(uid), is_dumpable=True)
    be_spawner(socket.socket(fileno=end))


def _announce(end: int, order: dict[str, Any]) -> None:
    name_process("joiner")
    announce(socket.socket(fileno=end), Order.from_json(order))


def _sweep(kept: Path, days: float, *, file: str | None, **form: str) -> None:
    set_up(Path(file) if file else None, form=LogForm(**form), at_once=True)
    for each in (kept, *(folder / kept.name for folder in account_folders(kept))):
        try:
            with acting_as_owner(each.parent):
                sweep(each, days, time.time())
        except FileNotFoundError:  # there were never any results
            continue
        except OSError as error:
            log.error("cannot remove old results: %s", error)


def _clean(name: str, before: float, *, file: str | None, **form: str) -> None:
    set_up(Path(file) if file else None, form=LogForm(**form))
    for folder in remove_left(name, before):
        log.info("removed %s: left behind by a session of an earlier server %s", folder, name)


def _clear(folder: str, mark: int, uid: int | None) -> None:
    if uid is not None:
        become(account_of(uid), is_dumpable=False)
    kill_marked(mark)
    remove_folder(folder)
