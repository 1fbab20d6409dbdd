"""The spawner: a process that starts the engines of one session, and ends them with all that they started.

The session process forks it before the login of its client begins. At that moment it is as the starter made it,
with numpy loaded (which would take half a second) and without any secret; and so it stays, for it does nothing but wait
for requests. What it forks, whenever that is, inherits nothing that an engine must not have. One that has died is
replaced by the starter, which is as clean.

Each node of the session has a socket of its own here, and one engine at a time. The spawner is the parent of the
engines and reaps one only when it is asked to end it. Before that, the number of the engine can be no other process's,
nor that of its group, and so the group can be killed without hitting a stranger. When the supervisor of a node is gone,
however that came, it does the same unasked. When the session process and all supervisors are gone, it ends. Should it
be killed itself, the system kills the engines, see `pserver.engine.engine`.

Workers are forked from the engine by a process that ends at once, and so become children of this one, which adopts all
orphans of its session. It tells of the end of those that a supervisor has named, however busy the engine is.
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
_END_TIMEOUT = 5.0  # seconds for an engine to end; longer than usual if it has much memory to give back
_TELL_AGAIN = 0.05  # seconds until a supervisor that takes nothing is told again
_LOOK = 5.0  # seconds between two looks for orphans that have ended and that no supervisor has named


def be_spawner(root: socket.socket) -> None:
    """Be the spawner, until the session process has closed its end of `root`, and all supervisors theirs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name_process("spawner", of_session=True)
    adopt_orphans()
    go_on_after_parent()  # who stops the group of a session and kills that would leave the engines
    _Spawner(root).run()


class _Spawner:
    """The spawner's loop."""

    def __init__(self, root: socket.socket) -> None:
        self.limits = raise_descriptor_limit()  # of descriptors, those from before, for engines
        self._root: socket.socket | None = root
        self._nodes: list[_Node] = []
        self._poll = select.poll()
        self._watched: dict[int, Callable[[], object]] = {}
        self._ended_others: set[int] = set()
        self._spare = SpareDescriptor()
        self.watch(root.fileno(), self._hear_root)

    def run(self) -> None:
        try:
            while self._root is not None or self._nodes:
                due = min([time.monotonic() + _LOOK, *(node.due for node in self._nodes)])
                wait = max(0.0, due - time.monotonic()) * 1000
                ready = [(number, self._watched[number]) for number, _ in self._poll.poll(wait)]
                for descriptor, callback in ready:
                    if self._watched.get(descriptor) is callback:  # else another has ended the watch
                        callback()
                for node in list(self._nodes):
                    node.look(time.monotonic())
                if not ready:
                    self._reap_others()
        except Exception:
            for node in self._nodes:  # under an account, standard error leads nowhere
                node.tell(words.failure(traceback.format_exc()))
            raise

    def watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call a function whenever a descriptor can be read from."""
        self._watched[descriptor] = callback
        self._poll.register(descriptor, select.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """End `watch`."""
        self._poll.unregister(descriptor)
        del self._watched[descriptor]

    def kill_marked(self, mark: int, worker: int = 0) -> None:
        """Do what `pserver.system.process_marks.kill_marked` does, also when there is no room for a descriptor."""
        self._spare.use(lambda: kill_marked(mark, worker))

    def has_orphan(self, pid: int) -> bool:
        """Whether a process descends from this one and belongs to no node yet: only such a one may be adopted.

        It is a child of ours, unless the user's code adopts orphans, too.
        """
        return self._spare.use(lambda: descends_from(pid, os.getpid())) and not self._owns(pid)

    def _owns(self, pid: int) -> bool:
        return any(node.owns(pid) for node in self._nodes)

    def forget(self, node: "_Node") -> None:
        """Forget a node of which nothing is left."""
        self._nodes.remove(node)

    def close_all(self) -> None:
        """Close what is open here and an engine must not keep; for a process that was forked from this one."""
        self._spare.close()
        if self._root is not None:
            self._root.close()
        for node in self._nodes:
            node.close_all()

    def _hear_root(self) -> None:
        assert self._root is not None  # noqa: S101 - it is watched
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
        """Reap what the user's code has left behind, once it has been seen to have ended before."""
        with contextlib.suppress(ChildProcessError):
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            pid = found.si_pid if found else 0
            if pid and not self._owns(pid):
                if pid in self._ended_others:
                    os.waitpid(pid, os.WNOHANG)
                self._ended_others = {pid} - self._ended_others


