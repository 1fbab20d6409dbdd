"""The spawner: a process that starts the engines of one session, and ends them with all their child processes.

The session process forks it before the client's login begins. At that moment, it has the state that the starter gave
it: numpy is loaded (loading it takes half a second), and it holds no secret. It stays in that state, because it only
waits for requests. So whenever it forks, its children inherit nothing that an engine must not have. If it dies, the
starter replaces it from the same clean state.

Each node of the session has its own socket here, and one engine at a time. The spawner is the parent of the engines,
and reaps an engine only when it is asked to end it. Until then, no other process can get the engine's process number or
that of its group, so the spawner can kill the group without hitting an unrelated process. When the supervisor of a node
is gone, for whatever reason, the spawner ends the engine without a request. When the session process and all
supervisors are gone, it ends itself. If it is killed, the kernel kills the engines, see `pserver.engine.engine`.

An engine forks workers through a process that ends immediately. So the workers become children of the spawner, which
adopts all orphans of its session. It reports the end of those that a supervisor has named, even if the engine is busy.
"""

import contextlib
import errno
import multiprocessing
import os
import select
import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from pserver.engine.engine import engine_main
from pserver.limits.cgroup import enter
from pserver.limits.resource_limits import apply_limits
from pserver.spawner import spawner_words as words
from pserver.spawner.forked_process import ForkedProcess
from pserver.system.descriptors import NoRoomError, SpareDescriptor, close_descriptors, receive_descriptors
from pserver.system.process_marks import kill_marked, wear_mark
from pserver.system.processes import (
    adopt_orphans,
    descends_from,
    go_on_after_parent,
    kill_group,
    kill_with_group,
    name_process,
    raise_descriptor_limit,
    set_descriptor_limit,
)
from pserver.system.session_folder import is_session_folder, remove_folder

_ENDS_OF_AN_ENGINE = 6  # pipe, handover, standard output, standard error, forks, memory
_END_TIMEOUT = 5.0  # seconds for an engine to end; releasing much memory takes time
_RESEND = 0.05  # seconds until a report is repeated to a supervisor that is not reading
_CHECK = 5.0  # seconds between checks for ended orphans that no supervisor has named


def be_spawner(root: socket.socket) -> None:
    """Run the spawner until the session process has closed its end of `root`, and all supervisors theirs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name_process("spawner", of_session=True)
    adopt_orphans()
    go_on_after_parent()  # otherwise, stopping a session's group and killing it would leave engines behind
    _Spawner(root).run()


class _Spawner:
    """The spawner's loop."""

    def __init__(self, root: socket.socket) -> None:
        self.limits = raise_descriptor_limit()  # the earlier descriptor limits, for engines
        self._root: socket.socket | None = root
        self._nodes: list[_Node] = []
        self._poll = select.poll()
        self._watched: dict[int, Callable[[], object]] = {}
        self._ended_others: set[int] = set()
        self._spare = SpareDescriptor()
        self.watch(root.fileno(), self._on_root_request)

    def run(self) -> None:
        try:
            while self._root is not None or self._nodes:
                due = min([time.monotonic() + _CHECK, *(node.due for node in self._nodes)])
                wait = max(0.0, due - time.monotonic()) * 1000
                ready = [(number, self._watched[number]) for number, _ in self._poll.poll(wait)]
                for descriptor, callback in ready:
                    if self._watched.get(descriptor) is callback:  # else an earlier callback unwatched it
                        callback()
                for node in list(self._nodes):
                    node.look(time.monotonic())
                if not ready:
                    self._reap_others()
        except Exception:
            for node in self._nodes:  # for other accounts, standard error is not connected
                node.tell(words.failure(traceback.format_exc()))
            raise

    def watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call a function whenever a descriptor is readable."""
        self._watched[descriptor] = callback
        self._poll.register(descriptor, select.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """End `watch`."""
        self._poll.unregister(descriptor)
        del self._watched[descriptor]

    def kill_marked(self, mark: int, worker: int = 0) -> None:
        """Call `pserver.system.process_marks.kill_marked`; this works even if no descriptor is free."""
        self._spare.use(lambda: kill_marked(mark, worker))

    def has_orphan(self, pid: int) -> bool:
        """Whether a process descends from this one and belongs to no node yet: only then may it be adopted.

        It is a child of this process, unless the user's code adopts orphans as well.
        """
        return self._spare.use(lambda: descends_from(pid, os.getpid())) and not self._owns(pid)

    def _owns(self, pid: int) -> bool:
        return any(node.owns(pid) for node in self._nodes)

    def forget(self, node: "_Node") -> None:
        """Forget a node that has nothing left."""
        self._nodes.remove(node)

    def close_all(self) -> None:
        """Close the resources that an engine must not keep; called in a process forked from this one."""
        self._spare.close()
        if self._root is not None:
            self._root.close()
        for node in self._nodes:
            node.close_all()

    def _on_root_request(self) -> None:
        assert self._root is not None  # noqa: S101 - it is being watched, so it exists
        try:
            request, descriptors = receive_descriptors(self._root, words.MESSAGE_BYTES, 2)
        except NoRoomError:  # the node sees that its sockets are closed
            return
        facts = words.read_node(request)
        if facts is not None and len(descriptors) == 2:
            self._nodes.append(_Node(self, facts, *(socket.socket(fileno=end) for end in descriptors)))
        else:
            close_descriptors(descriptors)
        if not request:
            self.unwatch(self._root.fileno())
            self._root.close()
            self._root = None

    def _reap_others(self) -> None:
        """Reap orphans of the user's code. An orphan is reaped at the second check that finds it ended."""
        with contextlib.suppress(ChildProcessError):
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            pid = found.si_pid if found else 0
            if pid and not self._owns(pid):
                if pid in self._ended_others:
                    os.waitpid(pid, os.WNOHANG)
                self._ended_others = {pid} - self._ended_others


