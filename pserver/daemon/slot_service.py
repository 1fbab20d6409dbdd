"""The daemon's counter for slots: what sessions ask for comes in on their control sockets, and is answered there.

Each message is one JSON object. A session says ``{"slots": 4, "exclusive": false}`` (how many it wants in all),
``{"bind": 7}`` with a descriptor of the process that has the lease, and ``{"return": 7}`` for a lease without one. One
that has come back to a new daemon says ``{"hold": 7}`` for each lease, with the descriptor if there is a process. It is
told ``{"total": 8}`` after its first wish, ``{"grant": 7}`` and ``{"yield": 7}``. That a process has ended, the
system says.

Nothing here waits. A session that does not take what it is told has its sending side closed and gets no more slots; it
can still say which processes have the leases that it was granted before, and give back others.
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

from pserver.daemon.slot_allocator import SlotAllocator
from pserver.system.descriptors import is_process

log = logging.getLogger("pserver")

_RETURN_SECONDS = 2.0  # for the sessions of a daemon that was killed to come back; each looks twice a second
_LAST_LEASE = (
    2**62
)  # numbers begin with the time in milliseconds; all sessions must be able to read what follows


class SlotService:
    """The slots of one server, and the sessions that have them.

    `total`: how many slots there are. `selector`: the daemon's; each entry's data is a function to call.
    `follows_killed`: whether sessions of a daemon that was killed may come back with leases: none is granted before
    they have had the time, and new ones have other numbers.
    """

    def __init__(self, total: int, selector: selectors.BaseSelector, *, follows_killed: bool = False) -> None:
        self._allocator = SlotAllocator(total, int(time.time() * 1000) if follows_killed else 0)
        self._grants_from = time.monotonic() + _RETURN_SECONDS if follows_killed else 0.0
        self._selector = selector
        self._controls: dict[Hashable, socket.socket] = {}
        self._processes: dict[int, int] = {}  # descriptors by lease
        self._told_total: set[Hashable] = set()
        self._silent: set[Hashable] = set()  # sessions that take nothing

    @property
    def facts(self) -> dict[str, int]:
        """How many slots there are, and how many are in use."""
        return {"total": self._allocator.total, "used": self._allocator.used}

    def time_left(self) -> float | None:
        """Return in how many seconds `step` has something to do; ``None``: not before something happens."""
        now = time.monotonic()
        due = self._grants_from if now < self._grants_from else self._allocator.due
        return None if due == math.inf else max(0.0, due - now)

    def take(
        self,
        session: Hashable,
        party: Hashable,
        control: socket.socket,
        message: dict[str, Any],
        ends: Sequence[int],
    ) -> None:
        """Do what a session says; `ends` are the descriptors that came with it."""
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
                if session not in self._told_total:
                    self._told_total.add(session)
                    self._tell(session, {"total": self._allocator.total})
            case {"bind": int(lease)} if len(ends) == 1 and is_process(ends[0]):
                done = self._bind(session, lease, ends[0])
            case {"hold": int(lease)} if 0 < lease <= _LAST_LEASE and (
                not ends or (len(ends) == 1 and is_process(ends[0]))
            ):
                done = self._hold(session, party, lease, ends)
            case {"return": int(lease)} if not ends:
                done = self._allocator.give_back(session, lease)
        if not done:
            log.warning("a session says of slots what makes no sense: %.200s", message)
            for end in ends:
                os.close(end)

    def _hold(self, session: Hashable, party: Hashable, lease: int, ends: Sequence[int]) -> bool:
        """Take over a lease of a session that has come back."""
        if not self._allocator.adopt(session, party, lease, is_bound=False, now=time.monotonic()):
            return False
        if ends and lease in self._processes:  # we have watched it all the time
            os.close(ends[0])
            return True
        return not ends or self._bind(session, lease, ends[0])

    def _bind(self, session: Hashable, lease: int, descriptor: int) -> bool:
        """Have a lease end with a process; the descriptor is ours then."""

        def end() -> None:
            self._selector.unregister(descriptor)
            os.close(self._processes.pop(lease))
            self._allocator.process_ended(lease)

        # First what can fail: a lease whose process nobody watches would never end.
        try:
            self._selector.register(descriptor, selectors.EVENT_READ, end)
        except OSError as error:
            log.error("cannot watch the process of lease %d: %s", lease, error.strerror)
            return False
        if not self._allocator.bind(session, lease):
            self._selector.unregister(descriptor)
            return False
        self._processes[lease] = descriptor
        return True

    def silence(self, session: Hashable) -> None:
        """Tell a session nothing more, which therefore gets no more slots; what it has ends as ever."""
        self._allocator.withdraw(session)
        self._silent.add(session)
        control = self._controls.pop(session, None)
        if control is not None:
            with contextlib.suppress(OSError):  # it has closed its end
                control.shutdown(socket.SHUT_WR)

    def leave(self, session: Hashable) -> None:
        """Take note that a session is gone."""
        self._allocator.leave(session)
        self._controls.pop(session, None)
        self._told_total.discard(session)
        self._silent.discard(session)

    def step(self) -> None:
        """Grant what is free, and ask back what others wait for."""
        if time.monotonic() < self._grants_from:
            return
        while actions := self._allocator.step(time.monotonic()):
            for what, session, lease in actions:
                if not self._tell(session, {what: lease}) and what == "grant":
                    self._allocator.give_back(session, lease)

    def _tell(self, session: Hashable, message: dict[str, int]) -> bool:
        """Tell a session something, if it listens."""
        control = self._controls.get(session)
        if control is None:
            return False
        try:
            control.send(json.dumps(message).encode())
        except OSError as error:  # it has ended, or hangs with a full queue
            log.warning("a session takes no word about slots (%s): it gets no more", error.strerror)
            self.silence(session)
            return False
        return True

    def close(self) -> None:
        """Close the descriptors of the processes."""
        for descriptor in self._processes.values():
            self._selector.unregister(descriptor)
            os.close(descriptor)
        self._processes.clear()
