"""The daemon's side of slots: sessions request them on their control sockets, and get the answers there.

Each message is one JSON object. A session sends ``{"slots": 4, "exclusive": false}`` (the total number that it wants),
``{"bind": 7}`` with a descriptor of the process that uses the lease, and ``{"return": 7}`` if the lease never had a
process or the process has ended, because the daemon may have failed to take the descriptor. A session that returns to a
new daemon sends ``{"hold": 7}`` for each lease, with the descriptor of its process, if any. The daemon sends
``{"total": 8}`` after the first request and after changes, ``{"grant": 7}`` and ``{"yield": 7}``. The system reports
when processes end. A lease ends a few seconds after its session at the latest.

No function here blocks. If a session does not read, the daemon closes its sending side and grants it no more slots. The
session can still bind the leases that it has to processes, and return the others.
"""

import contextlib
import json
import logging
import math
import os
import selectors
import socket
import time
from collections.abc import Hashable, Sequence
from typing import Any

from pserver.daemon.slot_allocator import Lease, SlotAllocator
from pserver.system.descriptors import is_process

log = logging.getLogger("pserver")

_RETURN_SECONDS = 2.0  # for the sessions of a killed daemon to return; each tries twice a second
# The processes of a session are killed when it ends. A process that still hangs in the kernel uses no processor.
_ORPHAN_SECONDS = 30.0


