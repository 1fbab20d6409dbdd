"""Handshakes written as generators, and functions that run them.

A handshake is a generator that does as much as it can without blocking and yields a `Wait` when it must wait.
(psycopg's ``generators.py`` and ``waiting.py`` have the same structure.) A `TaskRunner` resumes such steps when its
selector reports their descriptors, and passes their outcome to a callback. It runs inside the event loop of a network,
so connecting to a node that is busy does not block anything else. `run_all` is a loop of its own: a client logs in to
all its servers in parallel, without threads, and waits no longer than for the slowest one. `run` runs one handshake.

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
    """A condition that steps wait for: a socket becomes readable or writable.

    If `until` (an instant) passes first, the ``yield`` raises a `TimeoutError`.
    """

    fileno: int
    events: int = selectors.EVENT_READ
    until: float = math.inf


Steps = Generator[Wait, None, T]


def deadline_after(timeout: float | None) -> float:
    """Return the instant `timeout` seconds from now, or infinity for ``None``."""
    return math.inf if timeout is None else time.monotonic() + timeout


def remaining(deadline: float) -> float | None:
    """Return the seconds left until `deadline`, at least 0, or ``None`` if it is infinite."""
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


def describe_seconds(seconds: float) -> str:
    """Return a time limit as the message of a `TimeoutError` shows it.

    Examples
    --------
    >>> [describe_seconds(seconds) for seconds in (-1e-5, 0.0499, 4.998, 29.97, 3600)]
    ['0 s', '0.05 s', '5 s', '30 s', '3600 s']
    """
    return f"{max(0.0, seconds):.0f} s" if seconds < 0.001 or seconds >= 10 else f"{seconds:.2g} s"


def run(steps: Steps[T], deadline: float) -> T:
    """Run one generator of steps to its end and return its result.

    Raises `TimeoutError` if the deadline has passed; the generator was closed at its `Wait`, and its cleanup has run.
    Raises any exception of the steps.
    """
    outcome = run_all({0: steps}, deadline)[0]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_all(
    steps: Mapping[K, Steps[T]], deadline: float, outcomes: dict[K, T | Exception] | None = None
) -> dict[K, T | Exception]:
    """Run several generators of steps side by side, until each has ended or the deadline has passed.

    Return, for each key, the result of its steps or their exception: a `TimeoutError` for steps that had not ended by
    the deadline (they were closed at their `Wait`). The failure of one generator does not end the others.

    Each outcome is stored in `outcomes`, if given, as soon as it exists: the caller can then clean up after Ctrl-C.
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
    """Running steps. `TaskRunner.start` creates it."""

    def __init__(self, steps: Steps[Any], deadline: float, on_end: Callable[[Any], object]) -> None:
        self.steps = steps
        self.deadline = deadline
        self.on_end = on_end
        self.wait: Wait | None = None  # the condition it is registered for

    @property
    def due(self) -> float:
        """The latest instant at which the task must be checked."""
        return self.deadline if self.wait is None else min(self.deadline, self.wait.until)


def wait_for_deadline() -> Steps[None]:
    """Wait until the deadline of these steps ends them."""
    yield Wait(-1)


def pause(seconds: float) -> Steps[None]:
    """Wait for some seconds."""
    with contextlib.suppress(TimeoutError):
        yield Wait(-1, until=time.monotonic() + seconds)


class TaskRunner:
    """All steps that one loop runs.

    `selector`: the loop's selector. The loop calls the data of an entry when its descriptor is ready.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._tasks: set[Task] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, steps: Steps[Any], deadline: float, on_end: Callable[[Any], object]) -> Task:
        """Start steps.

        `steps`: may wait for a descriptor that nothing else in the loop waits for, or, with descriptor -1, for an
        instant. `deadline`: instant at which they are closed at their `Wait`, with a `TimeoutError` as the outcome.
        `on_end`: called with the result or the exception of the steps, perhaps before this method returns. Returns the
        task, for `cancel`.
        """
        task = Task(steps, deadline, on_end)
        self._tasks.add(task)
        self._advance(task)
        return task

    def cancel(self, task: Task) -> None:
        """Close steps at their `Wait` and discard their outcome. Does nothing if they have ended."""
        if task in self._tasks:
            self._leave(task)
            task.steps.close()

    def close(self) -> None:
        """Cancel all tasks."""
        for task in list(self._tasks):
            self.cancel(task)

    def time_left(self) -> float:
        """Return the seconds until `expire` has something to do."""
        return max(0.0, min((task.due for task in self._tasks), default=math.inf) - time.monotonic())

    def expire(self) -> None:
        """Raise `TimeoutError` in steps whose time limit has passed."""
        now = time.monotonic()
        for task in [task for task in self._tasks if task.due <= now]:
            error = TimeoutError("no answer within the time limit")
            if task not in self._tasks:  # the callback of another task has ended it
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
        """Run steps until their next `Wait` or their end."""
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
        The connection was refused or failed; a `TimeoutError` if `until` has passed. No socket is left open.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # Unix systems answer EINPROGRESS, Windows EWOULDBLOCK; both mean: wait until the socket is writable.
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
    """Read exactly `count` bytes from a non-blocking socket, and nothing beyond them.

    Raises `ConnectionResetError` if the peer closes the connection earlier, and `TimeoutError` if `until` passes
    earlier.
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
