"""The event loop of a network. Every blocking call blocks in `EventLoop.run_until`.

The library starts no thread for it. While any call waits, the loop serves all connections of the network: it sends
queued data and receives arriving data. So two nodes, or a ring of nodes, that all send first do not deadlock. If
several threads of the user wait, one of them serves the loop for all, see `pconnect.loop.turns`.

All of this happens inside `EventLoop.sigint_deferred`, which only one thread can enter at a time and which Ctrl-C does
not interrupt; see `pconnect.loop.interrupts`.
"""

import contextlib
import math
import selectors
import time
from collections.abc import Callable, Sequence
from typing import Any

from pconnect.errors import ConnectionLostError, ParallelError
from pconnect.link.connection import Connection
from pconnect.loop.forked_copies import leave_in_copies
from pconnect.loop.liveness import Liveness
from pconnect.loop.progress_bars import Meter, ProgressBarMaker
from pconnect.loop.registration import Registration
from pconnect.loop.turns import Turns
from pconnect.protocol.wait_states import Wait
from pconnect.values.receive_buffers import RECEIVE_BUFFERS
from srp_tools.channel import no_answer
from srp_tools.steps import TaskRunner, describe_seconds, remaining

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
# After this many seconds outside the loop, a call first processes the events since then. A restart takes longer, so
# data that is sent after a restart goes to the new engine.
_LONG_AWAY = 0.005


