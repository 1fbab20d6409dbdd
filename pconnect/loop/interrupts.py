"""Ctrl-C: deferred while code must not be interrupted, and forwarded to the commands that the user waits for.

Python's signal handler may raise between any two bytecodes, even while a message is being parsed. Inside a
`DeferredSigint`, the handler only records the interrupt, except while `sleep` waits in the operating system, when
nothing can be left half done. The next `sleep` raises a recorded interrupt, or else the end of the outermost block.

Python runs handlers between two bytecodes of the main thread, so this table covers all possible places:

=========================================  ========================================================================
where the interrupt occurs                 what happens
=========================================  ========================================================================
``__enter__``, before ``set_handler``      the previous handler runs and may raise: nothing has changed yet
after it, before ``_depth += 1``           recorded; nothing raises here, so the block is entered completely
inside, awake                              recorded; the next `sleep` raises it before it waits, otherwise ``__exit__``
`sleep`, before ``_sleeping = True``       recorded, and seen by the ``if`` after that line
after that line, until the call begins     raised immediately; it cannot be missed, because `_sleeping` is set before
                                           the ``if``
in the call                                the system ends the call (EINTR) and the handler raises; if a user's handler
                                           returns, Python repeats the call for the remaining time (PEP 475)
after the call, until ``_sleeping =        raised immediately; the events of the call are dropped, and the next poll
False``                                    reports them again, because selectors are level-triggered
``__exit__`` of an inner block             recorded: `_depth` is still greater than 0
``__exit__`` of the outermost block,       recorded, and raised by the ``if`` after ``set_handler``
before ``set_handler``
after it                                   the previous handler runs: the block is over. An interrupt that was recorded
                                           earlier is raised by the next block
a second one, while one is recorded        both count as one
inside a block of another loop             the previous handler is that loop's: it records, or raises if it sleeps
in another thread                          impossible: Python runs handlers in the main thread only, and blocks in other
                                           threads do not install one
=========================================  ========================================================================
"""

import contextlib
import os
import signal
import threading

# The functions of `signal` convert to enumerations and back, which takes fifteen times as long.
from _signal import getsignal
from _signal import signal as set_handler
from collections.abc import Callable, Sequence
from threading import get_ident
from types import FrameType
from typing import Any, TypeVar

from pconnect.link.peer import Peer
from pconnect.loop.spinning import spinning
from srp_tools.steps import deadline_after

T = TypeVar("T")

_SIGINT = int(signal.SIGINT)
_main = threading.main_thread().ident


def _find_main() -> None:
    global _main  # noqa: PLW0603 - the thread that forks becomes the main thread of the new process
    _main = threading.main_thread().ident


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_find_main)


