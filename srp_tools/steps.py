"""Handshakes as generators, and what runs them.

A handshake is a generator that does what it can without blocking and yields a `Wait` where it cannot go on. (psycopg's
``generators.py`` and ``waiting.py`` have the same shape.) A `TaskRunner` advances such steps whenever its selector
reports their descriptors, and passes their outcome to a callback. It works in the loop of a network: so a connection
can be made to a node that has no time for it now, and nothing waits. `run_all` is such a loop with nothing else in it:
a client logs in to all its servers side by side, without threads, and waits no longer than for the slowest. `run` waits
for one handshake.

Every run has a deadline: an instant of `time.monotonic`.
"""

import contextlib
import functools
import math
import os
import selectors
import socket
import time
from collections.abc import Callable, Generator, Hashable, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Wait(NamedTuple):
    """What a step waits for: that a socket can be read from, or written to.

    Where `until` (an instant) passes first, a `TimeoutError` is raised at the ``yield``.
    """

    fileno: int
    events: int = selectors.EVENT_READ
    until: float = math.inf


Steps = Generator[Wait, None, T]


def deadline_after(timeout: float | None) -> float:
    """Return the instant `timeout` seconds from now; for ``None`` one that never comes."""
    return math.inf if timeout is None else time.monotonic() + timeout


def remaining(deadline: float) -> float | None:
    """Return the seconds left until `deadline`, not below 0; ``None`` if it never comes."""
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


def run(steps: Steps[T], deadline: float) -> T:
    """Run one generator of steps to its end and return its result.

    Raises `TimeoutError` if the deadline passed; the generator was closed where it waited, and so ran its clean-up.
    Raises what the steps raised.
    """
    outcome = run_all({0: steps}, deadline)[0]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_all(
    steps: Mapping[K, Steps[T]], deadline: float, outcomes: dict[K, T | Exception] | None = None
) -> dict[K, T | Exception]:
    """Run many generators of steps side by side, until each has ended or the deadline has passed.

    Returns for each key the result of its steps, or the exception they ended with: a `TimeoutError` for those that had
    not ended by the deadline (they were closed where they waited). The failure of one does not end the others.

    Each outcome stands in `outcomes`, if given, as soon as there is one: after Ctrl-C the caller closes what is open.
    """
    outcomes = {} if outcomes is None else outcomes
    with selectors.DefaultSelector() as selector:
        runner = TaskRunner(selector)
        try:
            for key, generator in steps.items():
                runner.start(generator, deadline, functools.partial(outcomes.__setitem__, key))
            while runner:
                left = runner.time_left()
                for entry, _ in selector.select(None if left == math.inf else left):
                    entry.data()
                runner.expire()
        finally:
            runner.close()
    return outcomes


class Task:
    """Steps on their way; `TaskRunner.start` makes it."""

    def __init__(self, steps: Steps[Any], deadline: float, on_end: Callable[[Any], object]) -> None:
        self.steps = steps
        self.deadline = deadline
        self.on_end = on_end
        self.wait: Wait | None = None  # what it is registered for

    @property
    def due(self) -> float:
        """When it is looked at, whatever happens."""
        return self.deadline if self.wait is None else min(self.deadline, self.wait.until)


def wait_for_deadline() -> Steps[None]:
    """Wait for nothing: the deadline of these steps ends them."""
    yield Wait(-1)


def pause(seconds: float) -> Steps[None]:
    """Wait for some seconds."""
    with contextlib.suppress(TimeoutError):
        yield Wait(-1, until=time.monotonic() + seconds)


class TaskRunner:
    """All steps that one loop advances.

    `selector`: that of the loop, which calls what stands in an entry when its descriptor is ready.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._tasks: set[Task] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, steps: Steps[Any], deadline: float, on_end: Callable[[Any], object]) -> Task:
        """Begin steps.

        `steps`: they may wait for a descriptor that nothing else in the loop waits for, or, with -1 for it, for an
        instant. `deadline`: instant at which they are closed where they wait, with a `TimeoutError` as outcome.
        `on_end`: called with the result, or with the exception that the steps ended with; perhaps before this returns.
        Returns what `cancel` takes.
        """
        task = Task(steps, deadline, on_end)
        self._tasks.add(task)
        self._advance(task)
        return task

    def cancel(self, task: Task) -> None:
        """Close steps where they wait; nothing learns their outcome. For those that have ended, this does nothing."""
        if task in self._tasks:
            self._leave(task)
            task.steps.close()

    def close(self) -> None:
        """Cancel all."""
        for task in list(self._tasks):
            self.cancel(task)

    def time_left(self) -> float:
        """Return the seconds until `expire` has something to do."""
        return max(0.0, min((task.due for task in self._tasks), default=math.inf) - time.monotonic())

    def expire(self) -> None:
        """Tell steps whose time is up."""
        now = time.monotonic()
        for task in [task for task in self._tasks if task.due <= now]:
            error = TimeoutError("no answer within the time limit")
            if task not in self._tasks:  # another one's outcome has ended it
                continue
            if task.deadline <= now:
                self.cancel(task)
                task.on_end(error)
            else:
                self._advance(task, error)

    def _leave(self, task: Task) -> None:
        self._tasks.discard(task)
        self._unregister(task)

    def _unregister(self, task: Task) -> None:
        if task.wait is not None and task.wait.fileno >= 0:
            self._selector.unregister(task.wait.fileno)
        task.wait = None

    def _advance(self, task: Task, error: Exception | None = None) -> None:
        """Let steps go on until they wait again or end."""
        self._unregister(task)
        try:
            task.wait = next(task.steps) if error is None else task.steps.throw(error)
        except StopIteration as end:
            outcome = end.value
        except Exception as failure:  # noqa: BLE001 - the outcome of these steps
            outcome = failure
        else:
            if task.wait.fileno >= 0:
                self._selector.register(task.wait.fileno, task.wait.events, lambda: self._advance(task))
            return
        self._leave(task)
        task.on_end(outcome)


def connect(family: int, address: tuple[Any, ...], until: float = math.inf) -> Steps[socket.socket]:
    """Open a TCP connection to one socket address and return the non-blocking socket.

    Raises
    ------
    OSError
        The connection was refused or cannot be made; a `TimeoutError` if `until` passed. No socket is left open.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # A Unix system answers EINPROGRESS, Windows EWOULDBLOCK; both mean: wait until it can be written to.
        with contextlib.suppress(BlockingIOError):
            sock.connect(address)
        yield Wait(sock.fileno(), selectors.EVENT_WRITE, until)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
    except BaseException:
        sock.close()
        raise
    return sock


def receive_exactly(sock: socket.socket, count: int, until: float = math.inf) -> Steps[bytes]:
    """Read exactly `count` bytes from a non-blocking socket, and nothing after them.

    Raises `ConnectionResetError` if the peer closed the connection before. Raises `TimeoutError` if `until` passed
    before.
    """
    data = bytearray()
    while len(data) < count:
        try:
            chunk = sock.recv(count - len(data))
        except BlockingIOError:
            yield Wait(sock.fileno(), until=until)
            continue
        if not chunk:
            raise ConnectionResetError("the connection was closed")
        data += chunk
    return bytes(data)


def send_all(sock: socket.socket, data: bytes) -> Steps[None]:
    """Write all of `data` to a non-blocking socket."""
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            yield Wait(sock.fileno(), selectors.EVENT_WRITE)