class EventLoop:
    """The descriptors of one network, and the loop that serves them.

    `selector`: waits for the descriptors; by default the best one that the system has.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self._selector = selector or selectors.DefaultSelector()
        self._registrations: dict[Connection, Registration] = {}
        self._changed: set[Connection] = set()  # may want other events than they are registered for
        self._unread: set[Registration] = set()  # may have bytes that no poll reports, for example in OpenSSL
        self._polled_at = time.monotonic()
        self._liveness = Liveness()
        self._why_closed = ""  # empty while the loop is open
        #: The longest sleep of a wait, in seconds, because some conditions change with time and not with an event.
        self.longest_sleep = 1.0
        #: Handshakes that run in this loop.
        self.background = TaskRunner(self._selector)
        #: Describes the innermost current wait; ``None`` if it can end without a message from another node.
        self.wait: Callable[[], Wait] | None = None
        #: Changes with each start and end of a wait.
        self.serial = 0
        #: Called during a wait whenever its condition does not hold. May return an error that ends the wait, or, if the
        #: wait has a deadline, explains the timeout.
        self.attention: Callable[[], ParallelError | None] | None = None
        #: Called before each poll, to queue data that other threads want to send.
        self.before_poll: Callable[[], object] | None = None
        #: The threads that use this loop.
        self.turns = Turns(self._selector)
        #: Keeps Ctrl-C and other threads from interrupting the code inside, except where the loop sleeps.
        self.sigint_deferred = self.turns.guard
        leave_in_copies(self)

    def add(self, connection: Connection) -> None:
        """Serve a connection until it is closed."""
        registration = self._registrations[connection] = Registration(self._selector, connection)
        registration.wait_for(_READ)
        self._changed.add(connection)
        connection.changed = self._changed

    def remove(self, connection: Connection) -> None:
        """Stop serving a connection, which stays open. Ignores a connection that is not served."""
        registration = self._registrations.pop(connection, None)
        if registration is not None:
            registration.wait_for(0)
            self._unread.discard(registration)
            self._changed.discard(connection)
            connection.changed = set()
            self.turns.note_news()

    def fileno(self) -> int | None:
        """Return a descriptor that is readable when `poll` has something to do, or ``None`` if the system has none."""
        selector: Any = self._selector
        return selector.fileno() if hasattr(selector, "fileno") else None

    @property
    def has_unread(self) -> bool:
        """Whether `poll` has something to do that `fileno` does not show."""
        return bool(self._unread)

    def watch(self, fileno: int, callback: Callable[[], object]) -> None:
        """Call `callback` whenever `fileno` is readable."""
        self._selector.register(fileno, _READ, callback)

    def unwatch(self, fileno: int) -> None:
        """End `watch`."""
        self._selector.unregister(fileno)

    def close(self) -> None:
        """Close all connections and the loop. Threads that wait in it raise an error."""
        with self.sigint_deferred:
            self._why_closed = "the network is closed"
            self.turns.end()
            self.background.close()
            for connection in list(self._registrations):
                self.discard(connection)
            self._selector.close()

    def abandon(self, error: ParallelError) -> None:
        """Leave the connections and the loop to the parent process of a fork; see `forked_copies`."""
        self._why_closed = str(error)
        self.turns.abandon()
        for connection in list(self._registrations):
            connection.abandon(error)
        self._registrations.clear()
        # Closes only this process's descriptor; the registrations stay valid for the parent.
        self._selector.close()

    @property
    def is_open(self) -> bool:
        """Whether the loop was neither closed nor abandoned."""
        return not self._why_closed

    def check_open(self) -> None:
        """Raise an error if the loop was closed or abandoned."""
        if self._why_closed:
            raise ConnectionLostError(self._why_closed)

    def discard(self, connection: Connection) -> None:
        """Close a connection and stop serving it."""
        self.remove(connection)
        connection.close()

    def lose(self, connection: Connection, error: ParallelError) -> None:
        """Close a connection because of `error`, and stop serving it."""
        self.remove(connection)
        connection.lose(error)

    def run_until(
        self,
        condition: Callable[[], bool],
        deadline: float,
        what: str | Callable[[], str],
        wait: Callable[[], Wait] | None = None,
        progress_bar: ProgressBarMaker | None = None,
    ) -> None:
        """Serve all connections until `condition` holds.

        Parameters
        ----------
        condition
            Evaluated after each change. May raise an error to end the wait.
        deadline
            Instant of `time.monotonic`.
        what
            Describes the wait for the error message: a text, or a function that returns it.
        wait
            Returns the nodes whose messages alone can end the wait, apart from the deadline; used to find deadlocks.
        progress_bar
            Returns a progress bar for a long wait; see `pconnect.loop.progress_bars`.

        Raises
        ------
        TimeoutError
            The deadline passed and the condition does not hold. All connections remain usable. In a deadlock, the
            message says which node waits for which.
        DeadlockError
            No node can make progress, and there is no deadline; see `pconnect.session.deadlock_detector`. All
            connections remain usable.
        KeyboardInterrupt
            The user pressed Ctrl-C (or the error of another SIGINT handler). All connections remain usable.
        """
        with self.sigint_deferred:
            if condition():
                return
            began = time.monotonic()
            outer, self.wait = self.wait, _limited(wait) if wait and deadline < math.inf else wait
            self.serial += 1
            try:
                with Meter(progress_bar) if progress_bar is not None else contextlib.nullcontext() as meter:
                    self._wait(condition, deadline, began, what, meter)
            finally:
                self.wait = outer
                self.serial += 1

    def _wait(
        self,
        condition: Callable[[], bool],
        deadline: float,
        began: float,
        what: str | Callable[[], str],
        meter: Meter | None,
    ) -> None:
        """Serve all connections until the condition holds, which is not the case at the start."""
        while True:
            self.check_open()
            error = self.attention() if self.attention is not None else None
            left = remaining(deadline)
            if error is not None and left is None:
                raise error
            if left == 0:
                awaited = what() if callable(what) else what
                text = f"timed out after {describe_seconds(deadline - began)} waiting for {awaited}"
                raise TimeoutError(text if error is None else f"{text}: {error}")
            sleep = self.longest_sleep if left is None else min(left, self.longest_sleep)
            if meter is not None:
                meter.look()
                sleep = min(sleep, meter.longest_sleep)
            self.poll(sleep)
            if condition():
                return

    def catch_up(self) -> None:
        """Process recent events if the loop has not run for a while. Never waits.

        A program that computes for an hour and then sends must not send to an engine that was restarted meanwhile.
        """
        if self.is_open and time.monotonic() - self._polled_at > _LONG_AWAY:
            with self.sigint_deferred:
                self.poll(0)

    def poll(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for I/O events, and process them.

        If another thread is already polling, this one waits until that thread has finished.
        """
        # Hide this thread's wait: other threads may look at it meanwhile, and each has its own.
        wait, self.wait = self.wait, None
        try:
            self._poll(timeout)
        finally:
            self.wait = wait

    def look(self) -> bool:
        """Process all pending events without waiting. Return True if another thread does that and nothing was done."""
        if not self.is_open:
            return False
        if not self.sigint_deferred.enter_if_free():
            return True
        try:
            self.poll(0)
        finally:
            self.sigint_deferred.__exit__()
        return False

    def _poll(self, timeout: float) -> None:
        if self.before_poll is not None:
            self.before_poll()
        now = time.monotonic()
        if now >= self._liveness.next_look:
            for connection in self._liveness.gone(self._registrations):
                self.lose(connection, no_answer(connection.peer_timeout))
        if self._changed and self.update_events() and self.turns.is_polled:
            self.turns.note_news()
        timeout = 0 if self._unread else min(timeout, max(0.0, self._liveness.next_look - now))
        if timeout and self.background:
            timeout = min(timeout, self.background.time_left())
        ready = self.turns.select(timeout)
        if ready or self._unread:
            self.turns.note_news()
        for entry, events in ready:
            owner = entry.data
            if isinstance(owner, Registration):
                self._serve(owner, events)
            # Another callback may have ended this watch.
            elif self._has(entry):
                owner()
        for registration in list(self._unread):
            self._serve(registration, _READ)
        if self.background:
            self.background.expire()
        self._polled_at = time.monotonic()
        RECEIVE_BUFFERS.release_idle(self._polled_at)
        self.turns.call_waiting()

    def _has(self, entry: selectors.SelectorKey) -> bool:
        entries = self._selector.get_map()
        return entries is not None and entries.get(entry.fd) is entry

    def take_in(self, connection: Connection) -> None:
        """Read the data that has arrived on one connection."""
        registration = self._registrations.get(connection)
        if registration is not None:
            self._serve(registration, _READ)

    def lend(self, connection: Connection) -> bool:
        """Let the caller wait for data on a connection. Return whether that is possible.

        The caller calls `take_in` when the descriptor is readable, and `take_back` at the end. The loop still sends
        queued data.
        """
        registration = self._registrations.get(connection)
        if registration is None or registration.is_lent or registration.events != _READ or self._unread:
            return False
        registration.is_lent = True
        registration.wait_for(0)
        return True

    def take_back(self, connection: Connection) -> None:
        """End `lend`. Ignores a connection that was closed meanwhile or got another link."""
        registration = self._registrations.get(connection)
        if registration is not None and registration.is_lent:
            registration.is_lent = False
            registration.wait_for(registration.events | _READ)
            self._changed.add(connection)

    def drain(self, connection: Connection) -> None:
        """Read all remaining data of a connection whose other end is gone."""
        while not connection.is_awaited and connection.error is None and connection.fill(to_the_end=True):
            pass
        if connection.error is not None:
            self.remove(connection)

    def flush(self, connection: Connection) -> None:
        """Write to one connection without blocking."""
        connection.flush()
        if connection.error is not None:
            self.remove(connection)

    def send_all(
        self,
        connections: Sequence[Connection],
        buffers: Sequence[bytes | memoryview],
        wait: Callable[[Callable[[], bool]], object],
    ) -> None:
        """Send one encoded message to several nodes.

        If the system does not accept all of it immediately, call `wait` with a function that returns whether it has. It
        returns or raises when the caller stops waiting. Any remaining data is then copied, so that the memory of the
        message may change, and sent later.
        """
        ends: list[float] = []  # where our data ends in each queue; other threads may add data after it
        try:
            for connection in connections:
                connection.post_encoded(buffers)
                self.flush(connection)
            if any(connection.wants_to_write for connection in connections):
                ends += [connection.sent_bytes + connection.unsent_bytes for connection in connections]
                pairs = list(zip(connections, ends, strict=True))
                wait(lambda: not any(c.wants_to_write and c.sent_bytes < end for c, end in pairs))
        finally:
            for connection, end in zip(connections, ends or [math.inf] * len(connections), strict=True):
                if connection.has_unsent and connection.sent_bytes < end:
                    connection.keep_unsent()

    def _serve(self, registration: Registration, events: int) -> None:
        connection = registration.connection
        # Another callback may have closed the connection or reset its link, which then has a new registration or none.
        if connection.error is not None or self._registrations.get(connection) is not registration:
            return
        if events & _WRITE:
            connection.flush()
            if self._registrations.get(connection) is not registration:
                return  # its link was given up
        if events & _READ and connection.error is None:
            if connection.fill():
                self._unread.add(registration)
            else:
                self._unread.discard(registration)
        if connection.error is not None:
            self.remove(connection)

    def update_events(self) -> bool:
        """Register the connections for the events that they want now. Return whether anything changed."""
        has_changed = False
        while self._changed:
            connection = self._changed.pop()
            registration = self._registrations.get(connection)
            if registration is None or connection.error is not None:
                continue
            reads, before = connection.wants_to_read and not registration.is_lent, registration.events
            wanted = _READ * reads | _WRITE * connection.wants_to_write
            if wanted == before:
                continue
            if reads and not before & _READ:
                self._unread.add(registration)  # no poll reports data that OpenSSL has already read
            elif not reads:
                self._unread.discard(registration)
            registration.wait_for(wanted)
            has_changed = True
        return has_changed


def _limited(wait: Callable[[], Wait]) -> Callable[[], Wait]:
    return lambda: wait()._replace(has_limit=True)
