"""The one loop of a network: everything that blocks, blocks in `EventLoop.run_until`.

There is no thread of ours. While any call waits, all connections of the network are served: what waits to be sent goes
out, what arrives is taken in. So two nodes that send to each other first, or a ring of them, do not wait for each
other. Where several threads of the user wait, one of them does that for all, see `pconnect.loop.turns`.

All of it happens inside `EventLoop.sigint_deferred`, where one thread at a time is, and which Ctrl-C does not
interrupt; see `pconnect.loop.interrupts`.
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
        self._why_closed = ""  # empty: it is open
        #: A wait looks up at least this often, in seconds, for conditions that change with time and not with an event.
        self.longest_sleep = 1.0
        #: Handshakes that go on in this loop.
        self.background = TaskRunner(self._selector)
        #: Tells what the innermost wait under way waits for; ``None`` if it may end without a message of another node.
        self.wait: Callable[[], Wait] | None = None
        #: Another number after each beginning and each end of a wait.
        self.serial = 0
        #: Called in a wait, whenever it has turned out that it is not over; may return an error that ends it, or, if it
        #: has a deadline, tells then why it did not end before.
        self.attention: Callable[[], ParallelError | None] | None = None
        #: Called before each look at the connections, for what other threads have left to be sent.
        self.before_poll: Callable[[], object] | None = None
        #: The threads that use it.
        self.turns = Turns(self._selector)
        #: Keeps other threads, and Ctrl-C, from interrupting what is done inside, except where the loop sleeps.
        self.sigint_deferred = self.turns.guard
        leave_in_copies(self)

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
            self.turns.note_news()

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
        """Close all connections and the loop. Other threads that wait raise."""
        with self.sigint_deferred:
            self._why_closed = "the network is closed"
            self.turns.end()
            self.background.close()
            for connection in list(self._registrations):
                self.discard(connection)
            self._selector.close()

    def abandon(self, error: ParallelError) -> None:
        """Leave the connections and the loop to the process that this one was forked from; see `forked_copies`."""
        self._why_closed = str(error)
        self.turns.abandon()
        for connection in list(self._registrations):
            connection.abandon(error)
        self._registrations.clear()
        # Closes our descriptor; what is registered stays so for the other process.
        self._selector.close()

    @property
    def is_open(self) -> bool:
        """Whether it was neither closed nor abandoned."""
        return not self._why_closed

    def check_open(self) -> None:
        """Raise if it was."""
        if self._why_closed:
            raise ConnectionLostError(self._why_closed)

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
            The deadline passed and the condition does not hold. All connections are as usable as before. If nobody
            could go on, the text says who waits for whom.
        DeadlockError
            Nobody can go on, and there is no deadline; see `pconnect.session.deadlock_detector`. The same holds.
        KeyboardInterrupt
            The user pressed Ctrl-C (or what another SIGINT handler raises). The same holds.
        """
        with self.sigint_deferred:
            if condition():
                return
            outer, self.wait = self.wait, _limited(wait) if wait and deadline < math.inf else wait
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
            self.check_open()
            error = self.attention() if self.attention is not None else None
            left = remaining(deadline)
            if error is not None and left is None:
                raise error
            if left == 0:
                text = f"time limit passed while waiting for {what() if callable(what) else what}"
                raise TimeoutError(text if error is None else f"{text}: {error}")
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
        """Wait for at most `timeout` seconds until something can be read or written, and do it.

        Where another thread waits for that, this one waits until it is done.
        """
        # Of others, who may look at it meanwhile, each has its own.
        wait, self.wait = self.wait, None
        try:
            self._poll(timeout)
        finally:
            self.wait = wait

    def look(self) -> bool:
        """Do what can be done now; never waits. Return whether another thread does that, and nothing was done."""
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
            # The callback of another entry may have ended this watch.
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
        wait: Callable[[Callable[[], bool]], object],
    ) -> None:
        """Send one encoded message to several nodes.

        If the system does not take all of it at once, `wait` is called with what tells whether it has, and returns or
        raises when the caller waits no longer. What is then left is copied, so that the memory of the message may
        change; it is sent later.
        """
        ends: list[float] = []  # up to where it is ours; behind that other threads may have put something
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
        # Another callback may have closed it, or may have reset its link, which then has another registration or none.
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


def _limited(wait: Callable[[], Wait]) -> Callable[[], Wait]:
    return lambda: wait()._replace(has_limit=True)