class DeferredSigint:
    """A reentrant context manager that defers Ctrl-C. Each loop has one.

    Only one thread at a time is inside, except where threads sleep: see `pconnect.loop.turns`. Everything about Ctrl-C
    applies to the main thread only.

    `on_release`: called without the lock when a thread has left while others sleep inside.
    """

    __slots__ = (
        "_depth", "_handler", "_installed", "_interrupted", "_lock", "_on_release", "_sleeping", "asleep", "spins",
        "users",
    )  # fmt: skip

    def __init__(self, on_release: Callable[[], object] = lambda: None, *, spins: bool = False) -> None:
        #: Whether `sleep` spins for a moment before it sleeps, see `pconnect.loop.spinning`.
        self.spins = spins
        self.asleep = 0  #: number of threads that sleep inside, and of other listeners to `on_release`
        self.users: set[int] = set()  #: threads that have been inside
        self._on_release = on_release
        self._lock: Any = threading.RLock()
        self._depth = 0  # of the main thread
        self._installed = False
        self._sleeping = False
        self._interrupted = False
        self._handler: Callable[[int, FrameType | None], Any] = signal.default_int_handler

    def __enter__(self, waits: bool = True) -> bool:
        if (thread := get_ident()) == _main:
            if not self._depth:
                self.users.add(thread)
                # If the handler is not callable, the signal is ignored or has the system's default action, so no Python
                # code would run. After ours is set, nothing can raise here.
                if callable(before := getsignal(_SIGINT)):
                    self._handler = before
                    set_handler(_SIGINT, self._on_interrupt)
                    self._installed = True
            self._depth += 1
        else:
            self.users.add(thread)
        if not self._lock.acquire(False):
            if not waits:
                self._leave()
                return False
            self._await_lock()
        return True

    def _await_lock(self) -> None:
        try:
            self._lock.acquire()
        except BaseException:  # raised by the handler of another signal
            self._leave()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if self.asleep and not self._lock._is_owned():
            self._on_release()
        if get_ident() == _main:
            self._depth -= 1
            if self._installed and not self._depth:
                self._restore()

    def _leave(self) -> None:
        if get_ident() == _main:
            self._depth -= 1
            if self._installed and not self._depth:
                self._restore()

    def _restore(self) -> None:
        self._installed = False
        set_handler(_SIGINT, self._handler)
        if self._interrupted:
            self._honour()

    def enter_if_free(self) -> bool:
        """Enter unless another thread is awake inside. Return whether this thread has entered."""
        return self.__enter__(False)

    @property
    def active(self) -> bool:
        """Whether the main thread is inside."""
        return self._depth > 0

    def sleep(self, wait: Callable[[float], T], timeout: float) -> T:
        """Return ``wait(timeout)``. Ctrl-C interrupts it, and other threads may enter meanwhile."""
        is_main, held = get_ident() == _main, None
        self.asleep += 1
        try:
            if self._lock._is_owned():
                held = self._lock._release_save()
            if self.asleep > 1:
                self._on_release()
            return self._sleep(wait, timeout) if is_main else self._wait(wait, timeout)
        finally:  # nothing raises here, because interrupts are recorded
            if held is not None:
                self._lock._acquire_restore(held)
            self.asleep -= 1

    def _sleep(self, wait: Callable[[float], T], timeout: float) -> T:
        try:
            self._sleeping = True
            if self._interrupted:
                self._sleeping = False
                self._honour()
            return self._wait(wait, timeout)
        finally:
            self._sleeping = False

    def _wait(self, wait: Callable[[float], T], timeout: float) -> T:
        # If several threads sleep, spinning would keep the others from running.
        return spinning(wait, timeout) if self.spins and self.asleep == 1 else wait(timeout)

    def let_go(self, function: Callable[[], object]) -> None:
        """Call a function while other threads may enter."""
        held = self._lock._release_save() if self._lock._is_owned() else None
        try:
            if self.asleep:
                self._on_release()
            function()
        finally:
            if held is not None:
                self._lock._acquire_restore(held)

    def abandon(self) -> None:
        """Forget all other threads, which do not exist in a forked process."""
        if not self._lock._is_owned():
            self._lock = threading.RLock()
        self.asleep = 0
        self.users.clear()

    def _on_interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        self._interrupted = True
        if self._sleeping:
            self._sleeping = False
            self._honour()

    def _honour(self) -> None:
        self._interrupted = False
        self._handler(_SIGINT, None)


# Seconds after Ctrl-C in which interrupted commands may end and print their last output in the right place. Most need
# some milliseconds, but a long call of C code notices the interrupt only when it returns.
_INTERRUPT_GRACE = 0.7


class interrupting(contextlib.AbstractContextManager[None]):  # noqa: N801 - used like a function
    """Forward a Ctrl-C raised inside to the peers that the block waits for, and wait a moment for their reaction.

    A second Ctrl-C during that moment, or during another wait for the same commands, kills the engines.
    """

    def __init__(self, peers: Sequence[Peer], number: int | None = None) -> None:
        self._peers = peers
        self._number = number

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            return
        try:
            for peer in self._peers:
                with peer.guard:
                    peer.interrupt(self._number)
            deadline = deadline_after(_INTERRUPT_GRACE)
            busy = [words for peer in self._peers if (words := peer.settle(deadline))]
        except KeyboardInterrupt:
            for peer in self._peers:
                with peer.guard:
                    peer.kill(self._number)
            raise
        if busy and error is not None:
            error.add_note(
                f"{' and '.join(busy)} has not ended yet: wait for it again and interrupt that, or call kill() of the "
                "node, to end its engine"
            )
