"""The daemon's counter for slots: what sessions ask for comes in on their control sockets, and is answered there.

Each message is one JSON object. A session says ``{"slots": 4, "exclusive": false}`` (how many it wants in all),
``{"bind": 7}`` with a descriptor of the process that has the lease, and ``{"return": 7}`` for a lease without one. It
is told ``{"total": 8}`` after its first wish, ``{"grant": 7}`` and ``{"yield": 7}``. That a process has ended, the
system says.
"""

import json
import logging
import math
import os
import selectors
import socket
import time
from collections.abc import Hashable, Sequence
from typing import Any

from pserver.slots import Ledger

log = logging.getLogger("pserver")


class SlotOffice:
    """The slots of one server, and the sessions that have them.

    Parameters
    ----------
    total
        How many slots there are.
    selector
        The daemon's; each entry's data is a function to call.
    """

    def __init__(self, total: int, selector: selectors.BaseSelector) -> None:
        self._ledger = Ledger(total)
        self._selector = selector
        self._controls: dict[Hashable, socket.socket] = {}
        self._processes: dict[int, int] = {}  # descriptors by lease
        self._told_total: set[Hashable] = set()

    @property
    def facts(self) -> dict[str, int]:
        """How many slots there are, and how many are in use."""
        return {"total": self._ledger.total, "used": self._ledger.used}

    def time_left(self) -> float | None:
        """Return in how many seconds `step` has something to do; ``None``: not before something happens."""
        due = self._ledger.due
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
        self._controls[session] = control
        kept: set[int] = set()
        match message:
            case {"slots": int(wanted)}:
                exclusive = message.get("exclusive") is True
                self._ledger.claim(session, party, wanted, exclusive=exclusive, now=time.monotonic())
                if session not in self._told_total:
                    self._told_total.add(session)
                    self._tell(session, {"total": self._ledger.total})
            case {"bind": int(lease)} if ends and self._ledger.bind(session, lease):
                self._attend(lease, ends[0])
                kept.add(ends[0])
            case {"return": int(lease)} if self._ledger.give_back(session, lease):
                pass
            case _:
                log.warning("a session says of slots what makes no sense: %s", message)
        for end in ends:
            if end not in kept:
                os.close(end)

    def _attend(self, lease: int, descriptor: int) -> None:
        def end() -> None:
            self._selector.unregister(descriptor)
            os.close(self._processes.pop(lease))
            self._ledger.process_ended(lease)

        self._processes[lease] = descriptor
        self._selector.register(descriptor, selectors.EVENT_READ, end)

    def leave(self, session: Hashable) -> None:
        """Take note that a session is gone."""
        self._ledger.leave(session)
        self._controls.pop(session, None)
        self._told_total.discard(session)

    def step(self) -> None:
        """Grant what is free, and ask back what others wait for."""
        for what, session, lease in self._ledger.step(time.monotonic()):
            self._tell(session, {what: lease})

    def _tell(self, session: Hashable, message: dict[str, int]) -> None:
        control = self._controls.get(session)
        if control is None:
            return
        try:
            control.send(json.dumps(message).encode())
        except OSError as error:  # it has ended, or hangs with a full queue
            log.warning("a session takes no word about slots (%s): it gets no more", error.strerror)
            self.leave(session)

    def close(self) -> None:
        """Close the descriptors of the processes."""
        for descriptor in self._processes.values():
            self._selector.unregister(descriptor)
            os.close(descriptor)
        self._processes.clear()
