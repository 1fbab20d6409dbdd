"""The one loop of a network: everything that blocks, blocks in `EventLoop.run_until`.

There are no threads. While any call waits, all connections of the network are served: what waits to be sent goes out,
what arrives is taken in. So two nodes that send to each other first, or a ring of them, do not wait for each other.

All of it happens inside `EventLoop.sigint_deferred`, see `pconnect.loop.interrupts`.
"""

import contextlib
import math
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pconnect.errors import ParallelError
from pconnect.link.connection import Connection
from pconnect.loop.interrupts import DeferredSigint
from pconnect.loop.liveness import Liveness
from pconnect.loop.progress_bars import Meter, ProgressBarMaker
from pconnect.loop.registration import Registration
from pconnect.protocol.wait_states import Wait
from pconnect.values.receive_buffers import RECEIVE_BUFFERS
from srp_tools.channel import no_answer
from srp_tools.steps import TaskRunner, remaining

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
# After so many seconds outside the loop, a call first takes in what has happened meanwhile. A restart takes longer: so
# what is sent after one goes to the new engine.
_LONG_AWAY = 0.005


class EventLoop:
    """The descriptors of one network and the loop that serves them.

    `selector`: waits for them; by default the best that the system has.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self._selector = selector or selectors.DefaultSelector()
        self._registrations: dict[Connection, Registration] = {}
        self._changed: set[Connection] = set()  # may want other events
        self._unread: set[Registration] = set()  # may have bytes, perhaps in OpenSSL, that no poll reports
        self._polled_at = time.monotonic()
        self._liveness = Liveness()
        self.is_open = True
        #: A wait looks up at least this often, in seconds, for conditions that change with time and not with an event.
        self.longest_sleep = 1.0
        #: Handshakes that go on in this loop.
        self.background = TaskRunner(self._selector)
        #: Tells what the innermost wait under way waits for; ``None`` if it may end without a message of another node.
        self.wait: Callable[[], Wait] | None = None
        #: Another number after each beginning and each end of a wait.
        self.serial = 0
        #: Called in a wait, whenever it has turned out that it is not over; may return an error that ends it.
        self.attention: Callable[[], ParallelError | None] | None = None
        #: Called before each look at the connections, for what other threads have left to be sent.
        self.before_poll: Callable[[], object] | None = None
        self._soon: deque[Callable[[], object]] = deque()
        #: Keeps Ctrl-C from interrupting what is done inside, except where the loop sleeps.
        self.sigint_deferred = DeferredSigint()

    def add(self, connection: Connection) -> None:
        """Serve a connection from now on, until it is closed."""
        registration = self._registrations[connection] = Registration(self._selector, connection)
        registration.wait_for(_READ)
        self._changed.add(connection)
        connection.changed = self._changed

    def remove(self, connection: Connection) -> None:
        """Serve a connection no longer. It stays open. One that is not served is left alone."""
        registration = self._registrations.pop(connection, None)
        if registration is not None:
            registration.wait_for(0)
            self._unread.discard(registration)
            self._changed.discard(connection)
            connection.changed = set()

    def fileno(self) -> int | None:
        """Return a descriptor that can be read from when `poll` has something to do, where the system has such."""
        selector: Any = self._selector
        return selector.fileno() if hasattr(selector, "fileno") else None

    @property
    def has_unread(self) -> bool:
        """Whether `poll` has something to do that `fileno` does not show."""
        return bool(self._unread)

    def watch(self, fileno: int, callback: Callable[[], object]) -> None:
        """Call `callback` whenever `fileno` can be read from."""
        self._selector.register(fileno, _READ, callback)

    def unwatch(self, fileno: int) -> None:
        """End `watch`."""
        self._selector.unregister(fileno)

    def close(self) -> None:
        """Close all connections and the loop."""
        self.is_open = False
        self.background.close()
        for connection in list(self._registrations):
            self.discard(connection)
        self._selector.close()

    def abandon(self, error: ParallelError) -> None:
        """Leave the connections and the loop to the process that this one was forked from."""
        self.is_open = False
        for connection in list(self._registrations):
            connection.abandon(error)
        self._registrations.clear()
        # Closes our descriptor; what is registered stays so for the other process.
        self._selector.close()

    def discard(self, connection: Connection) -> None:
        """Close a connection and serve it no longer."""
        self.remove(connection)
        connection.close()

    def lose(self, connection: Connection, error: ParallelError) -> None:
        """Close a connection because of `error`, and serve it no longer."""
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
            Looked at after each change; may raise to end the wait.
        deadline
            Instant of `time.monotonic`.
        what
            What is waited for, for the error; or a function that tells.
        wait
            Tells whose messages alone can end the wait, apart from the deadline, so that a deadlock can be found.
        progress_bar
            Tells how far the wait is, for a progress bar if it takes long; see `pconnect.loop.progress_bars`.

        Raises
        ------
        TimeoutError
            The deadline passed and the condition does not hold. All connections are as usable as before.
        DeadlockError
            Nobody can go on; see `pconnect.session.deadlock_detector`. The same holds.
        KeyboardInterrupt
            The user pressed Ctrl-C (or what another SIGINT handler raises). The same holds.
        """
        with self.sigint_deferred:
            if condition():
                return
            outer, self.wait = self.wait, wait if deadline == math.inf else None
            self.serial += 1
            try:
                with Meter(progress_bar) if progress_bar is not None else contextlib.nullcontext() as meter:
                    self._wait(condition, deadline, what, meter)
            finally:
                self.wait = outer
                self.serial += 1

    def _wait(
        self,
        condition: Callable[[], bool],
        deadline: float,
        what: str | Callable[[], str],
        meter: Meter | None,
    ) -> None:
        """Do what `run_until` is for, once the condition did not hold."""
        while True:
            if self.attention is not None and (error := self.attention()) is not None:
                raise error
            left = remaining(deadline)
            if left == 0:
                raise TimeoutError(
                    f"time limit passed while waiting for {what() if callable(what) else what}"
                )
            sleep = self.longest_sleep if left is None else min(left, self.longest_sleep)
            if meter is not None:
                meter.look()
                sleep = min(sleep, meter.longest_sleep)
            self.poll(sleep)
            if condition():
                return

    def catch_up(self) -> None:
        """Look at what has happened, if that was not done for a while; never waits.

        Who computes for an hour and then sends should not send to an engine that was restarted in that hour.
        """
        if self.is_open and time.monotonic() - self._polled_at > _LONG_AWAY:
            with self.sigint_deferred:
                self.poll(0)

    def poll(self, timeout: float) -> None:
        """Wait for at most `timeout` seconds until something can be read or written, and do it."""
        if self.before_poll is not None:
            self.before_poll()
        now = time.monotonic()
        if now >= self._liveness.next_look:
            for connection in self._liveness.gone(self._registrations):
                self.lose(connection, no_answer(connection.peer_timeout))
        if self._changed:
            self.update_events()
        timeout = 0 if self._unread else min(timeout, max(0.0, self._liveness.next_look - now))
        if timeout and self.background:
            timeout = min(timeout, self.background.time_left())
        for entry, events in self.sigint_deferred.sleep(self._selector.select, timeout):
            owner = entry.data
            if isinstance(owner, Registration):
                self._serve(owner, events)
            # The callback of another entry may have ended this watch.
            elif self._selector.get_map().get(entry.fd) is entry:
                owner()
        for registration in list(self._unread):
            self._serve(registration, _READ)
        if self.background:
            self.background.expire()
        self._polled_at = time.monotonic()
        RECEIVE_BUFFERS.release_idle(self._polled_at)
        if self._soon:
            self.call_waiting()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function of the user at the end of the next `poll`.

        Nothing of this package is half done then: the function may make any call, and may raise anything.
        """
        self._soon.append(function)

    def call_waiting(self) -> None:
        """Call all functions of `call_soon`, whatever they raise; the error of the last that failed is raised."""
        with contextlib.ExitStack() as stack:
            for _ in range(len(self._soon)):
                stack.callback(self._call_next)

    def _call_next(self) -> None:
        if self._soon:  # a wait inside another one may have called it
            self._soon.popleft()()

    def take_in(self, connection: Connection) -> None:
        """Read what has arrived on one connection now."""
        registration = self._registrations.get(connection)
        if registration is not None:
            self._serve(registration, _READ)

    def lend(self, connection: Connection) -> bool:
        """Leave it to the caller to wait for what arrives on a connection; return whether that is possible.

        He calls `take_in` when the descriptor can be read from, and at last `take_back`. What waits to be sent is the
        loop's business as before.
        """
        registration = self._registrations.get(connection)
        if registration is None or registration.is_lent or registration.events != _READ or self._unread:
            return False
        registration.is_lent = True
        registration.wait_for(0)
        return True

    def take_back(self, connection: Connection) -> None:
        """End `lend`. A connection that was closed meanwhile, or got another link, is left alone."""
        registration = self._registrations.get(connection)
        if registration is not None and registration.is_lent:
            registration.is_lent = False
            registration.wait_for(registration.events | _READ)
            self._changed.add(connection)

    def drain(self, connection: Connection) -> None:
        """Read all that has arrived on a connection whose other end is gone."""
        while not connection.is_awaited and connection.error is None and connection.fill(to_the_end=True):
            pass
        if connection.error is not None:
            self.remove(connection)

    def flush(self, connection: Connection) -> None:
        """Write what can be written to one connection now."""
        connection.flush()
        if connection.error is not None:
            self.remove(connection)

    def send_all(
        self,
        connections: Sequence[Connection],
        buffers: Sequence[bytes | memoryview],
        wait: Callable[[], object],
    ) -> None:
        """Send one encoded message to several nodes.

        If the system does not take all of it at once, `wait` is called, which returns or raises when the caller waits
        no longer. What is then left is copied, so that the memory of the message may change; it is sent later.
        """
        try:
            for connection in connections:
                connection.post_encoded(buffers)
                self.flush(connection)
            if any(connection.wants_to_write for connection in connections):
                wait()
        finally:
            for connection in connections:
                if connection.has_unsent:
                    connection.keep_unsent()

    def _serve(self, registration: Registration, events: int) -> None:
        connection = registration.connection
        # Another callback may have closed it, or may have reset its link, which then has another registration or none.
        if connection.error is not None or self._registrations.get(connection) is not registration:
            return
        if events & _WRITE:
            connection.flush()
        if events & _READ and connection.error is None:
            if connection.fill():
                self._unread.add(registration)
            else:
                self._unread.discard(registration)
        if connection.error is not None:
            self.remove(connection)

    def update_events(self) -> bool:
        """Have the selector wait for what the connections want now; return whether that was something else before."""
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
                self._unread.add(registration)  # no poll reports what OpenSSL had read before
            elif not reads:
                self._unread.discard(registration)
            registration.wait_for(wanted)
            has_changed = True
        return has_changed