class SlotService:
    """The slots of one server, and the sessions that hold them.

    `total`: the number of slots. `selector`: the daemon's; each entry's data is a function to call. `follows_killed`:
    whether the previous daemon was killed. Then its sessions may return with leases, and this service grants no slots
    before they have had the time.
    """

    def __init__(self, total: int, selector: selectors.BaseSelector, *, follows_killed: bool = False) -> None:
        self._allocator = SlotAllocator(total, _microseconds())
        self._grants_from = time.monotonic() + _RETURN_SECONDS if follows_killed else 0.0
        self._selector = selector
        self._controls: dict[Hashable, socket.socket] = {}
        self._processes: dict[int, int] = {}  # descriptors by lease
        self._orphans: dict[int, float] = {}  # leases without a session, with the times at which they end
        self._has_total: set[Hashable] = set()
        self._silent: set[Hashable] = set()  # sessions that read nothing

    @property
    def facts(self) -> dict[str, int]:
        """The total number of slots, and the number in use."""
        return {"total": self._allocator.total, "used": self._allocator.used}

    @property
    def waiting(self) -> int:
        """The number of slots that sessions want and do not have."""
        return self._allocator.waiting

    def holders(self) -> dict[int, Lease]:
        """Return the leases by slot."""
        return self._allocator.holders()

    def slot_of(self, party: Hashable, lease: int) -> int | None:
        """Return the slot of a party's present or former lease; ``None`` if it is unknown."""
        return self._allocator.slot_of(party, lease)

    def held_by(self, session: Hashable) -> int:
        """Return the number of slots that a session holds."""
        return len(self._allocator.held_by(session))

    def resize(self, total: int) -> None:
        """Change the number of slots; see `SlotAllocator.resize`."""
        if total != self._allocator.total:
            self._allocator.resize(total)
            for session in self._has_total & self._controls.keys():
                self._tell(session, {"total": total})

    def pause(self, *, is_paused: bool) -> None:
        """Stop granting slots for jobs, or resume; see `SlotAllocator.pause`."""
        self._allocator.pause(is_paused=is_paused)

    def time_left(self) -> float | None:
        """Return the seconds until `step` has something to do; ``None``: not before an event."""
        now = time.monotonic()
        due = self._grants_from if now < self._grants_from else self._allocator.due
        due = min([due, *self._orphans.values()])
        return None if due == math.inf else max(0.0, due - now)

    def take(
        self,
        session: Hashable,
        party: Hashable,
        control: socket.socket,
        message: dict[str, Any],
        ends: Sequence[int],
    ) -> None:
        """Handle a message of a session; `ends`: the descriptors that came with it."""
        if session not in self._silent:
            self._controls[session] = control
        done = False
        match message:
            case {"slots": int(wanted)} if not ends:
                done = True
                if session in self._silent:
                    return
                exclusive = message.get("exclusive") is True
                self._allocator.claim(session, party, wanted, exclusive=exclusive, now=time.monotonic())
                if session not in self._has_total:
                    self._has_total.add(session)
                    self._tell(session, {"total": self._allocator.total})
            case {"bind": int(lease)} if len(ends) == 1 and is_process(ends[0]):
                done = self._bind(session, lease, ends[0])
            case {"hold": int(lease)} if not ends or (len(ends) == 1 and is_process(ends[0])):
                done = self._hold(session, party, lease, ends)
            case {"return": int(lease)} if not ends:
                done = self._allocator.give_back(session, lease)
                # Otherwise it has ended with its process, or is about to end.
                done = done or self._allocator.may_have_had(session, lease)
        if not done:
            log.warning("a message from a session about slots makes no sense: %.200s", message)
            for end in ends:
                os.close(end)

    def _hold(self, session: Hashable, party: Hashable, lease: int, ends: Sequence[int]) -> bool:
        """Take over a lease of a session that has returned."""
        if not self._allocator.adopt(session, party, lease, is_bound=False, now=time.monotonic()):
            return False
        self._orphans.pop(lease, None)
        if ends and lease in self._processes:  # this daemon is still watching the process
            os.close(ends[0])
            return True
        return not ends or self._bind(session, lease, ends[0])

    def _bind(self, session: Hashable, lease: int, descriptor: int) -> bool:
        """Have a lease end with a process; on success, take over the descriptor."""
        # First the step that can fail: without a watch of its process, a lease would never end.
        try:
            self._selector.register(descriptor, selectors.EVENT_READ, lambda: self._end(lease))
        except OSError as error:
            log.error("cannot watch the process of lease %d: %s", lease, error.strerror)
            return False
        if not self._allocator.bind(session, lease):
            self._selector.unregister(descriptor)
            return False
        self._processes[lease] = descriptor
        return True

    def _end(self, lease: int) -> None:
        """End a lease because its process has ended."""
        descriptor = self._processes.pop(lease)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        self._orphans.pop(lease, None)
        self._allocator.process_ended(lease)

    def silence(self, session: Hashable) -> None:
        """Stop sending messages to a session, which then gets no more slots; its leases end as usual."""
        self._allocator.withdraw(session)
        self._silent.add(session)
        control = self._controls.pop(session, None)
        if control is not None:
            with contextlib.suppress(OSError):  # it has closed its end
                control.shutdown(socket.SHUT_WR)

    def leave(self, session: Hashable) -> None:
        """Record that a session is gone."""
        self._allocator.leave(session)
        ends_at = time.monotonic() + _ORPHAN_SECONDS
        self._orphans.update(dict.fromkeys(self._allocator.held_by(session), ends_at))
        self._controls.pop(session, None)
        self._has_total.discard(session)
        self._silent.discard(session)

    def step(self) -> None:
        """Grant free slots, and ask back slots for which other sessions wait."""
        for lease in [lease for lease, ends_at in self._orphans.items() if ends_at <= time.monotonic()]:
            log.warning("the process of lease %d has outlived its session: its slot counts as free", lease)
            self._end(lease)
        if time.monotonic() < self._grants_from:
            return
        while actions := self._allocator.step(time.monotonic()):
            for what, session, lease in actions:
                if not self._tell(session, {what: lease}) and what == "grant":
                    self._allocator.give_back(session, lease)

    def _tell(self, session: Hashable, message: dict[str, int]) -> bool:
        """Send a session a message; return whether that succeeded."""
        control = self._controls.get(session)
        if control is None:
            return False
        try:
            control.send(json.dumps(message).encode())
        except OSError as error:  # the session has ended, or hangs with a full queue
            log.warning(
                "a session does not read messages about slots (%s): it gets no more slots", error.strerror
            )
            self.silence(session)
            return False
        return True

    def close(self) -> None:
        """Close the descriptors of the processes."""
        for descriptor in self._processes.values():
            self._selector.unregister(descriptor)
            os.close(descriptor)
        self._processes.clear()


def _microseconds() -> int:
    """Return a number that is greater than the numbers of all leases from earlier daemons.

    Sessions may return with these leases. No daemon grants leases as fast as this clock counts, and the clock starts
    with the machine, so no lease is older.
    """
    return time.monotonic_ns() // 1000
