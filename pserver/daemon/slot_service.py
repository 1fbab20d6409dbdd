"""The daemon's counter for slots: what sessions ask for comes in on their control sockets, and is answered there.

Each message is one JSON object. A session says ``{"slots": 4, "exclusive": false}`` (how many it wants in all),
``{"bind": 7}`` with a descriptor of the process that has the lease, and ``{"return": 7}`` for a lease without one. It
is told ``{"total": 8}`` after its first wish, ``{"grant": 7}`` and ``{"yield": 7}``. That a process has ended, the
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
import signal
import socket
import time
from collections.abc import Hashable, Sequence
from typing import Any

from pserver.daemon.slot_allocator import SlotAllocator

log = logging.getLogger("pserver")


class SlotService:
    """The slots of one server, and the sessions that have them.

    `total`: how many slots there are. `selector`: the daemon's; each entry's data is a function to call.
    """

    def __init__(self, total: int, selector: selectors.BaseSelector) -> None:
        self._allocator = SlotAllocator(total)
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
        due = self._allocator.due
        return None if due == math.inf else max(0.0, due - time.monotonic())

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
            case {"bind": int(lease)} if len(ends) == 1 and _is_process(ends[0]):
                done = self._bind(session, lease, ends[0])
            case {"return": int(lease)} if not ends:
                done = self._allocator.give_back(session, lease)
        if not done:
            log.warning("a session says of slots what makes no sense: %.200s", message)
            for end in ends:
                os.close(end)

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


def _is_process(descriptor: int) -> bool:
    """Tell whether a descriptor stands for a process: others could be made readable by whoever sent them."""
    try:
        signal.pidfd_send_signal(descriptor, 0)
    except (ProcessLookupError, PermissionError):  # it has ended already, or has become another user's
        return True
    except OSError:
        return False
    return True
