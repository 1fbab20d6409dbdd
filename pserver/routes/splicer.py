"""The thread of a session that forwards the traffic of relayed nodes, even if engines compute or clients are slow."""

import contextlib
import logging
import selectors
import socket
import threading
from collections import deque

from pconnect.routes.client_relay import splice
from srp_tools.steps import TaskRunner

log = logging.getLogger("pserver")


class Splicer:
    """A thread with its own loop, started for the first pair of connections."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._pairs: deque[tuple[socket.socket, socket.socket]] = deque()
        self._thread = threading.Thread()
        self._runner: TaskRunner | None = None  # the thread's

    @property
    def count(self) -> int:
        """The number of pairs, including those that are about to end."""
        directions = len(self._runner) if self._runner is not None else 0
        return len(self._pairs) + (directions + 1) // 2

    def add(self, first: socket.socket, second: socket.socket) -> None:
        """Forward the traffic between two connections in both directions; close them at the end.

        Raises `OSError` if no thread can be started; then the connections stay open.
        """
        if not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="relay", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise OSError(str(error)) from None
            self._thread = thread
        self._pairs.append((first, second))
        self._ours.send(b"x")

    def close(self) -> None:
        """Close all connections, and end the thread."""
        self._ours.close()
        if self._thread.is_alive():
            self._thread.join()
        self._theirs.close()
        while self._pairs:
            for sock in self._pairs.popleft():
                sock.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            self._runner = runner = TaskRunner(selector)
            selector.register(self._theirs, selectors.EVENT_READ, None)
            with contextlib.closing(runner):
                while True:
                    for entry, _ in selector.select():
                        if entry.data is not None:
                            entry.data()
                        elif self._theirs.recv(1):
                            self._splice(runner)
                        else:
                            return

    def _splice(self, runner: TaskRunner) -> None:
        try:
            splice(runner, *self._pairs.popleft())
        except OSError as error:
            log.warning("cannot relay two nodes: %s", error.strerror or error)
