"""The facts of a server that a user's function gets to decide whether jobs may run there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pconnect.statistics.document import free_slots, load_of, number, part, session_count


@dataclass(frozen=True)
class ServerFacts:
    """The state of a server; see ``accept`` of `pconnect.connect.pconnect`.

    A number that the server does not report is ``nan``: no comparison with it is true.

    Attributes
    ----------
    host
        The host as given to `pconnect`.
    name, version
        Name and version of the server; empty if unknown.
    processors
        Number of processors of its machine.
    load
        Load average of the last minute.
    memory_total, memory_free, swap_free, disk_total, disk_free
        In bytes. Memory is free if it is available without swapping. The disk is that of the server's spool folder.
    slots, free_slots
        Number of slots for job processes, and how many of them are free.
    waiting
        Number of slots that sessions have requested but not received.
    sessions
        Number of sessions, including this one.

    Examples
    --------
    >>> facts = ServerFacts.of("alpha", {"machine": {"load": [0.5, 0, 0], "memory_free": 8_000_000_000}})
    >>> facts.memory_free > 4e9, facts.load, facts.disk_free > 0
    (True, 0.5, False)
    """

    host: str
    name: str = ""
    version: str = ""
    processors: float = math.nan
    load: float = math.nan
    memory_total: float = math.nan
    memory_free: float = math.nan
    swap_free: float = math.nan
    disk_total: float = math.nan
    disk_free: float = math.nan
    slots: float = math.nan
    free_slots: float = math.nan
    waiting: float = math.nan
    sessions: float = math.nan

    @classmethod
    def of(cls, host: str, document: Mapping[str, Any]) -> "ServerFacts":
        """Return the facts in a statistics document."""
        server, machine, slots = part(document, "server"), part(document, "machine"), document.get("slots")
        name, version = server.get("name"), server.get("version")
        names = ("processors", "memory_total", "memory_free", "swap_free", "disk_total", "disk_free")
        return cls(
            host,
            name if isinstance(name, str) else "",
            version if isinstance(version, str) else "",
            load=_known(load_of(machine)),
            slots=float(len(slots)) if isinstance(slots, list) else math.nan,
            free_slots=_known(free_slots(document)),
            waiting=_known(number(part(document, "queue"), "waiting")),
            sessions=_known(session_count(document)),
            **{each: _known(number(machine, each)) for each in names},
        )


def _known(value: float | None) -> float:
    return math.nan if value is None else value