class _Node:
    """The engine and the workers of one node, as the spawner holds them; its supervisor asks on the first of `ends`."""

    def __init__(self, spawner: _Spawner, facts: words.NodeFacts, *ends: socket.socket) -> None:
        self._spawner = spawner
        self._facts = facts
        self._sock, self._deaths = ends
        self._folder = b""
        self._engine: _Engine | None = None
        self._workers: dict[int, int] = {}  # their numbers, by the descriptor that stands for the process
        self._untold: deque[bytes] = deque()  # ends of workers for which there is no room in `deaths`
        self._ending = 0  # the number of the request to end the engine
        # A request to start one, once the engine has ended.
        self._next: tuple[int, Sequence[int]] | None = None
        self._is_left = False  # the supervisor is gone
        # The instant after which the end of the engine is not waited for; 0: it is not being ended.
        self._ends_by = 0.0
        self._deaths.setblocking(False)
        spawner.watch(self._sock.fileno(), self._hear)

    @property
    def due(self) -> float:
        """The instant at which `look` has something to do, if nothing happens before."""
        now = time.monotonic()
        return min(self._ends_by or now + _LOOK, now + (_TELL_AGAIN if self._untold else _LOOK))

    def close_all(self) -> None:
        """Close what is open here, in a process that was forked from this one."""
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

    def _hear(self) -> None:
        try:
            request, descriptors = receive_descriptors(self._sock, words.MESSAGE_BYTES, _ENDS_OF_AN_ENGINE)
        except NoRoomError as error:
            request, descriptors = error.message, []  # which a start needs, and so is refused
        except ConnectionResetError:  # the supervisor ended before it had read an answer; its requests follow
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
        """End the engine, as a request asks with its number; without one, the supervisor is gone."""
        self._ending = number or 0
        self._is_left = number is None
        self._forget_next()
        if self._is_left:
            self._spawner.unwatch(self._sock.fileno())
            self._end_workers()
        self._end_engine()

    def _answer(self, number: int, text: str) -> None:
        # A supervisor that is gone says so with the next request. One that is stopped may have asked much.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
            self._sock.send(f"{number}={text}".encode(), socket.MSG_DONTWAIT)

    # --- the engine ---

    def _start(self, number: int, descriptors: Sequence[int]) -> None:
        """Start an engine, and answer with its process number, or with the reason why there is none.

        If the one before is just being ended, that waits for its end.
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
        """Tell how an engine ended that was to be ended, if its time has passed, and what has not been told yet."""
        self._tell_untold()
        if self._engine is not None and self._ends_by and now >= self._ends_by:
            self._spawner.unwatch(self._engine.pidfd)
            engine, self._engine, self._ends_by = self._engine, None, 0.0
            self._engine_ended(engine.close())

    def _engine_ended(self, code: int | None) -> None:
        following, self._next = self._next, None
        if self._is_left:
            self._leave()
        else:
            self._answer(self._ending, "" if code is None else str(code))
        if following is not None:
            self._start(*following)

    def _forget_next(self) -> None:
        if self._next is not None:
            for descriptor in self._next[1]:
                os.close(descriptor)
            self._next = None

    def _leave(self) -> None:
        """Leave nothing of a node without a supervisor, once its engine and its workers have ended."""
        if self._engine is not None or self._workers:
            return
        folder = os.fsdecode(self._folder)
        if is_session_folder(folder):  # what else a supervisor may have named, is not removed
            remove_folder(folder)
        self._sock.close()
        self._deaths.close()
        self._spawner.forget(self)

    # --- the workers ---

    def _adopt(self, pid: int) -> None:
        if not self._spawner.has_orphan(pid):  # it was reaped, or is a stranger, who is left alone
            self.tell(words.death(pid, -signal.SIGKILL))
            return
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # there is no room to watch it
            kill_with_group(pid)
            self.tell(words.death(pid, -signal.SIGKILL))
            return
        self._workers[descriptor] = pid
        self._spawner.watch(descriptor, lambda: self._report_end(descriptor))

    def _report_end(self, descriptor: int) -> None:
        self._spawner.unwatch(descriptor)
        pid = self._workers.pop(descriptor)
        os.close(descriptor)
        # Before it is reaped: its number, and that of its group, are still its own.
        kill_group(pid)
        self._spawner.kill_marked(self._facts.mark, pid)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:  # no child of ours yet: its parent is just ending
            code = -signal.SIGKILL
        if self._is_left:
            self._leave()
        else:
            self.tell(words.death(pid, code))

    def tell(self, news: bytes) -> None:
        """Tell the supervisor something for `Spawner.read_death`."""
        self._untold.append(news)
        self._tell_untold()

    def _tell_untold(self) -> None:
        """Tell what there is room for. A supervisor that ends many workers may be waiting for an answer of ours."""
        with contextlib.suppress(BlockingIOError):
            while self._untold:
                with contextlib.suppress(ConnectionError):  # it is gone, which the next request tells
                    self._deaths.send(self._untold[0])
                self._untold.popleft()

    def _end_workers(self) -> None:
        """Kill all workers and what they have started; `_report_end` reaps each when it has ended."""
        for pid in self._workers.values():
            kill_with_group(pid)


class _Engine:
    """The process of an engine. `pid`: its number. `pidfd`: a descriptor that stands for the process."""

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
            _be_engine(descriptors, its_lifeline)

        with its_lifeline:
            try:
                self._process = ForkedProcess(be_engine)
            except OSError:
                self._lifeline.close()
                raise
        self.pid, self.pidfd = self._process.pid, self._process.pidfd

    def kill(self) -> None:
        """Kill it with all processes of its node, those that live."""
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


def _be_engine(descriptors: Sequence[int], lifeline: Connection) -> None:
    pipe, handover, *outputs, forks, memory = descriptors
    engine_main(
        socket.socket(fileno=pipe),
        socket.socket(fileno=handover),
        [Connection(descriptor, readable=False) for descriptor in outputs],
        lifeline,
        socket.socket(fileno=forks),
        memory,
    )