class _Node:
    """The spawner's record of the engine and the workers of one node; the supervisor sends requests on `ends[0]`."""

    def __init__(self, spawner: _Spawner, facts: words.NodeFacts, *ends: socket.socket) -> None:
        self._spawner = spawner
        self._facts = facts
        self._sock, self._deaths = ends
        self._folder = b""
        self._engine: _Engine | None = None
        self._workers: dict[int, int] = {}  # their process numbers, by the descriptor of the process
        self._unreported: deque[bytes] = deque()  # reports that do not fit into `deaths` yet
        self._ending = 0  # number of the request to end the engine
        # A request to start an engine once the current one has ended.
        self._next: tuple[int, Sequence[int]] | None = None
        self._is_orphaned = False  # the supervisor is gone
        # Until when to wait for the end of the engine; 0: it is not being ended.
        self._ends_by = 0.0
        self._deaths.setblocking(False)
        spawner.watch(self._sock.fileno(), self._on_request)

    @property
    def due(self) -> float:
        """The instant when `look` next has something to do, if nothing happens before."""
        now = time.monotonic()
        return min(self._ends_by or now + _CHECK, now + (_RESEND if self._unreported else _CHECK))

    def close_all(self) -> None:
        """Close what is open here; called in a process forked from this one."""
        self._sock.close()
        self._deaths.close()
        for descriptor in self._workers:
            os.close(descriptor)
        self._forget_next()
        if self._engine is not None:
            self._engine.close_all()

    def owns(self, pid: int) -> bool:
        """Whether a process is the engine or a worker of this node."""
        return pid in self._workers.values() or (self._engine is not None and self._engine.pid == pid)

    def _on_request(self) -> None:
        try:
            request, descriptors = receive_descriptors(self._sock, words.MESSAGE_BYTES, _ENDS_OF_AN_ENGINE)
        except NoRoomError as error:
            request, descriptors = error.message, []  # a start needs them, and is therefore refused
        except ConnectionResetError:  # the supervisor ended without reading an answer; its requests follow
            return
        if (number := words.read_number(request, words.START)) is not None:
            self._start(number, descriptors)
            return
        close_descriptors(descriptors)
        if (number := words.read_number(request, words.ADOPT)) is not None:
            self._adopt(number)
        elif request.startswith(words.FOLDER):
            self._folder = request.removeprefix(words.FOLDER)
        elif (number := words.read_number(request, words.END)) is not None or not request:
            self._end(number)

    def _end(self, number: int | None) -> None:
        """End the engine. `number`: of the request; ``None`` if the supervisor is gone."""
        self._ending = number or 0
        self._is_orphaned = number is None
        self._forget_next()
        if self._is_orphaned:
            self._spawner.unwatch(self._sock.fileno())
            self._end_workers()
        self._end_engine()

    def _answer(self, number: int, text: str) -> None:
        # A supervisor that is gone shows that with its next request; one that is stopped may have many pending.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
            self._sock.send(f"{number}={text}".encode(), socket.MSG_DONTWAIT)

    # --- the engine ---

    def _start(self, number: int, descriptors: Sequence[int]) -> None:
        """Start an engine; answer with its process number, or with the reason why it could not be started.

        If the previous engine is still being ended, wait for its end first.
        """
        if self._ends_by:
            self._forget_next()
            self._next = number, descriptors
            return
        try:
            if len(descriptors) < _ENDS_OF_AN_ENGINE:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            if self._engine is not None:
                raise OSError(errno.EEXIST, "there is an engine already")
            enter(self._facts.limits.cgroup)
            self._engine = _Engine(self._spawner, self._facts, descriptors)
        except OSError as error:
            self._answer(number, error.strerror or str(error))
        else:
            self._answer(number, str(self._engine.pid))
        finally:
            close_descriptors(descriptors)

    def _end_engine(self) -> None:
        if self._engine is None:
            self._engine_ended(None)
            return
        self._engine.kill()
        self._ends_by = time.monotonic() + _END_TIMEOUT
        self._spawner.watch(self._engine.pidfd, lambda: self.look(self._ends_by))

    def look(self, now: float) -> None:
        """Report the end of the engine, or that it has not ended in time, and the reports that were not sent yet."""
        self._send_reports()
        if self._engine is not None and self._ends_by and now >= self._ends_by:
            self._spawner.unwatch(self._engine.pidfd)
            engine, self._engine, self._ends_by = self._engine, None, 0.0
            self._engine_ended(engine.close())

    def _engine_ended(self, code: int | None) -> None:
        following, self._next = self._next, None
        if self._is_orphaned:
            self._clean_up()
        else:
            self._answer(self._ending, "" if code is None else str(code))
        if following is not None:
            self._start(*following)

    def _forget_next(self) -> None:
        if self._next is not None:
            for descriptor in self._next[1]:
                os.close(descriptor)
            self._next = None

    def _clean_up(self) -> None:
        """Once engine and workers of a node without a supervisor have ended, clean up after it."""
        if self._engine is not None or self._workers:
            return
        folder = os.fsdecode(self._folder)
        if is_session_folder(folder):  # never remove another folder, even if a supervisor names one
            remove_folder(folder)
        self._sock.close()
        self._deaths.close()
        self._spawner.forget(self)

    # --- the workers ---

    def _adopt(self, pid: int) -> None:
        if not self._spawner.has_orphan(pid):  # it was reaped, or is an unrelated process: leave it alone
            self.tell(words.death(pid, -signal.SIGKILL))
            return
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # there is no free descriptor to watch it
            kill_with_group(pid)
            self.tell(words.death(pid, -signal.SIGKILL))
            return
        self._workers[descriptor] = pid
        self._spawner.watch(descriptor, lambda: self._report_end(descriptor))

    def _report_end(self, descriptor: int) -> None:
        self._spawner.unwatch(descriptor)
        pid = self._workers.pop(descriptor)
        os.close(descriptor)
        # Do this before reaping: until then, its process number and that of its group still belong to it.
        kill_group(pid)
        self._spawner.kill_marked(self._facts.mark, pid)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:  # not a child of this process yet: its parent is just ending
            code = -signal.SIGKILL
        if self._is_orphaned:
            self._clean_up()
        else:
            self.tell(words.death(pid, code))

    def tell(self, news: bytes) -> None:
        """Send the supervisor a report for `Spawner.read_death`."""
        self._unreported.append(news)
        self._send_reports()

    def _send_reports(self) -> None:
        """Send the reports that fit. A supervisor that ends many workers may itself be waiting for an answer."""
        with contextlib.suppress(BlockingIOError):
            while self._unreported:
                with contextlib.suppress(ConnectionError):  # gone, as the next request will show
                    self._deaths.send(self._unreported[0])
                self._unreported.popleft()

    def _end_workers(self) -> None:
        """Kill all workers and their child processes; `_report_end` reaps each one when it has ended."""
        for pid in self._workers.values():
            kill_with_group(pid)


