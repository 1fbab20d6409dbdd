"""Ctrl-C: deferred while something must not be left half done, and passed on to the commands that are waited for.

Python's handler may raise between any two bytecodes, even while a message is being parsed. Inside a `DeferredSigint`
the handler only records the interrupt, except while `sleep` waits in the system, where nothing can be left half done.
A recorded interrupt is raised by the next `sleep`, or at the end of the outermost deferring block.

Python runs a handler between two bytecodes of the main thread, so these are all the places where one may run:

=========================================  ========================================================================
where the interrupt comes                  what happens
=========================================  ========================================================================
``__enter__``, before ``set_handler``      the handler from before runs and may raise: nothing has changed yet
after it, before ``_depth += 1``           recorded; nothing raises here, so the block is entered as a whole
inside, awake                              recorded; the next `sleep` raises it before it waits, or else ``__exit__``
`sleep`, before ``_sleeping = True``       recorded, and seen by the ``if`` after that line
after that line, until the call begins     raised at once; it cannot be slept over, for `_sleeping` is set before the
                                           ``if`` looks
in the call                                the system ends it (EINTR) and the handler raises; if a user's handler
                                           returns, Python repeats the call for the time that is left (PEP 475)
after the call, until ``_sleeping =        raised at once; the events of the call are dropped, and the next poll
False``                                    reports them again, because selectors are level-triggered
``__exit__`` of an inner block             recorded: `_depth` is still more than 0
``__exit__`` of the outermost block,       recorded, and raised by the ``if`` after ``set_handler``
before ``set_handler``
after it                                   the handler from before runs: the block is over. An interrupt that was
                                           recorded before is then raised by the next block
a second one, while one is recorded        they count as one
inside a block of another loop             the handler from before is that loop's: it records, or raises if it sleeps
in another thread                          never: Python runs handlers in the main thread only, and blocks of other
                                           threads install nothing
=========================================  ========================================================================
"""

import contextlib
import signal

# Those of `signal` are wrapped to convert to enumerations and back, which takes fifteen times as long.
from _signal import getsignal
from _signal import signal as set_handler
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, TypeVar

from pconnect.link.peer import Peer
from pconnect.loop.spinning import spinning
from srp_tools.steps import deadline_after

T = TypeVar("T")


class DeferredSigint:
    """A context manager that can be entered again inside itself; one for each loop."""

    __slots__ = ("_depth", "_handler", "_installed", "_interrupted", "_sleeping", "spins")

    def __init__(self, *, spins: bool = False) -> None:
        self.spins = (
            spins  #: whether `sleep` looks for a moment before it sleeps, see `pconnect.loop.spinning`
        )
        self._depth = 0
        self._installed = False
        self._sleeping = False
        self._interrupted = False
        self._handler: Callable[[int, FrameType | None], Any] = signal.default_int_handler

    def __enter__(self) -> None:
        # A handler that is not callable is "ignored" or the system's own action: then nothing of Python's would run.
        # Once ours is set, nothing more can be raised here.
        if not self._depth and callable(before := getsignal(signal.SIGINT)):
            self._handler = before
            try:
                set_handler(signal.SIGINT, self._on_interrupt)
                self._installed = True
            except ValueError:  # only the main thread gets signals, and to ask for it would take longer
                pass
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._installed and not self._depth:
            self._installed = False
            set_handler(signal.SIGINT, self._handler)
            if self._interrupted:
                self._honour()

    @property
    def active(self) -> bool:
        """Whether something is under way inside."""
        return self._depth > 0

    def sleep(self, wait: Callable[[float], T], timeout: float) -> T:
        """Return ``wait(timeout)``, which Ctrl-C interrupts."""
        try:
            self._sleeping = True
            if self._interrupted:
                self._sleeping = False
                self._honour()
            return spinning(wait, timeout) if self.spins else wait(timeout)
        finally:
            self._sleeping = False

    def _on_interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        self._interrupted = True
        if self._sleeping:
            self._sleeping = False
            self._honour()

    def _honour(self) -> None:
        self._interrupted = False
        self._handler(signal.SIGINT, None)


# After Ctrl-C so long, in seconds, one waits for the interrupted commands to end, so that their last words are shown
# where they belong. Most take some milliseconds; a long call of C code does not hear of it before it returns.
_INTERRUPT_GRACE = 0.7


class interrupting(contextlib.AbstractContextManager[None]):  # noqa: N801 - used as a function is
    """Pass Ctrl-C, raised inside, on to the peers that were waited for, and wait a moment for what they say to it.

    A second Ctrl-C in that moment, or while the same commands are waited for again, kills the engines.
    """

    def __init__(self, peers: Sequence[Peer], number: int | None = None) -> None:
        self._peers = peers
        self._number = number

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            return
        try:
            for peer in self._peers:
                peer.interrupt(self._number)
            deadline = deadline_after(_INTERRUPT_GRACE)
            busy = [words for peer in self._peers if (words := peer.settle(deadline))]
        except KeyboardInterrupt:
            for peer in self._peers:
                peer.kill(self._number)
            raise
        if busy and error is not None:
            error.add_note(
                f"{' and '.join(busy)} has not ended yet: Ctrl-C once more while it is waited for, or kill() of the "
                "node, ends its engine"
            )
