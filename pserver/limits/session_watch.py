"""The limits of a whole session: its duration, its idle time, its output, and its disk usage.

No input or output, and no clock: the supervisors of its nodes pass in what they observe, and when. Each supervisor ends
its own node when the session exceeds a limit. The first one that notices decides for all.

The supervisors are threads, and share one `SessionWatch` without a lock: each writes only its own fields, and sums may
be slightly out of date.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pserver.config.limit_options import SessionLimits
from pserver.config.option import duration_text, size_text
from pserver.limits.limit_words import set_by

_LOOKS = 10  # checks per idle timeout whether the session is idle
_MOST_SECONDS = 5.0  # between two checks


@dataclass
class NodeUse:
    """The resources that one node has used.

    `runs_programs`: whether the node has processes besides its engine and its workers; the check takes a few
    milliseconds. `seen`: any value that changes when the client does something.
    """

    active_at: float
    runs_programs: Callable[[], bool]
    seen: object = None
    output: int = 0  #: bytes printed by its commands, including those of earlier engines
    last_output: int = 0
    disk: int = 0  #: bytes in its folder


class SessionWatch:
    """The resources that a session has used. `now`: its start, by the clock of all later calls."""

    def __init__(self, limits: SessionLimits, now: float) -> None:
        self._limits = limits
        self._began = now
        self._nodes: list[NodeUse] = []
        self._verdict = ""  # permanent: a command that begins at the last moment does not save the session

    @property
    def looks_at_work(self) -> bool:
        """Whether the activity and the output of nodes must be observed."""
        return self._limits.idle_timeout > 0 or self._limits.output > 0

    @property
    def looks_at_disk(self) -> bool:
        """Whether the folders must be measured."""
        return self._limits.disk > 0

    def add_node(self, now: float, runs_programs: Callable[[], bool]) -> NodeUse:
        """Return the record that the supervisor of a new node fills in."""
        use = NodeUse(now, runs_programs)
        self._nodes.append(use)
        return use

    def note_work(self, use: NodeUse, seen: object, now: float, *, is_busy: bool) -> None:
        """Record the activity of a node: whether something is running, and what the client has done."""
        if is_busy or seen != use.seen:
            use.seen, use.active_at = seen, now

    def note_output(self, use: NodeUse, count: int) -> None:
        """Record how many bytes the current engine of a node has printed; a new engine begins at 0."""
        use.output += count - use.last_output if count >= use.last_output else count
        use.last_output = count

    def why_over(self, now: float) -> str:
        """Return which limit was exceeded, and who set it; ``""`` if none. All callers get the same answer."""
        self._verdict = self._verdict or self._judge(now)
        return self._verdict

    def _judge(self, now: float) -> str:
        limits = self._limits
        if limits.time and now - self._began >= limits.time:
            lasted = f"the session has lasted {limits.time:g} s"
            return f"{lasted}; {set_by('--session-time', duration_text(limits.time))}"
        if limits.idle_timeout and self._is_idle(now):
            idle = f"nothing has run here and the client has sent nothing for {limits.idle_timeout:g} s"
            return f"{idle}; {set_by('--idle-timeout', duration_text(limits.idle_timeout))}"
        if limits.output and (printed := sum(use.output for use in list(self._nodes))) > limits.output:
            return f"its commands have printed {printed} bytes; {set_by('--session-output', size_text(limits.output))}"
        if limits.disk and (kept := sum(use.disk for use in list(self._nodes))) > limits.disk:
            return f"its folder uses {kept} bytes of disk space; {set_by('--session-disk', size_text(limits.disk))}"
        return ""

    def time_left(self, now: float) -> float:
        """Return the seconds until the next regular check."""
        limits = self._limits
        ends = [self._began + limits.time - now] if limits.time else []
        if limits.output or limits.disk:  # another node may have reached the limit
            ends.append(_MOST_SECONDS)
        if limits.idle_timeout:
            ends.append(min(limits.idle_timeout / _LOOKS, _MOST_SECONDS))
        return max(0.0, min(ends, default=math.inf))

    def _is_idle(self, now: float) -> bool:
        uses = list(self._nodes)
        since = max((use.active_at for use in uses), default=self._began)
        if now < since + self._limits.idle_timeout:
            return False
        for use in uses:
            if use.runs_programs():
                use.active_at = now  # check again after another idle timeout
                return False
        return True
