"""A moment in which more may come of an engine that is gone: ends of commands, or an account of its death."""

from collections.abc import Callable

from pconnect.loop.event_loop import EventLoop
from srp_tools.steps import Task, deadline_after, wait_for_deadline

GRACE_SECONDS = 1.0


class Grace:
    """The wait for it; it goes on in the loop and holds nothing up."""

    def __init__(self) -> None:
        self._event_loop: EventLoop | None = None
        self._task: Task | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the wait goes on."""
        return self._task is not None

    def begin(self, event_loop: EventLoop, end: Callable[[], object]) -> None:
        """Call `end` in a moment, unless that is to happen already."""

        def at_end(_: object) -> None:
            self._task = None
            end()

        if self._task is None:
            self._event_loop = event_loop
            self._task = event_loop.background.start(
                wait_for_deadline(), deadline_after(GRACE_SECONDS), at_end
            )

    def cancel(self) -> None:
        """Stop waiting."""
        if self._task is not None and self._event_loop is not None:
            self._event_loop.background.cancel(self._task)
            self._task = None
