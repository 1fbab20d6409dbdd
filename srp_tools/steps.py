"""Steps that wait: one way to write a handshake, three ways to run it.

A handshake is written as a generator that does what it can without blocking and yields a `Wait` where it
cannot go on. The server runs one with `run`; a client runs the handshakes with all its servers side by side
with `run_all`, so that many logins last no longer than the slowest, without threads. (psycopg's
``generators.py`` and ``waiting.py`` have the same shape.) Every run has a deadline: an instant of
`time.monotonic`.
"""

import contextlib
import math
import os
import selectors
import socket
import time
from collections.abc import Generator, Hashable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

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

    Raises
    ------
    TimeoutError
        The deadline passed; the generator was closed where it waited, and so ran its clean-up.
    Exception
        Whatever the steps raised.
    """
    outcome = run_all({0: steps}, deadline)[0]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_all(steps: Mapping[K, Steps[T]], deadline: float) -> dict[K, T | Exception]:
    """Run many generators of steps side by side, until each has ended or the deadline has passed.

    Returns
    -------
    dict
        For each key the result of its steps, or the exception they ended with: a `TimeoutError` for those
        that had not ended by the deadline (they were closed where they waited). The failure of one does not
        end the others.
    """
    runner = _Runner[K, T]()
    with runner.selector:
        for key, generator in steps.items():
            runner.advance(key, generator)
        while runner.waits and (left := remaining(deadline)) != 0:
            runner.poll(left)
    for key in runner.waits:
        steps[key].close()
        runner.outcomes[key] = TimeoutError("no answer within the time limit")
    return runner.outcomes


class _Runner(Generic[K, T]):
    """Generators of steps on their way: what each waits for, and the outcomes of those that have ended."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.waits: dict[K, tuple[Wait, Steps[T]]] = {}
        self.outcomes: dict[K, T | Exception] = {}

    def poll(self, timeout: float | None) -> None:
        """Wait until some can go on, and let them."""
        first = min(wait.until for wait, _ in self.waits.values())
        if (own := remaining(first)) is not None:
            timeout = own if timeout is None else min(own, timeout)
        for entry, _ in self.selector.select(timeout):
            self._resume(entry.data)
        for key in [key for key, (wait, _) in self.waits.items() if remaining(wait.until) == 0]:
            self._resume(key, TimeoutError("no answer within the time limit"))

    def _resume(self, key: K, error: Exception | None = None) -> None:
        wait, generator = self.waits.pop(key)
        self.selector.unregister(wait.fileno)
        self.advance(key, generator, error)

    def advance(self, key: K, generator: Steps[T], error: Exception | None = None) -> None:
        """Let one generator go on until it waits again or ends."""
        try:
            wait = next(generator) if error is None else generator.throw(error)
        except StopIteration as end:
            self.outcomes[key] = end.value
        except Exception as failure:  # noqa: BLE001 - the outcome of these steps, for the caller
            self.outcomes[key] = failure
        else:
            self.selector.register(wait.fileno, wait.events, key)
            self.waits[key] = wait, generator


def connect(family: int, address: tuple[Any, ...]) -> Steps[socket.socket]:
    """Open a TCP connection to one socket address and return the non-blocking socket.

    Raises
    ------
    OSError
        The connection was refused or cannot be made. No socket is left open.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # A Unix system answers EINPROGRESS, Windows EWOULDBLOCK; both mean: wait until it can be written to.
        with contextlib.suppress(BlockingIOError):
            sock.connect(address)
        yield Wait(sock.fileno(), selectors.EVENT_WRITE)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
    except BaseException:
        sock.close()
        raise
    return sock


def receive_exactly(sock: socket.socket, count: int) -> Steps[bytes]:
    """Read exactly `count` bytes from a non-blocking socket, and nothing after them.

    Raises
    ------
    ConnectionResetError
        The peer closed the connection before.
    """
    data = bytearray()
    while len(data) < count:
        try:
            chunk = sock.recv(count - len(data))
        except BlockingIOError:
            yield Wait(sock.fileno())
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