class _Engine:
    """The process of an engine. `pid`: its process number. `pidfd`: a descriptor of the process."""

    def __init__(self, spawner: _Spawner, facts: words.NodeFacts, descriptors: Sequence[int]) -> None:
        self._spawner = spawner
        self._mark = facts.mark
        its_lifeline, self._lifeline = multiprocessing.Pipe(duplex=False)

        def be_engine() -> None:
            name_process("engine")
            wear_mark(facts.mark)
            set_descriptor_limit(spawner.limits)
            apply_limits(facts.limits)
            spawner.close_all()
            self._lifeline.close()
            _run_engine(descriptors, its_lifeline)

        with its_lifeline:
            try:
                self._process = ForkedProcess(be_engine)
            except OSError:
                self._lifeline.close()
                raise
        self.pid, self.pidfd = self._process.pid, self._process.pidfd

    def kill(self) -> None:
        """Kill it, with all living processes of its node."""
        kill_with_group(self.pid)
        self._spawner.kill_marked(self._mark)

    def close(self) -> int | None:
        """Reap it, and return its exit code; ``None`` if it hangs in the kernel."""
        code = self._process.wait(0)
        self.close_all()
        return code

    def close_all(self) -> None:
        """Close what is open here."""
        self._process.close()
        self._lifeline.close()


def _run_engine(descriptors: Sequence[int], lifeline: Connection) -> None:
    pipe, handover, *outputs, forks, memory = descriptors
    engine_main(
        socket.socket(fileno=pipe),
        socket.socket(fileno=handover),
        [Connection(descriptor, readable=False) for descriptor in outputs],
        lifeline,
        socket.socket(fileno=forks),
        memory,
    )
