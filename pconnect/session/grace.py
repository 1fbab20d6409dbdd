"""The grace period after an engine is gone: ends of commands, or the reason of its death, may still arrive."""

from collections.abc import Callable

from pconnect.loop.event_loop import EventLoop
from srp_tools.steps import Task, deadline_after, wait_for_deadline

GRACE_SECONDS = 1.0


class Grace:
    """Waits for the grace period in the background of the loop, without blocking anything."""

    def __init__(self) -> None:
        self._event_loop: EventLoop | None = None
        self._task: Task | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the period has begun and is not over."""
        return self._task is not None

    def begin(self, event_loop: EventLoop, end: Callable[[], object]) -> None:
        """Call `end` after the grace period, unless that is scheduled already."""

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
